// Builds the page. Every text becomes a text node: what comes from the chain is never parsed as HTML.

/** An element with attributes and children; what is null, undefined or false is left out. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

const SVG = "http://www.w3.org/2000/svg";

/** The same, of a drawing. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An address within this page. */
export function address(parts, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined);
  const query = new URLSearchParams(given).toString();
  return "#/" + parts.map(encodeURIComponent).join("/") + (query && "?" + query);
}

/** A link within this page. */
export function link(parts, ...children) {
  return el("a", { href: address(parts) }, ...children);
}

/** A table. Columns are titles or `{ title, kind }`, where the kind is `number`, `text` or `extra` (hidden on small screens). */
export function table(caption, columns, rows, empty) {
  if (rows.length === 0) return el("p", { class: "empty" }, empty);
  const kinds = columns.map((column) => column.kind ?? "text");
  const title = (column, at) => el("th", { scope: "col", class: kinds[at] }, column.title ?? column);
  const cell = (content, at) => el("td", { class: kinds[at] }, content);
  const row = (cells) => {
    const attributes = cells.attributes ?? {};
    return el("tr", attributes, (cells.cells ?? cells).map(cell));
  };
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {},
      el("caption", { class: "unseen" }, caption),
      el("thead", {}, el("tr", {}, columns.map(title))),
      el("tbody", {}, rows.map(row))));
}

/** Names and values. A pair whose value is null or undefined is left out. */
export function facts(pairs, kind = "facts") {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined);
  return el("dl", { class: kind }, shown.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

/** A part of a page with a heading. */
export function section(title, ...children) {
  return el("section", {}, el("h2", {}, title), ...children);
}

/** A page: its title, what it is, and its content. */
export function page(kind, title, ...children) {
  return el("article", {}, el("p", { class: "kind" }, kind), el("h1", {}, title), ...children);
}

/** Links to what comes before and after in a list; each `[text, address]` or nothing. */
export function pager(...links) {
  const shown = links.filter(Boolean);
  if (shown.length === 0) return null;
  return el("nav", { class: "pager", "aria-label": "Pages" }, shown.map(([text, href]) => el("a", { href }, text)));
}

/** Makes `old` look like `fresh` and keeps every node that can stay: focus, selection and scrolling survive. */
export function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return void old.replaceWith(fresh);
  if (old.nodeType === Node.TEXT_NODE) return void (old.data = fresh.data);
  for (const { name } of [...old.attributes]) {
    // Whether details are open is the reader's choice.
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
  after.forEach((child, at) => (at < before.length ? morph(before[at], child) : old.append(child)));
  before.slice(after.length).forEach((child) => child.remove());
}
