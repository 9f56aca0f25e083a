// Use: drop a photo and see its class; take the model elsewhere.

import { attempt, state } from "./api.js";
import { button, h, icon, replace, toast } from "./dom.js";
import { chosen, gathered, target } from "./files.js";
import { look } from "./look.js";
import { chooser, nothing, runFor } from "./understand.js";

const FORMATS = {
  safetensors: ["safetensors", "For fastcnn: classify, evaluate, go on training, serve."],
  onnx: ["ONNX", "For ONNX Runtime, OpenCV, browsers and phones."],
  quantised: ["8 bits", "A quarter of the size, and faster; calibrated on your photos."],
};

export function showUse(main, signal, [id]) {
  const run = runFor(id);
  if (!run) {
    nothing(main, "Use");
    return;
  }
  const result = h("div", { class: "result", "aria-live": "polite" });
  const show = (file) => {
    if (!file) {
      toast("There is no photo in that.", "bad");
      return;
    }
    replace(result, h("p", { class: "muted" }, "Looking …"));
    look(result, run, { file }, signal);
  };
  const input = h("input", { type: "file", accept: "image/*", class: "unseen", id: "one-photo", onchange: () => show(chosen(input)[0]?.[0]) });
  const zone = h("div", { class: "hero slim", id: "try" }, h("h2", {}, "Drop a photo, see its class"), h("p", {}, "Or paste one. It stays on this machine."),
    h("div", { class: "row center" }, h("label", { class: "button primary", htmlFor: "one-photo" }, icon("photos"), h("span", {}, "Choose a photo")), input));
  const dropped = async (transfer) => show((await gathered(transfer))[0]?.[0]);
  for (const kind of ["dragenter", "dragover"]) zone.addEventListener(kind, (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => { event.preventDefault(); event.stopPropagation(); zone.classList.remove("over"); dropped(event.dataTransfer); });
  window.addEventListener("paste", (event) => event.clipboardData.files.length && dropped(event.clipboardData), { signal });
  main.append(h("div", { class: "head" }, h("h1", {}, "Use"), chooser(run, "use")), h("section", { class: "card" }, zone, result), exportsOf(run), codeOf(run));
}

function exportsOf(run) {
  return h("section", { class: "card" }, h("h2", {}, "Take it with you"), h("div", { class: "exports" }, state.formats.map((format) => {
    const [title, text] = FORMATS[format];
    return h("div", { class: "export" }, h("h3", {}, title), h("p", { class: "muted" }, text), button(`Save as ${title}`, () => attempt(() => save(run, format)), { picture: "use" }));
  })));
}

// Saves what the server answers; an error is told on the page instead of replacing it.
async function save(run, format) {
  const response = await fetch(`/api/runs/${run.id}/export/${format}`);
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error ?? response.statusText);
  const name = decodeURIComponent(response.headers.get("content-disposition").split("''")[1]);
  const link = h("a", { href: URL.createObjectURL(await response.blob()), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  toast(`${name} is saved.`);
}

function codeOf(run) {
  const file = `${run.name.toLowerCase().replace(/[^a-z0-9_-]+/g, "-").replace(/^-|-$/g, "") || `run-${run.id}`}.safetensors`;
  const snippets = [
    ["In Python", `import fastcnn as fc\n\nmodel = fc.load("${file}")\nfor found in model.classify("photo.jpg"):\n    print(f"{found.label}: {found.probability:.1%}")`],
    ["On the command line", `fastcnn classify --model ${file} photo.jpg`],
    ["As a service", `fastcnn serve ${file} --port 8000\ncurl --data-binary @photo.jpg http://127.0.0.1:8000/v1/classify`],
  ];
  return h("section", { class: "card" }, h("h2", {}, "In your own program"), snippets.map(([title, text]) =>
    h("div", { class: "snippet" }, h("div", { class: "card-head" }, h("h3", {}, title), button("Copy", () => navigator.clipboard.writeText(text).then(() => toast("Copied."), () => toast("The browser does not let the page copy.", "bad")), { picture: "copy", kind: "quiet" })),
      h("pre", { tabIndex: 0 }, h("code", {}, text)))));
}
