// The worst elements of all names, each once, with a link to its cell.

import { element, show } from "./dom.js";
import { goTo } from "./gradients.js";
import { numeric, place, told } from "./numbers.js";
import { table } from "./table.js";

const MOST = 10;
const HEADS = ["element", "outcome", "ratio", "judged", "difference", "± bound", "allowed", "route"];

export function showWorst(report) {
  const found = new Map();
  const all = Object.entries(report.verdicts).flatMap(([name, verdict]) => verdict.worst.map((each) => ({ name, ...each })));
  // Of an element that both of our routes are judged at, the worse one comes first and stands for both.
  for (const each of all.sort(worseFirst)) {
    const key = JSON.stringify([each.name, each.index]);
    if (found.has(key)) found.get(key).routes.push(each.route);
    else found.set(key, { ...each, routes: [each.route] });
  }
  const listed = [...found.values()].slice(0, MOST);
  show("worst", listed.length ? table("Table of the worst elements", HEADS, listed.map(row)) : element("p", { className: "quiet" }, "No element was compared by itself."));
}

const worseFirst = (a, b) => (b.outcome === "fail") - (a.outcome === "fail") || numeric(b.ratio) - numeric(a.ratio);

function row(each) {
  const link = element("button", { type: "button", className: "link", onclick: () => goTo(each.name, each.index) }, place(each.name, each.index));
  return [link, element("span", { className: each.outcome }, each.outcome), told(each.ratio, 3), told(each.judged, 7), told(each.reference, 7),
    told(each.error_bound, 2), told(each.allowed, 2), each.routes.length > 1 ? "both" : each.route];
}
