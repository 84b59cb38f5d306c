// The model as boxes and arrows with what they hold, and the same as a table.

import { drawn, element, show } from "./dom.js";
import { layout, read, splitOutputs } from "./layout.js";
import { flat, shapeOf, told } from "./numbers.js";
import { table } from "./table.js";

const SIZE = { width: 162, height: 78, across: 28, down: 14, lane: 8 };
const LETTERS = 21;
const WRITTEN = 4;
/** As much smaller as it can be and still be read; beyond that it scrolls. */
const SMALLEST = 0.86;

export function showGraph(report, request) {
  const nodes = splitOutputs(report.model.nodes);
  const leaves = { ...request.tensors, ...request.weights };
  const { items, arrows, width, height } = layout(nodes, Object.keys(leaves), SIZE);
  const image = drawn("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-labelledby": "graph-words" });
  image.append(drawn("defs", {}, drawn("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    drawn("path", { d: "M0 0L8 4L0 8z", class: "tip" }))));
  const facts = [...items.keys()].map((name) => known(name, nodes, report, leaves, request));
  image.append(...arrows.map(({ way }) => arrow(way)), ...facts.map((each) => box(each, items.get(each.name))));
  const words = element("p", { id: "graph-words", className: "hidden" },
    `Graph: ${nodes.map((node) => `${node.name} is ${node.op} of ${read(node).join(", ")}`).join("; ")}.`);
  image.style.width = `clamp(${SMALLEST * width}px, 100%, ${width}px)`;
  image.style.height = "auto";
  show("graph", words, image);
  const rows = facts.map((each) => [each.name, each.what, each.reads, `[${each.shape}]`, each.value, each.gradient]);
  show("graph-table", table("The model as a table", ["name", "op", "reads", "shape", "value", "gradient"], rows));
}

/** What is told of a tensor, a weight or a node. */
function known(name, nodes, report, leaves, request) {
  const node = nodes.find((each) => each.name === name);
  const isLoss = node === nodes.at(-1);
  const value = node ? (own(report.intermediates, name)?.value ?? (isLoss ? report.loss.analytic : undefined)) : leaves[name];
  const gradient = node ? own(report.intermediates, name)?.analytic : own(report.gradients, name)?.analytic;
  const kind = node ? "node" : Object.hasOwn(request.weights, name) ? "weight" : "tensor";
  return {
    name, kind, what: node ? node.op : kind, reads: node ? read(node).join(", ") : "", shape: (value?.shape ?? shapeOf(value)).join(", "),
    value: summed(value), gradient: gradient === undefined ? "" : summed(gradient),
  };
}

const own = (object, name) => (Object.hasOwn(object, name) ? object[name] : undefined);

function arrow(way) {
  const points = way.flatMap((each, at) => {
    const y = each.y + each.height / 2;
    const ends = [[each.x, y], [each.x + SIZE.width, y]];
    return at === 0 ? ends.slice(1) : at === way.length - 1 ? ends.slice(0, 1) : ends;
  });
  let line = `M${points[0].join(" ")}`;
  for (let at = 1; at < points.length; at += 1) {
    const [[x, y], [u, v]] = [points[at - 1], points[at]];
    const bend = Math.min(SIZE.across, u - x) / 2;
    line += y === v ? `L${u} ${v}` : `C${x + bend} ${y} ${u - bend} ${v} ${u} ${v}`;
  }
  return drawn("path", { class: "arrow", d: line, "marker-end": "url(#tip)" });
}

function box({ name, kind, what, shape, value, gradient }, { x, y }) {
  const lines = [name, `${what} [${shape}]`, value, gradient && `∂ ${gradient}`];
  const group = drawn("g", { class: `box ${kind}`, transform: `translate(${x} ${y})` },
    drawn("title", {}, `${name}: ${what} [${shape}]\nvalue ${value}${gradient ? `\ngradient ${gradient}` : ""}`),
    drawn("rect", { width: SIZE.width, height: SIZE.height, rx: 6 }));
  lines.forEach((line, row) => group.append(drawn("text", { x: 9, y: 18 + 17 * row, class: row ? "figure" : "name" }, shortened(line, LETTERS))));
  return group;
}

const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** All numbers of few, the least and the most of many. */
function summed(tensor) {
  if (tensor === undefined || tensor?.b64 !== undefined) return "";
  const numbers = flat(tensor?.data ?? tensor);
  const all = numbers.map((each) => told(each, 2)).join(" ");
  if (numbers.length === 1 || (numbers.length <= WRITTEN && all.length < LETTERS - 2)) return all;
  const [least, most] = numbers.reduce(([low, high], each) => [Math.min(low, each), Math.max(high, each)], [Infinity, -Infinity]);
  return `${told(least, 2)} … ${told(most, 2)}`;
}
