// How it works: a photo as numbers, a filter that the reader edits, ReLU, pooling, the linear layer, probabilities.
// The server computes every number; this page shows them.

import { attempt, on, post, state, thumb } from "./api.js";
import { counted, h, icon, percent, replace } from "./dom.js";
import { bars } from "./look.js";

const PRESETS = {
  "Vertical line": [[1, 0, -1], [1, 0, -1], [1, 0, -1]],
  "Horizontal line": [[1, 1, 1], [0, 0, 0], [-1, -1, -1]],
  Outline: [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
  Diagonal: [[2, 1, 0], [1, 0, -1], [0, -1, -2]],
  Blur: [[0.1, 0.1, 0.1], [0.1, 0.2, 0.1], [0.1, 0.1, 0.1]],
};
const OUT = 24; // numbers in a row of what the filter finds
const SCALE = 12; // pixels of a canvas for each number
const PAUSE = 160; // ms between edit and request
const STEP = 55; // ms between places while the filter slides
const SHOWN = 14; // photos to choose from

// A row of photos to choose from: some of each class, evenly.
export function picker(chosen, label) {
  const classes = state.classes.map((_, number) => state.photos.filter((photo) => photo[1] === number));
  const photos = [];
  for (let i = 0; photos.length < SHOWN && classes.some((each) => i < each.length); i++) {
    for (const each of classes) if (i < each.length && photos.length < SHOWN) photos.push(each[i]);
  }
  const buttons = photos.map((photo) => h("button", { type: "button", class: "pick", "aria-pressed": "false", "aria-label": `${photo[3]}, ${state.classes[photo[1]].name}`, onclick: () => choose(photo) }, h("img", { src: thumb(photo), alt: "", onerror: (event) => event.target.parentElement.remove() })));
  const choose = (photo) => {
    buttons.forEach((each, i) => each.setAttribute("aria-pressed", String(photos[i] === photo)));
    chosen(photo);
  };
  if (photos.length) queueMicrotask(() => choose(photos[0]));
  return h("div", { class: "picks", role: "group", "aria-label": label }, buttons);
}

function mix(from, to, share) {
  return from.map((value, i) => Math.round(value + (to[i] - value) * share));
}

const isDark = () => getComputedStyle(document.documentElement).getPropertyValue("--dark").trim() === "1";

function colourOf(value, most) {
  const zero = isDark() ? [24, 28, 36] : [255, 255, 255];
  const share = Math.min(1, Math.abs(value) / (most || 1)) ** 0.7;
  return mix(zero, value < 0 ? [46, 116, 230] : [232, 104, 28], share);
}

// Draws a matrix with a box around some of its numbers: { row, column, side }.
function paint(canvas, matrix, grey, box, most) {
  const rows = matrix.length;
  const columns = matrix[0].length;
  const cell = (SCALE * 26) / Math.max(rows, columns);
  canvas.width = Math.round(columns * cell);
  canvas.height = Math.round(rows * cell);
  const context = canvas.getContext("2d");
  const top = most ?? Math.max(1e-6, ...matrix.flat().map(Math.abs));
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const [r, g, b] = grey ? [matrix[i][j], matrix[i][j], matrix[i][j]] : colourOf(matrix[i][j], top);
      context.fillStyle = `rgb(${r} ${g} ${b})`;
      context.fillRect(Math.floor(j * cell), Math.floor(i * cell), Math.ceil(cell), Math.ceil(cell));
    }
  }
  if (box) {
    context.lineWidth = 5;
    context.strokeStyle = isDark() ? "#000" : "#fff";
    context.strokeRect(box.column * cell, box.row * cell, box.side * cell, box.side * cell);
    context.lineWidth = 2.5;
    context.strokeStyle = "#e3127a";
    context.strokeRect(box.column * cell, box.row * cell, box.side * cell, box.side * cell);
  }
}

function numbers(matrix, caption, classOf = () => "") {
  return h("table", { class: "numbers" }, h("caption", {}, caption),
    h("tbody", {}, matrix.map((row, i) => h("tr", {}, row.map((value, j) => h("td", { class: classOf(i, j) }, short(value)))))));
}

