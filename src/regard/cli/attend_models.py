"""`regard attend`: opens what there is to look at, and shows what is asked for."""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import typer

from regard.cli.attend_choices import (
    DIRECTIONS,
    Asked,
    DirectionName,
    Show,
    Text,
    possible_shows,
    which_attentions,
)
from regard.cli.attend_translator import NARROWEST, align_one, align_whole, own_translation
from regard.cli.options import json_line, print_json, progress, read_pairs, say, write_lines
from regard.data import display_name, read_lines
from regard.errors import ArgumentError
from regard.files import write_json
from regard.insight import Reading, find_token, links, parse_gold, to_pharaoh
from regard.recording.file import load_recording
from regard.runs.evaluate import read_gold
from regard.runs.looking import (
    check_crosses,
    look_at_alignment,
    look_at_map,
    look_at_ranking,
    look_at_rollout,
    look_at_summary,
    look_at_text,
    readings,
)
from regard.runs.looks import AlignmentLook, Gold, Look
from regard.runs.recordings import TranslatorSubject, is_recording, open_subject, read_texts
from regard.runs.subjects import Subject

TITLE = 80  # characters of a text in a title
SUFFIX = ".safetensors"  # of recordings


def show_model(show: Show | None, asked: Asked) -> None:
    """Show what is asked for of a model or recording.

    Raises:
        ArgumentError: what is asked for doesn't go together, or doesn't go with this model.
    """
    asked.check()
    possible = possible_shows(show, asked.belonging())
    if is_recording(asked.model):
        _check_recording(asked)
        if asked.threads is not None:
            torch.set_num_threads(asked.threads)
        found = readings(load_recording(asked.model), asked.element or 0)
        _output(_look(_settle(possible, found), found, asked, display_name(asked.model)), asked)
        return
    if asked.model.suffix == SUFFIX and not asked.model.exists():
        raise ArgumentError(f"{asked.model}: no such recording")
    if not asked.whole and asked.sentence is None and asked.text is None:
        raise ArgumentError("give a SOURCE sentence, or a text with --source or --pairs")
    if asked.element is not None:
        raise ArgumentError("--element is for recordings of several texts")
    text = _read_text(asked) if asked.whole else None
    if asked.text is not None:
        asked = replace(asked, sentence=_document(asked.text), translation=_document(asked.target))
    subject = open_subject(asked.model, device=asked.device, threads=asked.threads)
    if text is not None and asked.gold_file is not None:
        _rank(subject, asked, text)
    elif isinstance(subject, TranslatorSubject) and Show.alignment in possible and asked.generate is None:
        if text is not None:
            align_whole(subject.translator, asked, text)
        else:
            align_one(subject.translator, asked)
    elif text is not None:
        _print_links(subject, asked, text)
    else:
        found = _record(subject, asked)
        _output(_look(_settle(possible, found), found, asked, _title(asked)), asked)


def _check_recording(asked: Asked) -> None:
    given = {
        "SOURCE": asked.sentence,
        "--text": asked.text,
        "--source": asked.source,
        "--pairs": asked.pairs,
        "--target": asked.target,
        "--generate": asked.generate,
        "--beam": asked.beam,
    }
    for name, value in given.items():
        if value is not None:
            raise ArgumentError(f"{name}: {asked.model} is a recording, its text is in it; leave out {name}")
    if asked.device not in ("auto", "cpu"):
        raise ArgumentError(f"--device {asked.device}: {asked.model} is a recording, which is looked at on the CPU")


def _document(path: Path | None) -> str | None:
    return None if path is None else read_texts(path, document=True)[0]


def _read_text(asked: Asked) -> Text:
    if asked.source is not None and asked.target is None and asked.pairs is None and asked.columns is None:
        sources = list(read_lines(asked.source))
        return Text(sources, None, range(1, len(sources) + 1), display_name(asked.source))
    text = read_pairs(asked.source, asked.target, asked.pairs, asked.columns)
    return Text(text.sources, text.targets, text.lines, text.name)


def _record(subject: Subject, asked: Asked) -> list[Reading]:
    """What the model does with one text."""
    assert asked.sentence is not None
    if asked.beam is not None and not isinstance(subject, TranslatorSubject):
        raise ArgumentError(f"--beam is for translators made by `regard train`, not for a {subject.name}")
    said = asked.translation
    if isinstance(subject, TranslatorSubject) and said is None:
        said = own_translation(subject.translator, asked.sentence, asked.beam)
    return readings(subject.record([asked.sentence], None if said is None else [said], generate=asked.generate))


def _title(asked: Asked) -> str:
    text = " ".join((asked.sentence or "").split())
    return text if len(text) <= TITLE else f"{text[: TITLE - 1]}…"


