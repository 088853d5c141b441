"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const byId = (id) => document.getElementById(id);

  for (const element of document.querySelectorAll("[data-figure]")) hsaeFigures.draw(element, data.figures[element.dataset.figure]);

  /* The taxonomy: one frame per SAE and layer, all in the same colours. */
  if (data.taxonomy) {
    const { figure, frames } = data.taxonomy;
    const [element, slider, choice, shown] = ["taxonomy-figure", "taxonomy-layer", "taxonomy-sae", "taxonomy-layer-shown"].map(byId);
    const fixed = figure.data[0].customdata.map((cells) => cells.slice(0, 2));
    const ofSae = () => frames.filter((frame) => frame.sae === choice.value);
    figure.data[1].marker.showscale = false; // the page has a scale of its own
    const show = () => {
      const frame = ofSae()[Number(slider.value)];
      shown.value = frame.layer;
      slider.setAttribute("aria-valuetext", `layer ${frame.layer}`);
      const customdata = frame.cells.map((cells, node) => [...fixed[node], ...cells]);
      return Plotly.restyle(element, { "marker.colors": [frame.colours], customdata: [customdata] }, [0]);
    };
    const choose = () => {
      slider.max = ofSae().length - 1;
      slider.value = slider.max;
      return show();
    };
    slider.addEventListener("input", show);
    choice.addEventListener("change", choose);
    hsaeFigures.draw(element, figure).then(choose);
  }

  /* A histogram is drawn when its card is opened: most never are. */
  const cards = [...document.querySelectorAll(".card")];
  for (const card of cards) {
    card.addEventListener("toggle", () => {
      const place = card.open && card.querySelector("[data-histogram]:empty");
      if (place) hsaeFigures.draw(place, data.histograms[place.dataset.histogram]);
    });
  }
  const openTarget = () => {
    const target = location.hash && byId(decodeURIComponent(location.hash.slice(1)));
    if (target && target.matches(".card")) { clear(); target.open = true; target.scrollIntoView(); }
  };

  const [text, layer, sae, count] = ["filter-text", "filter-layer", "filter-sae", "filter-count"].map(byId);
  function clear() { if (text) { text.value = layer.value = sae.value = ""; filter(); } }
  function filter() {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0;
    for (const card of cards) {
      card.searched ??= [card.textContent, ...[...card.querySelectorAll("[alt]")].map((image) => image.alt)].join(" ").toLowerCase();
      const fits = words.every((word) => card.searched.includes(word))
        && (!layer.value || card.dataset.layer === layer.value) && (!sae.value || card.dataset.sae === sae.value);
      card.hidden = !fits;
      n += fits;
    }
    count.value = `${n} of ${cards.length} shown`;
  }
  if (text) {
    for (const control of [text, layer, sae]) control.addEventListener("input", filter);
    byId("filter").addEventListener("submit", (event) => event.preventDefault());
    filter();
  }
  addEventListener("hashchange", openTarget);
  openTarget();
  document.documentElement.dataset.ready = "yes";
})();
