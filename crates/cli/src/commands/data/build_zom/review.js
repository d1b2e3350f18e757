"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const items = page.items;
const byId = (id) => document.getElementById(id);
const keyOf = (item) => item.image_id + "\n" + item.sentence;
let decided = {};
let here = 0;
try { decided = JSON.parse(localStorage.getItem(page.name)) || {}; } catch (e) { decided = {}; }

const strip = byId("strip");
const chips = items.map((item, i) => {
  const chip = document.createElement("button");
  chip.type = "button";
  chip.textContent = i + 1;
  chip.title = item.sentence;
  chip.addEventListener("click", () => go(i));
  strip.appendChild(chip);
  return chip;
});

function keep() {
  try { localStorage.setItem(page.name, JSON.stringify(decided)); } catch (e) { /* private windows keep nothing */ }
}

function show() {
  const item = items[here];
  const verdict = decided[keyOf(item)];
  byId("picture").src = item.picture;
  byId("place").textContent = "image " + item.image_id + " (" + item.file_name + ")";
  byId("sentence").textContent = "“" + item.sentence + "”";
  const state = byId("state");
  state.className = verdict || "";
  state.textContent = verdict === "accept" ? "accepted" : verdict === "reject" ? "rejected" :
    item.conflict ? "undecided: used only if accepted" : "undecided";
  byId("why").replaceChildren(...item.why.map((line) => {
    const li = document.createElement("li");
    li.textContent = line;
    return li;
  }));
  byId("source").textContent = "Source: " + item.source + " (" + item.from_image + "): “" + item.from.trim() + "”";
  let accepted = 0, rejected = 0;
  items.forEach((other, i) => {
    const v = decided[keyOf(other)];
    accepted += v === "accept";
    rejected += v === "reject";
    chips[i].className = (v || "") + (i === here ? " here" : "");
  });
  const done = accepted + rejected;
  byId("bar").style.width = 100 * done / items.length + "%";
  byId("counts").textContent = (here + 1) + " of " + items.length + "  ·  " + done + " decided: " + accepted +
    " accepted, " + rejected + " rejected  ·  " + (items.length - done) + " left";
}

function go(i) {
  here = Math.max(0, Math.min(items.length - 1, i));
  show();
}

function nextOpen() {
  for (let step = 1; step <= items.length; step++) {
    const i = (here + step) % items.length;
    if (!decided[keyOf(items[i])]) return go(i);
  }
  show();
}

function decide(verdict) {
  decided[keyOf(items[here])] = verdict;
  keep();
  nextOpen();
}

function clear() {
  delete decided[keyOf(items[here])];
  keep();
  show();
}

function download() {
  const decisions = items.filter((item) => decided[keyOf(item)]).map((item) => (
    { image_id: item.image_id, sentence: item.sentence, verdict: decided[keyOf(item)] }));
  const text = JSON.stringify({ format: page.format, decisions: decisions }, null, 1) + "\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = page.file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function load(event) {
  const file = event.target.files[0];
  if (!file) return;
  try {
    const read = JSON.parse(await file.text());
    if (read.format !== page.format) throw new Error("not a decisions file");
    for (const d of read.decisions) decided[d.image_id + "\n" + d.sentence] = d.verdict;
    keep();
    show();
  } catch (e) {
    alert("This file cannot be read: " + e.message);
  }
  event.target.value = "";
}

byId("accept").addEventListener("click", () => decide("accept"));
byId("reject").addEventListener("click", () => decide("reject"));
byId("back").addEventListener("click", () => go(here - 1));
byId("next").addEventListener("click", () => go(here + 1));
byId("open").addEventListener("click", nextOpen);
byId("clear").addEventListener("click", clear);
byId("download").addEventListener("click", download);
byId("load").addEventListener("change", load);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const act = { a: () => decide("accept"), r: () => decide("reject"), u: clear, n: nextOpen, d: download,
    arrowleft: () => go(here - 1), arrowright: () => go(here + 1) }[event.key.toLowerCase()];
  if (act) { event.preventDefault(); act(); }
});
// Work goes on where it was left.
here = Math.max(0, items.findIndex((item) => !decided[keyOf(item)]));
show();
