// Photos that come from outside: what is dropped, pasted or chosen, with the class that a folder stands for.

import { attempt, load, post, state } from "./api.js";
import { counted, h, toast } from "./dom.js";

const IMAGE = /\.(jpe?g|jpe|jfif|png|gif|bmp|ppm|pgm|pbm|pnm|webp|tiff?|jp2|j2k|avif)$/i;
const AT_ONCE = 4;

const isPhoto = (file) => file.type.startsWith("image/") || IMAGE.test(file.name);

function entriesOf(reader) {
  return new Promise((resolve, reject) => reader.readEntries(resolve, reject));
}

// Lists [file, folders above it] below an entry.
async function below(entry, folders) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return entry.name.startsWith(".") ? [] : [[file, folders]];
  }
  if (entry.name.startsWith(".") || entry.name === "__MACOSX") return [];
  const reader = entry.createReader();
  const found = [];
  for (let part = await entriesOf(reader); part.length; part = await entriesOf(reader)) {
    for (const child of part) found.push(...(await below(child, [...folders, entry.name])));
  }
  return found;
}

// What was dropped or pasted: [file, class or null]. The innermost folder is the class.
export async function gathered(transfer) {
  const entries = [...(transfer.items ?? [])].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const files = [...transfer.files];
  const found = [];
  for (const entry of entries.length ? entries : files) {
    if (entry instanceof File) found.push([entry, []]);
    else if (entry) found.push(...(await below(entry, [])));
  }
  return found.filter(([file]) => isPhoto(file)).map(([file, folders]) => [file, folders.at(-1) ?? null]);
}

export function chosen(input) {
  return [...input.files].filter(isPhoto).map((file) => {
    const folders = (file.webkitRelativePath || "").split("/").slice(0, -1);
    return [file, folders.at(-1) ?? null];
  });
}

const known = (name) => state.classes.some((each) => each.name === name);

// Sends photos, each to its class: [file, class]. Classes that are new are made.
export async function send(photos) {
  if (!photos.length) {
    toast("There are no photos in that.", "bad");
    return;
  }
  for (const name of new Set(photos.map(([, label]) => label))) {
    if (!known(name)) {
      const made = await attempt(() => post("/api/classes", { name }));
      if (!made) return;
      await load();
    }
  }
  const batch = crypto.randomUUID().replaceAll("-", "").slice(0, 16);
  const bar = h("progress", { max: photos.length, value: 0, "aria-label": "Photos that are kept" });
  const text = h("span", {}, `Keeping ${counted(photos.length, "photo")} …`);
  const note = h("div", { class: "toast" }, text, bar);
  document.getElementById("toasts").append(note);
  const refused = [];
  let next = 0;
  let kept = 0;
  const work = async () => {
    while (next < photos.length) {
      const [file, label] = photos[next++];
      try {
        if (file.size > state.limits.photo) throw new Error(`${file.name}: is larger than ${state.limits.photo >> 20} MB`);
        const query = new URLSearchParams({ class: label, name: file.name, batch });
        await post(`/api/photos?${query}`, {}, { body: file });
        kept += 1;
      } catch (error) {
        refused.push(error.message);
        if (error.status === 0 || error.status === 401) next = photos.length;
      }
      bar.value = kept + refused.length;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  note.remove();
  await attempt(load);
  if (kept) toast(`${counted(kept, "photo")} kept.`);
  if (refused.length) toast(`${counted(refused.length, "photo")} could not be kept. ${refused[0]}`, "bad");
}

// Lets an element take what is dropped on it. `label` is called for the class of photos that come without a folder;
// with `moved`, the element is a class: it takes photos of folders, too, and those that are there already.
export function target(element, label, signal, moved) {
  let depth = 0;
  const over = (change) => {
    depth = Math.max(0, depth + change);
    element.classList.toggle("over", depth > 0);
  };
  element.addEventListener("dragenter", (event) => { event.preventDefault(); over(1); }, { signal });
  element.addEventListener("dragleave", () => over(-1), { signal });
  element.addEventListener("dragover", (event) => event.preventDefault(), { signal });
  element.addEventListener("drop", async (event) => {
    event.preventDefault();
    event.stopPropagation();
    depth = 0;
    over(0);
    const ids = event.dataTransfer.getData("application/x-fastcnn");
    if (ids) moved?.(JSON.parse(ids));
    else await take(gathered(event.dataTransfer), label(), Boolean(moved));
  }, { signal });
}

// Photos go to the class that their folder is named after. Those without a folder go to the caller's class, or to the
// only one there is; with `all`, every photo goes to the caller's.
export async function take(coming, label, all = false) {
  const only = state.classes.length === 1 ? state.classes[0].name : null;
  const photos = (await coming).map(([file, folder]) => [file, (all ? null : folder) ?? label ?? only]);
  if (photos.some(([, name]) => !name)) toast("Which class? Drop photos on a class, or drop folders that are named after classes.", "bad");
  else await send(photos);
}
