// The bubble that says where a figure comes from: on hover, on focus and on tap of anything with data-tip. Escape closes it.
const bubble = document.createElement("div");
bubble.className = "tip-bubble";
bubble.setAttribute("role", "tooltip");
bubble.hidden = true;
document.body.append(bubble);
let owner = null;

function show(element) {
  owner = element;
  bubble.textContent = element.dataset.tip;
  bubble.hidden = false;
  const at = element.getBoundingClientRect();
  const size = bubble.getBoundingClientRect();
  const left = Math.min(Math.max(8, at.left + at.width / 2 - size.width / 2), innerWidth - size.width - 8);
  const above = at.top - size.height - 6;
  bubble.style.left = `${left}px`;
  bubble.style.top = `${above > 8 ? above : at.bottom + 6}px`;
}

function hide() {
  owner = null;
  bubble.hidden = true;
}

const target = (event) => event.target instanceof Element && event.target.closest("[data-tip]");
addEventListener("pointerover", (event) => (target(event) ? show(target(event)) : owner && hide()));
addEventListener("focusin", (event) => (target(event) ? show(target(event)) : owner && hide()));
addEventListener("click", (event) => target(event) && show(target(event)));
addEventListener("keydown", (event) => event.key === "Escape" && hide());
addEventListener("scroll", hide, { passive: true, capture: true });