function short(value) {
  const text = Math.abs(value) >= 100 ? value.toFixed(0) : String(Math.round(value * 10) / 10);
  return text.replace("-", "−").replace(/^−0$/, "0");
}

const part = (matrix, row, column, side) => matrix.slice(row, row + side).map((line) => line.slice(column, column + side));

function section(number, title, text, ...content) {
  return h("section", { class: "card lesson-step" }, h("h2", {}, h("span", { class: "step-number" }, number), ` ${title}`), h("p", { class: "lead" }, text), ...content);
}

// The place where a filter answers most.
function strongest(matrix) {
  const all = matrix.flat();
  return all.indexOf(Math.max(...all));
}

export function showLesson(body, signal, run) {
  if (!state.photos.length) {
    replace(body, h("div", { class: "card narrow center" }, h("p", {}, "Add a few photos first: everything here is computed on them."), h("a", { class: "button primary", href: "#photos" }, "Add photos")));
    return;
  }
  new Lesson(body, signal, run).draw();
}

class Lesson {
  constructor(body, signal, run) {
    Object.assign(this, { body, signal, run, photo: null, told: null, place: 0, playing: false });
    this.filter = PRESETS["Vertical line"].map((row) => [...row]);
    this.canvases = Object.fromEntries(["numbers", "filtered", "filtered2", "positive", "positive2", "pooled"].map((name) => [name, h("canvas", { class: "matrix-canvas", role: "img" })]));
    this.holes = Object.fromEntries(["window", "product", "pool", "decide", "relu", "loupe"].map((name) => [name, h("div", { class: `hole ${name}` })]));
    signal.addEventListener("abort", () => this.pause());
    on("photos", () => this.photo && !state.photos.some((photo) => photo[0] === this.photo[0]) && showLesson(this.body, signal, run), signal);
    for (const [name, side] of [["numbers", 26], ["filtered", OUT], ["positive", OUT]]) {
      const canvas = this.canvases[name];
      const point = (event) => {
        const box = canvas.getBoundingClientRect();
        const at = (share) => Math.max(0, Math.min(OUT - 1, Math.floor(share * side) - (side === 26 ? 1 : 0)));
        this.pause();
        this.move(at((event.clientY - box.top) / box.height) * OUT + at((event.clientX - box.left) / box.width));
      };
      canvas.addEventListener("pointermove", (event) => event.pointerType === "mouse" && point(event));
      canvas.addEventListener("pointerdown", point);
    }
  }

