// Copies texts, sends an edit, and draws figures and the picture of the tree. Every page works without it, except for these.
"use strict";

function copyText(button) {
  const text = button.parentElement.querySelector("pre").textContent;
  const done = () => { button.textContent = "Copied"; };
  if (navigator.clipboard) {
    navigator.clipboard.writeText(text).then(done, () => selectText(button));
  } else {
    selectText(button); // not on a secure address: the reader copies the selected text
  }
}

function selectText(button) {
  getSelection().selectAllChildren(button.parentElement.querySelector("pre"));
  button.textContent = "Selected: press Ctrl+C";
}

function shown(value) {
  return value === null || value === undefined ? "–" : value < -1 ? "< −1" : value.toFixed(2);
}

function drawPicture() {
  const place = document.getElementById("picture");
  if (!place) return;
  const data = JSON.parse(document.getElementById("picture-data").textContent);
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const text = data.names.map((name, i) => {
    const [latent, baseline, tree, q] = data.hover[i];
    return `${data.classes[i]} classes, best latent ${latent ?? "–"}<br>adjusted F1 ${shown(data.f1[i])}` +
      `<br>best baseline ${shown(baseline)}, shuffled tree ${shown(tree)}<br>q ${q === null || q === undefined ? "–" : q < 1e-4 ? "< .0001" : q.toFixed(4)}`;
  });
  // Names come from a catalog: Plotly would read < as the start of markup.
  const safe = (name) => name.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const known = data.f1.map((value) => (value === null || value === undefined ? null : Math.max(0, value)));
  const trace = {
    type: "icicle", ids: data.ids.map(String), labels: data.names.map(safe), parents: data.parents.map(String),
    values: data.classes, branchvalues: "remainder", text, hovertemplate: "<b>%{label}</b><br>%{text}<extra></extra>",
    texttemplate: "%{label}", tiling: { orientation: "v" }, maxdepth: 7, pathbar: { thickness: 24 },
    marker: {
      colors: known.map((value) => (value === null ? -0.05 : value)), cmin: -0.05, cmax: 1,
      colorscale: dark
        ? [[0, "#3a414b"], [0.047, "#3a414b"], [0.048, "#1d3a4a"], [1, "#9be1ff"]]
        : [[0, "#d4d8dd"], [0.047, "#d4d8dd"], [0.048, "#e3f1f8"], [1, "#0a5f86"]],
      colorbar: { title: { text: "adjusted F1" }, thickness: 12, tickvals: [0, 0.25, 0.5, 0.75, 1] },
      line: { width: 1, color: color("--ground") },
    },
  };
  // A node's own share of the width is what its hyponyms leave; those with several hypernyms are counted once.
  const below = {};
  data.parents.forEach((parent, i) => { below[parent] = (below[parent] || 0) + data.classes[i]; });
  trace.values = data.ids.map((id, i) => Math.max(0, data.classes[i] - (below[id] || 0)));
  const layout = { // above the picture is room for the path to its top
    margin: { t: 36, l: 8, r: 8, b: 8 }, paper_bgcolor: "rgba(0,0,0,0)", font: { color: color("--ink"), size: 13 },
  };
  const zoom = document.getElementById("picture-zoom");
  if (zoom.value) trace.level = zoom.value;
  Plotly.newPlot(place, [trace], layout, { displayModeBar: false, responsive: true })
    .then(() => place.on("plotly_icicleclick", (event) => { followZoom(data, zoom, event.nextLevel); }));
}

// The picture shows another node at its top: the page's address, its form and its link are about that node.
function followZoom(data, zoom, node) {
  const link = document.getElementById("picture-node"), page = new URL(location), to = new URL(link.href);
  const at = data.ids.findIndex((id) => String(id) === String(node));
  if (at < 0) return;
  zoom.value = at === 0 ? "" : node;
  if (at === 0) page.searchParams.delete("zoom"); else page.searchParams.set("zoom", node);
  history.replaceState(null, "", page);
  to.pathname = `/node/${node}`;
  link.href = to;
  link.textContent = data.names[at];
}

// Sends a form and puts the part of the answer with the same id in its place: the file stays chosen for the next edit.
function sendInto(event) {
  const form = event.currentTarget, place = document.getElementById(form.dataset.into);
  event.preventDefault();
  place.setAttribute("aria-busy", "true");
  fetch(form.action, { method: "POST", body: new FormData(form) })
    .then((answer) => answer.text())
    .then((text) => {
      const page = new DOMParser().parseFromString(text, "text/html");
      const part = page.getElementById(form.dataset.into) || page.getElementById("content");
      place.replaceChildren(...part.childNodes);
      listen(place);
    })
    .catch(() => form.submit())
    .finally(() => place.removeAttribute("aria-busy"));
}

function listen(part) {
  for (const button of part.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copyText(button));
}

function drawFigures() {
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  for (const place of document.querySelectorAll("[data-figure]")) {
    const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
    const layout = { ...figure.layout, font: { ...figure.layout.font, color: ink } };
    Plotly.newPlot(place, figure.data, layout, { displayModeBar: false, responsive: true });
  }
}

listen(document);
for (const form of document.querySelectorAll("form[data-into]")) form.addEventListener("submit", sendInto);
window.addEventListener("DOMContentLoaded", () => { drawPicture(); drawFigures(); });
