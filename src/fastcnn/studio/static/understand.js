// Understand: the confusion matrix and the photos behind it, what each class gets right, mistakes, layers, and the lesson.

import { attempt, hasModel, patiently, runOf, runThumb, state } from "./api.js";
import { counted, h, percent, replace } from "./dom.js";
import { showLayers } from "./layers.js";
import { showLesson } from "./lesson.js";
import { lookDialog } from "./look.js";

const PAGES = { results: "Results", lesson: "How it works", layers: "Layer by layer" };
const MOST = 120; // photos behind a cell

// The run that an address names, or the last one with a model.
export function runFor(id) {
  const run = runOf(id);
  return run && hasModel(run) ? run : [...state.runs].reverse().find(hasModel);
}

export function chooser(run, area, page = "") {
  const runs = state.runs.filter(hasModel);
  return h("label", { class: "chooser" }, "Run ", h("select", { onchange: (event) => { location.hash = `${area}/${event.target.value}${page ? `/${page}` : ""}`; } },
    [...runs].reverse().map((each) => h("option", { value: each.id, selected: each.id === run.id }, `${each.name}, ${percent(each.accuracy, 1)}`))));
}

export function nothing(main, title) {
  main.append(h("div", { class: "head" }, h("h1", {}, title)), h("div", { class: "card narrow center" }, h("p", {}, "Nothing is trained yet."), h("a", { class: "button primary", href: "#train" }, "Train a classifier")));
}

export function showUnderstand(main, signal, [id, page = "results"]) {
  const run = runFor(id);
  const name = PAGES[page] ? page : "results";
  const head = h("div", { class: "head" }, h("h1", {}, "Understand"), run && chooser(run, "understand", name));
  const pages = h("nav", { class: "pages", "aria-label": "Pages of Understand" }, Object.entries(PAGES).map(([key, title]) =>
    h("a", { href: `#understand/${run?.id ?? "none"}/${key}`, "aria-current": key === name ? "page" : null }, title)));
  const body = h("div", {});
  main.append(head, pages, body);
  if (name === "lesson") showLesson(body, signal, run);
  else if (!run) replace(body, h("div", { class: "card narrow center" }, h("p", {}, "Nothing is trained yet. “How it works” needs photos only."), h("a", { class: "button primary", href: "#train" }, "Train a classifier")));
  else if (name === "layers") showLayers(body, signal, run);
  else showResults(body, signal, run);
}

async function showResults(body, signal, run) {
  const status = h("p", { class: "muted", role: "status" }, "Asking the network about every photo …");
  const bar = h("progress", { "aria-label": "Photos that are examined" });
  replace(body, h("div", { class: "card narrow" }, status, bar));
  const found = await attempt(() => patiently(`/api/runs/${run.id}/examined`, ({ done, count }) => {
    if (!count) return;
    bar.value = done / count;
    status.textContent = `Asking the network about every photo … ${done} of ${count}`;
  }, signal));
  if (!found || signal.aborted) return;
  draw(body, run, found);
}

