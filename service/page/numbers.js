// Numbers as the interface has them, which spells what is not finite, and as a person reads them.

export const numeric = (value) =>
  typeof value === "number" ? value : { NaN: NaN, Infinity: Infinity, "-Infinity": -Infinity }[value];

/** Shape of nested lists; [] of a number. */
export function shapeOf(tensor) {
  return Array.isArray(tensor) ? [tensor.length, ...shapeOf(tensor[0])] : [];
}

/** All numbers of nested lists, row by row. */
export function flat(tensor) {
  return Array.isArray(tensor) ? tensor.flat(Infinity).map(numeric) : [numeric(tensor)];
}

/** Index of an element by its place among all. */
export function indexOf(place, shape) {
  const index = [];
  for (let axis = shape.length - 1; axis >= 0; axis -= 1) {
    index.unshift(place % shape[axis]);
    place = Math.floor(place / shape[axis]);
  }
  return index;
}

export const placeOf = (index, shape) => index.reduce((place, each, axis) => place * shape[axis] + each, 0);

/** A number in a few digits. */
export function told(value, digits = 4) {
  const number = numeric(value);
  if (number === undefined || Number.isNaN(number)) return "NaN";
  if (!Number.isFinite(number)) return number > 0 ? "∞" : "−∞";
  if (number === 0) return "0";
  const size = Math.abs(number);
  const text = size >= 1e-3 && size < 1e5 ? Number(number.toPrecision(digits)).toString() : number.toExponential(digits - 1);
  return text.replace(/^-/, "−").replace("e-", "e−").replace("e+", "e");
}

export const place = (name, index) => name + index.map((each) => `[${each}]`).join("");
