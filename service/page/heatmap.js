// One matrix in colours: of few elements a grid of cells, of many a picture; either is walked over with the arrow keys.

import { drawn, element } from "./dom.js";
import { indexOf, place, told } from "./numbers.js";

const CELLS = 1024;
const WRITTEN = 8;
const NUMBERED = 24;
const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

/**
 * Draw the last two axes of a tensor.
 *
 * what: {name, label, values (all, row by row), shape, offset (of the first element that is drawn), colour, visit(place),
 * choose(place)}. Returned is the element; of what it draws, `go(place)` moves the focus there, `mark(place)` marks it.
 */
export function heatmap(what) {
  const columns = what.shape.at(-1) ?? 1;
  const rows = what.shape.at(-2) ?? 1;
  const size = { rows, columns };
  const made = rows * columns <= CELLS ? grid(what, size) : picture(what, size);
  made.dataset.route = what.label;
  return element("figure", { className: "heatmap" }, element("figcaption", {}, what.label), made);
}

function said(what, at) {
  return `${place(what.name, indexOf(at, what.shape))} ${told(what.values[at], 6)}`;
}

function grid(what, { rows, columns }) {
  const cells = [];
  const table = element("table", { role: "grid", "aria-label": `${what.label} of ${what.name}` });
  if (columns > 1 && columns <= NUMBERED) table.append(numbers(columns, what.shape.length > 1));
  for (let row = 0; row < rows; row += 1) {
    const line = element("tr", { role: "row" });
    if (what.shape.length > 1 && columns <= NUMBERED) line.append(heading(row));
    for (let column = 0; column < columns; column += 1) line.append(cell(what, cells, columns));
    table.append(line);
  }
  cells[0].tabIndex = 0;
  table.addEventListener("keydown", (event) => {
    const now = cells.indexOf(event.target);
    const next = moved(event, Math.floor(now / columns), now % columns, rows, columns);
    if (now < 0 || next === null) return;
    event.preventDefault();
    focused(cells, next);
  });
  table.go = (at) => focused(cells, at - what.offset);
  table.mark = (at) => cells.forEach((each, place) => each.setAttribute("aria-selected", String(place === at - what.offset)));
  return table;
}

// The cells say their index themselves, to those who hear it.
const heading = (text) => element("th", { "aria-hidden": "true" }, String(text));

function numbers(columns, rowed) {
  return element("tr", { "aria-hidden": "true" }, rowed ? heading("") : null, ...Array.from({ length: columns }, (_, column) => heading(column)));
}

function cell(what, cells, columns) {
  const at = what.offset + cells.length;
  const { fill, ink } = what.colour(what.values[at]);
  const text = columns <= WRITTEN ? told(what.values[at], 2) : "";
  const made = element("td", {
    role: "gridcell", tabIndex: -1, className: text ? "written" : "",
    onfocus: () => what.visit(at), onmouseenter: () => what.visit(at), onclick: () => what.choose(at),
    onkeydown: (event) => event.key === "Enter" && what.choose(at),
  }, element("span", { className: "hidden" }, text ? `${place(what.name, indexOf(at, what.shape))} ` : said(what, at)), text);
  made.style.background = fill;
  made.style.color = ink;
  cells.push(made);
  return made;
}

function moved(event, row, column, rows, columns) {
  if (event.key === "Home") return row * columns;
  if (event.key === "End") return row * columns + columns - 1;
  const [down, right] = ARROWS[event.key] ?? [0, 0];
  const [toRow, toColumn] = [row + down, column + right];
  if ((!down && !right) || toRow < 0 || toRow >= rows || toColumn < 0 || toColumn >= columns) return null;
  return toRow * columns + toColumn;
}

function focused(cells, at) {
  for (const each of cells) each.tabIndex = -1;
  cells[at].tabIndex = 0;
  cells[at].focus();
}

function picture(what, { rows, columns }) {
  const marks = ["chosen", "mark"].map((kind) => drawn("rect", { width: 1, height: 1, x: -2, class: kind }));
  const cross = drawn("svg", { viewBox: `0 0 ${columns} ${rows}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...marks);
  const box = element("div", {
    className: "picture", tabIndex: 0, role: "application",
    "aria-label": `${what.label} of ${what.name}, ${rows} by ${columns}; walk with the arrow keys`,
  }, painted(what, rows, columns), cross);
  const set = (mark, at) => {
    mark.setAttribute("x", at % columns);
    mark.setAttribute("y", Math.floor(at / columns));
  };
  let now = 0;
  const go = (at) => {
    now = at;
    set(marks[1], at);
    box.setAttribute("aria-label", said(what, what.offset + at));
    what.visit(what.offset + at);
  };
  const under = (event) => {
    const area = box.getBoundingClientRect();
    const part = (value, start, length, count) => Math.min(count - 1, Math.max(0, Math.floor(((value - start) / length) * count)));
    return part(event.clientY, area.top, area.height, rows) * columns + part(event.clientX, area.left, area.width, columns);
  };
  box.addEventListener("mousemove", (event) => go(under(event)));
  box.addEventListener("click", (event) => what.choose(what.offset + under(event)));
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter") what.choose(what.offset + now);
    const next = moved(event, Math.floor(now / columns), now % columns, rows, columns);
    if (next === null) return;
    event.preventDefault();
    go(next);
  });
  box.go = (at) => {
    box.focus();
    go(at - what.offset);
  };
  box.mark = (at) => set(marks[0], at >= what.offset && at < what.offset + rows * columns ? at - what.offset : -2);
  return box;
}

function painted(what, rows, columns) {
  const canvas = element("canvas", { width: columns, height: rows });
  const context = canvas.getContext("2d");
  for (let at = 0; at < rows * columns; at += 1) {
    context.fillStyle = what.colour(what.values[what.offset + at]).fill;
    context.fillRect(at % columns, Math.floor(at / columns), 1, 1);
  }
  return canvas;
}
