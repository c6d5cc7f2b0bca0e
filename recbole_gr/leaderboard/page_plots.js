// The plots. Each row keeps its colour and number in all of them; the buttons above leave rows out.

// each at least 3 : 1 against both papers, and dark enough for a white number on it
const COLOURS = ["#3b82c4", "#c8641b", "#2f9461", "#c94f7c", "#8a6fd1", "#97842a", "#d14b42", "#2492a0", "#a06a4b", "#7d8894"];
const DASHES = ["solid", "dash", "dot", "dashdot"];

const drawn = board.rows.flatMap((row) => (hasResult(row) ? [{ row }] : []));
drawn.forEach((entry, index) => {
  const variant = Object.entries(entry.row.variant ?? {}).map(([key, value]) => `${key.replaceAll("_", " ")}: ${value}`);
  entry.number = index + 1;
  entry.label = [entry.row.name, ...variant].join(", ");
  entry.colour = COLOURS[index % COLOURS.length];
  entry.dash = DASHES[Math.floor(index / COLOURS.length) % DASHES.length];
  entry.shown = true;
});

/** Plotly reads a few tags and entities in texts; a name must stay what it is. */
function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Long texts in several lines, parted at blanks. */
function wrapped(text, letters) {
  const lines = [""];
  for (const word of String(text).split(" ")) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (longer.length > letters && lines.at(-1)) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines.map(plain).join("<br>");
}

function metricName(metric) {
  return board.metric_names[metric] ?? metric;
}

function shownRows() {
  return drawn.filter((entry) => entry.shown);
}

/** Draw, in the colours of the page as they are now; with nothing to draw, only the note stays. */
function plot(id, traces, xaxis, yaxis, more = {}, note = "") {
  const place = document.getElementById(id);
  if (!place) return;
  document.getElementById(`${id}-note`).textContent = note;
  if (!traces.length) {
    Plotly.purge(place);
    return;
  }
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--muted"), automargin: true };
  const clear = "rgba(0,0,0,0)";
  const layout = {
    paper_bgcolor: clear,
    plot_bgcolor: clear,
    font: { color: colour("--ink"), family: "system-ui, sans-serif", size: 12 },
    height: 320,
    margin: { l: 50, r: 10, t: 10, b: 45 },
    showlegend: false,
    hoverlabel: { font: { color: "#fff" } },
    dragmode: false,
    xaxis: { ...axis, zeroline: false, ...xaxis },
    yaxis: { ...axis, ...yaxis },
    ...more,
  };
  Plotly.react(place, traces, layout, { responsive: true, displayModeBar: false });
}

function title(text) {
  return { title: { text: plain(text) } };
}

function drawAgainst(id, cost, metric) {
  const left = [];
  const traces = shownRows().flatMap((entry) => {
    const measure = entry.row.measures[metric];
    const value = entry.row.cost[cost];
    if (measure?.mean == null || !(value > 0)) {
      left.push(entry.label);
      return [];
    }
    return {
      x: [value],
      y: [measure.mean],
      error_y: { type: "data", array: [measure.std ?? 0], color: entry.colour, thickness: 1.5, width: 4 },
      mode: "markers+text",
      marker: { color: entry.colour, size: 20 },
      text: [`<b>${entry.number}</b>`],
      textfont: { color: "#fff" },
      hovertext: `${plain(entry.label)}<br>${plain(metricName(metric))} ${measure.mean.toFixed(4)}<br>${board.cost_names[cost]} ${Math.round(value).toLocaleString("en")}`,
      hoverinfo: "text",
    };
  });
  const note = left.length ? `Not shown, for want of a value: ${left.join("; ")}.` : "";
  plot(id, traces, { ...title(board.cost_names[cost]), type: "log" }, { ...title(metricName(metric)) }, {}, note);
}

/** The mean over a row's seeds, as far as all of them went. */
function meanCurve(curves) {
  const scores = curves.map((curve) => new Map(curve.epochs.map((epoch, index) => [epoch, curve.valid_score[index]])));
  const epochs = curves[0].epochs.filter((epoch) => scores.every((score) => score.get(epoch) != null));
  const mean = (epoch) => scores.reduce((sum, score) => sum + score.get(epoch), 0) / scores.length;
  return { epochs, valid_score: epochs.map(mean) };
}

