// Photos from the webcam: one for each press, or several a second while the button is held.

import { send } from "./files.js";
import { button, counted, dialog, h, toast } from "./dom.js";

const PAUSE = 300; // ms between photos while the button is held

export async function webcam(label) {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 }, audio: false });
  } catch (error) {
    toast(`The webcam cannot be used: ${error.message}`, "bad");
    return;
  }
  const video = h("video", { autoplay: true, muted: true, playsInline: true, class: "camera", "aria-label": "What the webcam sees" });
  video.srcObject = stream;
  const photos = [];
  const told = h("span", { role: "status", class: "muted" }, "No photos yet");
  const strip = h("div", { class: "strip" });
  const shoot = async () => {
    const canvas = h("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    const content = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
    if (!content) return;
    photos.push([new File([content], `webcam-${photos.length + 1}.jpg`, { type: "image/jpeg" }), label]);
    told.textContent = counted(photos.length, "photo");
    strip.prepend(h("img", { src: URL.createObjectURL(content), alt: "" }));
  };
  let timer = 0;
  const hold = () => { shoot(); timer = setInterval(shoot, PAUSE); };
  const release = () => clearInterval(timer);
  const trigger = button("Take photos", (event) => event.detail === 0 && shoot(), { kind: "primary", picture: "camera", onpointerdown: hold, onpointerup: release, onpointerleave: release });
  const box = dialog(`Webcam: ${label}`, video, h("div", { class: "row" }, trigger, told), strip,
    h("div", { class: "row end" }, button("Keep them", () => box.close("keep"), { kind: "primary" })));
  box.addEventListener("close", () => {
    release();
    for (const track of stream.getTracks()) track.stop();
    if (box.returnValue === "keep" && photos.length) send(photos);
  });
}
