// The explorer of measured cells: a chart of the rows that the filters leave (x, y and colour as chosen), and their download.
// Filtering and sorting are tables.mjs; rows carry the cell's id, figures come from /api/v1/cells.json.
import { draw, loadJson, plain } from "./charts.mjs";

const GIB = 1024 ** 3;
const API = new URL("../../api/v1/", import.meta.url);
const SERIES = 8;

const value = (cell, field) => (cell[field] === null ? null : field.endsWith("_bytes") ? cell[field] / GIB : field.startsWith("error") ? 100 * cell[field] : cell[field]);

/** Rows as CSV (RFC 4180): the fields of cells.json under the same names, null as nothing. */
export function toCsv(cells) {
  const fields = Object.keys(cells[0] ?? {});
  // A text that a spreadsheet would run as a formula is kept from it by an apostrophe.
  const write = (item) => {
    const text = item === null ? "" : typeof item === "string" && /^[=+\-@\t\r]/.test(item) ? `'${item}` : String(item);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [fields.join(","), ...cells.map((cell) => fields.map((field) => write(cell[field])).join(","))].join("\r\n") + "\r\n";
}

/** Cells of the rows that the filters leave, in the order of the table. */
async function shownCells(root) {
  const { cells } = await loadJson(new URL("cells.json", API));
  const byId = new Map(cells.map((cell) => [cell.id, cell]));
  return [...root.querySelectorAll("tbody tr[data-cell]:not([hidden])")].map((row) => byId.get(row.dataset.cell)).filter(Boolean);
}

function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** An empty trace of the series; a method has the colour that it has in every figure. */
function coloured(frame, index, method) {
  const trace = structuredClone(frame.data[index]);
  if (frame.method_colours[method]) trace.marker.color = frame.method_colours[method];
  return trace;
}

/** The chart's frame filled with one trace per value of the colour field; beyond eight the rest share one colour. */
function fill(frame, cells, state) {
  const groups = new Map();
  for (const cell of cells) {
    if (value(cell, state.x) === null || value(cell, state.y) === null) continue;
    const key = String(cell[state.colour] ?? "–");
    groups.set(key, [...(groups.get(key) ?? []), cell]);
  }
  const names = [...groups.keys()].sort((a, b) => groups.get(b).length - groups.get(a).length || a.localeCompare(b, undefined, { numeric: true }));
  const word = (key) => frame.values[state.colour]?.[key] ?? key;
  const kept = names.slice(0, names.length > SERIES ? SERIES - 1 : SERIES);
  const rest = names.slice(kept.length);
  const data = [...kept.map((key) => [word(key), groups.get(key)]), ...(rest.length ? [[frame.words.rest, rest.flatMap((key) => groups.get(key))]] : [])]
    .map(([name, own], index) => ({
      ...coloured(frame, index, state.colour === "method" && own[0].method), name: plain(name), x: own.map((cell) => value(cell, state.x)), y: own.map((cell) => value(cell, state.y)),
      customdata: own.map((cell) => [plain(`${cell.name} · ${cell.method} · ${cell.recipe} · ${cell.micro_batch} × ${cell.seq_len}`), plain(`${cell.gpu_name}, ${cell.date}`)]),
    }));
  const layout = structuredClone(frame.layout);
  const title = (field) => frame.fields[field];
  layout.xaxis.title.text = title(state.x);
  layout.annotations[0].text = title(state.y);
  for (const [axis, field] of [["xaxis", state.x], ["yaxis", state.y]]) {
    const values = data.flatMap((trace) => trace[axis[0]]);
    const spread = Math.max(...values) / Math.min(...values);
    Object.assign(layout[axis], spread > 20 && !field.startsWith("error") ? { type: "log", tickvals: frame.ticks, ticktext: frame.ticks.map((mark) => Number(mark.toPrecision(1)).toLocaleString("en-US")) } : { type: "linear" });
  }
  return { ...frame, data, layout };
}

/** Take up the chart box: controls, first drawing, drawing again when the filters change. */
export function addExplorer(box, frame) {
  const root = box.closest("[data-explorer]");
  const tools = root.querySelector(".chart-tools");
  const state = { x: "peak_allocated_bytes", y: "estimated_allocated_bytes", colour: "method" };
  const again = async () => draw(box, fill(frame, await shownCells(root), state));
  for (const [name, options] of [["x", frame.fields], ["y", frame.fields], ["colour", frame.colours]]) {
    const label = document.createElement("label");
    const select = document.createElement("select");
    select.name = name;
    for (const [key, word] of Object.entries(options)) select.add(new Option(word, key, false, key === state[name]));
    select.addEventListener("change", () => {
      state[name] = select.value;
      again();
    });
    label.append(frame.words[name], select);
    tools.append(label);
  }
  tools.hidden = false;
  let waiting = 0;
  new MutationObserver(() => {
    clearTimeout(waiting);
    waiting = setTimeout(again, 60);
  }).observe(root.querySelector("tbody"), { subtree: true, attributeFilter: ["hidden"] });
  return again();
}

/** Downloads work whether or not the chart was ever on the screen. */
export function addDownloads(root) {
  const bar = root.querySelector("[data-downloads]");
  bar.hidden = false;
  for (const button of bar.querySelectorAll("button")) {
    button.addEventListener("click", async () => {
      const cells = await shownCells(root);
      if (button.dataset.format === "csv") save("finetune-atlas-cells.csv", "text/csv;charset=utf-8", toCsv(cells));
      else save("finetune-atlas-cells.json", "application/json", `${JSON.stringify(cells, null, 1)}\n`);
    });
  }
}
