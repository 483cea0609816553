// Elements and figures as the picker writes them. Text from data only ever becomes text nodes.
export const GIB = 1024 ** 3;

/** An element with attributes and children; strings become text, `on…` become listeners. */
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A table: `head` is a list of [word, "num" or ""], `rows` are lists of cells; the first cell of a row heads it. */
export function tableOf(head, rows, numeric = []) {
  const kind = (i) => (numeric.includes(i) ? { class: "num" } : {});
  return el("table", { class: "fa-table" },
    head && el("thead", {}, el("tr", {}, ...head.map((word, i) => (word ? el("th", { scope: "col", ...kind(i) }, word) : el("td"))))),
    el("tbody", {}, ...rows.map((cells) => el("tr", {}, ...cells.map((cell, i) => (i
      ? el("td", kind(i), ...[cell].flat())
      : el("th", { scope: "row" }, ...[cell].flat())))))));
}

const FORMATS = [0, 1, 2].map((digits) => (
  new Intl.NumberFormat("en-US", { maximumFractionDigits: digits, minimumFractionDigits: digits })));

export const number = (value, digits) => FORMATS[digits].format(value);

/** Bytes in GiB, without the unit. */
export function gib(bytes) {
  const value = bytes / GIB;
  return number(value, value < 10 ? 2 : value < 100 ? 1 : 0);
}

export const shortCount = (n) => (n >= 1e6 ? `${number(n / 1e6, 1)}M` : n >= 1e3 ? `${number(n / 1e3, 0)}k` : String(n));

export function billions(n) {
  if (!n) return "–";
  return n >= 1e9 ? `${Number((n / 1e9).toPrecision(3))}B` : `${Number((n / 1e6).toPrecision(3))}M`;
}
