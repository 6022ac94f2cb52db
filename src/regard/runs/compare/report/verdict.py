"""The table that sums a comparison up, and the sentences above it."""

from collections.abc import Sequence

from regard.runs.compare.report.formats import whole
from regard.runs.compare.report.markup import box, name, phrase, text
from regard.runs.compare.report.measures import Measure, Summary, cost, quality, standing
from regard.runs.compare.report.style import Look
from regard.runs.compare.results import Comparison

_MARKS = {
    "best": '<span class="mark best">best</span>',
    "level": '<span class="mark level">not apart</span>',
    "fastest": '<span class="mark first">fastest</span>',
    "fewest": '<span class="mark first">fewest</span>',
    "lowest": '<span class="mark first">lowest</span>',
}
HOW = (
    "Two questions: who is ahead after having read the same amount of text, and who after the same time? A figure "
    f"marked {_MARKS['best']} is apart from all others: neither 95\u00a0% intervals nor seeds overlap. Where they do, "
    f"chance may have decided, and the models are marked {_MARKS['level']}. {_MARKS['lowest']}, {_MARKS['fewest']} and "
    f"{_MARKS['fastest']} are of one run each, without an interval: by how much another run would differ is not known."
)
"""How the table is read, as HTML."""


def verdict(comparison: Comparison, looks: dict[str, Look]) -> str:
    """Return the sentences and the table as HTML."""
    return _sentences(comparison) + _table(comparison, looks)


def _sentences(comparison: Comparison) -> str:
    said = "".join(f"<li>{_winner(comparison, heading, rows[0])}</li>" for heading, rows in quality(comparison))
    return f'<ul class="verdict">{said}</ul>' if len(comparison.models) > 1 else ""


def _winner(comparison: Comparison, heading: str, measure: Measure) -> str:
    """Say in a sentence which models are ahead in a measure, without calling a winner what may be chance."""
    summaries = [measure.summary(model) for model in comparison.models]
    marks = standing(measure, summaries)
    found = [
        (model.label, summary, mark)
        for model, summary, mark in zip(comparison.models, summaries, marks, strict=True)
        if summary is not None
    ]
    found.sort(key=lambda entry: -entry[1].value)
    if not found:
        return f"{heading}: no {measure.name}."
    ahead = [(label, summary) for label, summary, mark in found if mark]
    if not ahead:
        listed = _listed([(label, summary) for label, summary, _ in found], measure)
        return f"{heading}: {measure.name} without intervals, so that none is called the best: {listed}."
    behind = [(label, summary) for label, summary, mark in found if not mark]
    listed = _listed(ahead, measure)
    if len(ahead) == 1:
        first = f"{heading}, {listed} has the highest {measure.name}, apart from all others."
    elif behind:
        first = f"{heading}, {listed} are ahead in {measure.name}; these are not apart: their intervals overlap."
    else:
        first = f"{heading}, no model is ahead in {measure.name}: the intervals of {listed} overlap."
    return first + (f" Behind: {_listed(behind, measure)}." if behind else "")


def _listed(entries: Sequence[tuple[str, Summary]], measure: Measure) -> str:
    parts = [f"<b>{phrase(label)}</b> ({measure.show(summary.value)})" for label, summary in entries]
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _table(comparison: Comparison, looks: dict[str, Look]) -> str:
    models = comparison.models
    head = "".join(f'<th scope="col">{name(looks[model.label])}</th>' for model in models)
    rows = [_plain("What it is", [text(model.words) for model in models], "words")]
    rows.append(_plain("Parameters", [whole(model.parameters) for model in models]))
    bodies = [("", rows)]
    groups: tuple[tuple[str, tuple[Measure, ...]], ...] = (
        *quality(comparison),
        ("Training and speed", cost(comparison)),
    )
    bodies += [(heading, [row for m in measures if (row := _row(comparison, m))]) for heading, measures in groups]
    body = "".join(
        "<tbody>"
        + (
            f'<tr class="group"><th scope="rowgroup" colspan="{len(models) + 1}"><span>{heading}</span></th></tr>'
            if heading
            else ""
        )
        + "".join(rows)
        + "</tbody>"
        for heading, rows in bodies
        if rows
    )
    seeds = max((len(model.runs) for model in models), default=0)
    below = "Below each figure its 95 % interval, [low – high]."
    if seeds > 1:
        below = (
            f"Figures are means of {seeds} seeds, of memory the largest; below them the least and the greatest, and "
            "the 95 % interval, [low – high], from the lowest end of any seed to the highest."
        )
    caption = f"All models on the test part. {below}"
    corner = '<th scope="col">measured</th>'
    top = f"<caption><span>{caption}</span></caption><thead><tr>{corner}{head}</tr></thead>"
    return box(f'<table class="big">{top}{body}</table>', "All models on the test part")


def _plain(title: str, cells: Sequence[str], of: str = "") -> str:
    kind = f' class="{of}"' if of else ""
    return f'<tr{kind}><th scope="row">{title}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _row(comparison: Comparison, measure: Measure) -> str:
    """Return a row; nothing where no model has the figure."""
    summaries = [measure.summary(model) for model in comparison.models]
    if not any(summaries):
        return ""
    marks = standing(measure, summaries)
    return _plain(
        text(measure.name), [_cell(measure, summary, mark) for summary, mark in zip(summaries, marks, strict=True)]
    )


def _cell(measure: Measure, summary: Summary | None, mark: str) -> str:
    if summary is None:
        return f'<span class="soft">{measure.missing}</span>'
    show = measure.show
    value = show(summary.value)
    parts = [f"<b>{value}</b>" if mark == "best" else value]
    if mark:
        parts.append(_MARKS[mark])
    if summary.of > 1:
        reached = "" if summary.seeds == summary.of else f"{summary.seeds} of {summary.of} seeds"
        spread = f"{show(summary.least)} – {show(summary.most)}"
        if summary.seeds > 1 and show(summary.least) != show(summary.most):
            parts.append(f"<small>seeds {spread}</small>")
        if reached:
            parts.append(f"<small>{reached}</small>")
    if summary.low is not None and summary.high is not None:
        parts.append(f"<small>[{show(summary.low)} – {show(summary.high)}]</small>")
    return " ".join(parts)
