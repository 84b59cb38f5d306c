// The gradients of every name side by side, on one scale; and what they differ by.

import { signed, sizes } from "./colours.js";
import { byId, element, show } from "./dom.js";
import { heatmap } from "./heatmap.js";
import { flat, indexOf, numeric, place, placeOf, shapeOf, told } from "./numbers.js";
import { table } from "./table.js";
import { badge } from "./verdict.js";

const ROUTES = { analytic: "analytic", autograd: "autograd", finite_difference: "finite difference", candidate: "candidate" };
const PAIRS = [["analytic", "autograd"], ["analytic", "finite_difference"], ["autograd", "finite_difference"],
  ["candidate", "analytic"], ["candidate", "finite_difference"]];
const MOST_LISTED = 200;
const WIDE = 4;
const FEW = 3;

/** Show the gradients of a report; `choose(name, index)` is called when an element is chosen. */
export function showGradients(report, choose) {
  show("gradients", ...Object.keys(report.gradients).map((name) => panel(report, name, choose)));
}

const panelOf = (name) => [...byId("gradients").children].find((each) => each.dataset.name === name);

/** Move the focus to the cell of an element. */
export function goTo(name, index) {
  panelOf(name)?.go(index);
}

/** Mark the element whose curve is shown, and no other. */
export function markChosen(name, index) {
  for (const each of byId("gradients").children) each.mark(each === panelOf(name) ? index : null);
}

function panel(report, name, choose) {
  const seen = known(report, name);
  const { shape, verdict } = seen;
  const each = (shape.at(-1) ?? 1) * (shape.at(-2) ?? 1);
  const content = element("div", {});
  let chosen = -1;
  const mark = () => content.querySelectorAll("[data-route]").forEach((map) => map.mark?.(chosen));
  const draw = (slice) => {
    content.replaceChildren(...maps(seen, slice * each, (at) => choose(name, indexOf(at, shape))));
    mark();
  };
  draw(0);
  const chooser = slices(shape, draw);
  const box = element("section", { className: (shape.at(-1) ?? 1) > WIDE ? "panel wide" : "panel", "aria-label": `Gradient of ${name}` },
    element("h4", {}, `dL/d${name} `, element("small", {}, `[${shape.join(", ")}] `), badge(verdict?.outcome ?? "not judged")), ...chooser, content);
  box.dataset.name = name;
  box.go = (index) => {
    const at = placeOf(index, shape);
    chooser[0]?.choose(Math.floor(at / each));
    content.querySelector("[data-route='candidate'], [data-route='analytic']")?.go(at);
  };
  box.mark = (index) => {
    chosen = index === null ? -1 : placeOf(index, shape);
    mark();
  };
  return box;
}

/** What a report says of one gradient, each tensor as a row of numbers. */
function known(report, name) {
  const gradients = report.gradients[name];
  const shape = shapeOf(gradients.analytic);
  const verdict = report.verdicts[name];
  const along = verdict?.missed?.relative_l2 !== undefined;
  const routes = Object.keys(ROUTES).filter((route) => gradients[route] !== undefined && !(along && route === "finite_difference"));
  return {
    name, shape, verdict, directions: along ? verdict.directions ?? report.directions : undefined, few: Object.keys(report.gradients).length <= FEW, values: Object.fromEntries(routes.map((route) => [route, flat(gradients[route])])),
    bound: flat(gradients.error_bound), allowed: gradients.allowed === undefined ? null : flat(gradients.allowed),
    oddShape: gradients.candidate !== undefined && String(shapeOf(gradients.candidate)) !== String(shape) ? shapeOf(gradients.candidate) : null,
  };
}

function maps(seen, offset, choose) {
  const { name, shape, values, verdict } = seen;
  const most = Math.max(0, ...Object.values(values).map(largest));
  const what = { name, shape, offset, visit: (at) => read(seen, at), choose };
  const row = Object.entries(values).map(([route, numbers]) => {
    const own = route === "candidate" && seen.oddShape ? { shape: seen.oddShape, offset: 0, visit: () => {}, choose: () => {} } : {};
    const map = heatmap({ ...what, label: ROUTES[route], values: numbers, colour: signed(most), ...own });
    if (own.shape) map.lastChild.mark = () => {};
    return map;
  });
  return [element("div", { className: "maps" }, ...row), legend(`−${told(most, 3)} `, ` ${told(most, 3)}`, signed(1), -1),
    ...(seen.directions ? directions(name, seen.directions) : []),
    element("details", { className: "differences", open: seen.few }, element("summary", {}, "Differences (log scale)"), ...differences(seen, what))];
}