def _settle(possible: Sequence[Show], found: Sequence[Reading]) -> Show:
    """Of what may be meant: an alignment where there is cross-attention, else the next."""
    crosses = any(one.role.kind == "cross" for one in found)
    return possible[1] if possible[0] is Show.alignment and len(possible) > 1 and not crosses else possible[0]


def _look(show: Show, found: Sequence[Reading], asked: Asked, title: str) -> Look:
    which = which_attentions(asked.kind, asked.layer, asked.head)
    directions = DIRECTIONS[asked.direction or DirectionName.origin]
    if show is Show.rollout:
        which.of(found)  # a roll-out to cross-attention goes through the other kinds as well, but there must be some
    texts = None if asked.gold is None or asked.sentence is None else (asked.sentence, asked.translation)
    makers: dict[Show, Callable[[], Look]] = {
        Show.alignment: lambda: look_at_alignment(found, which, title, _gold(asked), texts),
        Show.text: lambda: look_at_text(found, which, asked.tokens, directions, title),
        Show.rollout: lambda: look_at_rollout(found, which, asked.tokens, title),
        Show.summary: lambda: look_at_summary(found, which, title),
        Show.map: lambda: look_at_map(found, which, title),
    }
    look = makers[show]()
    if show is Show.text and len(directions) > 1:
        _say_left_out(which.alike(found)[0], asked.tokens)
    return look


def _say_left_out(reading: Reading, tokens: Sequence[str]) -> None:
    """Say which token has no place on one side of an attention between two texts: that direction isn't shown."""
    rows, columns = reading.table.shape[-2:]
    sides = (("what {} looked at", reading.queries, rows), ("what looked at {}", reading.keys, columns))
    for token in tokens:
        for what, side, length in sides:
            try:
                find_token(side, token, length)
            except ArgumentError as error:
                say(f"--direction both: left out {what.format(token)}: {error}")


def _gold(asked: Asked) -> Gold | None:
    return None if asked.gold is None else parse_gold(asked.gold, "--gold")


def _output(look: Look, asked: Asked) -> None:
    """Write the files asked for, and print."""
    files, content = asked.files, {"model": str(asked.model), **look.to_json()}
    for path in (files.png, files.svg):
        if path is not None:
            look.draw(path)
    if files.html is not None:
        look.write_page(files.html)
    if files.json_file is not None:
        write_json(files.json_file, content)
    if isinstance(look, AlignmentLook) and files.heads is not None:
        look.draw_heads(files.heads)
    for path in files.given():
        say(f"wrote {path}", asked.quiet)
    if asked.as_json:
        print_json(content)
    elif isinstance(look, AlignmentLook) and asked.pharaoh:
        typer.echo(to_pharaoh(links(look.shown)))
    else:
        width = max(shutil.get_terminal_size().columns, NARROWEST)
        typer.echo(look.render(width, sys.stdout.isatty() and "NO_COLOR" not in os.environ))


def _print_links(subject: Subject, asked: Asked, text: Text) -> None:
    """A line of links for each pair of a text, or an object; nothing where the model can't read it."""
    if asked.files.html is not None:
        made = "translators made by `regard train`"
        raise ArgumentError(f"--html: one page of many pairs is for {made}, not {subject.name}")
    check_crosses(subject)
    which = which_attentions(None, asked.layer, asked.head)
    problems = 0

    def produce(write: Callable[[str], None]) -> None:
        nonlocal problems
        for number, source in enumerate(text.sources):
            target = None if text.targets is None else text.targets[number]
            found, said, problem = [], target or "", None
            if source.strip() and (target is None or target.strip()):
                try:
                    heard = subject.record([source], None if target is None else [target])
                    shown = look_at_alignment(readings(heard), which, "", texts=(source, target)).shown
                    found = sorted(links(shown))
                    said = target or " ".join(shown.target_words)
                except ArgumentError as error:
                    problem, problems = str(error), problems + 1
                    say(f"{text.name}, line {text.lines[number]}: no links: {problem}")
            content = {"line": text.lines[number], "source": source, "target": said, "links": found}
            content |= {} if problem is None else {"error": problem}
            write(json_line(content) if asked.as_json else f"{to_pharaoh(found)}\n")

    write_lines(None, produce)
    if problems:
        raise typer.Exit(1)


def _rank(subject: Subject, asked: Asked, text: Text) -> None:
    """How well each layer and head aligns a text."""
    assert asked.gold_file is not None and text.targets is not None
    gold = read_gold(asked.gold_file, list(zip(text.sources, text.targets, strict=True)))
    with progress(asked.quiet) as show:
        look, problems = look_at_ranking(subject, text.sources, text.targets, gold, text.name, show)
    for number, problem in problems.items():
        say(f"{text.name}, line {text.lines[number]}: left out: {problem}")
    _output(look, asked)
    if problems:
        raise typer.Exit(1)
