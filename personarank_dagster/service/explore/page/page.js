"use strict";
// Texts of the tables are written as text nodes only, so that nothing in them is ever markup.

const ROW = 44;
const at = (id) => document.getElementById(id);
const narrow = matchMedia("(max-width: 860px)");
let token = "";
let places = [];

function make(name, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "circle"].includes(name);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

async function ask(path, fields = {}) {
  const query = new URLSearchParams(fields).toString();
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(query ? `${path}?${query}` : path, { headers });
  at("access").hidden = answer.status !== 401;
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}

function say(text) {
  at("message").textContent = text;
}

async function attempt(action) {
  try {
    await action();
  } catch (error) {
    say(error.message);
  }
}

async function begin() {
  const { datasets } = await ask("/v1/datasets");
  at("dataset").replaceChildren(...datasets.map((one) => make("option", { value: one.name }, one.name)));
  const asked = new URLSearchParams(location.hash.slice(1));
  if (datasets.some((one) => one.name === asked.get("dataset"))) at("dataset").value = asked.get("dataset");
  at("dataset").onchange = () => attempt(() => choose(datasets));
  await choose(datasets, asked.get("user"));
}

async function choose(datasets, user) {
  const dataset = datasets.find((one) => one.name === at("dataset").value);
  at("version").textContent = dataset.version ? `version ${dataset.version}` : dataset.problem;
  showMetrics(dataset.metrics);
  await suggest();
  await (user ? show(user) : draw("up"));
}

function showMetrics(rows) {
  const ks = [...new Set(rows.map((row) => row.k))].sort((a, b) => a - b);
  const middle = ks[Math.floor(ks.length / 2)];
  const shown = rows.filter((row) => row.k === middle);
  const far = Math.max(0.1, ...shown.flatMap((row) => [row.lift_low, row.lift_high, row.lift].map((x) => Math.abs(x ?? 0))));
  at("metrics").replaceChildren(...shown.map((row) => metric(row, far)));
}

function metric(row, far) {
  const number = (value) => (value === null || value === undefined ? "–" : value.toFixed(4));
  const interval = row.lift_low === null || row.lift_low === undefined ? "" : ` [${percent(row.lift_low)}, ${percent(row.lift_high)}]`;
  return make("div", { class: "metric" },
    make("div", { class: "soft" }, `${row.metric}@${row.k} of ${row.users} users`),
    make("div", {}, `${number(row.candidate)} → `, make("b", {}, number(row.reranked))),
    make("div", { class: row.lift >= 0 ? "up" : "down" }, `${percent(row.lift)}${interval}`),
    intervalPicture(row, far));
}

function intervalPicture(row, far) {
  const x = (value) => 100 + (95 * value) / far;
  const picture = make("svg", { viewBox: "0 0 200 12", preserveAspectRatio: "none", "aria-hidden": "true" },
    make("line", { x1: 100, x2: 100, y1: 0, y2: 12, stroke: "currentColor", "stroke-opacity": 0.4 }));
  if (typeof row.lift_low === "number" && typeof row.lift_high === "number") {
    picture.append(make("line", { x1: x(row.lift_low), x2: x(row.lift_high), y1: 6, y2: 6, stroke: "currentColor", "stroke-width": 2 }));
  }
  if (typeof row.lift === "number") picture.append(make("circle", { cx: x(row.lift), cy: 6, r: 3.5, fill: "currentColor" }));
  return picture;
}

function percent(share) {
  if (typeof share !== "number") return "–";
  return `${share >= 0 ? "+" : "−"}${Math.abs(100 * share).toFixed(1)} %`;
}

async function suggest() {
  const { users } = await ask("/v1/users", { dataset: at("dataset").value, q: at("user").value });
  at("users").replaceChildren(...users.map((user) => make("option", { value: user })));
}

async function draw(moved) {
  const { user } = await ask("/v1/users/random", { dataset: at("dataset").value, moved });
  await show(user);
}

async function show(user) {
  const dataset = at("dataset").value;
  const list = await ask("/v1/lists", { dataset, user });
  places = list.places;
  at("user").value = user;
  history.replaceState(null, "", `#${new URLSearchParams({ dataset, user })}`);
  const blend = typeof list.blend === "number" ? `, personas weigh ${list.blend.toFixed(2)} in the blend` : "";
  say(`${user}: ${list.candidates} candidates${blend}`);
  drawLists();
  at("lists").hidden = false;
  select(0);
}

function drawLists() {
  at("lists").append(at("card"));
  const after = byRank("rank");
  const before = byRank("candidate_rank");
  at("old").replaceChildren(...before.map((place) => make("li", {}, make("div", { class: "row" }, ...cells(place, place.candidate_rank)))));
  at("new").replaceChildren(...after.map((place, index) => make("li", {}, button(place, index))));
  drawArrows(before, after);
}