const largest = (numbers) => numbers.reduce((most, each) => (Number.isFinite(each) ? Math.max(most, Math.abs(each)) : most), 0);

/** A choice of which matrix is shown, of a tensor of more than two axes. */
function slices(shape, changed) {
  const leading = shape.slice(0, -2);
  const count = leading.reduce((product, each) => product * each, 1);
  if (count <= 1) return [];
  const told = (slice) => `[${indexOf(slice, leading).join("][")}]`;
  const chooser = count <= MOST_LISTED
    ? element("select", {}, ...Array.from({ length: count }, (_, slice) => element("option", { value: slice }, told(slice))))
    : element("input", { type: "number", min: 0, max: count - 1, value: 0 });
  chooser.addEventListener("change", () => changed(Math.min(count - 1, Math.max(0, Math.trunc(Number(chooser.value))))));
  const label = element("label", { className: "quiet" }, "The last two axes of slice ", chooser, ` of ${count}`);
  label.choose = (slice) => {
    if (Number(chooser.value) === slice) return;
    chooser.value = slice;
    changed(slice);
  };
  return [label];
}

function differences({ values, oddShape }, what) {
  const pairs = PAIRS.filter((routes) => routes.every((route) => values[route] && !(oddShape && route === "candidate")))
    .map(([one, other]) => [`|${ROUTES[one]} − ${ROUTES[other]}|`, values[one].map((each, at) => Math.abs(each - values[other][at]))]);
  const positive = pairs.flatMap(([, numbers]) => numbers).filter((each) => each > 0 && Number.isFinite(each)).map(Math.log10);
  const [low, high] = positive.length ? [positive.reduce((a, b) => Math.min(a, b)), positive.reduce((a, b) => Math.max(a, b))] : [-16, 0];
  const [least, most] = [Math.floor(low), Math.max(Math.floor(low) + 1, Math.ceil(high))];
  return [element("div", { className: "maps" }, ...pairs.map(([label, numbers]) => heatmap({ ...what, label, values: numbers, colour: sizes(least, most) }))),
    legend(`${power(least)} `, ` ${power(most)}; 0 as the least`, (part) => sizes(0, 1)(10 ** part), 0)];
}

const power = (exponent) => `1e${exponent}`.replace("-", "−");

function legend(low, high, colour, from) {
  const bar = element("span", { className: "bar", "aria-hidden": "true" });
  for (let step = 0; step <= 20; step += 1) {
    const stripe = element("i", {});
    stripe.style.background = colour(from + ((1 - from) * step) / 20).fill;
    bar.append(stripe);
  }
  return element("p", { className: "legend" }, low, bar, high);
}

/** What was found along random directions, where no element was looked at by itself. */
function directions(name, found) {
  const rows = found.map((each, number) => [number, told(each.judged, 8), told(each.reference, 8), told(each.error_bound, 2), told(each.allowed, 2), each.outcome]);
  const together = found[0]?.names?.length > 1 ? ` of ${found[0].names.length} tensors together` : "";
  return [element("p", { className: "quiet" }, `The gradients were compared along random directions${together}, not element by element:`),
    table(`Table of the directions of ${name}`, ["direction", "judged", "difference", "± bound", "allowed", "outcome"], rows)];
}

function read({ name, shape, values, bound, allowed, verdict, oddShape }, at) {
  const index = indexOf(at, shape);
  const parts = Object.entries(values).filter(([route]) => !(oddShape && route === "candidate"))
    .map(([route, numbers]) => (route === "finite_difference" ? difference(numbers[at], bound[at]) : `${ROUTES[route]} ${told(numbers[at], 10)}`));
  if (allowed && !Number.isNaN(allowed[at])) parts.push(`allowed ${told(allowed[at], 2)}`);
  const listed = verdict?.worst.find((each) => String(each.index) === String(index));
  if (listed) parts.push(`off by ${told(Math.abs(numeric(listed.judged) - numeric(listed.reference)), 2)}: ${listed.outcome}`);
  byId("readout").classList.add("told");
  byId("readout").textContent = `${place(name, index)}: ${parts.join(", ")}`;
}

const difference = (value, bound) =>
  (Number.isNaN(value) ? "finite difference: none" : `finite difference ${told(value, 10)} ± ${told(bound, 2)}`);
