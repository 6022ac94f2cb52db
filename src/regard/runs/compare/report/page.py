"""A comparison as files: one page that can be sent to somebody, its pictures, tables and data beside it."""

import base64
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from regard.files import write_json, write_text
from regard.insight.fonts import embedded_font
from regard.insight.page import script_json
from regard.runs.compare.report import figures, tables
from regard.runs.compare.report.formats import NONE, duration, fixed, odd, short, significant, whole
from regard.runs.compare.report.markup import figure, name, phrase, section, table, text
from regard.runs.compare.report.measures import DECODING, Summary, summarise
from regard.runs.compare.report.panels import bin_name, length_bins, length_summary
from regard.runs.compare.report.sentence_grids import sentences
from regard.runs.compare.report.style import Look, Picture, looks_of
from regard.runs.compare.report.template import TEMPLATE
from regard.runs.compare.report.verdict import HOW, verdict
from regard.runs.compare.results import Comparison, Estimate, Judged, ProbeResult, SeedRun

_SHOWN = ("models", "judged", "by_length", "curves", "speed", "reach", "probes")  # of the tables, inside the page


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write a comparison as a page, pictures, CSV files and JSON.

    `comparison.html` loads nothing and can be sent alone; `comparison.json` has everything, `*.csv` the tables,
    `figures/` each picture as PNG and SVG. Parts without data are left out, and files of such parts that an earlier
    comparison left in the folder are removed.

    Args:
        comparison: what was found.
        folder: made where it is missing.

    Returns:
        The paths written, the page first.

    Raises:
        OSError: a file cannot be written; each is written whole or not at all.
    """
    folder = Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    pictures, drawn = figures.pictures(comparison), tables.tables(comparison)
    page = folder / "comparison.html"
    data = folder / "comparison.json"
    written = [page, data]
    write_json(data, comparison.to_json())
    for one in drawn.values():
        written.append(folder / f"{one.name}.csv")
        write_text(written[-1], tables.to_csv(one))
    for picture in pictures.values():
        files = [folder / "figures" / f"{picture.name}.{ending}" for ending in ("png", "svg")]
        figures.write_picture(picture, *files)
        written += files
    # the page last: once it is there, so is all that it links to
    write_text(page, render_comparison(comparison))
    ours = [folder / f"{name}.csv" for name in tables.NAMES]
    ours += [folder / "figures" / f"{name}.{ending}" for name in figures.NAMES for ending in ("png", "svg")]
    for old in set(ours) - set(written):
        old.unlink(missing_ok=True)
    return written


def render_comparison(comparison: Comparison) -> str:
    """Return the page of `write_comparison` as text."""
    looks = looks_of(comparison)
    pictures = figures.pictures(comparison)
    parts = [
        _setting(comparison),
        _verdict(comparison, looks, pictures),
        _by_length(comparison, looks, pictures),
        _curves(pictures),
        _speed(comparison, looks, pictures),
        _reach(pictures),
        _sentences(comparison, looks),
        _probes(comparison, looks, pictures),
        _notes(comparison),
        _data(comparison, pictures),
    ]
    content = "".join(parts)
    values = {
        "@TITLE@": text(comparison.title),
        "@FONT@": _font_face([comparison.title, content]) + _hiding(looks),
        "@HEADING@": phrase(comparison.title, "span"),
        "@KEY@": _key(looks) if len(looks) > 1 else "",
        "@CONTENT@": content,
        "@DATA@": script_json(comparison.to_json()),
    }
    page = TEMPLATE
    pieces = []
    for key, value in values.items():  # in the order of the template, so that a value that names a key stays as it is
        before, page = page.split(key, 1)
        pieces += [before, value]
    return "".join([*pieces, page])


def _font_face(texts: Sequence[str]) -> str:
    font = embedded_font(texts)
    if font is None:
        return ""
    content = base64.b64encode(font).decode("ascii")
    return (
        '@font-face { font-family: "regard-cjk"; unicode-range: U+2E80-10FFFF; '
        f'src: url(data:font/woff;base64,{content}) format("woff"); }}'
    )


def _key(looks: dict[str, Look]) -> str:
    boxes = "".join(
        f'<label><input type="checkbox" id="show-m{look.number}" checked> {name(look)}</label>'
        for look in looks.values()
    )
    what = "Show in figures and sentences (tables keep all)"
    return f'<fieldset class="key"><legend>{what}</legend><span aria-hidden="true">{what}</span>{boxes}</fieldset>'


def _hiding(looks: dict[str, Look]) -> str:
    """Return the style that hides a model whose box is not ticked; no script is needed for it."""
    return "".join(
        f"body:has(#show-m{look.number}:not(:checked)) .m{look.number}{{display:none}}" for look in looks.values()
    )


def _setting(comparison: Comparison) -> str:
    if not comparison.setting:
        return ""
    rows = "".join(
        f"<div><dt>{text(key)}</dt><dd>{phrase(value)}</dd></div>" for key, value in comparison.setting.items()
    )
    return section(
        "setting",
        "The same for all",
        "What every model was given; only the models differ.",
        f'<dl class="setting">{rows}</dl>',
    )


def _verdict(comparison: Comparison, looks: dict[str, Look], pictures: dict[str, Picture]) -> str:
    if "quality" not in pictures:
        return ""
    caption = "BLEU on the test part: the point is the score, the bar its 95 % interval."
    return section("verdict", "Verdict", HOW, figure(pictures["quality"], caption) + verdict(comparison, looks))


def _by_length(comparison: Comparison, looks: dict[str, Look], pictures: dict[str, Picture]) -> str:
    if "quality-by-length" not in pictures:
        return ""
    how = (
        "Test sentences sorted by the words of their source. A model that must squeeze the whole source into one "
        "vector is expected to fall behind the others to the right. Compare models within one range of lengths only: "
        "each range has other sentences, and so other BLEU for everyone. Few sentences make long bars."
    )
    content = figure(pictures["quality-by-length"], "BLEU with 95 % intervals, by the number of source words.")
    first, second = (_length_table(comparison, looks, when, at) for when, at in figures.points(comparison))
    content += first + (f"<details><summary>The same at equal times</summary>{second}</details>" if second else "")
    return section("length", "Quality by source length", how, content)


def _length_table(comparison: Comparison, looks: dict[str, Look], when: str, at: Callable[[SeedRun], Judged]) -> str:
    bins = length_bins(comparison.models, at)
    if not bins:
        return ""
    counts = {(q.shortest, q.longest): q.sentences for m in comparison.models for r in m.runs for q in at(r).by_length}
    head = ["words of the source", *(f"{bin_name(b)}<small>{whole(counts[b])} sentences</small>" for b in bins)]
    rows = [
        [name(looks[model.label]), *(_with_interval(length_summary(model, b, at)) for b in bins)]
        for model in comparison.models
        if model.runs
    ]
    return table(f"BLEU {when}, with 95 % intervals", head, rows)


def _with_interval(summary: Summary | None) -> str:
    if summary is None:
        return NONE
    low, high = summary.range
    return f"{fixed(summary.value, 1)} <small>[{fixed(low, 1)} – {fixed(high, 1)}]</small>"


def _curves(pictures: dict[str, Picture]) -> str:
    if "curves" not in pictures:
        return ""
    how = (
        "Against steps: what a model makes of each step; lower loss and higher BLEU sooner is better learning. Against "
        "time: the same by the clock, where fast models get further."
    )
    caption = (
        "Validations during training. A ring is where a model is judged: against steps after equal tokens, against "
        "time after equal time. With several seeds, each is a thin line and their mean the bold one."
    )
    return section("curves", "Training", how, figure(pictures["curves"], caption))


def _speed(comparison: Comparison, looks: dict[str, Look], pictures: dict[str, Picture]) -> str:
    content = ""
    if "speed" in pictures:
        decoding = comparison.setting.get(DECODING)
        caption = "Longer is more: good for speeds, not for memory."
        caption += f" Translating: {text(decoding)}." if decoding else ""
        if any(len(model.runs) > 1 for model in comparison.models):
            caption += " Bars are means of the seeds, of memory the largest; the thin line is what the seeds span."
        content += figure(pictures["speed"], caption)
    if "time-per-token" in pictures:
        caption = (
            "Time a target token takes when source and target have so many tokens; both axes are logarithmic. "
            "Where a line is level, a token costs the same in long sentences as in short ones."
        )
        content += figure(pictures["time-per-token"], caption)
        lengths = sorted({s.length for model in comparison.models for s in model.speed})
        rows = []
        for model in comparison.models:
            for what in ("training", "decoding") if model.speed else ():
                by_length = {s.length: float(getattr(s, what)) for s in model.speed}
                if by_length:
                    cells = [significant(by_length[n]) if n in by_length else NONE for n in lengths]
                    rows.append([f"{name(looks[model.label])} {what}", *cells])
        content += table("Microseconds a target token, by tokens of the sentence", ["model", *map(str, lengths)], rows)
    if not content:
        return ""
    how = (
        "How much a second brings in training and in translation, and what it costs in memory; then how the time for "
        "one token changes as sentences grow."
    )
    return section("speed", "Speed and size", how, content)


def _reach(pictures: dict[str, Picture]) -> str:
    content = ""
    if "reach" in pictures:
        caption = (
            "Norm of the gradient with respect to a source token's embedding, by its distance: median, and the band in "
            "which the middle half lies; of the encoder's state after the last token that it reads, and of each "
            "output's log-probability. Distances count the tokens that are read after it, in the order in which the "
            "model reads: backwards if it reverses its source. Of a bidirectional encoder, the curve of the last state "
            "is that of its forward half."
        )
        content += figure(pictures["reach"], caption)
    if "gradients" in pictures:
        caption = (
            "Norm of all gradients before clipping: the point is the median step, the end of the bar the largest of "
            "the training. A far end means that at least one step's gradient was many times the usual one."
        )
        content += figure(pictures["gradients"], caption)
    if not content:
        return ""
    how = (
        "If a line falls steeply, what was read long ago hardly moves the result: the gradient vanishes. If it "
        "stays level, near and far words count alike. The scale is logarithmic. Compare how lines fall, not how high "
        "they begin: that depends on the scale of a model's embeddings."
    )
    return section("reach", "How far the past reaches", how, content)


def _sentences(comparison: Comparison, looks: dict[str, Look]) -> str:
    if not comparison.sentences:
        return ""
    how = (
        "The same sentences in every model's words. The squares show where a model looked: target words go down, "
        "source words across; the stronger the colour, the heavier. Point at a map, tap it or move to "
        "it with <kbd>Tab</kbd> for numbers."
    )
    return section("sentences", "Sentences", how, sentences(comparison.sentences, looks))


def _probes(comparison: Comparison, looks: dict[str, Look], pictures: dict[str, Picture]) -> str:
    if "probes" not in pictures:
        return ""
    how = (
        "Tasks without any data: strings of random symbols, judged on strings that were never seen. Within the shaded "
        "lengths the models were trained; to the right they have to carry on with what they learned."
    )
    caption = "Strings said without a single mistake, by their length: the bar is the 95 % interval"
    caption += (
        ", over all seeds from the lowest end to the highest; thin lines are seeds, bold ones their mean."
        if any(len(probe.runs) > len({run.label for run in probe.runs}) for probe in comparison.probes)
        else "."
    )
    content = figure(pictures["probes"], caption)
    content += "".join(_probe_table(probe, looks) for probe in comparison.probes if probe.runs)
    return section("probes", "Probes", how, content)


def _probe_table(probe: ProbeResult, looks: dict[str, Look]) -> str:
    lengths = sorted({at.length for run in probe.runs for at in run.lengths})
    rows = []
    for label in dict.fromkeys(run.label for run in probe.runs):
        runs = [run for run in probe.runs if run.label == label]
        seconds = sum(run.seconds for run in runs) / len(runs)
        about = f"{text(runs[0].words)}; {short(runs[0].parameters)} parameters, {duration(seconds)}"
        cells = [f"{name(looks[label])}<small>{about}</small>"]
        for length in lengths:
            found = [at for run in runs for at in run.lengths if at.length == length]
            exact = summarise([Estimate(at.exact, at.exact_low, at.exact_high) for at in found])
            right = summarise([at.tokens for at in found])
            if exact is None or right is None:
                cells.append(NONE)
                continue
            low, high = exact.range
            spread = f"<small>seeds {fixed(exact.least, 1)} – {fixed(exact.most, 1)}</small>" if exact.seeds > 1 else ""
            interval = f"<small>[{fixed(low, 1)} – {fixed(high, 1)}]</small>"
            cells.append(f"{fixed(exact.value, 1)} {spread}{interval}<small>{fixed(right.value, 1)} of symbols</small>")
        rows.append(cells)
    caption = (
        f"{text(probe.name.capitalize())}: per cent without a mistake with its 95 % interval, below it per cent of "
        f"symbols right; by length, trained on {probe.shortest} to {probe.longest}; {whole(probe.vocabulary)} symbols"
    )
    return table(caption, ["model", *map(str, lengths)], rows)


def _notes(comparison: Comparison) -> str:
    if not comparison.notes:
        return ""
    items = "".join(f"<li>{phrase(note)}</li>" for note in comparison.notes)
    return section("notes", "Notes", "What has to be known before figures are quoted.", f"<ul>{items}</ul>")


def _data(comparison: Comparison, pictures: dict[str, Picture]) -> str:
    made = tables.tables(comparison)
    files = ["comparison.json", *(f"{one}.csv" for one in made)]
    links = " · ".join(f'<a href="{file}">{file}</a>' for file in files)
    shown = " · ".join(
        f'{text(p.title)} (<a href="figures/{p.name}.png">PNG</a>, <a href="figures/{p.name}.svg">SVG</a>)'
        for p in pictures.values()
    )
    content = f"<p>{links}</p>" + (f"<p>{shown}</p>" if shown else "") + '<p id="save" hidden></p>'
    content += "".join(_details(made[one]) for one in _SHOWN if one in made)
    how = "The files beside this page; the links work where the page lies with them. The tables are inside it as well."
    return section("data", "Data", how, content)


def _details(one: tables.Table) -> str:
    rows = [[_shown(cell) for cell in row] for row in one.rows]
    heading = f"{text(one.title)} ({whole(len(rows))} rows)"
    content = table(text(one.title), [text(column) for column in one.columns], rows, "data")
    return f"<details><summary>{heading}</summary>{content}</details>"


def _shown(cell: tables.Cell) -> str:
    if cell is None:
        return NONE
    if isinstance(cell, str):
        return phrase(cell)
    if isinstance(cell, int):
        return str(cell)
    return f"{cell:.6g}" if math.isfinite(cell) else odd(cell)
