"""`regard attend` for models of this package: alignments of a sentence, and of whole texts."""

import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from regard.cli.attend_choices import Asked, Files, Text, translator_choice
from regard.cli.options import json_line, number, print_json, say, write_lines
from regard.errors import ArgumentError
from regard.files import write_json
from regard.insight import (
    Link,
    draw_alignment,
    draw_heads,
    links,
    parse_gold,
    render_alignment,
    score_links,
    to_pharaoh,
    write_page,
)
from regard.insight.text import visible
from regard.runs.translator import Attention, Translator
from regard.runs.views import Aligned, Choice, align_text, every_head, every_view, view_name

NARROWEST = 20
PAGE_PAIRS = 50  # a page of more sentence pairs is slow


def align_one(translator: Translator, asked: Asked) -> None:
    """The alignment of one sentence pair, in files and in the terminal."""
    assert asked.sentence is not None
    choice = translator_choice(asked.layer, asked.head)
    sure, possible = (None, None) if asked.gold is None else parse_gold(asked.gold, "--gold")
    translator.check_attends()
    said = asked.translation
    if said is None:
        said = own_translation(translator, asked.sentence, asked.beam)
    attention = translator.attention(asked.sentence, said)
    _check_gold(attention, possible)
    _write(asked.files, attention, choice, possible, asked.quiet)
    if asked.as_json:
        print_json(_json(attention, choice))
    elif asked.pharaoh:
        typer.echo(to_pharaoh(links(attention.alignment(**choice))))
    else:
        _print(translator, attention, choice, sure, possible)


def align_whole(translator: Translator, asked: Asked, text: Text) -> None:
    """The alignments of a whole text: a line for each pair, or one page."""
    choice = translator_choice(asked.layer, asked.head)
    translator.check_attends()
    aligned = align_text(translator, text.sources, text.targets, asked.beam)
    pairs = (replace(pair, line=text.lines[pair.line - 1]) for pair in aligned)
    if asked.files.html is None:
        _print_links(pairs, text.name, choice, asked.as_json)
    else:
        _write_page(pairs, len(text.sources), text.name, choice, asked.files.html, asked.quiet)


def own_translation(translator: Translator, sentence: str, beam: int | None) -> str:
    """The model's translation, to look at.

    Raises:
        ArgumentError: it is empty.
    """
    said = translator.translate([sentence], beam=beam)[0].text
    if not said.strip():
        raise ArgumentError("the model's translation of this is empty; give a TARGET to look at")
    return said


def _check_gold(attention: Attention, possible: Collection[Link] | None) -> None:
    sizes = len(attention.source_words[0]), len(attention.target_words[0])
    for i, j in sorted(possible or ()):
        if i >= sizes[0] or j >= sizes[1]:
            raise ArgumentError(f"--gold: link {i}-{j} in a pair of {sizes[0]} source and {sizes[1]} target words")


def _write(files: Files, attention: Attention, choice: Choice, gold: Collection[Link] | None, quiet: bool) -> None:
    """Write the files asked for."""
    title = f"{attention.source} → {attention.target}"
    alignment = attention.alignment(**choice)
    for path in (files.png, files.svg):
        if path is not None:
            draw_alignment(alignment, path, view_name(choice) if choice else None, gold)
    if files.heads is not None:
        draw_heads(every_head(attention), files.heads, columns=attention.heads(), gold=gold)
    if files.html is not None:
        write_page([every_view(attention, choice)], files.html, title, None if gold is None else [gold])
    if files.json_file is not None:
        write_json(files.json_file, _json(attention, choice))
    for path in vars(files).values():
        if path is not None:
            say(f"wrote {path}", quiet)


def _json(attention: Attention, choice: Choice) -> dict[str, Any]:
    views = every_view(attention, choice)
    return {
        "source": attention.source,
        "target": attention.target,
        "source_tokens": attention.source_tokens,
        "target_tokens": attention.target_tokens,
        "view": view_name(choice),
        **attention.alignment(**choice).to_json(),
        "links": sorted(links(attention.alignment(**choice))),
        "views": {name: alignment.to_json()["weights"] for name, alignment in views.items()},
    }


def _print(
    translator: Translator,
    attention: Attention,
    choice: Choice,
    sure: Collection[Link] | None,
    possible: Collection[Link] | None,
) -> None:
    """The pair, the alignment and the links in the terminal."""
    log_prob = sum(translator.score([attention.source], [attention.target])[0])
    source, target = visible(attention.source), visible(attention.target)
    typer.echo(f"{source}\n{target}  ({view_name(choice)}; log-probability {number(log_prob)})\n")
    alignment = attention.alignment(**choice)
    width = max(shutil.get_terminal_size().columns, NARROWEST)
    typer.echo(render_alignment(alignment, width, color=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
    found = links(alignment)
    typer.echo(f"\nlinks {to_pharaoh(found)}")
    if sure is not None and possible is not None:
        one = score_links([found], [sure], [possible])
        typer.echo(
            f"gold  {to_pharaoh(possible)}\nalignment error rate {100 * one.error_rate:.1f} % "
            f"(precision {100 * one.precision:.1f} %, recall {100 * one.recall:.1f} %)"
        )


def _print_links(pairs: Iterable[Aligned], name: str, choice: Choice, as_json: bool) -> None:
    """A line of links for each pair, or an object."""
    problems = 0

    def produce(write: Callable[[str], None]) -> None:
        nonlocal problems
        for pair in pairs:
            problems += _report(pair, name)
            write(_json_line(pair, choice) if as_json else f"{to_pharaoh(pair.links(choice))}\n")

    write_lines(None, produce)
    if problems:
        raise typer.Exit(1)


def _json_line(pair: Aligned, choice: Choice) -> str:
    content: dict[str, Any] = {"line": pair.line, "source": pair.source, "target": pair.target}
    content["links"] = sorted(pair.links(choice))
    if pair.problem is not None:
        content["error"] = pair.problem
    return json_line(content)


def _write_page(pairs: Iterable[Aligned], count: int, name: str, choice: Choice, html: Path, quiet: bool) -> None:
    """One page of all pairs that the model can read."""
    if count > PAGE_PAIRS:
        raise ArgumentError(f"--html: {count} pairs are too many for one page; give at most {PAGE_PAIRS}")
    entries, problems = [], 0
    for pair in pairs:
        problems += _report(pair, name)
        if pair.attention is not None:
            entries.append(every_view(pair.attention, choice))
    write_page(entries, html, name)
    say(f"wrote {html}", quiet)
    if problems:
        raise typer.Exit(1)


def _report(pair: Aligned, name: str) -> bool:
    """Say on standard error what is wrong with a pair, if anything is."""
    if pair.problem is not None:
        say(f"{name}, line {pair.line}: no links: {pair.problem}")
    return pair.problem is not None
