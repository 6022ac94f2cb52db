"""The page that `page.py` fills in: markup, style and script; its values stand between `@`."""

from regard.insight.page_template import page_head
from regard.runs.compare.report.style import COLOURS, DARK_COLOURS


def _variables(colours: tuple[str, ...]) -> str:
    return " ".join(f"--m{number}: {colour};" for number, colour in enumerate(colours))


STYLE = (
    f"""
:root {{
  color-scheme: light dark;
  --ground: #f6f8fa; --card: #ffffff; --ink: #1f2430; --soft: #5d6675; --line: #d3dae2; --band: #eef1f5;
  --heat: 18 66 138; --on-heat: #ffffff; --focus: #1e7ec4; --good: #00694a; --good-ground: #d9f2e6;
  {_variables(COLOURS)}
}}
@media screen and (prefers-color-scheme: dark) {{
  :root {{
    --ground: #12151c; --card: #1b202a; --ink: #e8ecf2; --soft: #9aa5b5; --line: #303846; --band: #232936;
    --heat: 92 178 240; --on-heat: #0c1118; --focus: #76c3ed; --good: #7be0b8; --good-ground: #123c2e;
    {_variables(DARK_COLOURS)}
  }}
}}
"""
    + """
* { box-sizing: border-box; }
html { scroll-padding-top: 4rem; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  /* the embedded font comes first: Chromium 156 draws boxes where it is asked for after a font that it has */
  font: 16px/1.5 regard-cjk, system-ui, "Segoe UI", Roboto, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC",
    sans-serif;
}
main { max-width: 72rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 .25rem; }
h3 { font-size: 1rem; font-weight: 600; margin: 0 0 .3rem; overflow-wrap: anywhere; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px; margin: 0 0 1.25rem;
  padding: 1.1rem 1.25rem 1.25rem;
}
.how { color: var(--soft); margin: 0 0 1rem; max-width: 50rem; }
.soft { color: var(--soft); }
a { color: var(--focus); }
@media not all and (prefers-color-scheme: dark) { a { color: #12629c; } }
kbd { font: inherit; font-size: .85em; border: 1px solid var(--line); border-radius: 4px; padding: 0 .3em; }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
.key {
  position: sticky; top: 0; z-index: 3; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: 0 -1.25rem 1rem;
  padding: .6rem 1.25rem; border: 0; background: var(--ground); box-shadow: 0 1px 0 var(--line);
}
.key legend { position: absolute; clip-path: inset(50%); }
.key > span { align-self: center; color: var(--soft); font-size: .85rem; }
.key label { display: inline-flex; align-items: center; gap: .35rem; cursor: pointer; min-height: 1.75rem; }
.key input { accent-color: var(--focus); margin: 0; width: 1rem; height: 1rem; }
.name { display: inline-flex; align-items: center; gap: .4rem; overflow-wrap: break-word; }
.sign { width: 1.75rem; height: .75rem; flex: none; overflow: visible; }
.sign * { fill: var(--c); }
.sign .stroke { fill: none; stroke: var(--c); stroke-width: 2; }
.setting {
  margin: 0; display: grid; gap: .6rem 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr));
}
.setting dt { color: var(--soft); font-size: .85rem; }
.setting dd { margin: 0; overflow-wrap: anywhere; }
.verdict { margin: 1rem 0; padding-left: 1.2rem; max-width: 50rem; }
.verdict li { margin: .3rem 0; }
figure { margin: 0 0 1rem; }
figcaption { color: var(--soft); font-size: .9rem; max-width: 50rem; }
.panels {
  display: grid; gap: 1rem 2rem; margin-bottom: .5rem; align-items: end;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, calc(var(--w) * .9px)), 1fr));
}
.panel { max-width: calc(var(--w) * 1.25px); min-width: 0; break-inside: avoid; }
.panel svg { display: block; width: 100%; height: auto; overflow: visible; }
.panel svg * { stroke-linejoin: round; }
.panel svg text { font-family: inherit !important; }
.wide { overflow-x: auto; margin: 0 0 1rem; }
.wide:last-child { margin-bottom: 0; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; caption-side: top; }
caption span { display: block; position: sticky; left: 0; width: fit-content; max-width: min(50rem, 100vw - 4rem); }
caption, .how { text-wrap: pretty; }
th, td { padding: .35rem .8rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
tbody th { font-weight: 400; min-width: 7rem; max-width: 18rem; }
td small, th small { display: block; color: var(--soft); font-size: .8rem; font-weight: 400; white-space: nowrap; }
th small { white-space: normal; }
tbody th[scope=row], thead tr > :first-child { position: sticky; left: 0; background: var(--card); z-index: 1; }
.big { min-width: 100%; }
.big th[scope=col] { min-width: 8rem; }
.big .group th { font-weight: 600; padding-top: 1.1rem; border-bottom: 2px solid var(--line); }
.big .group span { position: sticky; left: 0; }
.big .words td { font-size: .85rem; color: var(--soft); min-width: 8rem; }
.mark { font-size: .75rem; border-radius: 99px; padding: .05rem .5rem; white-space: nowrap; }
.mark.best { color: var(--good); background: var(--good-ground); font-weight: 600; }
.mark.level, .mark.first { color: var(--soft); border: 1px solid var(--line); }
.data { font-size: .8rem; }
.data td, .data th { white-space: nowrap; padding-top: .15rem; padding-bottom: .15rem; }
details { margin: .5rem 0; }
details .wide { max-height: 28rem; overflow: auto; margin-top: .5rem; }
summary { cursor: pointer; }
button {
  font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 7px;
  padding: .25rem .65rem; cursor: pointer;
}
.sentence { border-top: 1px solid var(--line); padding: 1rem 0 .25rem; }
.sentence:first-of-type { border-top: 0; padding-top: 0; }
.sentence dl { display: grid; grid-template-columns: auto 1fr; gap: .1rem .9rem; margin: 0 0 .8rem; }
.sentence dt { color: var(--soft); }
.sentence dd { margin: 0; font-size: 1.08rem; overflow-wrap: anywhere; }
.said {
  display: grid; gap: .9rem 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, max(13rem, var(--n) * 1.47rem + 5.5rem)), 1fr));
}
.one { min-width: 0; break-inside: avoid; }
.one .text { margin: 0 0 .4rem; overflow-wrap: anywhere; }
.one .none { color: var(--soft); margin: 0; font-style: italic; }
.map { margin: 0; padding: 2px; position: relative; }
.map table { border-collapse: separate; border-spacing: 1px; font-size: .78rem; line-height: 1.2; }
.map td {
  width: 1.4rem; min-width: 1.4rem; height: 1.3rem; padding: 0; text-align: center; vertical-align: middle;
  font-size: .62rem; color: transparent; border: 0; border-radius: 2px;
  background: rgb(var(--heat) / var(--w, 0)); box-shadow: inset 0 0 0 1px var(--line);
}
.map caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.map thead td { box-shadow: none; background: none; }
.map th {
  font-weight: 400; min-width: 0; padding: 0 .3rem 0 0; border: 0; white-space: nowrap; vertical-align: middle;
}
.map th[scope=row] { text-align: right; }
.map th[scope=col] { vertical-align: bottom; text-align: center; padding: 0 0 .2rem; }
.map th.turned span { writing-mode: vertical-rl; transform: rotate(180deg); display: inline-block; }
.map:hover td, .map:focus td { color: var(--ink); }
.map:hover td.s, .map:focus td.s { color: var(--on-heat); }
.map th.lit { color: var(--focus); font-weight: 700; }
.foot { color: var(--soft); font-size: .85rem; }
.panel .m { transition: opacity .12s; }
@media (prefers-reduced-motion: reduce) { .panel .m { transition: none; } }
@media (max-width: 40rem) {
  main { padding: 1.25rem .75rem 3rem; }
  section { padding: .9rem .9rem 1rem; }
  .key { margin: 0 -.75rem 1rem; padding: .4rem .75rem; gap: 0 .9rem; font-size: .9rem; }
  .sentence dl { grid-template-columns: 1fr; }
}
@media print {
  :root { color-scheme: light; font-size: 10px; }
  body { background: none; font-size: 1rem; }
  main { max-width: none; padding: 0; }
  .panels { grid-template-columns: repeat(auto-fill, minmax(calc(var(--w) * .7px), 1fr)); }
  .key, #save { display: none; }
  section { border: 0; padding: 0; }
  .wide { overflow: visible; }
  details .wide { max-height: none; }
  .map td, .map td.s { print-color-adjust: exact; }
  tbody th[scope=row], thead tr > :first-child, .big .group span { position: static; }
}
"""
)

