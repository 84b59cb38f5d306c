// The request as JSON, and the errors at the places that they are about.

import { byId, element, show } from "./dom.js";
import { lineOf, located } from "./pointer.js";

const LINES_ABOVE = 4;

export const text = () => byId("text").value;

export function write(request) {
  byId("text").value = written(request);
  numbered(new Set());
}

/** JSON with each innermost list on one line. */
export function written(request) {
  const lists = [];
  // No text of the request looks like it.
  const mark = `list ${Math.random()} `;
  const whole = JSON.stringify(request, (_, value) => {
    if (!Array.isArray(value) || value.some((each) => typeof each === "object" && each !== null)) return value;
    return `${mark}${lists.push(`[${value.map((each) => JSON.stringify(each)).join(", ")}]`) - 1}`;
  }, 2);
  return whole.replace(new RegExp(`"${mark}(\\d+)"`, "g"), (_, number) => lists[number]);
}

/** List errors, and mark the lines and the fields that they are about. */
export function complain(errors, total = errors.length) {
  const lines = new Set();
  const items = errors.map(({ pointer, detail }) => {
    const [from, to] = located(text(), pointer);
    if (pointer) lines.add(lineOf(text(), from));
    const where = element("button", { type: "button", className: "link", onclick: () => select(from, to) }, pointer || "the request");
    return element("li", {}, where, ` ${detail}`);
  });
  if (total > errors.length) items.push(element("li", {}, `and ${total - errors.length} more`));
  show("errors", ...(items.length ? [element("ul", {}, ...items)] : []));
  numbered(lines);
  for (const field of document.querySelectorAll("#grids input")) {
    field.setAttribute("aria-invalid", String(errors.some(({ pointer }) => pointer === field.dataset.pointer)));
  }
  if (lines.size) byId("json").open = true;
}

function numbered(wrong) {
  const count = text().split("\n").length;
  byId("marks").replaceChildren(...Array.from({ length: count }, (_, line) =>
    element("div", { className: wrong.has(line + 1) ? "wrong" : "" }, String(line + 1))));
  byId("marks").scrollTop = byId("text").scrollTop;
}

function select(from, to) {
  byId("json").open = true;
  byId("text").focus();
  byId("text").setSelectionRange(from, to);
  const height = parseFloat(getComputedStyle(byId("text")).lineHeight);
  byId("text").scrollTop = byId("marks").scrollTop = (lineOf(text(), from) - LINES_ABOVE) * height;
}
