// The frame: areas, theme, undo. Each area is a module that fills the page and stops when its signal ends.

import { attempt, change, listen, load, on, state } from "./api.js";
import { h, icon, iconButton, replace, toast } from "./dom.js";
import { showPhotos } from "./photos.js";
import { showTrain } from "./train.js";
import { showUnderstand } from "./understand.js";
import { showUse } from "./use.js";

const AREAS = { photos: showPhotos, train: showTrain, understand: showUnderstand, use: showUse };
const THEMES = { auto: "As the system", light: "Light", dark: "Dark" };
const PICTURES = { auto: "auto", light: "sun", dark: "moon" };
const main = document.getElementById("main");
let shown = new AbortController();

function show() {
  const [area, ...rest] = location.hash.slice(1).split("/");
  if (area === "main") return;
  const name = AREAS[area] ? area : "photos";
  shown.abort();
  shown = new AbortController();
  for (const link of document.querySelectorAll("#tabs a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name[0].toUpperCase()}${name.slice(1)} – fastcnn studio`;
  window.scrollTo(0, 0);
  AREAS[name](replace(main), shown.signal, rest);
}

function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}

function themeButton() {
  let name = localStorage.getItem("theme") ?? "auto";
  theme(name);
  const control = iconButton(`Colours: ${THEMES[name]}`, PICTURES[name], () => {
    const names = Object.keys(THEMES);
    name = names[(names.indexOf(name) + 1) % names.length];
    localStorage.setItem("theme", name);
    theme(name);
    control.setAttribute("aria-label", `Colours: ${THEMES[name]}`);
    control.title = `Colours: ${THEMES[name]}`;
    replace(control, icon(PICTURES[name]));
  });
  return control;
}

async function undo() {
  if (!state.undo) return;
  const told = await attempt(() => change("/api/undo"));
  if (told?.undone) toast(`Undone: ${told.undone}`);
}

function undoButton() {
  const control = iconButton("Undo", "undo", undo);
  const update = () => {
    control.disabled = !state.undo;
    control.title = state.undo ? `Undo: ${state.undo}` : "Nothing to undo";
    control.setAttribute("aria-label", control.title);
  };
  on("photos", update);
  update();
  return control;
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey && !typing) {
    event.preventDefault();
    undo();
  }
});

for (const link of document.querySelectorAll("#tabs a")) {
  replace(link, icon(link.hash.slice(1)), h("span", {}, link.textContent));
}
replace(document.getElementById("tools"), undoButton(), themeButton());
// What is dropped beside a target must not take the page's place.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
try {
  await load();
  listen();
  window.addEventListener("hashchange", show);
  show();
} catch (error) {
  replace(main, h("div", { class: "card narrow" }, h("h1", {}, "The studio does not let this page in"), h("p", {}, error.message)));
}