function drawCurves(eachSeed) {
  const traces = shownRows().flatMap((entry) => {
    const curves = entry.row.learning_curves.filter((curve) => curve.epochs.length);
    if (!curves.length) return [];
    return (eachSeed ? curves : [meanCurve(curves)]).map((curve) => ({
      x: curve.epochs,
      y: curve.valid_score,
      mode: curve.epochs.length > 1 ? "lines" : "markers",
      connectgaps: true,
      line: { color: entry.colour, width: eachSeed ? 1.2 : 2, dash: entry.dash },
      marker: { color: entry.colour, size: 8 },
      name: plain(entry.label),
      hovertemplate: `${plain(entry.label)}${eachSeed ? `, seed ${curve.seed}` : ""}<br>epoch %{x}: %{y:.4f}<extra></extra>`,
    }));
  });
  const note = eachSeed ? "One line per seed." : "Mean over a row's seeds, as far as all of them went.";
  plot("learning-curves", traces, title("epoch"), title("validation score"), {}, traces.length ? note : "No learning curves were kept.");
}

function drawSlices(id, kind, metric) {
  const rows = shownRows().filter((entry) => entry.row.slices[kind]?.length);
  const kept = [...new Set(rows.flatMap((entry) => entry.row.slices[kind].flatMap(Object.keys)))].filter((key) => key in board.metric_names);
  const shown = kept.includes(metric) ? metric : kept.includes(board.main_metric) ? board.main_metric : kept[0];
  const labels = [...new Set(rows.flatMap((entry) => entry.row.slices[kind].map((slice) => slice.label)))];
  const traces = rows.map((entry) => {
    const slices = labels.map((label) => entry.row.slices[kind].find((slice) => slice.label === label));
    return {
      type: "bar",
      x: labels.map((_, index) => index),
      y: slices.map((slice) => slice?.[shown] ?? null),
      marker: { color: entry.colour },
      hovertext: slices.map((slice) => (slice ? `${plain(entry.label)}<br>${plain(slice.label)}, ${slice.users.toLocaleString("en")} users` : "")),
      hovertemplate: "%{hovertext}<br>%{y:.4f}<extra></extra>",
    };
  });
  const ticks = { tickvals: labels.map((_, index) => index), ticktext: labels.map((label) => wrapped(label, 11)), tickangle: 0, showgrid: false };
  const other = traces.length && shown !== metric ? `Slices have no ${metricName(metric)}; shown is ${metricName(shown)}.` : "";
  plot(id, traces, ticks, title(metricName(shown)), { barmode: "group" }, other);
}

function drawDifferences(metric) {
  const rows = shownRows().filter((entry) => entry.row.significance[metric]?.difference != null);
  const traces = rows.map((entry, index) => {
    const test = entry.row.significance[metric];
    return {
      x: [test.difference],
      y: [index],
      error_x: {
        type: "data",
        symmetric: false,
        array: [test.high - test.difference],
        arrayminus: [test.difference - test.low],
        color: entry.colour,
        thickness: 2,
      },
      mode: "markers",
      marker: { color: entry.colour, size: 10 },
      hovertext: `${plain(entry.label)} against ${plain(test.against)}<br>${test.difference.toFixed(4)}, 95 % from ${test.low.toFixed(4)} to ${test.high.toFixed(4)}`,
      hoverinfo: "text",
    };
  });
  const ticks = { tickvals: rows.map((_, index) => index), ticktext: rows.map((entry) => wrapped(entry.label, 22)), autorange: "reversed" };
  const zero = { type: "line", x0: 0, x1: 0, y0: 0, y1: 1, yref: "paper", line: { color: "#7d8894", width: 1.5 } };
  const x = title(`difference in ${metricName(metric)}`);
  const note = traces.length ? "To the best baseline, with the 95 % interval." : `No row shown above was compared in ${metricName(metric)}.`;
  plot("differences", traces, x, { ...ticks, showgrid: false, zeroline: false }, { shapes: [zero], height: 110 + 46 * rows.length }, note);
}

function drawAll() {
  const metric = document.getElementById("metric").value;
  drawAgainst("against-parameters", "parameters", metric);
  drawAgainst("against-speed", "users_per_second", metric);
  drawCurves(document.getElementById("each-seed").checked);
  [...new Set(board.rows.flatMap((row) => Object.keys(row.slices)))].forEach((kind, index) => drawSlices(`slice-${index}`, kind, metric));
  drawDifferences(metric);
  document.querySelectorAll("#significance tbody tr").forEach((line) => (line.hidden = line.dataset.metric !== metric));
}

function addLegendButton(entry) {
  const button = document.createElement("button");
  const mark = document.createElement("span");
  button.type = "button";
  button.setAttribute("aria-pressed", "true");
  mark.className = "mark";
  mark.style.background = entry.colour;
  mark.textContent = entry.number;
  button.append(mark, entry.label);
  button.addEventListener("click", () => {
    entry.shown = !entry.shown;
    button.setAttribute("aria-pressed", String(entry.shown));
    drawAll();
  });
  document.getElementById("legend").append(button);
}

drawn.forEach(addLegendButton);
document.getElementById("metric").addEventListener("change", drawAll);
document.getElementById("each-seed").addEventListener("change", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
drawAll();