  draw() {
    const { canvases, holes } = this;
    this.inputs = this.filter.map((row, i) => row.map((value, j) => h("input", {
      type: "number", step: "any", value, "aria-label": `Filter, row ${i + 1}, column ${j + 1}`,
      oninput: (event) => { this.filter[i][j] = Math.max(-100, Math.min(100, Number(event.target.value) || 0)); this.changed(); },
    })));
    const presets = Object.entries(PRESETS).map(([name, rows]) => h("button", { type: "button", class: "chip", onclick: () => this.set(rows) }, name));
    this.slider = h("input", { type: "range", min: 0, max: OUT * OUT - 1, value: 0, id: "place", oninput: () => { this.pause(); this.move(Number(this.slider.value)); } });
    this.player = h("button", { type: "button", class: "button", onclick: () => (this.playing ? this.pause() : this.play()) });
    this.note = h("p", { class: "muted", role: "status" });
    replace(this.body,
      h("p", { class: "lead" }, "Choose one of your photos, and change the filter. Every number below is computed now, by this library, on your photo."),
      picker((photo) => { this.photo = photo; this.told = null; this.ask(); }, "Photo of the lesson"), this.note,
      section(1, "A photo is numbers", "Here it is small and grey: 26 × 26 numbers from 0, black, to 255, white. The box is where the filter looks now.",
        h("div", { class: "lesson-row" }, canvases.numbers, holes.loupe)),
      section(2, "A filter slides over it", "Nine numbers. At each place they are multiplied with the nine below, and added. This one answers strongly where it is brighter on the left than on the right: at a vertical line. Edit it.",
        h("div", { class: "lesson-row" },
          h("div", { class: "stack" }, h("fieldset", { class: "filter" }, h("legend", {}, "Filter"), this.inputs.map((row) => h("div", { class: "filter-row" }, row))), h("div", { class: "chips" }, presets)),
          h("div", { class: "stack grow" }, holes.product, h("label", { class: "slider", htmlFor: "place" }, "Place of the filter", this.slider), this.player),
          h("figure", {}, canvases.filtered, h("figcaption", {}, h("span", { class: "swatch negative" }), " negative ", h("span", { class: "swatch positive" }), " positive")))),
      section(3, "ReLU: only what was found", "Negative numbers become 0. The rest stays. This small step lets layers build on each other.",
        h("div", { class: "lesson-row" }, canvases.filtered2, h("span", { class: "arrow", "aria-hidden": "true" }, "→"), canvases.positive, holes.relu)),
      section(4, "Max pooling: that it was found, not exactly where", "Of each 2 × 2 numbers the largest stays. A 4 × 4 matrix becomes 2 × 2: a quarter of the numbers.",
        h("div", { class: "lesson-row" }, canvases.positive2, holes.pool, canvases.pooled)),
      section(5, "The fully connected layer: from places to classes", "Each class has a weight for each of the 144 numbers. Multiplied and added, they are its score. These weights have just been learned from your photos, for your filter.", holes.decide),
      h("section", { class: "card lesson-step" }, h("h2", {}, "A real network"), h("p", {}, "does this again and again: many filters, one layer of them after another. It finds the numbers of all filters by itself, by making the loss smaller, step by step."),
        this.run ? h("a", { class: "button primary", href: `#understand/${this.run.id}/layers` }, "See your network, layer by layer") : h("a", { class: "button primary", href: "#train" }, "Train one")));
    this.showPlayer();
  }

  set(rows) {
    this.filter = rows.map((row) => [...row]);
    this.inputs.forEach((row, i) => row.forEach((input, j) => { input.value = rows[i][j]; }));
    this.changed();
  }

  changed() {
    clearTimeout(this.wait);
    this.wait = setTimeout(() => this.ask(), PAUSE);
  }

  async ask() {
    this.request?.abort();
    this.request = new AbortController();
    const { signal } = this.request;
    const given = { photo: this.photo[0], filter: this.filter };
    const gone = () => this.signal.aborted || signal.aborted;
    const told = await attempt(() => post("/api/lesson", given, { signal }));
    if (!told || gone()) return;
    const isFirst = !this.told;
    this.told = told;
    if (isFirst) this.begin();
    this.body.dataset.filter = JSON.stringify(told.filter);
    this.show();
    this.holes.decide.classList.add("waits");
    const decided = await attempt(() => post("/api/lesson/decide", given, { signal }));
    if (!decided || gone()) return;
    this.holes.decide.classList.remove("waits");
    this.decide(decided);
  }