function draw(body, run, found) {
  const { classes, report } = found;
  const behind = h("section", { class: "card behind", id: "behind", tabIndex: -1, "aria-live": "polite", hidden: true });
  const examined = found.photos.filter((photo) => photo.examines);
  const show = (title, photos) => {
    behind.hidden = false;
    replace(behind, h("h2", {}, title), photos.length ? h("div", { class: "shots" }, photos.slice(0, MOST).map((photo) => shot(run, photo, classes))) : h("p", { class: "muted" }, "None."),
      photos.length > MOST && h("p", { class: "muted" }, `… and ${photos.length - MOST} more.`));
    behind.focus({ preventScroll: true });
    behind.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  };
  const wrong = examined.filter((photo) => photo.label !== photo.predicted).sort((a, b) => b.probability - a.probability);
  replace(body,
    h("dl", { class: "figures big" },
      h("div", {}, h("dt", {}, "Accuracy"), h("dd", {}, percent(report.accuracy, 1)), h("dd", { class: "muted small" }, `of ${counted(report.count, "photo")} that it had not seen`)),
      h("div", {}, h("dt", {}, "Mistakes"), h("dd", {}, String(wrong.length)), h("dd", { class: "muted small" }, "of photos kept back")),
      h("div", {}, h("dt", {}, "Loss"), h("dd", {}, report.loss.toPrecision(3)), h("dd", { class: "muted small" }, "mean cross-entropy"))),
    h("div", { class: "columns" },
      h("section", { class: "card" }, h("h2", {}, "Confusion matrix"), h("p", { class: "muted" }, "Rows are true classes, columns are what the network says. Click a cell to see its photos."), matrix(report, classes, (row, column) =>
        show(row === column ? `${classes[row]}, recognised` : `${classes[row]}, taken for ${classes[column]}`, examined.filter((photo) => photo.label === row && photo.predicted === column).sort((a, b) => b.probability - a.probability)))),
      h("section", { class: "card" }, h("h2", {}, "Class by class"), h("p", { class: "muted" }, "Precision: how many of those it calls so are so. Recall: how many of those it finds."), scores(report))),
    behind,
    h("section", { class: "card" }, h("h2", {}, "Worst mistakes"), wrong.length ? [h("p", { class: "muted" }, "The surer it was, the earlier they come. Click one to see where it looked."), h("div", { class: "shots" }, wrong.slice(0, 24).map((photo) => shot(run, photo, classes)))] : h("p", { class: "muted" }, "None: all photos that were kept back are recognised.")));
}

function shot(run, photo, classes) {
  const isRight = photo.label === photo.predicted;
  const name = photo.name.split("/").at(-1);
  const text = isRight ? `${classes[photo.label]} ${percent(photo.probability)}` : `${classes[photo.label]} → ${classes[photo.predicted]} ${percent(photo.probability)}`;
  return h("button", { type: "button", class: `shot ${isRight ? "" : "wrong"}`, "aria-label": `${name}: ${text}`, onclick: () => lookDialog({ run, index: photo.index, title: `${name} · ${classes[photo.label]}` }) },
    h("img", { src: runThumb(run.id, photo.index), alt: "", loading: "lazy" }), h("span", { class: "shot-name" }, text));
}

function matrix(report, classes, clicked) {
  const rows = report.confusion.map((row, i) => {
    const sum = Math.max(1, row.reduce((a, b) => a + b, 0));
    return h("tr", {}, h("th", { scope: "row" }, classes[i]), row.map((count, j) => {
      const strength = Math.round((100 * count) / sum);
      return h("td", {}, h("button", { type: "button", class: `cell ${i === j ? "right" : count ? "wrong" : "none"} ${strength > 55 ? "strong" : ""}`, style: { "--strength": `${strength}%` }, "aria-label": `${counted(count, "photo")} of ${classes[i]}, called ${classes[j]}`, onclick: () => clicked(i, j) }, String(count)));
    }));
  });
  return h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Confusion matrix" }, h("table", { class: "matrix" },
    h("thead", {}, h("tr", {}, h("td", {}), classes.map((name) => h("th", { scope: "col" }, h("span", {}, name))))), h("tbody", {}, rows)));
}

function scores(report) {
  const meter = (value) => h("td", { class: "number" }, percent(value), h("span", { class: "meter", "aria-hidden": "true" }, h("span", { style: { width: `${100 * value}%` } })));
  return h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Precision and recall" }, h("table", { class: "scores" },
    h("thead", {}, h("tr", {}, ["Class", "Precision", "Recall", "Photos"].map((title) => h("th", { scope: "col" }, title)))),
    h("tbody", {}, report.scores.map((score) => h("tr", {}, h("th", { scope: "row" }, score.label), meter(score.precision), meter(score.recall), h("td", { class: "number" }, score.count))))));
}
