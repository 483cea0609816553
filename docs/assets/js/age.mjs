// Goes on counting where the build stopped: a Hub figure read over 30 days ago is marked, however old the page is.
const DAY = 86400e3;

/** Whether more than 30 whole days have passed since `day` (YYYY-MM-DD). */
export const isOld = (day, now = Date.now()) => now - Date.parse(day) >= 31 * DAY;

for (const figure of globalThis.document?.querySelectorAll("[data-read]") ?? []) {
  if (figure.querySelector(".old") || !isOld(figure.dataset.read)) continue;
  const mark = document.createElement("span");
  mark.className = "old";
  mark.textContent = figure.dataset.old;
  figure.append(" ", mark);
}
