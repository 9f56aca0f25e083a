// Thumbnails by the thousand: only those on the screen are elements. A list box that mouse, keyboard and touch select in.

import { thumb } from "./api.js";
import { h } from "./dom.js";

const GAP = 8;
const SPARE = 3; // rows above and below the screen
const keyOf = (photo) => photo && `${photo[0]} ${photo[4]} ${photo[5]}`; // of what a tile shows

export class Grid {
  // `opened` is called with a photo, `selected` whenever the selection changes.
  constructor({ label, opened, selected, removed, signal }) {
    this.photos = [];
    this.chosen = new Set();
    this.active = 0;
    this.anchor = 0;
    this.tiles = new Map();
    Object.assign(this, { opened, selected, removed });
    this.element = h("div", { class: "grid", role: "listbox", "aria-multiselectable": "true", "aria-label": label, tabIndex: 0 });
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.element.addEventListener("focus", () => this.mark());
    const update = () => this.draw();
    window.addEventListener("scroll", update, { passive: true, signal });
    const observer = new ResizeObserver(() => { this.measure(); this.draw(); });
    observer.observe(this.element);
    signal.addEventListener("abort", () => observer.disconnect());
  }

  show(photos) {
    const there = new Set(photos.map((photo) => photo[0]));
    this.photos = photos;
    for (const key of [...this.chosen]) if (!there.has(key)) this.chosen.delete(key);
    this.active = Math.max(0, Math.min(this.active, photos.length - 1));
    for (const [index, tile] of this.tiles) {
      if (tile.dataset.key === keyOf(photos[index])) tile.setAttribute("aria-setsize", photos.length);
      else {
        tile.remove();
        this.tiles.delete(index);
      }
    }
    this.measure();
    this.draw();
    this.selected();
  }

  measure() {
    const width = this.element.clientWidth;
    const least = width < 480 ? 92 : 128;
    this.columns = Math.max(2, Math.floor((width + GAP) / (least + GAP)));
    this.side = (width - GAP * (this.columns - 1)) / this.columns;
    const rows = Math.ceil(this.photos.length / this.columns);
    this.element.style.height = `${Math.max(0, rows * (this.side + GAP) - GAP)}px`;
  }

  draw() {
    if (!this.element.isConnected || !this.photos.length) return;
    const top = this.element.getBoundingClientRect().top;
    const row = this.side + GAP;
    const first = Math.max(0, Math.floor(-top / row) - SPARE) * this.columns;
    const last = Math.min(this.photos.length, (Math.ceil((window.innerHeight - top) / row) + SPARE) * this.columns);
    for (const [index, tile] of this.tiles) {
      if ((index < first || index >= last) && index !== this.active) {
        tile.remove();
        this.tiles.delete(index);
      }
    }
    let before = null;
    for (let index = Math.min(first, this.photos.length); index < last; index++) {
      let tile = this.tiles.get(index);
      if (!tile) {
        tile = this.tile(index);
        this.tiles.set(index, tile);
        if (before) before.after(tile);
        else this.element.prepend(tile);
      }
      tile.style.transform = `translate(${(index % this.columns) * (this.side + GAP)}px, ${Math.floor(index / this.columns) * row}px)`;
      tile.style.width = tile.style.height = `${this.side}px`;
      before = tile;
    }
    this.mark();
  }

  tile(index) {
    const photo = this.photos[index];
    const image = h("img", { src: thumb(photo), alt: "", loading: "eager", decoding: "async", draggable: false });
    image.addEventListener("error", () => tile.classList.add("broken"));
    const tile = h("div", {
      class: "tile", "data-key": keyOf(photo), role: "option", id: `photo-${photo[0]}`, draggable: true,
      "aria-label": photo[5] ?? photo[3], "aria-setsize": this.photos.length, "aria-posinset": index + 1,
      onclick: (event) => this.click(index, event),
      ondblclick: () => this.opened(photo),
      ondragstart: (event) => this.drag(index, event),
    }, image);
    return tile;
  }

  mark() {
    for (const [index, tile] of this.tiles) {
      tile.setAttribute("aria-selected", this.chosen.has(this.photos[index]?.[0]));
      tile.classList.toggle("active", index === this.active);
    }
    const active = this.tiles.get(this.active);
    if (active) this.element.setAttribute("aria-activedescendant", active.id);
    else this.element.removeAttribute("aria-activedescendant");
  }

  click(index, event) {
    if (event.shiftKey) this.extend(index);
    else this.toggle(index);
    this.active = index;
    this.mark();
  }

  toggle(index) {
    const key = this.photos[index][0];
    if (!this.chosen.delete(key)) this.chosen.add(key);
    this.anchor = index;
    this.selected();
  }

  extend(index) {
    const [from, to] = [Math.min(this.anchor, index), Math.max(this.anchor, index)];
    for (let i = from; i <= to; i++) this.chosen.add(this.photos[i][0]);
    this.selected();
  }

  clear() {
    this.chosen.clear();
    this.mark();
    this.selected();
  }

  drag(index, event) {
    const key = this.photos[index][0];
    const ids = this.chosen.has(key) ? [...this.chosen] : [key];
    event.dataTransfer.setData("application/x-fastcnn", JSON.stringify(ids));
    event.dataTransfer.effectAllowed = "move";
  }

  key(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, Home: -Infinity, End: Infinity, PageUp: -4 * this.columns, PageDown: 4 * this.columns };
    if (!this.photos.length) return;
    if (event.key in steps) {
      this.active = Math.max(0, Math.min(this.photos.length - 1, this.active + steps[event.key]));
      if (event.shiftKey) this.extend(this.active);
      this.reveal();
    } else if (event.key === " ") this.toggle(this.active);
    else if (event.key === "Enter") this.opened(this.photos[this.active]);
    else if (event.key === "Escape") this.clear();
    else if (event.key === "Delete") this.removed();
    else if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey)) {
      this.anchor = 0;
      this.extend(this.photos.length - 1);
    } else return;
    event.preventDefault();
    this.draw();
  }

  reveal() {
    const row = Math.floor(this.active / this.columns) * (this.side + GAP);
    const top = this.element.getBoundingClientRect().top + row;
    if (top < 130) window.scrollBy(0, top - 130);
    else if (top + this.side > window.innerHeight - 90) window.scrollBy(0, top + this.side - window.innerHeight + 90);
  }
}
