"""The page of `regard.insight.page`: markup, style and script. `@TITLE@`, `@FONT@` and `@DATA@` are filled in there."""

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #f6f8fa; --card: #ffffff; --ink: #1f2430; --soft: #5d6675; --line: #dfe4ea;
  --heat: 18 66 138; --on-heat: #ffffff; --gold: #d9480f; --focus: #1e7ec4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #12151c; --card: #1b202a; --ink: #e8ecf2; --soft: #9aa5b5; --line: #303846;
    --heat: 92 178 240; --on-heat: #0c1118; --gold: #ff922b; --focus: #76c3ed;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "PingFang SC", "Microsoft YaHei",
    "Noto Sans CJK SC", regard-cjk, sans-serif;
}
main { max-width: 64rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
.hint { color: var(--soft); margin: 0 0 1rem; max-width: 46rem; }
kbd { font: inherit; font-size: .85em; border: 1px solid var(--line); border-radius: 4px; padding: 0 .3em; }
.bar {
  position: sticky; top: 0; z-index: 2; display: flex; flex-wrap: wrap; gap: .6rem 1.2rem; align-items: center;
  padding: .6rem 0; background: var(--ground);
}
.bar label { color: var(--soft); }
select, button { font: inherit; color: inherit; }
select, .map-button {
  background: var(--card); border: 1px solid var(--line); border-radius: 7px; padding: .25rem .65rem; cursor: pointer;
}
.map-button[aria-expanded=true] { border-color: var(--focus); }
.scale { display: inline-flex; align-items: center; gap: .45rem; color: var(--soft); font-size: .85rem; }
.scale i { width: 7rem; height: .7rem; border-radius: 4px; border: 1px solid var(--line); }
.scale i { background: linear-gradient(to right, transparent, rgb(var(--heat))); }
.pair {
  position: relative; background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  margin: 0 0 1rem; padding: 1rem 1.1rem .8rem; break-inside: avoid;
}
.words { position: relative; z-index: 1; display: flex; flex-wrap: wrap; gap: .3rem .25rem; }
.words.target { margin-top: 2.6rem; font-size: 1.12rem; }
.words.source { font-size: 1.05rem; }
.word {
  border: 0; margin: 0; padding: .12rem .42rem; border-radius: 6px; cursor: pointer; max-width: 100%;
  overflow-wrap: anywhere; background: rgb(var(--heat) / var(--w, 0)); box-shadow: inset 0 0 0 1px var(--line);
}
.word.strong { color: var(--on-heat); }
.word.active { box-shadow: inset 0 0 0 2px var(--ink); }
.word.gold { text-decoration: underline 2px var(--gold); text-underline-offset: 4px; }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
.threads { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; overflow: visible; }
.threads path { fill: none; stroke: rgb(var(--heat)); stroke-linecap: round; }
.foot { display: flex; gap: .8rem; align-items: flex-start; margin-top: .75rem; min-height: 2.2rem; }
.says { flex: 1; color: var(--soft); margin: .25rem 0; font-size: .92rem; overflow-wrap: anywhere; }
.says b { color: var(--ink); font-weight: 600; }
.map { overflow-x: auto; margin-top: .6rem; }
.map table { border-collapse: separate; border-spacing: 1px; font-size: .85rem; }
.map td {
  width: 2.1rem; min-width: 1.5rem; height: 1.8rem; text-align: center; font-size: .7rem; padding: 0;
  border-radius: 3px; background: rgb(var(--heat) / var(--w, 0));
  box-shadow: inset 0 0 0 1px var(--line); font-variant-numeric: tabular-nums;
}
.map td.strong { color: var(--on-heat); }
.map td.gold { box-shadow: inset 0 0 0 2px var(--gold); }
.map th { font-weight: 400; padding: .15rem .3rem; white-space: nowrap; }
.map th[scope=row] { text-align: right; }
.map th[scope=col] { vertical-align: bottom; }
.map th.turned span { writing-mode: vertical-rl; transform: rotate(180deg); }
.map th.lit { color: var(--focus); font-weight: 700; }
@media print { .bar, .hint, .map-button { display: none; } }
"""

SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
let view = 0;

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

class Pair {
  constructor(record, number) {
    this.record = record;
    this.number = number;
    this.held = null;
    this.shown = null;
    this.goldSet = new Set((record.gold || []).map(link => link.join("-")));
    this.node = make("section", "pair");
    this.node.id = "p" + number;
    this.node.setAttribute("aria-label", "Sentence pair " + (number + 1));
    this.threads = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.threads.setAttribute("class", "threads");
    this.threads.setAttribute("aria-hidden", "true");
    this.words = {source: this.line("source"), target: this.line("target")};
    const foot = make("div", "foot");
    this.says = make("p", "says");
    this.says.setAttribute("aria-live", "polite");
    this.button = make("button", "map-button", "Heat map");
    this.button.type = "button";
    this.button.setAttribute("aria-expanded", "false");
    this.button.setAttribute("aria-controls", "map" + number);
    this.button.addEventListener("click", () => this.toggleMap());
    this.map = make("div", "map");
    this.map.id = "map" + number;
    this.map.hidden = true;
    foot.append(this.says, this.button);
    this.node.append(this.threads, this.lines.source, this.lines.target, foot, this.map);
    this.node.addEventListener("pointerleave", () => this.show(this.held));
    this.node.addEventListener("focusout", event => {
      if (!this.node.contains(event.relatedTarget)) this.show(this.held);
    });
  }

  line(side) {
    const line = make("div", "words " + side);
    const language = this.record[side + "Language"];
    line.dir = "auto";
    if (language) line.lang = language;
    line.setAttribute("role", "group");
    line.setAttribute("aria-label", side === "source" ? "Source words" : "Target words");
    this.lines = this.lines || {};
    this.lines[side] = line;
    return this.record[side].map((text, index) => {
      const word = make("button", "word", text);
      word.type = "button";
      word.tabIndex = index ? -1 : 0;
      word.setAttribute("aria-pressed", "false");
      word.addEventListener("pointerenter", () => this.show({side, index}));
      word.addEventListener("focus", () => { this.rove(side, index); this.show({side, index}); });
      word.addEventListener("click", () => this.hold({side, index}));
      word.addEventListener("keydown", event => this.key(event, side, index));
      line.append(word);
      return word;
    });
  }

  weight(i, j) { return this.record.weights[view][j * this.record.source.length + i] / 1000; }

  row(at) {
    const other = at.side === "target" ? "source" : "target";
    return this.record[other].map((text, index) => {
      const [i, j] = at.side === "target" ? [index, at.index] : [at.index, index];
      return {text, index, weight: this.weight(i, j), gold: this.goldSet.has(i + "-" + j)};
    });
  }

  show(at) {
    this.shown = at;
    for (const side of ["source", "target"]) {
      this.words[side].forEach((word, index) => {
        word.classList.remove("active", "strong", "gold");
        word.style.removeProperty("--w");
        const held = this.held && this.held.side === side && this.held.index === index;
        word.setAttribute("aria-pressed", String(Boolean(held)));
      });
    }
    this.threads.replaceChildren();
    this.says.replaceChildren();
    this.light(at);
    if (!at) return;
    const other = at.side === "target" ? "source" : "target";
    const active = this.words[at.side][at.index];
    active.classList.add("active");
    const row = this.row(at);
    for (const cell of row) {
      const word = this.words[other][cell.index];
      word.style.setProperty("--w", cell.weight);
      word.classList.toggle("strong", cell.weight > .65);
      word.classList.toggle("gold", cell.gold);
      if (cell.weight >= .05) this.thread(active, word, cell.weight);
    }
    this.say(at, row);
  }

  say(at, row) {
    const top = row.filter(cell => cell.weight >= .01).sort((a, b) => b.weight - a.weight).slice(0, 5);
    const name = make("b", "", this.record[at.side][at.index]);
    name.dir = "auto";
    const verb = at.side === "target" ? " looked at " : " was looked at by ";
    const list = top.map(cell => cell.text + " " + cell.weight.toFixed(2)).join(" · ");
    this.says.append(name, verb + (list || "no word"));
    if (at.side === "target") {
      const rest = 1 - row.reduce((sum, cell) => sum + cell.weight, 0);
      if (rest >= .01) this.says.append(" (outside the words " + rest.toFixed(2) + ")");
    }
  }

  thread(from, to, weight) {
    const frame = this.node.getBoundingClientRect();
    let [upper, lower] = [from, to];
    if (this.words.target.includes(upper)) [upper, lower] = [lower, upper];
    const a = upper.getBoundingClientRect(), b = lower.getBoundingClientRect();
    const x1 = a.left + a.width / 2 - frame.left, y1 = a.bottom - frame.top - 1;
    const x2 = b.left + b.width / 2 - frame.left, y2 = b.top - frame.top + 1;
    const bend = (y2 - y1) * .5;
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", `M${x1},${y1} C${x1},${y1 + bend} ${x2},${y2 - bend} ${x2},${y2}`);
    path.setAttribute("stroke-width", 1 + 4 * weight);
    path.setAttribute("opacity", .2 + .8 * weight);
    this.threads.append(path);
  }

  hold(at) {
    const same = this.held && this.held.side === at.side && this.held.index === at.index;
    this.held = same ? null : at;
    const name = same ? "p" + this.number : "p" + this.number + at.side[0] + at.index;
    try { history.replaceState(null, "", "#" + name); } catch (error) { /* not allowed in some embedded frames */ }
    this.show(at);
  }

  rove(side, index) {
    this.words[side].forEach((word, place) => { word.tabIndex = place === index ? 0 : -1; });
  }

  key(event, side, index) {
    const row = this.words[side];
    const forward = getComputedStyle(this.lines[side]).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    const back = forward === "ArrowRight" ? "ArrowLeft" : "ArrowRight";
    let next = null;
    if (event.key === forward) next = row[Math.min(index + 1, row.length - 1)];
    else if (event.key === back) next = row[Math.max(index - 1, 0)];
    else if (event.key === "Home") next = row[0];
    else if (event.key === "End") next = row[row.length - 1];
    else if (event.key === "ArrowDown" && side === "source") next = this.heaviest("source", index);
    else if (event.key === "ArrowUp" && side === "target") next = this.heaviest("target", index);
    else if (event.key === "Escape") { this.held = null; this.show(null); return; }
    if (next) { event.preventDefault(); next.focus(); }
  }

  heaviest(side, index) {
    const row = this.row({side, index});
    if (!row.length) return null;
    const best = row.reduce((a, b) => b.weight > a.weight ? b : a);
    return this.words[side === "target" ? "source" : "target"][best.index];
  }

  toggleMap() {
    this.map.hidden = !this.map.hidden;
    this.button.setAttribute("aria-expanded", String(!this.map.hidden));
    this.drawMap();
  }

  drawMap() {
    if (this.map.hidden) return;
    const {source, target} = this.record;
    const top = Math.max(.001, ...this.record.weights[view]) / 1000;
    const table = make("table");
    const caption = make("caption", "says", "Rows: target words. Columns: source words. Weights in per cent.");
    const head = make("tr");
    head.append(make("td"));
    head.firstChild.style.boxShadow = "none";
    const long = source.some(word => word.length > 3);
    source.forEach(text => {
      const cell = make("th", long ? "turned" : "");
      cell.scope = "col";
      if (this.record.sourceLanguage) cell.lang = this.record.sourceLanguage;
      cell.append(make("span", "", text));
      head.append(cell);
    });
    const body = target.map((text, j) => {
      const row = make("tr");
      const name = make("th", "", text);
      name.scope = "row";
      if (this.record.targetLanguage) name.lang = this.record.targetLanguage;
      row.append(name);
      source.forEach((_, i) => {
        const weight = this.weight(i, j);
        const cell = make("td", "", weight >= .01 ? String(Math.round(weight * 100)) : "");
        cell.style.setProperty("--w", weight / top);
        cell.classList.toggle("strong", weight / top > .65);
        cell.classList.toggle("gold", this.goldSet.has(i + "-" + j));
        cell.title = target[j] + " → " + source[i] + ": " + weight.toFixed(3);
        cell.addEventListener("pointerenter", () => {
          this.show({side: "target", index: j});
          this.columns[i].classList.add("lit");
        });
        row.append(cell);
      });
      return row;
    });
    table.append(caption, head, ...body);
    this.map.replaceChildren(table);
    this.columns = [...head.querySelectorAll("th")];
    this.rows = body.map(row => row.firstChild);
    this.light(this.shown);
  }

  light(at) {
    if (this.map.hidden || !this.columns) return;
    const mark = (nodes, side) =>
      nodes.forEach((node, k) => node.classList.toggle("lit", Boolean(at) && at.side === side && at.index === k));
    mark(this.columns, "source");
    mark(this.rows, "target");
  }

  refresh() { this.show(this.shown || this.held); this.drawMap(); }
}

const pairs = data.pairs.map((record, number) => new Pair(record, number));
const everyWord = data.pairs.flatMap(record => [...record.source, ...record.target]).join("");
// The embedded font first: a word drawn before it has arrived would keep its boxes.
document.fonts.load("16px regard-cjk", everyWord).finally(() => {
  document.getElementById("pairs").append(...pairs.map(pair => pair.node));
  follow();
});

const chooser = document.getElementById("view");
data.views.forEach((name, index) => chooser.append(new Option(name, index)));
document.getElementById("chooser").hidden = data.views.length < 2;
document.getElementById("gold").hidden = !data.pairs.some(record => record.gold);
chooser.addEventListener("change", () => {
  view = Number(chooser.value);
  pairs.forEach(pair => pair.refresh());
});
addEventListener("resize", () => pairs.forEach(pair => pair.shown && pair.show(pair.shown)));

function follow() {
  const match = /^#p(\\d+)(?:([st])(\\d+)|map)?$/.exec(location.hash);
  const pair = match && pairs[Number(match[1])];
  if (!pair) return;
  pair.node.scrollIntoView({block: "nearest"});
  const side = match[2] === "s" ? "source" : "target", index = Number(match[3]);
  if (match[2] && pair.words[side][index]) { pair.held = {side, index}; pair.show(pair.held); }
  else if (location.hash.endsWith("map") && pair.map.hidden) pair.toggleMap();
}
addEventListener("hashchange", follow);
"""


def page_head(style: str) -> str:
    """The head of a page that loads nothing and may request nothing; `@TITLE@` and `@FONT@` are to be filled in."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; font-src data:;
    img-src data:; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@TITLE@</title>
<style>{style}@FONT@</style>
</head>
"""


TEMPLATE = (
    page_head(STYLE)
    + """<body>
<main>
<h1>@TITLE@</h1>
<p class="hint">Point at a word, or move to it with <kbd>Tab</kbd> and the arrow keys: the darker a word of the other
line, the heavier its attention weight. A click or <kbd>Enter</kbd> holds the word, <kbd>Esc</kbd> lets go;
<kbd>↑</kbd> and <kbd>↓</kbd> go to the heaviest partner.</p>
<div class="bar">
<span id="chooser"><label for="view">Layer and head</label> <select id="view"></select></span>
<span class="scale" aria-hidden="true">0 <i></i> 1</span>
<span class="scale" id="gold"><span class="word gold">word</span> gold link</span>
</div>
<noscript><p>This page needs JavaScript; it loads nothing.</p></noscript>
<div id="pairs"></div>
</main>
<script type="application/json" id="data">@DATA@</script>
<script>"""
    + SCRIPT
    + """</script>
</body>
</html>
"""
)
