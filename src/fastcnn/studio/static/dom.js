// Builds the page's elements. Text is always text: nothing here makes markup of a string.

const SVG = "http://www.w3.org/2000/svg";

const SHAPES = {
  photos: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01",
  train: "M4 18l5-6 4 3 7-9M15 6h5v5",
  understand: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 4v16M4 12h16",
  use: "M12 4v11M7.5 10.5 12 15l4.5-4.5M5 19h14",
  plus: "M12 5v14M5 12h14",
  camera: "M4 8h4l1.5-2.5h5L16 8h4v11H4zM12 16.5a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4z",
  pencil: "M5 19l1-4L16 5l3 3L9 18z",
  bin: "M5 7h14M9 7V5h6v2M7 7l1 12h8l1-12M10 10.5v5M14 10.5v5",
  undo: "M9 14 4.5 9.5 9 5M5 9.5h9a5 5 0 0 1 0 10h-3",
  check: "M5 12.5l4.5 4.5L19 7.5",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6 7 7M17 17l1.4 1.4M18.4 5.6 17 7M7 17l-1.4 1.4",
  moon: "M19 14.5A7.5 7.5 0 0 1 9.5 5 7.5 7.5 0 1 0 19 14.5z",
  auto: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  play: "M8 5.5v13l10-6.5z",
  pause: "M8 6v12M16 6v12",
  stop: "M7 7h10v10H7z",
  close: "M6 6l12 12M18 6 6 18",
  shield: "M12 4l7 2.5v5c0 4-3 7-7 8.5-4-1.500-7-4.500-7-8.500v-5z",
  folder: "M4 7h6l2 2h8v10H4z",
  copy: "M8 8h11v11H8zM5 16V5h11",
};

export function h(name, props = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null) continue;
    if (key.startsWith("aria-")) element.setAttribute(key, String(value));
    else if (value === false) continue;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else if (key === "style") for (const [k, v] of Object.entries(value)) element.style.setProperty(k, v);
    else if (key in element && !key.includes("-") && !["list", "form", "width", "height", "role"].includes(key)) element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function s(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.flat(Infinity));
  return element;
}

export function icon(name) {
  return s("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, s("path", { d: SHAPES[name] }));
}

export function button(label, onclick, { kind = "", picture, ...rest } = {}) {
  return h("button", { type: "button", class: `button ${kind}`, onclick, ...rest }, picture && icon(picture), h("span", {}, label));
}

export function iconButton(label, picture, onclick, rest = {}) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...rest }, icon(picture));
}

export function replace(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function toast(text, kind = "") {
  const note = h("div", { class: `toast ${kind}` }, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), kind === "bad" ? 9000 : 5000);
}

// A dialog with a heading, which Escape closes; focus returns to where it was.
export function dialog(title, ...children) {
  const heading = h("h2", { id: `d${Math.random().toString(36).slice(2)}` }, title);
  const box = h("dialog", { "aria-labelledby": heading.id, class: "dialog" });
  box.append(h("div", { class: "dialog-head" }, heading, iconButton("Close", "close", () => box.close())), ...children);
  box.addEventListener("click", (event) => event.target === box && box.close());
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  return box;
}

// Asks for a line of text; null where it was given up.
export function ask(title, label, value = "", done = "Save") {
  return new Promise((resolve) => {
    const input = h("input", { type: "text", value, maxLength: 80, required: true, id: "asked", autocomplete: "off" });
    let answer = null;
    const form = h("form", { class: "stack", onsubmit: (event) => { event.preventDefault(); answer = input.value; box.close(); } },
      h("label", { htmlFor: "asked" }, label), input,
      h("div", { class: "row end" }, button("Cancel", () => box.close()), h("button", { class: "button primary" }, done)));
    const box = dialog(title, form);
    box.addEventListener("close", () => resolve(answer));
    input.select();
  });
}

export function confirm(title, text, done) {
  return new Promise((resolve) => {
    let answer = false;
    const box = dialog(title, h("p", {}, text), h("div", { class: "row end" },
      button("Cancel", () => box.close()), button(done, () => { answer = true; box.close(); }, { kind: "danger" })));
    box.addEventListener("close", () => resolve(answer));
  });
}

export const percent = (share, digits = 0) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)} %`);
export const counted = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

export function clock(seconds) {
  if (seconds === undefined || seconds === null || !isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds));
  return whole < 60 ? `${whole} s` : whole < 3600 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
