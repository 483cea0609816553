// Draws every <div data-figure="….json"> when it comes near the screen; the plotly bundle loads with the first of them.
//
// The figure's JSON is made by generator/views/charts.py: colours in it are CSS tokens, resolved here for the scheme in
// force and again when the reader switches it. A figure with `data-curve` is filled by curves.mjs; any other takes its data
// from the <table> inside the same <figure>: a trace's meta {x, y, text, low, high, where} names columns by the data-key of
// their heads. If anything fails, the table behind the figure opens instead.
const BUNDLE = new URL("../vendor/plotly-basic-4.1.1.min.js", import.meta.url);
const NARROW = 480;
const drawn = new Map();
const seen = new WeakSet();
const files = new Map();
let bundle;

/** The plotly.js bundle, asked for once. */
function loadBundle() {
  bundle ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = BUNDLE;
    script.onload = () => resolve(globalThis.Plotly);
    script.onerror = () => reject(new Error("the chart library did not load"));
    document.head.append(script);
  });
  return bundle;
}

/** A JSON file of this site, asked for once per page. */
export function loadJson(url) {
  const key = String(url);
  if (!files.has(key)) {
    files.set(key, fetch(key).then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(`${key}: ${answer.status}`)))));
  }
  return files.get(key);
}

/** Text that plotly shows as it is: it would read tags in it as markup. */
export const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** A copy of a figure's part with every colour token replaced by its value in `style`. */
function resolve(part, style) {
  if (typeof part === "string") {
    const token = /^var\((--[\w-]+)\)$/.exec(part);
    return token ? style.getPropertyValue(token[1]).trim() : part;
  }
  if (Array.isArray(part)) return part.map((item) => resolve(item, style));
  if (part && typeof part === "object") return Object.fromEntries(Object.entries(part).map(([key, value]) => [key, resolve(value, style)]));
  return part;
}

/** Rows of a table as objects: data-key of the head → data-v of the cell as a number where it is one, else its text. */
export function readTable(table) {
  const keys = [...table.tHead.rows[table.tHead.rows.length - 1].cells].map((head) => head.dataset.key);
  return [...table.tBodies[0].rows].filter((row) => row.cells.length === keys.length).map((row) => {
    const found = { ...row.dataset, cells_: {} };
    keys.forEach((key, index) => {
      if (!key) return;
      const cell = row.cells[index];
      const raw = cell.dataset.v ?? cell.dataset.name ?? cell.textContent.trim();
      found.cells_[key] = cell.textContent.trim();
      const number = raw === "" || raw === "–" ? null : Number(raw);
      found[key] = Number.isNaN(number) ? raw : number;
    });
    return found;
  });
}

/** A trace along one row of the table: x = the columns whose data-key is a number, hover text = what the cells say. */
function acrossRow(row, name) {
  if (!row) return { x: [], y: [] };
  const xs = Object.keys(row).filter((key) => /^\d+$/.test(key)).map(Number);
  return { name: plain(row[name]), x: xs, y: xs.map((x) => row[x]), customdata: xs.map((x) => [plain(row.cells_[x])]) };
}

/** The figure with its data taken from the table behind it. */
function fillFromTable(box, figure) {
  const rows = readTable(box.closest("figure").querySelector("table"));
  const shown = (value) => (typeof value === "string" ? plain(value) : value);
  const data = figure.data.map((trace) => {
    const { x, y, text, low, high, row, name, where = {} } = trace.meta ?? {};
    if (row) return { ...trace, ...acrossRow(rows.find((item) => Object.entries(row).every(([key, value]) => item[key] === value)), name) };
    if (!x) return trace;
    const own = rows.filter((row) => Object.entries(where).every(([key, value]) => String(row[key]) === String(value)) && row[x] !== null && row[y] !== null);
    const filled = { ...trace, x: own.map((row) => shown(row[x])), y: own.map((row) => shown(row[y])) };
    if (text) filled.customdata = own.map((row) => [].concat(text).map((key) => shown(row[key] ?? "–")));
    if (low && high) {
      const along = trace.orientation === "h" ? "x" : "y";
      const middle = along === "x" ? x : y;
      filled[`error_${along}`] = { ...trace[`error_${along}`], type: "data", symmetric: false,
        array: own.map((row) => row[high] - row[middle]), arrayminus: own.map((row) => row[middle] - row[low]) };
    }
    return filled;
  });
  return { ...figure, data, layout: figure.fit_range ? square(figure, data) : figure.layout };
}

/** Both axes over the same range, as wide as the data and a little more. */
function square(figure, data) {
  const values = data.filter((trace) => trace.meta?.x).flatMap((trace) => [...trace.x, ...trace.y]);
  if (!values.length) return figure.layout;
  const range = [Math.log10(Math.min(...values) / figure.fit_range), Math.log10(Math.max(...values) * figure.fit_range)];
  return { ...figure.layout, xaxis: { ...figure.layout.xaxis, range }, yaxis: { ...figure.layout.yaxis, range } };
}

const measure = document.createElement("canvas").getContext("2d");

