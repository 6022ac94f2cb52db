"""The script of `regard.insight.looking_page`: choices, texts, the grid of heads, the overview."""

from regard.insight.looking_weights import WEIGHTS_SCRIPT

SCRIPT = (
    WEIGHTS_SCRIPT
    + """
const attentions = data.attentions.map(record => new Attention(record));
const pairs = [...new Set(attentions.map(one => one.pair))];
const state = {pair: pairs[pairs.length - 1], layer: "mean", head: "mean", held: null, shown: null};

const ofPair = () => attentions.filter(one => one.pair === state.pair);
const chosen = () => ofPair().filter(one => state.layer === "mean" || one.record.name === state.layer);
const twoWay = () => ofPair()[0].record.queries === ofPair()[0].record.keys;

// A unit is a word, or a token that is in none.
function units(sequence) {
  const {texts, special, padding, words} = sequence, inside = new Set(), found = [];
  if ($("joined").checked) {
    for (const [text, places] of words) {
      places.forEach(place => inside.add(place));
      found.push({text, places, special: false});
    }
  }
  texts.forEach((text, place) => {
    if (inside.has(place) || padding[place] || (special[place] && !$("special").checked)) return;
    found.push({text, places: [place], special: Boolean(special[place])});
  });
  return found.sort((a, b) => a.places[0] - b.places[0]);
}

class Pane {
  constructor(side) {
    this.side = side;
    this.node = $(side);
    this.lit = [];
    const at = event => {
      const word = event.target.closest("button");
      return word ? Number(word.dataset.unit) : null;
    };
    this.node.addEventListener("pointerover", event => { if (at(event) !== null) point(this.side, at(event)); });
    this.node.addEventListener("focusin", event => {
      if (at(event) !== null) { this.rove(at(event)); point(this.side, at(event)); }
    });
    this.node.addEventListener("click", event => { if (at(event) !== null) hold(this.side, at(event)); });
    this.node.addEventListener("pointerleave", () => show(state.held));
    this.node.addEventListener("keydown", event => this.key(event, at(event)));
  }

  fill(sequence) {
    this.units = units(sequence);
    this.node.lang = sequence.language || "";
    this.buttons = this.units.map((unit, number) => {
      const word = make("button", "word" + (unit.special ? " special" : ""), unit.text);
      word.type = "button";
      word.tabIndex = number ? -1 : 0;
      word.dataset.unit = number;
      word.setAttribute("aria-pressed", "false");
      return word;
    });
    this.lit = [];
    this.roving = 0;
    this.node.replaceChildren(...this.buttons.flatMap(word => [word, " "]));
  }

  rove(number) {
    this.buttons[this.roving].tabIndex = -1;
    this.buttons[number].tabIndex = 0;
    this.roving = number;
  }

  key(event, number) {
    if (number === null) return;
    const right = getComputedStyle(this.node).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    const left = right === "ArrowRight" ? "ArrowLeft" : "ArrowRight";
    const last = this.buttons.length - 1;
    const next = {[right]: Math.min(number + 1, last), [left]: Math.max(number - 1, 0), Home: 0, End: last}[event.key];
    if (next !== undefined) { event.preventDefault(); this.buttons[next].focus(); }
  }

  clear() {
    for (const number of this.lit) {
      this.buttons[number].classList.remove("strong", "mid");
      this.buttons[number].style.removeProperty("--w");
      this.buttons[number].title = "";
    }
    this.lit = [];
  }

  // Shares of each unit from shares of each position: a word was given the sum, and gave the mean.
  light(shares, how) {
    this.clear();
    const found = this.units.map(unit => {
      const sum = unit.places.reduce((total, place) => total + shares[place], 0);
      return how === "sum" ? sum : sum / unit.places.length;
    });
    const top = Math.max(...found.slice(0, 1), found.reduce((a, b) => Math.max(a, b), 0));
    if (!(top > 0)) return [];
    found.forEach((share, number) => {
      if (share / top < .004) return;
      const word = this.buttons[number];
      word.style.setProperty("--w", (share / top).toFixed(3));
      word.classList.toggle("strong", share / top > .65);
      word.classList.toggle("mid", share / top > .2);
      word.title = (100 * share).toFixed(2) + " %";
      this.lit.push(number);
    });
    return found.map((share, number) => ({share, number, pane: this}))
      .sort((a, b) => b.share - a.share).slice(0, 6).filter(one => one.share >= .0005);
  }

  // Scrolls the text, not the page.
  reveal(number) {
    const word = this.buttons[number].getBoundingClientRect(), frame = this.node.getBoundingClientRect();
    this.node.scrollTop += word.top - frame.top - frame.height / 2;
  }

  press(number) {
    if (this.pressed !== undefined && this.buttons[this.pressed]) {
      this.buttons[this.pressed].setAttribute("aria-pressed", "false");
      this.buttons[this.pressed].classList.remove("active");
    }
    this.pressed = number;
    if (number === undefined) return;
    const word = this.buttons[number];
    word.classList.add("active");
    word.setAttribute("aria-pressed", String(Boolean(state.held)));
  }
}

const panes = {rows: new Pane("rows"), columns: new Pane("columns")};

function shares(side, unit) {
  const some = chosen().filter(one => one.has(state.head));
  const into = new Float64Array(side === "rows" ? ofPair()[0].columns : ofPair()[0].rows);
  for (const one of some) {
    const heads = one.heads(state.head);
    const each = 1 / (some.length * heads.length * (side === "rows" ? unit.places.length : 1));
    for (const head of heads) for (const place of unit.places) one.add(head, side, place, into, each);
  }
  return into;
}

// The heaviest, each of which can be gone to.
function named(top) {
  if (!top.length) return ["nothing"];
  return top.flatMap(({share, number, pane}, n) => {
    const jump = make("button", "jump", pane.units[number].text);
    jump.type = "button";
    jump.addEventListener("click", () => pane.reveal(number));
    return [n ? " \\u00b7 " : "", jump, " " + (100 * share).toFixed(1) + " %"];
  });
}

function show(at) {
  state.shown = at;
  panes.rows.clear();
  panes.columns.clear();
  panes.rows.press();
  panes.columns.press();
  const says = $("says");
  says.replaceChildren();
  drawOverview();
  if (!at) { titles(null, null); return; }
  const unit = panes[at.side].units[at.number];
  says.append(make("b", "", unit.text), " (" + unit.places.join(", ") + ")");
  titles(unit.text, at.side);
  if (!chosen().some(one => one.has(state.head))) {
    panes[at.side].press(at.number);
    says.append(": the weights of this head are not in this page");
    return;
  }
  const parts = [];
  if (at.side === "rows" || twoWay()) {
    parts.push(["looked at: ", named(panes.columns.light(shares("rows", unit), "sum"))]);
    panes.rows.press(at.number);
  }
  if (at.side === "columns" || twoWay()) {
    const top = panes.rows.light(shares("columns", unit), "mean");
    parts.push(["was looked at by: ", named(top)]);
    panes.columns.press(at.number);
  }
  parts.forEach(([verb, list], n) => says.append((n ? "; " : " ") + verb, ...list));
}

function titles(text, side) {
  const {queries, keys} = ofPair()[0].record, both = twoWay();
  const name = () => text === null ? "a token" : make("b", "", text);
  const rows = text === null || both || side === "columns", columns = text === null || both || side === "rows";
  $("rows-title").replaceChildren(...(rows ? ["What looks at ", name()] : []), both ? "" : rows ? ", in the " : "The ");
  $("columns-title").replaceChildren(
    ...(columns ? ["What ", name(), " looks at"] : []), both ? "" : columns ? ", in the " : "The ");
  if (!both) { $("rows-title").append(queries); $("columns-title").append(keys); }
}

function point(side, number) {
  if (state.held) return;
  show({side, number});
}

function hold(side, number) {
  const same = state.held && state.held.number === number && (state.held.side === side || twoWay());
  state.held = same ? null : {side, number};
  show({side, number});
}

addEventListener("keydown", event => {
  if (event.target.closest("select, input")) return;
  if (event.key === "Escape") { state.held = null; show(null); }
  const step = {"[": ["head", -1], "]": ["head", 1], "{": ["layer", -1], "}": ["layer", 1]}[event.key];
  if (!step) return;
  const list = $(step[0]), next = list.selectedIndex + step[1];
  if (next >= 0 && next < list.options.length) { list.selectedIndex = next; list.dispatchEvent(new Event("change")); }
});

function options(list, values, value) {
  list.replaceChildren(...values.map(([text, key]) => new Option(text, key, false, String(key) === String(value))));
}

// Choices of layers and heads; means only of what is here in full.
function choose() {
  const layers = ofPair(), whole = layers.every(one => one.complete);
  const names = layers.map(one => [one.record.name, one.record.name]);
  if (whole && layers.length > 1) names.unshift(["mean of layers", "mean"]);
  const filled = layers.find(one => one.weights.heads.length) || layers[0];
  if (!names.some(([, key]) => key === state.layer)) {
    state.layer = whole && layers.length > 1 ? "mean" : filled.record.name;
    if (!chosen().every(one => one.has(state.head))) state.head = filled.weights.heads[0] ?? "mean";
  }
  options($("layer"), names, state.layer);
  const some = chosen(), inAll = head => some.every(one => one.record.heads.includes(head));
  const heads = some[0].record.heads.filter(inAll).map(head => [head, head]);
  heads.unshift(["mean of heads", "mean"]);
  if (!heads.some(([, key]) => String(key) === String(state.head))) state.head = "mean";
  options($("head"), heads, state.head);
  const part = some.find(one => one.weights.kind === "top");
  const none = !some.some(one => one.has(state.head));
  const top = part && "Only the " + part.weights.n + " heaviest keys of each token are in this page; " +
    "what looked at a token is known only where it was among them.";
  $("limits").textContent = none
    ? "The weights of this choice are not in this page, only the overview" +
      (part && part.weights.heads.length ? "; there are those of heads " + part.weights.heads.join(", ") + "." : ".")
    : top || "";
}

function fill() {
  const {rows, columns} = ofPair()[0].record;
  panes.rows.fill(data.sequences[rows]);
  panes.columns.fill(data.sequences[columns]);
  $("reads").hidden = ofPair().every(one => one.record.kind === "self");
  $("rows").setAttribute("aria-label", "Tokens of the " + ofPair()[0].record.queries + ", which look");
  $("columns").setAttribute("aria-label", "Tokens of the " + ofPair()[0].record.keys + ", which are looked at");
}

function drawGrid() {
  const measure = data.measures[$("measure").selectedIndex];
  const values = measure.values;
  const heads = [...new Set(attentions.flatMap(one => one.record.heads))].sort((a, b) => a - b);
  const top = Math.max(1e-9, ...values.flatMap(row => row || [0]));
  const head = make("tr");
  head.append(make("td"), ...heads.map(n => make("th", "", String(n))));
  const body = attentions.map((one, layer) => {
    const row = make("tr");
    const name = make("th", "", one.record.name);
    name.scope = "row";
    row.append(name);
    (values[layer] ? heads : []).forEach(number => {
      const cell = make("td"), value = values[layer][one.record.heads.indexOf(number)];
      row.append(cell);
      if (value === undefined) return;
      const button = make("button", "", value.toFixed(value >= 10 ? 1 : 2).replace(/^0/, ""));
      button.type = "button";
      button.style.setProperty("--w", value / top);
      button.classList.toggle("strong", value / top > .65);
      button.setAttribute("aria-pressed", String(one.record.name === state.layer && number === Number(state.head)));
      button.setAttribute("aria-label", one.record.name + " head " + number + ": " + value.toFixed(3));
      button.addEventListener("click", () => {
        if (one.pair !== state.pair) { state.held = null; state.pair = one.pair; $("pair").value = one.pair; }
        state.layer = one.record.name;
        state.head = number;
        refresh(true);
      });
      cell.append(button);
    });
    return row;
  });
  const top_row = make("thead"), rest = make("tbody");
  top_row.append(head);
  rest.append(...body);
  $("grid").replaceChildren(top_row, rest);
}

let overview = null;

function makeOverview() {
  const some = chosen(), [down, across] = some[0].record.overview.cells;
  const into = new Float64Array(down * across);
  some.forEach(one => one.overview(state.head, into, 1 / some.length));
  overview = {down, across, into, top: into.reduce((a, b) => Math.max(a, b), 1e-12)};
}

function drawOverview() {
  const canvas = $("overview"), paint = canvas.getContext("2d"), {down, across, into, top} = overview;
  const {rows, columns} = ofPair()[0];
  canvas.height = Math.min(960, Math.max(120, Math.round(960 * Math.min(1, rows / columns))));
  const style = getComputedStyle(document.documentElement);
  const heat = style.getPropertyValue("--heat").trim().replace(/ /g, ",");
  const high = canvas.height / down, wide = canvas.width / across;
  paint.clearRect(0, 0, canvas.width, canvas.height);
  for (let a = 0; a < down; a++) {
    for (let b = 0; b < across; b++) {
      const depth = Math.sqrt(into[a * across + b] / top);
      if (depth < .01) continue;
      paint.fillStyle = `rgba(${heat},${depth.toFixed(3)})`;
      // whole pixels, or cells would overlap in lines
      const left = Math.round(b * wide), over = Math.round(a * high);
      paint.fillRect(left, over, Math.round((b + 1) * wide) - left, Math.round((a + 1) * high) - over);
    }
  }
  canvas.setAttribute("aria-label", "Overview of " + rows + " by " + columns + " weights");
  $("overview-title").textContent = "The whole map, " + rows + " \\u00d7 " + columns + ", in " + down + " \\u00d7 " +
    across + " cells; darkest " + top.toPrecision(2) + " (shades by the square root)";
  if (!state.shown) return;
  const place = panes[state.shown.side].units[state.shown.number].places[0];
  paint.strokeStyle = style.getPropertyValue("--gold");
  paint.lineWidth = 3;
  paint.beginPath();
  if (state.shown.side === "rows" || twoWay()) {
    const y = (place + .5) * canvas.height / rows;
    paint.moveTo(0, y); paint.lineTo(canvas.width, y);
  }
  if (state.shown.side === "columns" || twoWay()) {
    const x = (place + .5) * canvas.width / columns;
    paint.moveTo(x, 0); paint.lineTo(x, canvas.height);
  }
  paint.stroke();
}

$("overview").addEventListener("click", event => {
  const frame = $("overview").getBoundingClientRect(), {rows} = ofPair()[0];
  const place = Math.floor((event.clientY - frame.top) / frame.height * rows);
  const number = panes.rows.units.findLastIndex(unit => unit.places[0] <= place);
  if (number < 0) return;
  state.held = {side: "rows", number};
  show(state.held);
  panes.rows.buttons[number].scrollIntoView({block: "nearest"});
});

function refresh(text) {
  choose();
  if (text) { fill(); if (state.held && !panes[state.held.side].units[state.held.number]) state.held = null; }
  makeOverview();
  drawGrid();
  show(state.held);
}

options($("pair"), pairs.map(pair => [pair, pair]), state.pair);
options($("measure"), data.measures.map(one => [one.label, one.name]), data.measures[0].name);
$("pair-label").hidden = pairs.length < 2;
$("pair").addEventListener("change", () => { state.pair = $("pair").value; state.held = null; refresh(true); });
$("layer").addEventListener("change", () => { state.layer = $("layer").value; refresh(false); });
$("head").addEventListener("change", () => {
  state.head = $("head").value === "mean" ? "mean" : Number($("head").value);
  refresh(false);
});
$("measure").addEventListener("change", drawGrid);
for (const id of ["joined", "special"]) $(id).addEventListener("change", () => { state.held = null; refresh(true); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawOverview);
if (data.notes.length) {
  const list = make("ul");
  list.append(...data.notes.map(note => make("li", "", note)));
  $("notes").append("Of these only a part is in this page, which would be too large otherwise:", list);
}

// #r3 opens the page with token 3 of those that look held, #c3 of those that are looked at.
function follow() {
  const match = /^#([rc])(\\d+)$/.exec(location.hash);
  const side = match && match[1] === "r" ? "rows" : "columns";
  if (!match || !panes[side].units[Number(match[2])]) return;
  state.held = {side, number: Number(match[2])};
  show(state.held);
  for (const pane of twoWay() ? [panes.rows, panes.columns] : [panes[side]]) {
    pane.reveal(state.held.number);
  }
}
addEventListener("hashchange", follow);
// The embedded font first: a word drawn before it has arrived would keep its boxes.
const everyText = data.sequences.flatMap(one => one.texts).join("").slice(0, 20000);
document.fonts.load("16px regard-cjk", everyText).finally(() => { refresh(true); follow(); });
"""
)
