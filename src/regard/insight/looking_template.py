"""The page of `regard.insight.looking_page`: markup and style; `@TITLE@` and `@DATA@` are filled in there."""

from regard.insight.looking_script import SCRIPT
from regard.insight.page_template import STYLE as COMMON

STYLE = (
    COMMON
    + """
.bar label { display: inline-flex; gap: .4rem; align-items: center; }
.panels { margin-top: 1rem; }
.panes, .panels {
  display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr));
}
.pane { margin: 0; }
.pane h2, .panel h2 { font-size: .95rem; font-weight: 400; color: var(--soft); margin: 0 0 .6rem; }
.pane h2 b { color: var(--ink); font-weight: 600; overflow-wrap: anywhere; }
.text { max-height: 24rem; overflow-y: auto; line-height: 2; padding: 3px; }
.text .word {
  font: inherit; color: inherit; display: inline-block; line-height: 1.4; margin: 0 .1rem; padding: .08rem .3rem;
}
.text .word.special { color: var(--soft); }
.text .word.mid { color: var(--ink); }
.text .word.strong { color: var(--on-heat); }
.text .word[aria-pressed=true] { box-shadow: inset 0 0 0 2px var(--gold); }
.says { min-height: 1.5em; }
.jump { border: 0; padding: 0; background: none; color: inherit; cursor: pointer; text-decoration: underline dotted; }
.panel { margin: 0; min-width: 0; }
.panel .controls { margin: 0 0 .6rem; color: var(--soft); }
.scroll { overflow: auto; max-height: 34rem; }
.grid { border-collapse: separate; border-spacing: 1px; font-size: .8rem; }
.grid th { font-weight: 400; padding: .1rem .4rem; text-align: right; white-space: nowrap; color: var(--soft); }
.grid thead th { text-align: center; }
.grid td { padding: 0; }
.grid button {
  width: 2.4rem; height: 1.7rem; border: 0; border-radius: 3px; font-size: .72rem; cursor: pointer; padding: 0;
  background: rgb(var(--heat) / var(--w, 0)); box-shadow: inset 0 0 0 1px var(--line);
  font-variant-numeric: tabular-nums;
}
.grid button.strong { color: var(--on-heat); }
.grid button[aria-pressed=true] { box-shadow: inset 0 0 0 2px var(--gold); }
canvas { display: block; width: 100%; max-width: 30rem; border: 1px solid var(--line); cursor: crosshair; }
.note { color: var(--soft); font-size: .88rem; margin: .4rem 0; }
.note ul { margin: .2rem 0; padding-left: 1.2rem; max-height: 12rem; overflow-y: auto; }
"""
)

BODY = (
    """<body>
<main>
<h1>@TITLE@</h1>
<p class="hint">Choose a token with the mouse, or with <kbd>Tab</kbd> and the arrow keys: the stronger the colour of a
token, the larger its share, relative to the largest that is shown. Click or <kbd>Enter</kbd> holds it, <kbd>Esc</kbd>
lets go. <kbd>[</kbd> and <kbd>]</kbd> change the head, <kbd>{</kbd> and <kbd>}</kbd> the layer.
<span id="reads">Here a token looks when it is read, to say the one after it: what served to say a token is what the one
before it looked at.</span></p>
<div class="bar">
<label id="pair-label">Attention <select id="pair"></select></label>
<label>Layer <select id="layer"></select></label>
<label>Head <select id="head"></select></label>
<label><input type="checkbox" id="joined" checked> words joined</label>
<label><input type="checkbox" id="special" checked> special tokens</label>
</div>
<noscript><p>This page needs JavaScript; it loads nothing.</p></noscript>
<p class="says" id="says" aria-live="polite"></p>
<div class="panes">
<section class="pair pane"><h2 id="rows-title"></h2><div class="text" id="rows" role="group" dir="auto"></div></section>
<section class="pair pane"><h2 id="columns-title"></h2><div class="text" id="columns" role="group" dir="auto"></div>
</section>
</div>
<p class="note" id="limits"></p>
<div class="panels">
<section class="pair panel"><h2>All heads</h2>
<p class="controls"><label>Measure <select id="measure"></select></label></p>
<div class="scroll"><table class="grid" id="grid"></table></div></section>
<section class="pair panel"><h2 id="overview-title">The whole map</h2>
<canvas id="overview" width="960" height="960" role="img"></canvas>
<p class="note">Rows from the top: tokens that look. Columns from the left: tokens that are looked at. Each cell is the
mean of its weights. A click chooses the token of that row; to do so by keyboard,
choose it in the text.</p></section>
</div>
<div class="note" id="notes"></div>
</main>
<script type="application/json" id="data">@DATA@</script>
<script>"""
    + SCRIPT
    + """</script>
</body>
</html>
"""
)
