// Sorting, filtering and the phone's second look for tables of data. Without scripts the tables stay complete and readable.
//
// Markup (see the macros `tools`, `chips` and `table` in templates/parts.md.j2):
//   <div class="table" id="t"><table data-sortable> … <th scope="col" data-sort="num|text"> … <td data-v="123">
//   <div class="table-tools" data-for="t"> <input type="search"> <button class="chip" data-key="family" data-value="qwen3">
//   <tr data-family="qwen3" data-lang="zh en">   chips of one key are joined by "or", keys by "and"
//   <table data-sortable data-page="40">   of a long table only so many rows until all are asked for; the rest are tr.later
// State lives in the address (?family=qwen3&sort=downloads.desc&find=…), so that a view can be sent to someone (q would open the search).

const words = document.documentElement.lang.startsWith("zh")
  ? { more: (name) => `${name}：更多数据`, count: (n, all) => `${n} / ${all} 行`, filters: "筛选", all: (n) => `显示全部 ${n} 行` }
  : { more: (name) => `${name}: more figures`, count: (n, all) => `${n} of ${all} rows`, filters: "Filters", all: (n) => `Show all ${n} rows` };
const collator = new Intl.Collator(document.documentElement.lang, { numeric: true, sensitivity: "base" });

/** Value that a row is sorted by in one column: `data-v` where given, else the cell's text; null = unknown. */
export function sortValue(cell, kind) {
  const raw = cell.dataset.v ?? cell.textContent.trim();
  if (raw === "" || raw === "–") return null;
  if (kind !== "num") return raw;
  const number = Number(raw);
  return Number.isNaN(number) ? null : number;
}

/** Order of two sort values; unknown ones come last in either direction. */
export function compare(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a), String(b));
  return direction === "descending" ? -order : order;
}

