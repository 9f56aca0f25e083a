// Photos: classes as cards that take what is dropped on them, and all photos of a class as a grid.

import { attempt, change, hasModel, load, on, post, state, thumb } from "./api.js";
import { showCheck } from "./check.js";
import { ask, button, confirm, counted, h, icon, iconButton, replace, toast } from "./dom.js";
import { chosen, gathered, send, take, target } from "./files.js";
import { Grid } from "./grid.js";
import { lookDialog } from "./look.js";
import { webcam } from "./webcam.js";

const MANY = 14; // classes: more scroll in a frame of their own
let filter = null; // the class whose photos are shown; null for all

export function showPhotos(main, signal, [what]) {
  if (what === "check") {
    showCheck(main, signal);
    return;
  }
  const cards = h("ul", { class: "classes", "aria-label": "Classes" });
  const known = new Map(); // cards by their classes: one that is dragged over must stay
  const told = h("p", { class: "muted" });
  const bar = h("div", { class: "selection", role: "toolbar", "aria-label": "What to do with the selected photos" });
  const heading = h("h2", { class: "grid-title" });
  const grid = new Grid({
    label: "Photos", signal,
    opened: (photo) => lookDialog({ photo }),
    selected: () => drawSelection(bar, grid),
    removed: () => remove(grid),
  });
  const start = h("section", { class: "start" });
  const content = h("div", {}, cards, h("div", { class: "grid-head" }, heading, bar), grid.element);
  main.append(
    h("div", { class: "head" },
      h("div", {}, h("h1", {}, "Photos"), told),
      h("div", { class: "row" },
        button("New class", newClass, { picture: "plus" }),
        h("a", { class: "button", href: "#photos/check" }, icon("shield"), h("span", {}, "Check photos")),
        h("a", { class: "button primary", href: "#train" }, icon("train"), h("span", {}, "Train")))),
    start, content);

  const draw = () => {
    const total = state.photos.length;
    if (filter && !state.classes.some((each) => each.name === filter)) filter = null;
    told.textContent = `${counted(total, "photo")} in ${counted(state.classes.length, "class", "classes")} · ${state.folder}`;
    const left = [state.links && counted(state.links, "link"), state.others && counted(state.others, "other file")].filter(Boolean);
    if (left.length) told.append(` · left out: ${left.join(", ")}`);
    content.hidden = !state.classes.length;
    start.hidden = total > 0 && state.classes.length > 1;
    drawStart(start, signal);
    drawCards(cards, known, signal, draw);
    const number = state.classes.findIndex((each) => each.name === filter);
    const photos = filter === null ? state.photos : state.photos.filter((photo) => photo[1] === number);
    for (const photo of photos) photo[5] = `${photo[3]}, ${state.classes[photo[1]].name}`;
    heading.textContent = filter === null ? `All photos` : filter;
    heading.append(h("span", { class: "muted" }, ` ${photos.length.toLocaleString("en")}`));
    grid.show(photos);
  };
  on("photos", draw, signal);
  target(main, () => filter, signal);
  window.addEventListener("paste", (event) => {
    if (event.target.closest?.("input, textarea") || !event.clipboardData.files.length) return;
    take(gathered(event.clipboardData), filter);
  }, { signal });
  draw();
}

async function newClass() {
  const name = await ask("New class", "What do its photos show?", "", "Make class");
  if (name === null) return;
  await attempt(() => post("/api/classes", { name }));
  await attempt(load);
}

function drawStart(start, signal) {
  if (start.hidden) return;
  const few = state.classes.length;
  const folder = h("input", { type: "file", webkitdirectory: true, multiple: true, class: "unseen", id: "folder", onchange: (event) => take(chosen(event.target), null) });
  const zone = h("div", { class: "hero" },
    h("div", { class: "hero-art", "aria-hidden": "true" }, icon("folder"), icon("folder")),
    h("h2", {}, few ? "Now fill at least two classes" : "Drop a folder of photos for each class"),
    h("p", {}, few
      ? "Drop photos on a class below, paste them, or use the webcam. Twenty of each class are a good beginning."
      : "Folders become classes, named after them. Or make classes here, and drop photos on them. Nothing leaves this machine."),
    h("div", { class: "row center" },
      h("label", { class: "button primary", htmlFor: "folder" }, icon("folder"), h("span", {}, "Choose a folder")), folder,
      button("New class", newClass, { picture: "plus" })));
  target(zone, () => null, signal);
  replace(start, zone);
}

