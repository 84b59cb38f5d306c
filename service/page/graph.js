// The model as boxes and arrows: each node as far to the right as its longest way from a tensor.

import { drawn, element, show } from "./dom.js";
import { flat, shapeOf, told } from "./numbers.js";

const BOX = { width: 178, height: 74, across: 44, down: 18 };

/** Columns of names: leaves first, then each node behind all that it reads. */
export function layered(nodes, leaves) {
  const depth = new Map(leaves.map((name) => [name, 0]));
  const by = new Map(nodes.map((node) => [node.name, node]));
  const pending = nodes.map((node) => node.name);
  while (pending.length) {
    const name = pending.at(-1);
    const missing = depth.has(name) ? [] : read(by.get(name)).filter((each) => by.has(each) && !depth.has(each));
    if (missing.length) pending.push(...missing);
    else {
      pending.pop();
      if (!depth.has(name)) depth.set(name, 1 + Math.max(0, ...read(by.get(name)).map((each) => depth.get(each) ?? 0)));
    }
  }
  // A tensor that is first read late stands just before who reads it.
  for (const leaf of leaves) {
    const readers = nodes.filter((node) => read(node).includes(leaf)).map((node) => depth.get(node.name));
    if (readers.length) depth.set(leaf, Math.min(...readers) - 1);
  }
  const columns = [];
  for (const [name, at] of depth) (columns[at] ??= []).push(name);
  return columns;
}

/** Names that a node reads. */
export function read(node) {
  const inputs = Array.isArray(node.inputs) ? node.inputs : Object.values(node.inputs);
  return inputs.flat().filter((each) => typeof each === "string");
}

export function showGraph(report, request) {
  const nodes = report.model.nodes;
  const tensors = { ...request.tensors, ...request.weights };
  const columns = layered(nodes, Object.keys(tensors));
  const tallest = Math.max(...columns.map((each) => each.length));
  const [width, height] = [columns.length * (BOX.width + BOX.across), tallest * (BOX.height + BOX.down) + BOX.down];
  const places = new Map(columns.flatMap((names, column) => names.map((name, row) => [name, {
    x: column * (BOX.width + BOX.across) + BOX.across / 2,
    y: (height - names.length * (BOX.height + BOX.down)) / 2 + row * (BOX.height + BOX.down) + BOX.down / 2,
  }])));
  const image = drawn("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-labelledby": "graph-words" });
  image.append(drawn("defs", {}, drawn("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    drawn("path", { d: "M0 0L8 4L0 8z", class: "tip" }))));
  for (const node of nodes) for (const name of read(node)) if (places.has(name)) image.append(arrow(places.get(name), places.get(node.name)));
  for (const [name, at] of places) image.append(box(name, at, report, request, tensors, nodes));
  const words = element("p", { id: "graph-words", className: "hidden" },
    `Graph: ${nodes.map((node) => `${node.name} is ${node.op} of ${read(node).join(", ")}`).join("; ")}.`);
  // As much smaller as it can be and still be read; beyond that it scrolls.
  image.style.width = `clamp(${0.72 * width}px, 100%, ${width}px)`;
  image.style.height = "auto";
  show("graph", words, image);
}

function arrow(from, to) {
  const [x, y, u, v] = [from.x + BOX.width, from.y + BOX.height / 2, to.x - 1, to.y + BOX.height / 2];
  return drawn("path", { class: "arrow", d: `M${x} ${y}C${x + BOX.across / 2} ${y} ${u - BOX.across / 2} ${v} ${u} ${v}`, "marker-end": "url(#tip)" });
}

function box(name, at, report, request, tensors, nodes) {
  const node = nodes.find((each) => each.name === name);
  const value = node ? (report.intermediates[name]?.value ?? (node === nodes.at(-1) ? report.loss.analytic : undefined)) : tensors[name];
  const gradient = node ? report.intermediates[name]?.analytic : report.gradients[name]?.analytic;
  const kind = node ? "node" : name in request.weights ? "weight" : "tensor";
  const what = node ? node.op : kind;
  const lines = [shortened(`${shortened(name, 12)} · ${what}`, 23), `[${shape(value)}] ${summed(value)}`, gradient === undefined ? "" : `∂ ${summed(gradient)}`];
  const group = drawn("g", { class: `box ${kind}`, transform: `translate(${at.x} ${at.y})` }, drawn("title", {}, `${name}: ${what}`),
    drawn("rect", { width: BOX.width, height: BOX.height, rx: 6 }));
  lines.forEach((line, row) => group.append(drawn("text", { x: 9, y: 22 + 20 * row, class: row ? "figure" : "name" }, shortened(line, 24))));
  return group;
}

const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

const shape = (tensor) => (tensor?.shape ?? shapeOf(tensor)).join(", ");

function summed(tensor) {
  if (tensor === undefined || tensor?.b64 !== undefined) return "";
  const numbers = flat(tensor?.data ?? tensor);
  if (numbers.length <= 3) return numbers.map((each) => told(each, 2)).join(" ");
  return `${told(Math.min(...numbers), 2)} … ${told(Math.max(...numbers), 2)}`;
}