/** True when a row passes every filter: any value of a key, all keys, all search words. */
export function matches(data, text, filters, query) {
  for (const [key, wanted] of filters) {
    const own = (data[key] ?? "").split(" ");
    if (wanted.size && !own.some((value) => wanted.has(value))) return false;
  }
  return query.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

function enhance(table) {
  const box = table.closest(".table");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
  const groups = [...body.querySelectorAll("tr.group")];
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const tools = box.id ? document.querySelector(`.table-tools[data-for="${box.id}"]`) : null;
  const filters = new Map();
  let query = "";
  let sorted = null;
  let page = Number(table.dataset.page) || Infinity;
  const rest = document.createElement("button");
  rest.type = "button";
  rest.className = "fa-button table-rest";
  rest.hidden = true;
  if (page < rows.length) box.after(rest);
  rest.addEventListener("click", () => {
    page = Infinity;
    apply();
  });

  const close = (row) => {
    const next = row.nextElementSibling;
    if (next?.classList.contains("details")) next.remove();
    row.querySelector(".row-more")?.setAttribute("aria-expanded", "false");
  };

  function apply() {
    let shown = 0;
    for (const row of page < rows.length ? body.rows : rows) {
      if (!texts.has(row)) continue;
      const visible = matches(row.dataset, texts.get(row), filters, query);
      if (row.hidden === visible) row.hidden = !visible;
      row.classList.toggle("later", visible && shown >= page);
      if (!visible) close(row);
      shown += visible;
    }
    for (const group of groups) {
      let next = group.nextElementSibling;
      while (next && !next.classList.contains("group") && next.hidden) next = next.nextElementSibling;
      group.hidden = sorted !== null || !next || next.classList.contains("group");
    }
    rest.hidden = shown <= page;
    rest.textContent = words.all(shown);
    const counter = tools?.querySelector(".table-count");
    if (counter) counter.textContent = words.count(shown, rows.length);
  }

  function sort(index, direction) {
    const kind = heads[index].dataset.sort;
    rows.forEach(close);
    const keyed = rows.map((row, place) => ({ row, place, value: sortValue(row.cells[index], kind) }));
    keyed.sort((a, b) => compare(a.value, b.value, direction) || a.place - b.place);
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[index].setAttribute("aria-sort", direction);
    body.append(...keyed.map((item) => item.row));
    sorted = { index, direction };
    apply();
  }

  function remember() {
    const address = new URL(location.href);
    for (const [key, wanted] of filters) {
      if (wanted.size) address.searchParams.set(key, [...wanted].join(" "));
      else address.searchParams.delete(key);
    }
    if (query) address.searchParams.set("find", query);
    else address.searchParams.delete("find");
    if (sorted) address.searchParams.set("sort", `${heads[sorted.index].dataset.key ?? sorted.index}.${sorted.direction.slice(0, -6)}`);
    history.replaceState(null, "", address);
  }

  heads.forEach((head, index) => {
    if (!head.dataset.sort) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    const label = document.createElement("span");
    label.append(...head.childNodes);
    button.append(label);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.dataset.first ?? (head.dataset.sort === "num" ? "descending" : "ascending");
      const other = first === "ascending" ? "descending" : "ascending";
      sort(index, head.getAttribute("aria-sort") === first ? other : first);
      if (tools) remember();
    });
  });

  for (const chip of tools?.querySelectorAll(".chip[data-key]") ?? []) {
    const { key, value } = chip.dataset;
    if (!filters.has(key)) filters.set(key, new Set());
    chip.setAttribute("aria-pressed", "false");
    chip.addEventListener("click", () => {
      const wanted = filters.get(key);
      if (wanted.has(value)) wanted.delete(value);
      else wanted.add(value);
      chip.setAttribute("aria-pressed", String(wanted.has(value)));
      apply();
      remember();
    });
  }
  const search = tools?.querySelector('input[type="search"]');
  search?.addEventListener("input", () => {
    query = search.value.trim();
    apply();
    remember();
  });

  const second = heads.map((head) => (head.classList.contains("p2") ? "p2" : head.classList.contains("p3") ? "p3" : ""));
  if (second.includes("p2")) box.classList.add("has-p2");
  if (second.includes("p2") || second.includes("p3")) {
    box.classList.add("has-p3");
    for (const row of rows) {
      const name = row.cells[0];
      const button = document.createElement("button");
      button.type = "button";
      button.className = "row-more";
      button.setAttribute("aria-expanded", "false");
      button.setAttribute("aria-label", words.more((name.querySelector("a") ?? name).textContent.trim()));
      name.prepend(button);
      button.addEventListener("click", () => {
        if (button.getAttribute("aria-expanded") === "true") return close(row);
        const details = document.createElement("tr");
        details.className = "details";
        const cell = details.insertCell();
        const list = document.createElement("dl");
        heads.forEach((head, index) => {
          if (!second[index] || getComputedStyle(head).display !== "none") return;
          const term = document.createElement("dt");
          term.textContent = head.textContent.trim();
          const value = document.createElement("dd");
          value.append(...[...row.cells[index].childNodes].map((node) => node.cloneNode(true)));
          list.append(term, value);
        });
        cell.colSpan = heads.filter((head) => getComputedStyle(head).display !== "none").length;
        cell.append(list);
        row.after(details);
        button.setAttribute("aria-expanded", "true");
      });
    }
  }

  if (tools) {
    tools.hidden = false;
    if (tools.querySelector(".chips")) {
      const toggle = document.createElement("button");
      toggle.type = "button";
      toggle.className = "chip tools-toggle";
      toggle.textContent = words.filters;
      toggle.setAttribute("aria-expanded", "false");
      tools.querySelector(".chips").before(toggle);
      toggle.addEventListener("click", () => toggle.setAttribute("aria-expanded", String(tools.classList.toggle("is-open"))));
    }
    const given = new URL(location.href).searchParams;
    for (const [key, wanted] of filters) {
      for (const value of (given.get(key) ?? "").split(" ").filter(Boolean)) {
        const chip = [...tools.querySelectorAll(".chip")].find((c) => c.dataset.key === key && c.dataset.value === value);
        if (!chip) continue;
        wanted.add(value);
        chip.setAttribute("aria-pressed", "true");
      }
    }
    query = given.get("find") ?? "";
    if (search) search.value = query;
    const [column, way] = (given.get("sort") ?? "").split(".");
    const index = heads.findIndex((head) => head.dataset.sort && head.dataset.key === column);
    if (index >= 0) sort(index, way === "desc" ? "descending" : "ascending");
    apply();
  }
  new ResizeObserver(() => fit(box, table)).observe(box);
  box.addEventListener("scroll", () => box.classList.toggle("is-scrolled", box.scrollLeft > 0), { passive: true });
}

/** A table that fits its box scrolls with the page under a sticky head; a wider one scrolls inside its box. */
function fit(box, table) {
  box.classList.remove("is-narrow", "is-tall");
  const wide = table.scrollWidth > box.clientWidth + 1;
  box.classList.toggle("is-narrow", !wide);
  box.classList.toggle("is-tall", wide && table.rows.length > 14);
  if (wide) {
    box.tabIndex = 0;
    box.setAttribute("role", "region");
  } else {
    box.removeAttribute("tabindex");
    box.removeAttribute("role");
  }
}

if (typeof document !== "undefined") {
  const header = document.querySelector(".md-header");
  const measure = () => header && document.documentElement.style.setProperty("--fa-sticky-top", `${header.offsetHeight}px`);
  measure();
  addEventListener("resize", measure, { passive: true });
  for (const table of document.querySelectorAll("table[data-sortable]")) enhance(table);
}
