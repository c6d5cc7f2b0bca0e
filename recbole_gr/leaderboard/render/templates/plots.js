// The plots, as the page's figures hold them: of each, the frame of what the reader chose, without the rows that he left out.

const buttons = [...document.querySelectorAll("#legend button")];

function isShown(entry) {
  return buttons[entry].getAttribute("aria-pressed") === "true";
}

function metricName(metric) {
  return board.metric_names[metric] ?? metric;
}

/** A trace with what a frame adds to it. */
function joined(trace, addition) {
  const line = { ...trace.line, ...addition.line };
  return { ...trace, ...addition, ...(trace.line && { line }) };
}

function hasPoints(trace) {
  return (trace.x ?? []).length > 0 && (trace.y ?? []).length > 0;
}

/** The layout in the colours of the page as they are now. */
function themed(layout) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--muted") };
  const font = { color: colour("--ink"), family: "system-ui, sans-serif", size: 12 };
  return { ...layout, font, xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis } };
}

/**
 * Draw a figure's frame; with nothing to draw, only the note stays.
 * @param titles texts of axes that depend on the frame
 * @param noteOf takes the number of drawn traces and the labels of rows without a value, returns the note
 */
function draw(id, frameName, titles, noteOf) {
  const place = document.getElementById(id);
  if (!place) return;
  const figure = board.figures[id];
  const frame = figure.frames.find((one) => one.name === frameName);
  const all = frame ? figure.data.map((trace, index) => joined(trace, frame.data[index])) : [];
  const shown = all.filter((trace) => isShown(trace.meta));
  const traces = shown.filter(hasPoints);
  const left = [...new Set(shown.map((trace) => trace.meta))].filter((entry) => !traces.some((trace) => trace.meta === entry));
  document.getElementById(`${id}-note`).textContent = noteOf(
    traces.length,
    left.map((entry) => buttons[entry].lastElementChild.textContent),
  );
  if (!traces.length) {
    Plotly.purge(place);
    return;
  }
  const layout = themed(figure.layout);
  for (const [axis, text] of Object.entries(titles)) layout[axis] = { ...layout[axis], title: { text } };
  if (layout.meta?.rowHeight) layout.height += layout.meta.rowHeight * traces.length;
  Plotly.react(place, traces, layout, { responsive: true, displayModeBar: false });
}

function drawSlices(id, metric) {
  const kept = board.figures[id].frames.map((frame) => frame.name);
  const shown = kept.includes(metric) ? metric : kept.includes(board.main_metric) ? board.main_metric : kept[0];
  const note = shown === metric ? "" : `Slices have no ${metricName(metric)}; shown is ${metricName(shown)}.`;
  draw(id, shown, { yaxis: metricName(shown) }, (drawn) => (drawn ? note : ""));
}

function drawAll() {
  const metric = document.getElementById("metric").value;
  const name = metricName(metric);
  const missing = (_, left) => (left.length ? `Not shown, for want of a value: ${left.join("; ")}.` : "");
  for (const id of ["against-parameters", "against-speed"]) draw(id, metric, { yaxis: name }, missing);
  const eachSeed = document.getElementById("each-seed").checked;
  const curves = eachSeed ? "One line per seed." : "Mean over a row's seeds, in the epochs that all of them reached.";
  draw("learning-curves", eachSeed ? "each-seed" : "mean", {}, (drawn) => (drawn ? curves : "No learning curves were kept."));
  Object.keys(board.figures)
    .filter((id) => id.startsWith("slice-"))
    .forEach((id) => drawSlices(id, metric));
  const none = `No row shown above was compared in ${name}.`;
  draw("differences", metric, { xaxis: `difference in ${name}` }, (drawn) => (drawn ? "To the best baseline, with the 95 % interval." : none));
  for (const [id, figure] of Object.entries(board.scaling_figures)) {
    Plotly.react(id, figure.data, themed(figure.layout), { responsive: true, displayModeBar: false });
  }
  document.querySelectorAll("#significance tbody tr").forEach((line) => (line.hidden = line.dataset.metric !== metric));
}

if (typeof Plotly === "undefined") {
  document.getElementById("no-plotly").hidden = false;
  document.querySelector(".plot-controls").hidden = true;
} else {
  buttons.forEach((button) =>
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      drawAll();
    }),
  );
  document.getElementById("metric").addEventListener("change", drawAll);
  document.getElementById("each-seed").addEventListener("change", drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll();
}
