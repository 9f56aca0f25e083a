// Talks to the server, and keeps what it has told: photos, classes and runs.

import { toast } from "./dom.js";

export const state = { csrf: "", version: "", classes: [], photos: [], runs: [], undo: "", networks: [], pretrained: [], formats: [], limits: {}, folder: "" };
const listeners = new Map();

// Who listens to a kind of news ("photos", "run", "runs") is called until its signal ends.
export function on(kind, call, signal) {
  const calls = listeners.get(kind) ?? new Set();
  listeners.set(kind, calls.add(call));
  signal?.addEventListener("abort", () => calls.delete(call));
}

function tell(kind, value) {
  for (const call of listeners.get(kind) ?? []) call(value);
}

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function asked(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Refused(0, "The studio does not answer. Is its command still running?");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Refused(response.status, told.error ?? `${response.status} ${response.statusText}`);
}

export async function get(path) {
  return (await asked(path)).json();
}

export async function post(path, value = {}, { versioned = false, body, signal } = {}) {
  const headers = { "x-fastcnn-csrf": state.csrf, "content-type": body ? "application/octet-stream" : "application/json" };
  if (versioned) headers["if-match"] = `"${state.version}"`;
  const response = await asked(path, { method: "POST", headers, body: body ?? JSON.stringify(value), signal });
  return response.json();
}

// Runs what a user has asked for, and tells what went wrong. A change of what another window has changed is never made.
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    toast(error.message, "bad");
    if (error.status === 412 || error.status === 404) await load();
    return undefined;
  }
}

export async function change(path, value) {
  const found = await post(path, value, { versioned: true });
  await load();
  return found;
}

// Asks for work that takes long until it is done; tells how far it is.
export async function patiently(path, progress, signal) {
  for (;;) {
    const told = await get(path);
    if (signal?.aborted) throw new DOMException("left", "AbortError");
    if ("result" in told) return told.result;
    progress?.(told);
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
}

let loading = null;
let again = false;

export async function load() {
  if (loading) {
    again = true;
    return loading;
  }
  loading = get("/api/state");
  try {
    const found = await loading;
    Object.assign(state, found, { runs: found.runs.map(newest) });
    tell("photos");
    tell("runs");
  } finally {
    loading = null;
  }
  if (again) {
    again = false;
    await load();
  }
  return undefined;
}

// Events and answers overtake each other: what is older than what the page knows is not taken.
function newest(run) {
  const known = runOf(run.id);
  return known?.number > run.number ? known : run;
}

export function thumb(photo) {
  return `/api/photos/${photo[0]}/thumb?v=${photo[4]}`;
}

export const runThumb = (run, index) => `/api/runs/${run}/thumb/${index}`;
export const runOf = (id) => state.runs.find((run) => run.id === id);
export const hasModel = (run) => run.accuracy !== null && run.accuracy !== undefined;

// News comes while the page is looked at: a browser opens few connections to one server.
let source = null;

export function listen() {
  const follow = () => {
    if (document.hidden) {
      source?.close();
      source = null;
    } else if (!source) {
      source = new EventSource("/api/events");
      source.addEventListener("error", () => source?.readyState === EventSource.CLOSED && load().catch((error) => toast(error.message, "bad")));
      source.addEventListener("photos", (event) => {
        const told = JSON.parse(event.data);
        if (told.version !== state.version || told.undo !== state.undo) load();
      });
      source.addEventListener("runs", (event) => {
        const known = JSON.parse(event.data);
        if (state.runs.length !== known.length || state.runs.some((run, i) => run.id !== known[i])) load();
      });
      source.addEventListener("run", (event) => {
        const run = JSON.parse(event.data);
        const place = state.runs.findIndex((known) => known.id === run.id);
        if (place < 0 || newest(run) !== run) return;
        state.runs[place] = run;
        tell("run", run);
      });
    }
  };
  document.addEventListener("visibilitychange", follow);
  follow();
}