  // Where the filter answers most; where things may move, it slides there.
  begin() {
    const place = strongest(this.told.filtered);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) this.move(place);
    else {
      this.move(Math.max(0, place - 20));
      this.play();
    }
  }

  play() {
    this.playing = true;
    this.showPlayer();
    clearInterval(this.timer);
    this.timer = setInterval(() => { if (!document.hidden && this.told) this.move((this.place + 1) % (OUT * OUT)); }, STEP);
  }

  pause() {
    this.playing = false;
    clearInterval(this.timer);
    if (this.player) this.showPlayer();
  }

  showPlayer() {
    replace(this.player, icon(this.playing ? "pause" : "play"), h("span", {}, this.playing ? "Hold it" : "Let it slide"));
  }

  move(place) {
    this.place = place;
    this.slider.value = place;
    if (this.told) this.show();
  }

  show() {
    const { told, canvases, holes } = this;
    const row = Math.floor(this.place / OUT);
    const column = this.place % OUT;
    const most = Math.max(1, ...told.filtered.flat().map(Math.abs));
    const even = { row: Math.min(OUT - 4, row - (row % 2)), column: Math.min(OUT - 4, column - (column % 2)), side: 4 };
    paint(canvases.numbers, told.numbers, true, { row, column, side: 3 });
    paint(canvases.filtered, told.filtered, false, { row, column, side: 1 }, most);
    paint(canvases.filtered2, told.filtered, false, { row, column, side: 1 }, most);
    paint(canvases.positive, told.positive, false, { row, column, side: 1 }, most);
    paint(canvases.positive2, told.positive, false, even, most);
    paint(canvases.pooled, told.pooled, false, { row: even.row / 2, column: even.column / 2, side: 2 }, most);
    const names = { numbers: "The photo, small and grey", filtered: "What the filter answers at each place", filtered2: "Before ReLU", positive: "After ReLU", positive2: "Before pooling", pooled: "After pooling, 12 by 12" };
    for (const [name, text] of Object.entries(names)) canvases[name].setAttribute("aria-label", text);
    const window = part(told.numbers, row, column, 3);
    const found = told.filtered[row][column];
    const from = [Math.max(0, Math.min(19, row - 2)), Math.max(0, Math.min(19, column - 2))];
    replace(holes.loupe, numbers(part(told.numbers, ...from, 7), `Numbers around row ${row + 1}, column ${column + 1}`, (i, j) => {
      const inside = i + from[0] >= row && i + from[0] < row + 3 && j + from[1] >= column && j + from[1] < column + 3;
      return inside ? "hot" : "";
    }));
    replace(holes.product, h("div", { class: "product" }, numbers(window, "photo"), h("span", { class: "sign" }, "×"), numbers(told.filter, "filter"), h("span", { class: "sign" }, "="), numbers(window.map((line, i) => line.map((value, j) => value * told.filter[i][j])), "products")),
      h("p", { class: "sum" }, "Their sum: ", h("strong", { class: found < 0 ? "negative" : "positive" }, short(found))));
    replace(holes.relu, h("p", { class: "sum" }, `${short(found)} becomes `, h("strong", {}, short(told.positive[row][column]))));
    const four = part(told.positive, even.row, even.column, 4);
    const two = part(told.pooled, even.row / 2, even.column / 2, 2);
    replace(holes.pool, h("div", { class: "product" },
      numbers(four, "4 × 4", (i, j) => `q${(i >> 1) * 2 + (j >> 1)} ${four[i][j] === two[i >> 1][j >> 1] ? "most" : ""}`),
      h("span", { class: "sign" }, "→"), numbers(two, "2 × 2", (i, j) => `q${i * 2 + j} most`)));
  }

  decide(decided) {
    if (!decided.classes) {
      replace(this.holes.decide, h("p", { class: "muted" }, "With photos of two classes, it decides here."));
      return;
    }
    const most = Math.max(...decided.weights.flat(2).map(Math.abs));
    const order = decided.probabilities.map((probability, i) => [probability, i]).sort(([a], [b]) => b - a).slice(0, 6);
    const cards = order.map(([, i]) => {
      const canvas = h("canvas", { class: "weights", role: "img", "aria-label": `Weights of ${decided.classes[i]}` });
      paint(canvas, decided.weights[i], false, null, most);
      return h("figure", {}, canvas, h("figcaption", {}, h("strong", {}, decided.classes[i]), h("br"), `score ${decided.scores[i].toFixed(2).replace("-", "−")}`));
    });
    const top = order.map(([probability, i]) => ({ label: decided.classes[i], probability }));
    replace(this.holes.decide, h("div", { class: "lesson-row top" }, h("div", { class: "weights-row" }, cards),
      h("div", { class: "grow" }, h("h3", {}, "Softmax makes probabilities of the scores"), bars(top),
        h("p", { class: "muted" }, `With one filter, it is right for ${percent(decided.right)} of the ${counted(decided.learned_from, "photo")} that it has just learned from.`))));
  }
}
