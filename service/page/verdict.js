// The outcome in words and in colour, the loss, and for each name why, and which bug it is.

import { element, show } from "./dom.js";
import { place, told } from "./numbers.js";

const SIGNS = { pass: "✓", fail: "✗", inconclusive: "?" };

export function badge(outcome) {
  return element("strong", { className: `badge ${outcome}` }, `${SIGNS[outcome] ?? ""} ${outcome}`);
}

export function showVerdict(report) {
  const names = Object.entries(report.verdicts).map(([name, verdict]) => reasons(name, verdict));
  show("verdict", element("p", { className: "outcome" }, badge(report.outcome), " ", report.summary.replace(/^\w+: /, "")),
    element("p", {}, "Loss ", element("output", { id: "loss" }, String(report.loss.analytic)), ` by hand, ${report.loss.autograd} by PyTorch; `,
      `${report.cost.loss_evaluations} evaluations in ${told(1e3 * report.cost.seconds, 3)} ms.`), element("div", { className: "reasons" }, ...names));
}

/** Show a report as the service writes it for reading, under a sentence. */
export function showText(words, report) {
  show("verdict", element("p", { className: "quiet" }, words), element("pre", { tabIndex: 0, role: "region", "aria-label": "The report as a text" }, report));
}

function reasons(name, verdict) {
  const bugs = (verdict.diagnoses ?? []).map((each) => element("li", {}, element("code", {}, each.name), ` ${each.explanation}`));
  const counts = Object.entries(verdict.elements).filter(([, count]) => count).map(([what, count]) => `${count} ${what.replace("_", " ")}`);
  return element("section", { className: `reason ${verdict.outcome}`, "aria-label": `Verdict on ${name}` },
    element("p", {}, element("b", {}, `dL/d${name} `), badge(verdict.outcome), verdict.pattern ? element("strong", {}, ` ${verdict.pattern}.`) : null,
      ` ${verdict.reason.replaceAll("`", "")}`),
    bugs.length ? element("ul", { className: "diagnoses" }, ...bugs) : null,
    element("p", { className: "quiet" }, `Elements: ${counts.join(", ")}. Smallest relative error that would have been found: `,
      `${told(verdict.smallest_detectable_error, 2)}.${kinks(name, verdict.kinks ?? [])}`));
}

function kinks(name, found) {
  const listed = found.slice(0, 3).map((each) => `${place(name, each.index)}, ${told(each.left, 3)} on the left and ${told(each.right, 3)} on the right`);
  return found.length ? ` Kinks: ${listed.join("; ")}${found.length > 3 ? `; and ${found.length - 3} more` : ""}.` : "";
}
