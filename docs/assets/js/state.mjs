// The reader's choices and their place in the address. Values that equal the default are left out, so links stay short.
//
// key  meaning                                           key  meaning
// g    card or machine (catalog id), or "<N>gb"          t    task (catalog id)
// l    language of the data (ISO 639-1)                  c    1 = commercial use must be allowed
// m    method, "auto" = choose for me                    r    recipe, "auto" = choose for me
// s    sequence length, tokens                           b    micro-batch, 0 = as large as fits
// k    gradient checkpointing, 0 or 1                    a    LoRA rank
// n    training samples                                  e    epochs
// p    price of the machine, per hour                    i    what the model's name must include (q and h are the search's)
// o    order of the list                                 f    1 = show what does not fit as well
// w    the model of "what do I need for it?"             x    models to compare, comma between them
// d    the model whose details are open

export const DEFAULTS = Object.freeze({
  g: "rtx-4090", t: "customer-service-zh", l: "", c: 0, m: "auto", r: "auto", s: 0, b: 1, k: 1, a: 16,
  n: 0, e: 3, p: 0, i: "", o: "rank", f: 0, w: "", x: "", d: "",
});
const LIMITS = { s: [0, 131072], b: [0, 256], a: [1, 256], n: [0, 1e9], e: [0.1, 100], p: [0, 1e5], k: [0, 1], c: [0, 1], f: [0, 1] };
const WHOLE = new Set(["s", "b", "a", "n", "k", "c", "f"]);
const CHOICES = {
  m: ["auto", "full", "full_bf16_adam8bit", "lora", "qlora", "lora_8bit", "dora", "prompt_tuning"],
  r: ["auto", "stock", "lean"],
  o: ["rank", "memory", "speed", "size", "released", "downloads"],
};
const ID = /^[a-z0-9][a-z0-9._-]{0,95}$/;

/** A value as the picker may use it, or the default where it makes no sense (addresses come from strangers). */
export function clean(key, value) {
  if (key in LIMITS) {
    const number = Number(value);
    const [low, high] = LIMITS[key];
    if (!Number.isFinite(number) || value === "") return DEFAULTS[key];
    const kept = Math.min(Math.max(number, low), high);
    return WHOLE.has(key) ? Math.round(kept) : kept;
  }
  const text = String(value);
  if (key in CHOICES) return CHOICES[key].includes(text) ? text : DEFAULTS[key];
  if (key === "i") return text.slice(0, 80);
  if (key === "l") return /^[a-z]{2,3}$/.test(text) ? text : "";
  if (key === "x") return [...new Set(text.split(",").filter((id) => ID.test(id)))].slice(0, 4).join(",");
  return ID.test(text) ? text : DEFAULTS[key];
}

/** State from a query string such as "?g=t4&s=2048". */
export function parse(query) {
  const state = { ...DEFAULTS };
  for (const [key, value] of new URLSearchParams(query)) if (key in DEFAULTS) state[key] = clean(key, value);
  return state;
}

/** Query string of a state, "" where all is default. */
export function format(state) {
  const out = new URLSearchParams();
  for (const key of Object.keys(DEFAULTS)) if (state[key] !== DEFAULTS[key]) out.set(key, state[key]);
  const text = out.toString().replaceAll("%2C", ",");
  return text ? `?${text}` : "";
}
