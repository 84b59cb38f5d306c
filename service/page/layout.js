// Where the boxes and arrows of a graph go: each node as far to the right as its longest way from a tensor.

/** Names that a node reads. */
export function read(node) {
  const inputs = Array.isArray(node.inputs) ? node.inputs : Object.values(node.inputs);
  return inputs.flat().filter((each) => typeof each === "string");
}

/** The nodes with those of several outputs in parts, one for each output that is read: top.values and top.indices. */
export function splitOutputs(nodes) {
  const known = new Set(nodes.map((node) => node.name));
  const names = [...new Set(nodes.flatMap(read))];
  return nodes.flatMap((node) => {
    const outputs = names.filter((name) => !known.has(name) && name.slice(0, name.lastIndexOf(".")) === node.name);
    return outputs.length ? outputs.map((name) => ({ ...node, name })) : [node];
  });
}

/** The column of every name: leaves first, each node behind all that it reads, a leaf just before who reads it first. */
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
  for (const leaf of leaves) {
    const readers = nodes.filter((node) => read(node).includes(leaf)).map((node) => depth.get(node.name));
    if (readers.length) depth.set(leaf, Math.min(...readers) - 1);
  }
  return depth;
}

/**
 * Places of boxes, and the points that each arrow goes through, between boxes where it passes a column.
 *
 * size: {width, height, across, down, lane} of a box, of the gaps, and of an arrow that passes.
 */
export function layout(nodes, leaves, size) {
  const depth = layered(nodes, leaves);
  const columns = [];
  const items = new Map([...depth].map(([name, column]) => [name, { column, height: size.height, before: [], after: [] }]));
  const arrows = nodes.flatMap((node) => [...new Set(read(node))].filter((name) => items.has(name))
    .map((name) => ({ from: name, to: node.name, way: way(items.get(name), items.get(node.name), size) })));
  for (const item of [...items.values(), ...arrows.flatMap(({ way }) => way.slice(1, -1))]) (columns[item.column] ??= []).push(item);
  const used = columns.filter(Boolean);
  used.forEach((column) => stacked(column, "before", size));
  used.toReversed().forEach((column) => stacked(column, "after", size));
  used.forEach((column) => stacked(column, "before", size));
  const top = Math.min(...used.flat().map((each) => each.y));
  for (const each of used.flat()) {
    each.y += size.down - top;
    each.x = size.across / 2 + each.column * (size.width + size.across);
  }
  return { items, arrows, width: used.length * (size.width + size.across), height: size.down + Math.max(...used.flat().map((each) => each.y + each.height)) };
}

/** The two ends, and a lane in every column between them; neighbours know each other. */
function way(from, to, size) {
  const lanes = Array.from({ length: Math.max(0, to.column - from.column - 1) },
    (_, number) => ({ column: from.column + 1 + number, height: size.lane, before: [], after: [] }));
  const all = [from, ...lanes, to];
  for (let at = 1; at < all.length; at += 1) {
    all[at].before.push(all[at - 1]);
    all[at - 1].after.push(all[at]);
  }
  return all;
}

const middle = (item) => item.y + item.height / 2;

/** Stack a column, each as near to the middle of its neighbours as the others let it. */
function stacked(column, side, size) {
  const wish = new Map(column.map((each, order) => {
    const near = each[side].filter(({ y }) => y !== undefined);
    const own = each.y === undefined ? order * (size.height + size.down) : middle(each);
    return [each, near.length ? near.reduce((sum, other) => sum + middle(other), 0) / near.length : own];
  }));
  column.sort((one, other) => wish.get(one) - wish.get(other));
  let free = -Infinity;
  for (const each of column) {
    each.y = Math.max(free, wish.get(each) - each.height / 2);
    free = each.y + each.height + size.down;
  }
  // What was pushed down is shared between all.
  const pushed = column.reduce((sum, each) => sum + middle(each) - wish.get(each), 0) / column.length;
  for (const each of column) each.y -= pushed;
}
