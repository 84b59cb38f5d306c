// Elements, made without ever reading text as HTML: names in a request may be anything.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: properties by name, those with a dash and all of SVG as attributes; children are nodes or text. */
export function element(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children, false);
}

export function drawn(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children, true);
}

function filled(made, properties, children, attributes) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (attributes || name.includes("-") || name === "role" || name === "for") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const byId = (id) => document.getElementById(id);

export function show(id, ...children) {
  byId(id).replaceChildren(...children);
}
