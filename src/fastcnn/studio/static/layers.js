// The network just trained, layer by layer: what each computes for a photo of the reader's choice.

import { attempt, patiently } from "./api.js";
import { h, replace } from "./dom.js";
import { picker } from "./lesson.js";

const KINDS = {
  Conv: "convolution", MaxPool: "max pooling", AveragePool: "mean pooling", Relu: "ReLU", Clip: "ReLU up to 6", Sigmoid: "sigmoid", Tanh: "tanh", HardSwish: "hard swish", LeakyRelu: "leaky ReLU", Mul: "product",
};

export function showLayers(body, signal, run) {
  const result = h("div", { class: "stack wide" });
  const chosen = async (photo) => {
    replace(result, h("p", { class: "muted", role: "status" }, "Computing every layer …"));
    const found = await attempt(() => patiently(`/api/runs/${run.id}/layers?photo=${photo[0]}`, null, signal));
    if (found && !signal.aborted) draw(result, found, run);
  };
  replace(body, h("p", { class: "lead" }, "A photo goes through the network from top to bottom. Early layers see edges and colours, later ones parts and things. Bright is where a filter found what it looks for."),
    picker(chosen, "Photo to send through the network"), result);
}

function draw(result, found, run) {
  replace(result,
    h("section", { class: "card layer" }, h("h2", {}, "What goes in"), h("div", { class: "row top" }, h("img", { src: found.image, alt: "The part of the photo that the network sees", class: "seen" }),
      found.filters.length > 0 && h("figure", {}, h("div", { class: "filters" }, found.filters.map((src, i) => h("img", { src, alt: `Filter ${i + 1} of the first layer`, class: "pixels" }))), h("figcaption", {}, `What ${run.name} looks for first: the filters of its first layer`)))),
    found.layers.map((layer, i) => h("section", { class: "card layer" },
      h("h2", {}, h("span", { class: "step-number" }, i + 1), ` ${KINDS[layer.kind] ?? layer.kind}`, h("span", { class: "muted" }, ` ${layer.name} · ${layer.shape[0]} maps of ${layer.shape[1]} × ${layer.shape[2]}`)),
      h("div", { class: "maps" }, layer.maps.map((src, k) => h("img", { src, alt: `Map ${k + 1} of layer ${layer.name}`, class: layer.shape[1] < 60 ? "pixels" : "", loading: "lazy" }))))));
}
