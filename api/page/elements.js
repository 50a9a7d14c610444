// HTML and SVG elements. Every child that is not an element becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const make = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
export const svg = (name, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, name), attributes, children);

export function replace(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

/** Return a table that scrolls within its own frame. `numbers` are the columns that align to the right. */
export function table(label, headers, rows, numbers = []) {
  const cell = (name, value, column, more = {}) =>
    make(name, { class: numbers.includes(column) ? "number" : null, ...more }, value);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, make("table", {},
    make("thead", {}, make("tr", {}, headers.map((text, column) => cell("th", text, column, { scope: "col" })))),
    make("tbody", {}, rows.map((row) => make("tr", {}, row.map((value, column) => cell("td", value, column)))))));
}

export const section = (title, ...children) => make("section", { class: "part" }, make("h2", {}, title), ...children);
export const soft = (...children) => make("p", { class: "soft" }, ...children);

/** Return a bar that is filled by a share from 0 to 1. */
export const bar = (share) => svg("svg", { class: "bar", height: 10, width: "100%", "aria-hidden": "true" },
  svg("rect", { class: "track", width: "100%", height: 10, rx: 2 }), svg("rect", { class: "filled", width: `${Math.max(0, Math.min(100, 100 * share))}%`, height: 10, rx: 2 }));
