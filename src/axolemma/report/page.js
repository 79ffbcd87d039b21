"use strict";
document.documentElement.classList.add("js");
for (const viewer of document.querySelectorAll(".viewer")) {
  const layers = [...viewer.querySelectorAll(".layer")];
  const buttons = [...viewer.querySelectorAll("button")];
  const slider = viewer.querySelector("input");
  const strengths = layers.map((layer) => Number(layer.dataset.strength));
  let chosen = layers.length - 1;
  const show = (index) => {
    chosen = index;
    layers.forEach((layer, n) => {
      layer.hidden = n > 0 && n !== chosen;
      layer.querySelector("img").style.opacity = n > 0 ? strengths[n] / 100 : 1;
    });
    buttons.forEach((button, n) => button.setAttribute("aria-pressed", String(n === chosen)));
    slider.disabled = chosen === 0;
    slider.value = String(strengths[chosen]);
  };
  buttons.forEach((button, n) => button.addEventListener("click", () => show(n)));
  slider.addEventListener("input", () => {
    strengths[chosen] = Number(slider.value);
    show(chosen);
  });
  viewer.addEventListener("keydown", (event) => {
    const index = Number(event.key) - 1;
    if (!event.ctrlKey && !event.metaKey && !event.altKey && buttons[index]) {
      show(index);
      buttons[index].focus();
    }
  });
  viewer.querySelector(".controls").hidden = false;
  show(chosen);
}
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
