// A table that scrolls by itself where it is wider than the page.

import { element } from "./dom.js";

/** Rows of texts or elements under their heads. */
export function table(name, heads, rows) {
  const cells = (row) => row.map((each) => element("td", {}, each instanceof Node ? each : String(each)));
  return element("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": name }, element("table", { className: "plain" },
    element("thead", {}, element("tr", {}, ...heads.map((each) => element("th", { scope: "col" }, each)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...cells(row))))));
}
