"""Test sentences with every model's translation and what it looked at."""

import math
from collections.abc import Sequence

from regard.insight.text import language_of
from regard.runs.compare.report.markup import box, name, phrase, text
from regard.runs.compare.report.style import Look
from regard.runs.compare.results import Said, SentenceResult

_LEAST_SHOWN = 0.005
_STRONG = 0.62


def sentences(results: Sequence[SentenceResult], looks: dict[str, Look]) -> str:
    """Return all sentences as HTML."""
    return "".join(_sentence(number, result, looks) for number, result in enumerate(results, 1))


def _sentence(number: int, result: SentenceResult, looks: dict[str, Look]) -> str:
    said = "".join(_said(one, result, looks[one.label]) for one in result.said)
    return (
        f'<article class="sentence" aria-label="Sentence {number}">'
        f"<dl><dt>Source</dt>{phrase(result.source, 'dd')}<dt>Reference</dt>{phrase(result.reference, 'dd')}</dl>"
        f'<div class="said" style="--n:{min(len(result.words), 40)}">{said}</div></article>'
    )


def _said(one: Said, result: SentenceResult, look: Look) -> str:
    content = _grid(one, result, look) if one.weights is not None else '<p class="none">no attention</p>'
    return f'<div class="one m m{look.number}"><h3>{name(look)}</h3>{phrase(one.text, "p", "text")}{content}</div>'


def _grid(one: Said, result: SentenceResult, look: Look) -> str:
    """Return a heat map: a row a target word, a column a source word. Numbers stand in it, seen when it is in use."""
    if not one.words or not result.words:
        return '<p class="none">nothing to align</p>'
    turned = ' class="turned"' if language_of(result.words) is None else ""
    head = "".join(f'<th scope="col"{turned}><span{_lang([word])}>{text(word)}</span></th>' for word in result.words)
    rows = "".join(
        f'<tr><th scope="row"{_lang([word])}>{text(word)}</th>{"".join(map(_cell, row))}</tr>'
        for word, row in zip(one.words, one.weights or (), strict=False)
    )
    label = f"What {text(look.label)} looked at: target words down, source words across"
    named = f"<caption>{label}</caption>"
    return box(f"<table>{named}<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>", label, "map")


def _cell(weight: float) -> str:
    if not math.isfinite(weight) or weight < _LEAST_SHOWN:
        return "<td></td>"
    shown = min(weight, 1.0)
    strong = " class=s" if shown > _STRONG else ""
    number = f"{shown:.2f}"
    return f"<td{strong} style=--w:{number}>{number.removeprefix('0')}</td>"


def _lang(words: Sequence[str]) -> str:
    language = language_of(words)
    return f' lang="{language}"' if language else ""
