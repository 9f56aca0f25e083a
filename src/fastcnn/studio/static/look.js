// One photo as the network sees it: the classes, and a heat map over the photo that shows where it looks.

import { attempt, hasModel, post, state, thumb } from "./api.js";
import { dialog, h, percent, replace } from "./dom.js";

// Bars of classes, the most probable first; `chosen` is called with a label.
export function bars(top, chosen, current) {
  return h("ol", { class: "bars" }, top.map(({ label, probability }) => {
    const inside = [h("span", { class: "bar-label" }, label), h("span", { class: "bar-value" }, percent(probability, probability < 0.1 ? 1 : 0)),
      h("span", { class: "bar-track", "aria-hidden": "true" }, h("span", { style: { width: `${100 * probability}%` } }))];
    return h("li", {}, chosen ? h("button", { type: "button", class: "bar-button", "aria-pressed": label === current, onclick: () => chosen(label) }, inside) : h("div", { class: "bar-button" }, inside));
  }));
}

// Where a request finds the photo, for the addresses of the server.
function queryOf({ photo, index }) {
  if (photo) return { photo: photo[0] };
  return index === undefined ? {} : { index };
}

// Fills an element with the picture, a slider for the heat map, and the classes.
export async function look(element, run, given, signal) {
  const show = async (label) => {
    const query = new URLSearchParams({ ...queryOf(given), ...(label ? { label } : {}) });
    const told = await attempt(() => post(`/api/runs/${run.id}/look?${query}`, {}, { body: given.file, signal }));
    if (!told || signal?.aborted) return;
    const heat = h("img", { src: told.heat, alt: "", class: "heat" });
    const slider = h("input", { type: "range", min: 0, max: 100, value: 85, "aria-label": "How strong the heat map is", oninput: () => { heat.style.opacity = slider.value / 100; } });
    heat.style.opacity = 0.85;
    const [row, column] = told.strongest.map((place, axis) => place / told.size[axis]);
    const where = `${row < 0.34 ? "top" : row > 0.66 ? "bottom" : "middle"} ${column < 0.34 ? "left" : column > 0.66 ? "right" : "centre"}`;
    replace(element, h("div", { class: "look" },
      h("figure", { class: "look-picture" },
        h("div", { class: "stacked" }, h("img", { src: told.image, alt: "The part of the photo that the network sees" }), heat),
        h("figcaption", {}, "Where it sees ", h("strong", {}, told.label), `: most in the ${where}.`),
        h("label", { class: "slider" }, "Heat map", slider)),
      h("div", {}, h("h3", {}, "What it says"), bars(told.top, show, told.label), h("p", { class: "muted" }, "Choose a class to see what speaks for it."))));
  };
  await show(null);
}

export function lookDialog({ photo, run, index, title }) {
  const seen = run ?? [...state.runs].reverse().find(hasModel);
  const stop = new AbortController();
  const body = h("div", { class: "look-body" }, photo ? h("img", { src: thumb(photo), alt: "", class: "large" }) : h("p", { class: "muted" }, "Looking …"));
  if (photo && !seen) body.append(h("p", { class: "muted" }, "After a training you see here what the network sees in it."));
  const box = dialog(title ?? (photo ? `${photo[3]} · ${state.classes[photo[1]].name}` : "Photo"), body);
  box.addEventListener("close", () => stop.abort());
  if (seen) look(body, seen, { photo, index }, stop.signal);
}
