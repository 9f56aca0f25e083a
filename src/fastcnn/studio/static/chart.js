// Curves over epochs, as SVG that reads well in light and dark.

import { h, percent, replace, s } from "./dom.js";

const HEIGHT = 200;
const EDGE = { left: 46, right: 12, top: 10, bottom: 26 };

function ticksOf(low, high) {
  const rough = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) found.push(value);
  return found;
}

// lines: [{ name, values, kind }] where kind is a class of style.css; share says that values are shares of one.
export class Chart {
  constructor(title, { share = false } = {}) {
    this.share = share;
    this.title = title;
    this.plot = h("div", { class: "plot" });
    this.key = h("ul", { class: "key" });
    this.element = h("figure", { class: "chart" }, h("figcaption", {}, title), this.plot, this.key);
    this.lines = [];
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  show(lines, epochs) {
    this.lines = lines.filter(({ values }) => values?.length);
    this.epochs = epochs;
    this.draw();
  }

  text(value) {
    return this.share ? percent(value) : value >= 100 ? value.toFixed(0) : value.toPrecision(2);
  }

  draw() {
    const width = Math.max(240, this.plot.clientWidth || 0);
    const all = this.lines.flatMap(({ values }) => values).filter(isFinite);
    const count = Math.max(2, this.epochs ?? 0, ...this.lines.map(({ values }) => values.length));
    const low = this.share ? Math.min(0.5, ...all) : 0;
    const high = this.share ? 1 : Math.max(...all, 0.01) * 1.05;
    const x = (i) => EDGE.left + ((width - EDGE.left - EDGE.right) * i) / (count - 1);
    const y = (v) => HEIGHT - EDGE.bottom - ((HEIGHT - EDGE.top - EDGE.bottom) * (v - low)) / (high - low || 1);
    const spoken = this.lines.map(({ name, values }) => `${name}: ${this.text(values.at(-1))} after ${values.length}`).join("; ");
    const svg = s("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width: width, height: HEIGHT, role: "img", "aria-label": `${this.title}. ${spoken || "Nothing yet."}` });
    for (const value of ticksOf(low, high)) {
      svg.append(s("line", { class: "rule", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }),
        s("text", { class: "tick", x: EDGE.left - 8, y: y(value) + 4, "text-anchor": "end" }, this.text(value)));
    }
    for (const value of ticksOf(1, count).filter(Number.isInteger)) svg.append(s("text", { class: "tick", x: x(value - 1), y: HEIGHT - 6, "text-anchor": "middle" }, String(value)));
    for (const { values, kind } of this.lines) {
      const points = values.map((v, i) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`);
      svg.append(s("polyline", { class: `line ${kind}`, points: points.join(" ") }));
      svg.append(s("circle", { class: `dot ${kind}`, cx: x(values.length - 1), cy: y(values.at(-1)), r: 3.5 }));
    }
    replace(this.plot, svg);
    replace(this.key, this.lines.map(({ name, values, kind }) => h("li", {}, h("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), `${name} `, h("strong", {}, this.text(values.at(-1))))));
  }
}