/** Names at the right end of lines, moved apart where lines end close to each other. (A phone has a legend instead.) */
function directLabels(plot, data) {
  const { xaxis, yaxis } = plot._fullLayout;
  const ends = data.filter((trace) => trace.meta?.label && trace.x.length && trace.y.some((y) => y !== null)).map((trace) => {
    let last = trace.x.length - 1;
    while (last > 0 && trace.y[last] === null) last -= 1;
    return { trace, x: trace.x[last], y: trace.y[last], at: yaxis.d2p(trace.y[last]) };
  });
  ends.sort((a, b) => a.at - b.at);
  let free = 8;
  for (const end of ends) {
    end.put = Math.max(end.at, free);
    free = end.put + 17;
  }
  const value = (axis, number) => (axis.type === "log" ? Math.log10(number) : number);
  return ends.map((end) => ({
    text: end.trace.name, showarrow: false, x: value(xaxis, end.x), y: value(yaxis, end.y), yshift: end.at - end.put,
    xanchor: "left", xshift: 6, font: { color: end.trace.line.color },
  }));
}

/** Draw a figure whose colours are tokens; drawing again replaces it. */
export async function draw(box, figure) {
  const Plotly = await loadBundle();
  drawn.set(box, figure);
  const style = getComputedStyle(box);
  const { data, layout } = resolve({ data: figure.data, layout: figure.layout }, style);
  const narrow = box.clientWidth < NARROW;
  layout.font = { ...layout.font, family: style.fontFamily, size: narrow ? 12 : layout.font?.size ?? 13 };
  layout.width = box.clientWidth;
  layout.height = box.clientHeight;
  const labelled = data.filter((trace) => trace.meta?.label && trace.x?.length && trace.y.some((y) => y !== null));
  if (labelled.length && !narrow) {
    measure.font = `${layout.font.size}px ${layout.font.family}`;
    layout.margin = { ...layout.margin, r: 14 + Math.max(...labelled.map((trace) => measure.measureText(trace.name).width)) };
  }
  if (narrow) {
    // Long names on the vertical axis take two lines.
    for (const trace of data) if (typeof trace.y?.[0] === "string") trace.y = trace.y.map((name) => name.replace(" · ", "<br>"));
  }
  if (labelled.length && narrow) {
    for (const trace of data) trace.showlegend = labelled.includes(trace);
    Object.assign(layout, { showlegend: true, legend: { orientation: "h", x: 0, y: -0.22, yanchor: "top", itemclick: false, itemdoubleclick: false } });
    layout.margin = { ...layout.margin, b: 100 };
  }
  await Plotly.react(box, data, layout, { displayModeBar: false, showTips: false, doubleClick: false });
  if (labelled.length && !narrow) await Plotly.relayout(box, { annotations: [...(layout.annotations ?? []), ...directLabels(box, data)] });
  box.dataset.drawn = "";
}

async function show(box) {
  try {
    const url = new URL(box.dataset.figure, location.href);
    const [figure] = await Promise.all([loadJson(url), loadBundle()]);
    if (box.dataset.curve) await (await import("./curves.mjs")).addCurve(box, figure, url);
    else if (box.closest("[data-explorer]")) await (await import("./explorer.mjs")).addExplorer(box, figure);
    else await draw(box, fillFromTable(box, figure));
  } catch (error) {
    box.hidden = true;
    const table = (box.closest(".curves") ?? box.closest("figure"))?.querySelector("details");
    if (table) table.open = true;
    console.warn(error);
  }
}

// A phone in hand waits for the first touch or scroll before it fetches and runs the drawing script.
const waiting = new Set();
let touched = !matchMedia("(max-width: 44.9375em)").matches;
function touch() {
  touched = true;
  for (const box of waiting) {
    delete box.dataset.waits;
    show(box);
  }
  waiting.clear();
}
for (const name of ["scroll", "pointerdown", "keydown"]) addEventListener(name, touch, { once: true, passive: true, capture: true });

const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    if (touched) show(target);
    else {
      waiting.add(target);
      target.dataset.waits = document.documentElement.lang.startsWith("en") ? "Tap or scroll to draw (400 kB of script)" : "点按或滚动即画图（脚本约 400 kB）";
    }
  }
}, { rootMargin: "120px" });
const sizes = new Map();
const sized = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    const before = sizes.get(target);
    sizes.set(target, contentRect.width);
    if (drawn.has(target) && before && contentRect.width && Math.abs(before - contentRect.width) > 1) draw(target, drawn.get(target));
  }
});

/** Watch every figure of the document that is not watched yet (also after a page change without a reload). */
function watch() {
  for (const box of drawn.keys()) if (!box.isConnected) drawn.delete(box);
  for (const box of document.querySelectorAll("[data-figure]")) {
    if (seen.has(box)) continue;
    seen.add(box);
    near.observe(box);
    sized.observe(box);
  }
}

new MutationObserver(() => {
  for (const [box, figure] of drawn) draw(box, figure);
}).observe(document.body, { attributeFilter: ["data-md-color-scheme"] });
watch();
const explorer = document.querySelector("[data-explorer]");
if (explorer) import("./explorer.mjs").then((module) => module.addDownloads(explorer));
globalThis.document$?.subscribe?.(watch);
