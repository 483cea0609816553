// Behaviour shared by all pages. Each feature is a module of its own and loads only where its markup is.
if (document.querySelector("table[data-sortable]")) import("./tables.mjs");
if (document.querySelector("[data-figure]")) import("./charts.mjs");
if (document.querySelector("[data-picker]")) import("./picker.mjs");
if (document.querySelector("[data-tip]")) import("./tips.mjs");
