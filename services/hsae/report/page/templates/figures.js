"use strict";
/* Draws figures in the colours of the page, light or dark. */
const hsaeFigures = (() => {
  const drawn = new Map();
  const options = {
    responsive: true, displaylogo: false,
    modeBarButtons: [["toImage"]], toImageButtonOptions: { format: "svg" },
  };

  function colours() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    return { text: colour("--text"), page: colour("--page"), line: colour("--line"), muted: colour("--muted"), ring: colour("--ring") };
  }

  function themed(layout, element) {
    const { text, page, line, muted } = colours();
    const narrow = element.clientWidth < 480;
    const result = { ...layout, font: { ...layout.font, color: text, size: narrow ? 12 : 13 } };
    result.hoverlabel = { bgcolor: page, bordercolor: line, font: { color: text }, align: "left" };
    result.modebar = { bgcolor: "rgba(0,0,0,0)", color: muted, activecolor: text };
    if (layout.annotations) result.annotations = layout.annotations.map((one) => ({ ...one, font: { ...one.font, color: text } }));
    return result;
  }

  /* Lines between nodes are seen on every colour of a node, on light and on dark pages. */
  function onPage(traces) {
    return traces.map((trace) => trace.type === "sunburst" || trace.type === "icicle"
      ? { ...trace, marker: { ...trace.marker, line: { ...trace.marker.line, color: colours().ring } } } : trace);
  }

  function draw(element, figure) {
    drawn.set(element, figure);
    return Plotly.react(element, onPage(figure.data), themed(figure.layout, element), options);
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const element of drawn.keys()) {
      const { ring } = colours();
      Plotly.relayout(element, themed(element.layout, element));
      if (element.data.some((trace) => trace.type === "sunburst" || trace.type === "icicle"))
        Plotly.restyle(element, { "marker.line.color": ring }, [0]);
    }
  });

  return { draw };
})();