function drawCards(cards, known, signal, draw) {
  const most = Math.max(1, ...state.classes.map((each) => each.count));
  const all = h("li", { class: `class-card all ${filter === null ? "on" : ""}` },
    h("button", { type: "button", class: "class-name", "aria-pressed": filter === null, onclick: () => { filter = null; draw(); } }, "All classes"),
    h("span", { class: "count" }, counted(state.photos.length, "photo")),
    h("div", { class: "cover", "aria-hidden": "true" }, state.classes.slice(0, 4).flatMap(({ name }) => covers(name).slice(-1)).map((photo) => h("img", { src: thumb(photo), alt: "" }))));
  for (const name of known.keys()) if (!state.classes.some((each) => each.name === name)) known.delete(name);
  for (const { name, count } of state.classes) {
    if (!known.has(name)) known.set(name, card(name, signal, draw));
    known.get(name).update(count, most);
  }
  const wanted = state.classes.map(({ name }) => known.get(name).element);
  cards.querySelector(".all")?.remove();
  if (wanted.some((element, i) => cards.children[i] !== element) || cards.children.length !== wanted.length) replace(cards, wanted);
  if (wanted.length > 1) cards.prepend(all);
  cards.classList.toggle("many", wanted.length > MANY);
}

function card(name, signal, draw) {
  const files = h("input", { type: "file", multiple: true, accept: "image/*", class: "unseen", "aria-label": `Add photos to ${name}`, onchange: (event) => send(chosen(event.target).map(([file]) => [file, name])) });
  const level = h("span");
  const total = h("span", { class: "count" });
  const cover = h("div", { class: "cover", "aria-hidden": "true" });
  const title = h("button", { type: "button", class: "class-name", onclick: () => { filter = filter === name ? null : name; draw(); } }, name);
  const element = h("li", { class: "class-card", "data-class": name }, title, total, cover,
    h("span", { class: "meter", "aria-hidden": "true" }, level),
    h("div", { class: "card-tools" },
      h("label", { class: "icon-button", title: `Add photos to ${name}` }, icon("plus"), files),
      iconButton(`Webcam for ${name}`, "camera", () => webcam(name)),
      iconButton(`Rename ${name}`, "pencil", () => rename(name)),
      iconButton(`Take ${name} away`, "bin", () => removeClass(name))),
    h("span", { class: "drop-hint", "aria-hidden": "true" }, "Drop here"));
  target(element, () => name, signal, (ids) => move(ids, name));
  const update = (count, most) => {
    element.classList.toggle("on", filter === name);
    title.setAttribute("aria-pressed", String(filter === name));
    total.textContent = counted(count, "photo");
    level.style.width = `${(100 * count) / most}%`;
    const sources = covers(name).map(thumb);
    if (sources.join() !== [...cover.children].map((image) => image.getAttribute("src")).join()) replace(cover, sources.map((src) => h("img", { src, alt: "" })));
  };
  return { element, update };
}

// A few photos of a class, from its beginning to its end.
function covers(name) {
  const number = state.classes.findIndex((each) => each.name === name);
  const photos = state.photos.filter((photo) => photo[1] === number);
  return [0, 1, 2, 3].slice(0, photos.length).map((i) => photos[Math.floor((i * photos.length) / Math.min(4, photos.length))]);
}

async function rename(name) {
  const to = await ask("Rename class", `A new name for “${name}”`, name, "Rename");
  if (to === null || to === name) return;
  const told = await attempt(() => change("/api/classes/rename", { name, to }));
  if (told && filter === name) filter = told.name;
}

async function removeClass(name) {
  const { count } = state.classes.find((each) => each.name === name) ?? { count: 0 };
  if (count && !(await confirm(`Take “${name}” away?`, `Its ${counted(count, "photo")} go with it. Undo brings them back.`, "Take away"))) return;
  await attempt(() => change("/api/classes/remove", { name }));
}

export async function move(ids, to) {
  const told = await attempt(() => change("/api/photos/move", { photos: ids, to }));
  if (told) toast(told.count ? `${counted(told.count, "photo")} moved to ${to}. Undo takes that back.` : `They are in ${to} already.`);
}

async function remove(grid) {
  const ids = [...grid.chosen];
  if (!ids.length) return;
  const told = await attempt(() => change("/api/photos/remove", { photos: ids }));
  if (told) toast(`${counted(told.count, "photo")} taken away. Undo brings them back.`);
}

function drawSelection(bar, grid) {
  const count = grid.chosen.size;
  if (!count) {
    const hint = state.runs.some(hasModel) ? "Click selects; Enter or a double click shows what the network sees." : "Click selects; drag to a class to move.";
    replace(bar, state.photos.length ? h("span", { class: "muted hint" }, hint) : null);
    return;
  }
  const choice = h("select", { "aria-label": "Move to class", onchange: (event) => event.target.value && move([...grid.chosen], event.target.value).then(() => grid.clear()) },
    h("option", { value: "" }, "Move to …"), state.classes.map(({ name }) => h("option", { value: name }, name)));
  const [only] = count === 1 ? grid.photos.filter((photo) => grid.chosen.has(photo[0])) : [];
  replace(bar, h("strong", {}, `${count.toLocaleString("en")} selected`), choice, only && button("Look", () => lookDialog({ photo: only }), { picture: "understand" }),
    button("Take away", () => remove(grid), { picture: "bin" }), button("Clear", () => grid.clear(), { kind: "quiet" }));
}