SCRIPT = """
"use strict";
// The page is whole without this: it names the words of the square that is pointed at, and saves the data inside.
for (const map of document.querySelectorAll(".map")) {
  const columns = map.querySelectorAll("thead th");
  let lit = [];
  const light = cell => {
    for (const head of lit) head.classList.remove("lit");
    lit = cell && cell.matches("tbody td") ? [columns[cell.cellIndex - 1], cell.parentNode.cells[0]] : [];
    for (const head of lit) head.classList.add("lit");
  };
  map.addEventListener("pointerover", event => light(event.target.closest("td")));
  map.addEventListener("pointerleave", () => light(null));
}
const save = document.getElementById("save"), button = document.createElement("button");
button.type = "button";
button.textContent = "Save the data inside this page as JSON";
button.addEventListener("click", () => {
  const link = document.createElement("a");
  const text = JSON.stringify(JSON.parse(document.getElementById("comparison").textContent), null, 2);
  link.href = URL.createObjectURL(new Blob([text + "\\n"], {type: "application/json"}));
  link.download = "comparison.json";
  link.click();
  URL.revokeObjectURL(link.href);
});
save.append(button);
save.hidden = false;
"""

TEMPLATE = (
    page_head(STYLE)
    + """<body>
<main>
<h1>@HEADING@</h1>
@KEY@
@CONTENT@
</main>
<script type="application/json" id="comparison">@DATA@</script>
<script>"""
    + SCRIPT
    + """</script>
</body>
</html>
"""
)
