"""`regard attend`: what the model looked at."""

import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.cli.options import (
    BeamOption,
    ColumnsOption,
    DeviceOption,
    JsonFileOption,
    JsonOption,
    ModelArgument,
    PairsOption,
    QuietOption,
    ThreadsOption,
    check_folder,
    json_line,
    number,
    open_model,
    print_json,
    read_pairs,
    say,
    write_lines,
)
from regard.data import display_name, read_lines
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
from regard.runs.translator import Attention, Translator
from regard.runs.views import Aligned, Choice, align_text, every_head, every_view, view_name

NARROWEST = 20
PAGE_PAIRS = 50  # a page of more sentence pairs is slow


@dataclass(frozen=True)
class Files:
    """What to write."""

    png: Path | None
    svg: Path | None
    heads: Path | None
    html: Path | None
    json_file: Path | None


def attend(
    model: ModelArgument,
    sentence: Annotated[str | None, typer.Argument(metavar="SOURCE", help="A sentence.", show_default=False)] = None,
    translation: Annotated[
        str | None,
        typer.Argument(metavar="TARGET", help="Its translation; else the model's own.", show_default=False),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Decoder layer, from 0, -1 the last, or mean; else the model's best guess.")
    ] = None,
    head: Annotated[str | None, typer.Option(help="Head, from 0, or mean.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write the alignment as a PNG picture.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Write it as an SVG picture.")] = None,
    heads: Annotated[Path | None, typer.Option(help="Write a grid of all layers and heads (.png, .svg, .pdf).")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with every layer and head to choose from.")] = None,
    pharaoh: Annotated[bool, typer.Option("--pharaoh", help="Print links i-j between words instead.")] = False,
    gold: Annotated[str | None, typer.Option(help='Gold links such as "0-0 1-2", to outline and compare with.')] = None,
    source: Annotated[Path | None, typer.Option(help="Instead of SOURCE: a file of sentences, one a line.")] = None,
    target: Annotated[
        Path | None, typer.Option(help="With --source: their translations; else the model's own.")
    ] = None,
    pairs: PairsOption = None,
    columns: ColumnsOption = None,
    beam: BeamOption = None,
    as_json: JsonOption = False,
    json_file: JsonFileOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show which source words each target word looked at.

        regard attend runs/en-de "Two dogs play in the snow."

        regard attend runs/en-de "Two dogs play." "Zwei Hunde spielen." --html dogs.html --png dogs.png

    Prints a table in the terminal: a line for each target word, the weight of each source word in per cent. Weights
    are those of the decoder's cross-attention, from tokens pooled to words: summed over the source word's tokens,
    averaged over the target word's. What is missing to 100 fell on the end of the sentence, or outside the window of a
    model with local attention.

    --pharaoh prints the heaviest source word of each target word as links i-j (source-target, from 0) instead; --json
    all words, tokens, links, and the weights of every layer and head.

    A whole text: --source FILE [--target FILE], or --pairs TABLE, prints a line of links for each pair (with --json an
    object: line of the file from 1, source, target, links, and error where the model can't read it); with --html it
    makes one page of all pairs instead.
    """
    files = Files(png, svg, heads, html, json_file)
    for option, path in vars(files).items():
        check_folder(f"--{option.replace('_', '-')}", path)
    if as_json and pharaoh:
        raise ArgumentError("give --pharaoh or --json, which has the links, too")
    choice = _choice(layer, head)
    if source is not None or pairs is not None:
        single = {"SOURCE": sentence, "--gold": gold, "--png": png, "--svg": svg, "--heads": heads}
        single |= {"--json-file": json_file}
        given = [name for name, value in single.items() if value is not None]
        if given:
            raise ArgumentError(f"{given[0]} is for a single sentence, not for a text from --source or --pairs")
        if html is not None and (as_json or pharaoh):
            option = "--json" if as_json else "--pharaoh"
            raise ArgumentError(f"--html makes one page of the whole text: leave out {option}")
        if beam is not None and (target is not None or pairs is not None):
            raise ArgumentError("--beam is for the model's own translations, not for given ones")
        sources, targets, lines, name = _text(source, target, pairs, columns)
        translator = open_model(model, device, threads)
        translator.check_attends()
        aligned = align_text(translator, sources, targets, beam)
        pairs_seen = (replace(pair, line=lines[pair.line - 1]) for pair in aligned)
        if html is None:
            _print_links(pairs_seen, name, choice, as_json)
        else:
            _write_page(pairs_seen, len(sources), name, choice, html, quiet)
        return
    if sentence is None:
        raise ArgumentError("give a SOURCE sentence, or a text with --source or --pairs")
    if target is not None:
        raise ArgumentError("--target belongs to --source; the translation of a SOURCE sentence follows it")
    if columns is not None:
        raise ArgumentError("--columns belongs to --pairs")
    if beam is not None and translation is not None:
        raise ArgumentError("--beam is for the model's own translation, not for a given TARGET")
    if gold is not None and (as_json or pharaoh) and not (png or svg or heads or html):
        option = "--json" if as_json else "--pharaoh"
        raise ArgumentError(f"--gold is for the table and for pictures: leave out {option}")
    sure, possible = (None, None) if gold is None else parse_gold(gold, "--gold")
    translator = open_model(model, device, threads)
    translator.check_attends()
    said = _own_translation(translator, sentence, beam) if translation is None else translation
    attention = translator.attention(sentence, said)
    _check_gold(attention, possible)
    _write(files, attention, choice, possible, quiet)
    if as_json:
        print_json(_json(attention, choice))
    elif pharaoh:
        typer.echo(to_pharaoh(links(attention.alignment(**choice))))
    else:
        _print(translator, attention, choice, sure, possible)


def _choice(layer: str | None, head: str | None) -> Choice:
    choice: dict[str, int | None] = {}
    for name, text in (("layer", layer), ("head", head)):
        if text is None:
            continue
        if text != "mean" and not text.removeprefix("-").isdecimal():
            raise ArgumentError(f"--{name} {text}: expected a number from 0, or mean")
        choice[name] = None if text == "mean" else int(text)
    return choice


def _text(
    source: Path | None, target: Path | None, pairs: Path | None, columns: str | None
) -> tuple[list[str], list[str] | None, Sequence[int], str]:
    """Sources, targets if there are any, their lines from 1, and what messages call the text."""
    if source is not None and target is None and pairs is None and columns is None:
        sources = list(read_lines(source))
        return sources, None, range(1, len(sources) + 1), display_name(source)
    text = read_pairs(source, target, pairs, columns)
    return text.sources, text.targets, text.lines, text.name


def _own_translation(translator: Translator, sentence: str, beam: int | None) -> str:
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
    typer.echo(f"{attention.source}\n{attention.target}  ({view_name(choice)}; log-probability {number(log_prob)})\n")
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
