// Behaviour shared by all pages. Each feature is a module of its own and loads only where its markup is.
if (document.querySelector("table[data-sortable]")) import("./tables.mjs");
if (document.querySelector("[data-figure]")) import("./charts.mjs");
if (document.querySelector("[data-picker]")) import("./picker.mjs");
if (document.querySelector("[data-tip]")) import("./tips.mjs");
if (document.querySelector("[data-read]")) import("./age.mjs");
// The theme's search dialogue has no name of its own: its field's name says what it is.
const search = document.querySelector(".md-search[role=dialog]");
search?.setAttribute("aria-label", search.querySelector("input")?.getAttribute("aria-label") ?? "Search");
