"use strict";
// The table: sorting, filtering, groups of columns, a row's setting; the script of the plots follows it.
// Text from the board goes into the page by textContent only.

const board = JSON.parse(document.getElementById("board").textContent);
const table = document.getElementById("measured");
const headers = [...table.tHead.rows[0].cells];
const boardOrder = [...table.tBodies];

function rowOf(body) {
  return board.rows[Number(body.dataset.row)];
}

function hasResult(row) {
  return Object.keys(row.measures).length > 0;
}

/** What a row is sorted by; null where it has none. */
function sortValue(row, key) {
  if (!hasResult(row)) return null;
  if (key === "name") return row.name.toLowerCase();
  const value = row.cost[key] ?? row.measures[key]?.mean;
  return value ?? null;
}

/** Rows with no value stay at the end, whichever the direction. */
function compare(first, second, direction) {
  if (first === null || second === null) return (first === null) - (second === null);
  return (first < second ? -1 : first > second ? 1 : 0) * (direction === "descending" ? -1 : 1);
}

function sortBy(header) {
  const key = header.querySelector("button").dataset.key;
  // a third click brings back the order of the board; names begin with A
  const states = key === "name" ? ["none", "ascending", "descending"] : ["none", "descending", "ascending"];
  const state = states[(states.indexOf(header.getAttribute("aria-sort")) + 1) % states.length];
  headers.forEach((other) => other.setAttribute("aria-sort", "none"));
  header.setAttribute("aria-sort", state);
  const bodies = [...boardOrder];
  if (state !== "none") bodies.sort((a, b) => compare(sortValue(rowOf(a), key), sortValue(rowOf(b), key), state));
  table.append(...bodies);
}

function filterRows(text) {
  const parts = text.toLowerCase().split(/\s+/).filter(Boolean);
  boardOrder.forEach((body) => (body.hidden = !parts.every((part) => body.dataset.text.includes(part))));
  const left = boardOrder.filter((body) => !body.hidden).length;
  document.getElementById("count").textContent = `${left} of ${boardOrder.length} rows`;
}

function showGroup(group) {
  table.querySelectorAll("[data-group]").forEach((cell) => (cell.hidden = cell.dataset.group !== group));
}

function toggleSetting(line) {
  const setting = line.nextElementSibling;
  setting.hidden = !setting.hidden;
  line.querySelector("[aria-expanded]").setAttribute("aria-expanded", String(!setting.hidden));
}

function addCopyButton(command) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "copied";
    } catch {
      // a browser that keeps the clipboard from pages: the reader copies what is selected
      getSelection().selectAllChildren(command);
      button.textContent = "selected: copy it with the keyboard";
    }
  });
  command.after(button);
}

document.documentElement.classList.add("script");
document.querySelectorAll(".controls").forEach((controls) => (controls.hidden = false));
table.querySelectorAll(".setting").forEach((setting) => {
  setting.hidden = true;
  setting.querySelector(".opened").open = true;
});
document.querySelectorAll("pre.command").forEach(addCopyButton);

headers.forEach((header) => header.querySelector("button").addEventListener("click", () => sortBy(header)));
document.getElementById("filter").addEventListener("input", (event) => filterRows(event.target.value));
document.querySelectorAll("input[name=group]").forEach((choice) => choice.addEventListener("change", () => showGroup(choice.value)));
table.addEventListener("click", (event) => {
  const line = event.target.closest(".line");
  // whoever marks text in a row wants the text
  if (line && (event.target.closest("button") || getSelection().isCollapsed)) toggleSetting(line);
});

// a browser that goes back keeps what was typed and chosen
filterRows(document.getElementById("filter").value);
showGroup(document.querySelector("input[name=group]:checked").value);
