// The check of the data: what is broken, double, odd or likely in the wrong class, each with what to do about it.

import { attempt, change, hasModel, on, patiently, state, thumb } from "./api.js";
import { button, counted, h, icon, percent, replace, toast } from "./dom.js";
import { lookDialog } from "./look.js";
import { move } from "./photos.js";

const MOST = 60; // groups of a kind on the page

const KINDS = {
  broken: ["Broken files", "They cannot be read. Training leaves them out.", "all"],
  contradictions: ["The same photo in several classes", "A network cannot learn both. Keep the one that is right.", null],
  leaks: ["In training and validation both", "What is examined was learned: the accuracy would look better than it is.", "copies"],
  duplicates: ["Copies", "Files with the same content.", "copies"],
  near: ["Nearly the same", "The same picture, saved or sized differently. Often fine, if you know of it.", "copies"],
  tiny: ["Tiny photos", "A side is below 32 pixels.", "all"],
  grey: ["Without colour", "Most photos here have colours. The network may learn the lack of it instead of what is shown.", null],
};

export function showCheck(main, signal) {
  const results = h("div", { class: "stack wide" });
  const status = h("p", { class: "muted", role: "status" });
  main.append(
    h("div", { class: "head" },
      h("div", {}, h("a", { class: "back", href: "#photos" }, "← Photos"), h("h1", {}, "Check of the photos"), status)),
    results);
  let version = null;
  const run = async () => {
    if (state.version === version) return;
    version = state.version;
    status.textContent = "Looking at every photo …";
    const found = await attempt(() => patiently("/api/check", ({ done, count }) => { if (count) status.textContent = `Looking at every photo … ${done} of ${count}`; }, signal));
    if (!found || signal.aborted) return;
    const trained = state.runs.some(hasModel);
    draw(results, status, found, trained ? [] : null);
    if (!trained) return;
    const wrong = await suspects(signal, status);
    if (!signal.aborted) draw(results, status, found, wrong ?? []);
  };
  on("photos", run, signal);
  run();
}

// Photos whose nearest neighbours have another label, by the network trained last.
async function suspects(signal, status) {
  const run = [...state.runs].reverse().find(hasModel);
  try {
    const found = await patiently(`/api/runs/${run.id}/examined`, ({ done, count }) => { if (count) status.textContent = `Comparing photos … ${done} of ${count}`; }, signal);
    const there = new Map(state.photos.map((photo) => [photo[0], photo]));
    return found.suspects
      .map((each) => ({ photo: there.get(each.id), from: found.classes[each.label], to: found.classes[each.likely], share: each.share }))
      .filter(({ photo, from }) => photo && state.classes[photo[1]].name === from);
  } catch {
    return null;
  }
}

function draw(results, status, found, wrong) {
  const photos = new Map(state.photos.map((photo) => [photo[0], photo]));
  const cards = found.faults.map(({ kind, groups }) => faultCard(kind, groups.filter((group) => group.every((id) => photos.has(id))), photos, found.reasons ?? {}));
  if (wrong?.length) cards.unshift(wrongCard(wrong));
  if (found.unbalanced) cards.push(note("Classes out of balance", `The largest class has ${found.unbalanced.toFixed(1)} times the photos of the smallest. Training lets each class count the same; more photos of the small ones are better.`));
  if (found.few?.length && found.count) cards.push(note("Few photos", `Fewer than ten: ${found.few.join(", ")}. Twenty or more of each class are a good beginning.`));
  status.textContent = cards.length ? `${counted(found.count, "photo")} looked at.` : "";
  if (!cards.length) {
    cards.push(h("div", { class: "card good" }, icon("check"), h("div", {}, h("h2", {}, "Nothing is wrong"),
      h("p", {}, `${counted(found.count, "photo")}: all can be read, none is there twice.`),
      wrong === null && h("p", { class: "muted" }, "Train once: then this page also finds labels that are likely wrong."))));
  } else if (wrong === null) cards.push(h("p", { class: "muted" }, "Train once: then this page also finds labels that are likely wrong."));
  replace(results, cards);
}

const note = (title, text) => h("section", { class: "card" }, h("h2", {}, title), h("p", {}, text));

function shot(photo, text) {
  return h("button", { type: "button", class: "shot", onclick: () => lookDialog({ photo }), "aria-label": `${photo[3]}, ${state.classes[photo[1]].name}` },
    h("img", { src: thumb(photo), alt: "", loading: "lazy", onerror: (event) => event.target.replaceWith(h("span", { class: "no-picture" }, "cannot be read")) }), h("span", { class: "shot-name" }, text ?? state.classes[photo[1]].name));
}

function faultCard(kind, groups, photos, reasons) {
  const [title, text, takes] = KINDS[kind];
  const extra = takes === "all" ? groups.flat() : takes === "copies" ? groups.flatMap(([, ...copies]) => copies) : [];
  const unique = [...new Set(extra)];
  const label = takes === "all" ? `Take ${counted(unique.length, "photo")} away` : `Keep one of each, take ${unique.length} away`;
  return h("section", { class: "card" },
    h("div", { class: "card-head" }, h("div", {}, h("h2", {}, title, h("span", { class: "badge" }, groups.length)), h("p", { class: "muted" }, text)),
      unique.length > 0 && button(label, async () => {
        const told = await attempt(() => change("/api/photos/remove", { photos: unique }));
        if (told) toast(`${counted(told.count, "photo")} taken away. Undo brings them back.`);
      }, { picture: "bin" })),
    h("div", { class: "groups" }, groups.slice(0, MOST).map((group) =>
      h("div", { class: "group" }, group.map((id) => shot(photos.get(id), reasons[id] ? photos.get(id)[3] : undefined))))),
    groups.length > MOST && h("p", { class: "muted" }, `… and ${groups.length - MOST} more.`));
}

function wrongCard(wrong) {
  return h("section", { class: "card" },
    h("h2", {}, "Likely in the wrong class", h("span", { class: "badge" }, wrong.length)),
    h("p", { class: "muted" }, "Photos that look most alike to the network have another label. You know better: look, then move them, or leave them."),
    h("ul", { class: "wrongs" }, wrong.slice(0, MOST).map(({ photo, from, to, share }) =>
      h("li", {}, shot(photo, photo[3]), h("div", {}, h("p", {}, "is in ", h("strong", {}, from), ", looks like ", h("strong", {}, to)),
        h("p", { class: "muted" }, `${percent(share)} of the nearest photos`), button(`Move to ${to}`, () => move([photo[0]], to)))))));
}
