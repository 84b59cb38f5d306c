// Small tensors of the request as grids of fields.

import { element, show } from "./dom.js";
import { place, shapeOf } from "./numbers.js";

const MOST = 64;

/** Show the tensors and weights that are small enough; `changed(section, name, index, number)` is told of each change. */
export function showGrids(request, changed) {
  const sections = ["weights", "tensors"].flatMap((section) =>
    Object.entries(request[section] ?? {}).map(([name, tensor]) => grid(section, name, tensor, changed)));
  show("grids", ...sections);
}

function grid(section, name, tensor, changed) {
  const shape = Array.isArray(tensor?.shape) ? tensor.shape : shapeOf(tensor);
  const title = element("legend", {}, name, element("small", {}, ` ${section === "weights" ? "weight" : "tensor"} [${shape.join(", ")}]`));
  const data = tensor?.data ?? tensor;
  const small = shape.length <= 2 && shape.reduce((product, each) => product * each, 1) <= MOST && String(shapeOf(data)) === String(shape) && tensor?.b64 === undefined;
  if (!small) return element("fieldset", { className: "grid" }, title, element("p", { className: "quiet" }, "edit it in the JSON"));
  const rows = shape.length === 2 ? data : [shape.length ? data : [data]];
  const table = element("div", { className: "fields" }, ...rows.map((row, number) => element("div", {},
    ...row.map((value, column) => field(section, name, [...(shape.length === 2 ? [number] : []), ...(shape.length ? [column] : [])], value, changed)))));
  return element("fieldset", { className: "grid" }, title, table);
}

function field(section, name, index, value, changed) {
  const made = element("input", {
    value: String(value), inputMode: "decimal", size: 6, "aria-label": place(name, index),
    onchange: () => {
      const number = Number(made.value);
      const wrong = made.value.trim() === "" || !Number.isFinite(number);
      made.setAttribute("aria-invalid", String(wrong));
      if (!wrong) changed(section, name, index, number);
    },
  });
  made.dataset.pointer = `/${section}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`;
  return made;
}
