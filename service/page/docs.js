// `/openapi.json`, for reading.

import { Problem, get } from "./api.js";
import { element, show } from "./dom.js";

async function start() {
  const { info, paths, components } = await get("/openapi.json");
  const main = (path) => path.startsWith("/v1/");
  const operations = Object.entries(paths).sort(([one], [other]) => main(other) - main(one)).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => described(method, path, operation)));
  const types = Object.entries(components.schemas).map(([name, schema]) => type(name, schema));
  show("docs", element("p", {}, info.description), element("h2", {}, "Operations"), ...operations, element("h2", {}, "Types"), ...types);
}

function described(method, path, operation) {
  const body = operation.requestBody?.content ?? {};
  const answers = Object.entries(operation.responses).map(([status, { description, content = {} }]) =>
    element("li", {}, element("code", {}, status), ` ${description} `, ...Object.entries(content).map(([media, { schema }]) => form(media, schema))));
  const examples = Object.entries(body["application/json"]?.examples ?? {}).slice(0, 1).map(([name, { value }]) =>
    element("details", {}, element("summary", {}, `A body: ${name}`), element("pre", { tabIndex: 0 }, JSON.stringify(value, null, 1))));
  return element("section", { className: "panel", "aria-label": `${method} ${path}` },
    element("h3", {}, element("code", {}, `${method.toUpperCase()} ${path}`)), element("p", {}, operation.summary),
    Object.keys(body).length ? element("p", {}, "Takes ", ...Object.entries(body).map(([media, { schema }]) => form(media, schema))) : null,
    element("ul", {}, ...answers), ...examples);
}

const form = (media, schema) => element("span", {}, element("small", {}, `${media} `), ...reference(schema), " ");

function reference(schema) {
  const name = schema?.$ref?.split("/").at(-1);
  return name ? [element("a", { href: `#${name}` }, name)] : [];
}

function type(name, schema) {
  const fields = Object.entries(schema.properties ?? {}).map(([field, each]) => element("tr", {},
    element("th", { scope: "row" }, field), element("td", {}, ...reference(each), ` ${each.type ?? ""}`),
    element("td", {}, schema.required?.includes(field) ? "required" : ""), element("td", {}, each.description ?? "")));
  return element("details", { id: name }, element("summary", {}, name), element("p", {}, schema.description ?? ""),
    element("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": `Fields of ${name}` }, element("table", { className: "plain" }, element("tbody", {}, ...fields))));
}

addEventListener("hashchange", () => {
  const target = document.getElementById(location.hash.slice(1));
  if (target) target.open = true;
});
start().catch((error) => show("docs", element("p", { role: "alert" }, error instanceof Problem ? error.message : "The description could not be read.")));
