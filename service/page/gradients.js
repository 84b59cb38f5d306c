// The gradients of every name side by side, on one scale; what they differ by; and the worst elements.

import { signed, sizes } from "./colours.js";
import { byId, element, show } from "./dom.js";
import { heatmap } from "./heatmap.js";
import { flat, indexOf, numeric, place, placeOf, shapeOf, told } from "./numbers.js";

const ROUTES = { analytic: "analytic", autograd: "autograd", finite_difference: "finite difference", candidate: "candidate" };

/** Show the gradients of a report; `choose(name, index)` is called when an element is chosen. */
export function showGradients(report, choose) {
  const names = Object.keys(report.gradients);
  show("gradients", ...names.map((name) => panel(report, name, choose)));
  show("worst", worst(report));
}

function panel(report, name, choose) {
  const gradients = report.gradients[name];
  const shape = shapeOf(gradients.analytic);
  const values = Object.fromEntries(Object.keys(ROUTES).filter((route) => gradients[route] !== undefined)
    .map((route) => [route, flat(gradients[route])]));
  const odd = values.candidate && String(shapeOf(gradients.candidate)) !== String(shape);
  const bound = flat(gradients.error_bound);
  const allowed = gradients.allowed === undefined ? null : flat(gradients.allowed);
  const verdict = report.verdicts[name];
  const box = element("section", { className: "panel", "aria-label": `Gradient of ${name}` });
  const each = (shape.at(-1) ?? 1) * (shape.at(-2) ?? 1);
  const draw = (slice) => {
    const offset = slice * each;
    const most = Math.max(0, ...Object.values(values).map(largest));
    const what = {
      name, shape, offset,
      visit: (at) => read(name, shape, at, values, bound, allowed, verdict, odd), choose: (at) => choose(name, indexOf(at, shape)),
    };
    const row = element("div", { className: "maps" });
    for (const [route, numbers] of Object.entries(values)) {
      const own = route === "candidate" && odd ? { shape: shapeOf(gradients.candidate), offset: 0, visit: () => {}, choose: () => {} } : {};
      row.append(heatmap({ ...what, label: ROUTES[route], values: numbers, colour: signed(most), ...own }));
    }
    const differences = element("div", { className: "maps" }, ...differing(what, values, odd));
    return [row, legend(`−${told(most, 3)} `, ` ${told(most, 3)}`, signed(1), -1),
      element("details", { className: "differences" }, element("summary", {}, "What they differ by, on a log scale"), differences)];
  };
  const outcome = element("span", { className: `badge ${verdict?.outcome ?? ""}` }, verdict?.outcome ?? "not judged");
  const head = element("h4", {}, `dL/d${name} `, element("small", {}, `[${shape.join(", ")}] `), outcome);
  const content = element("div", {}, ...draw(0));
  const chooser = slices(shape, (slice) => content.replaceChildren(...draw(slice)));
  box.append(head, ...chooser, content);
  box.dataset.name = name;
  box.go = (at) => {
    chooser[0]?.choose(Math.floor(at / each));
    content.querySelector("[data-route='candidate'], [data-route='analytic']")?.go(at);
  };
  return box;
}

const largest = (numbers) => numbers.reduce((most, each) => (Number.isFinite(each) ? Math.max(most, Math.abs(each)) : most), 0);

function slices(shape, changed) {
  const count = shape.slice(0, -2).reduce((product, each) => product * each, 1);
  if (count <= 1) return [];
  const chooser = element("select", { onchange: () => changed(Number(chooser.value)) });
  for (let slice = 0; slice < count; slice += 1) {
    chooser.append(element("option", { value: slice }, `[${indexOf(slice, shape.slice(0, -2)).join("][")}]`));
  }
  const label = element("label", {}, "Slice ", chooser);
  label.choose = (slice) => {
    if (Number(chooser.value) === slice) return;
    chooser.value = slice;
    changed(slice);
  };
  return [label];
}

function differing(what, values, odd) {
  const reference = values.finite_difference;
  const pairs = Object.entries(values).filter(([route]) => route !== "finite_difference" && !(odd && route === "candidate"))
    .map(([route, numbers]) => [`|${ROUTES[route]} − difference|`, numbers.map((each, at) => Math.abs(each - reference[at]))]);
  const positive = pairs.flatMap(([, numbers]) => numbers).filter((each) => each > 0 && Number.isFinite(each)).map(Math.log10);
  const [low, high] = positive.length ? [positive.reduce((a, b) => Math.min(a, b)), positive.reduce((a, b) => Math.max(a, b))] : [-16, 0];
  const colour = sizes(Math.floor(low), Math.ceil(high));
  return [...pairs.map(([label, numbers]) => heatmap({ ...what, label, values: numbers, colour })),
    legend(`1e${Math.floor(low)} `, ` 1e${Math.ceil(high)}`, (part) => sizes(0, 1)(10 ** part), 0)];
}

function legend(low, high, colour, from) {
  const bar = element("span", { className: "bar", "aria-hidden": "true" });
  for (let step = 0; step <= 20; step += 1) {
    const stripe = element("i", {});
    stripe.style.background = colour(from + ((1 - from) * step) / 20).fill;
    bar.append(stripe);
  }
  return element("p", { className: "legend" }, low, bar, high);
}

function read(name, shape, at, values, bound, allowed, verdict, odd) {
  const index = indexOf(at, shape);
  const parts = Object.entries(values).filter(([route]) => !(odd && route === "candidate"))
    .map(([route, numbers]) => `${ROUTES[route]} ${told(numbers[at], 10)}${route === "finite_difference" ? ` ± ${told(bound[at], 2)}` : ""}`);
  if (allowed) parts.push(`allowed ${told(allowed[at], 2)}`);
  const listed = verdict?.worst.find((each) => String(each.index) === String(index));
  if (listed) parts.push(`off by ${told(Math.abs(numeric(listed.judged) - numeric(listed.reference)), 2)}: ${listed.outcome}`);
  byId("readout").textContent = `${place(name, index)}: ${parts.join(", ")}`;
}

function worst(report) {
  const listed = Object.entries(report.verdicts).flatMap(([name, verdict]) => verdict.worst.map((each) => ({ name, ...each })))
    .sort((a, b) => (b.outcome === "fail") - (a.outcome === "fail") || numeric(b.ratio) - numeric(a.ratio)).slice(0, 10);
  if (!listed.length) return element("p", { className: "quiet" }, "None is listed.");
  const head = ["element", "judged", "route", "difference", "± bound", "allowed", "ratio", "outcome"];
  const rows = listed.map((each) => element("tr", {}, element("td", {}, link(report, each)),
    ...[told(each.judged, 8), each.route, told(each.reference, 8), told(each.error_bound, 2), told(each.allowed, 2), told(each.ratio, 3), each.outcome]
      .map((text) => element("td", {}, text))));
  return element("table", { className: "plain" }, element("thead", {}, element("tr", {}, ...head.map((each) => element("th", { scope: "col" }, each)))),
    element("tbody", {}, ...rows));
}

function link(report, each) {
  const go = () => {
    const panel = [...byId("gradients").children].find((child) => child.dataset.name === each.name);
    panel?.go(placeOf(each.index, shapeOf(report.gradients[each.name].analytic)));
  };
  return element("button", { type: "button", className: "link", onclick: go }, place(each.name, each.index));
}