function byRank(name) {
  const ordered = [...places].sort((a, b) => a[name] - b[name]);
  return ordered.filter((place, index) => place[name] <= index + 1);
}

function cells(place, rank) {
  const truth = place.held_out ? make("span", { class: "truth", title: "held out: what the user chose next" }, "★ held out") : null;
  return [make("span", { class: "rank" }, String(rank)), make("span", { class: "what" }, named(place.item_id, place.summary)), truth];
}

function named(item, summary) {
  return summary ? `${summary} (${item})` : item;
}

function button(place, index) {
  const by = place.candidate_rank - place.rank;
  const told = by > 0 ? `↑ ${by}` : by < 0 ? `↓ ${-by}` : "=";
  const side = direction(by);
  const move = make("span", { class: `move ${side}`, title: `was ${place.candidate_rank}` }, told);
  const row = make("button", { type: "button", class: "row", "aria-label": label(place, by) }, ...cells(place, place.rank), move);
  row.onclick = () => select(index);
  row.onfocus = () => select(index);
  return row;
}

function label(place, by) {
  const moved = by === 0 ? "not moved" : `moved ${by > 0 ? "up" : "down"} by ${Math.abs(by)}`;
  return `Place ${place.rank}, ${moved}: ${named(place.item_id, place.summary)}${place.held_out ? ", held out" : ""}`;
}

function direction(by) {
  return by > 0 ? "up" : by < 0 ? "down" : "same";
}

function drawArrows(before, after) {
  const rows = Math.max(before.length, after.length);
  const picture = at("arrows");
  picture.setAttribute("height", String(rows * ROW));
  picture.setAttribute("viewBox", `0 0 64 ${rows * ROW}`);
  const lines = after.map((place, index) => {
    const from = before.indexOf(place);
    const y0 = (from < 0 ? rows : from + 0.5) * ROW;
    const y1 = (index + 0.5) * ROW;
    const side = direction(place.candidate_rank - place.rank);
    return make("path", { d: `M2 ${y0} C 32 ${y0}, 32 ${y1}, 56 ${y1} m -6 -4 l 6 4 l -6 4`, class: side });
  });
  picture.replaceChildren(...lines);
}

function select(index) {
  const rows = [...at("new").querySelectorAll("button")];
  rows.forEach((row, i) => row.setAttribute("aria-current", String(i === index)));
  [...at("arrows").children].forEach((line, i) => line.classList.toggle("now", i === index));
  const place = byRank("rank")[index];
  at("card").hidden = !place;
  // Where there is one column, what is behind a place stands below it.
  (narrow.matches && rows[index] ? rows[index].parentElement : at("lists")).append(at("card"));
  if (place) at("card").replaceChildren(...card(place));
}

function card(place) {
  const score = (value) => (typeof value === "number" ? value.toFixed(3) : "–");
  const numbers = `score ${score(place.score)}, of the retriever ${score(place.candidate_score)}, of the persona ${score(place.persona_score)}`;
  const head = [make("p", { class: "soft" }, `Place ${place.rank}, was ${place.candidate_rank} · ${numbers}`), make("p", {}, named(place.item_id, place.summary))];
  if (!place.persona) return [...head, make("p", { class: "soft" }, "No persona is behind this place.")];
  return [make("h2", {}, place.persona.name), make("p", {}, place.persona.description),
    make("p", {}, place.persona.preference_rationale), make("h3", {}, "Item"), ...head,
    make("h3", {}, "What the user did that speaks for it"), make("ol", {}, ...place.interactions.map(interaction))];
}

function interaction(one) {
  const told = [one.day, typeof one.rating === "number" ? `rated ${one.rating}` : null].filter(Boolean).join(", ");
  const share = typeof one.share === "number" ? one.share : 0;
  const text = `${(100 * share).toFixed(0)} % of the persona score`;
  return make("li", {}, make("div", {}, named(one.item_id, one.item_summary)), make("div", { class: "soft" }, `${text}${told ? " · " : ""}${told}`),
    make("meter", { min: 0, max: 1, value: Math.max(0, Math.min(1, share)), "aria-label": text }));
}

at("search").onsubmit = (event) => {
  event.preventDefault();
  attempt(() => show(at("user").value.trim()));
};
at("user").oninput = () => attempt(suggest);
at("access").onsubmit = (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  attempt(begin);
};
for (const one of document.querySelectorAll("[data-moved]")) one.onclick = () => attempt(() => draw(one.dataset.moved));
at("new").onkeydown = (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const rows = [...at("new").querySelectorAll("button")];
  const next = rows[rows.indexOf(document.activeElement) + step];
  if (next) next.focus();
  event.preventDefault();
};
attempt(begin);
