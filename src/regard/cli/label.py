"""`regard label`: lines in; out comes a class for each line, or a tag for each word."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
import typer

from regard.cli.options import (
    DeviceOption,
    JsonLinesOption,
    ModelArgument,
    OutOption,
    QuietOption,
    ThreadsOption,
    check_folder,
    json_line,
    one_line,
    progress,
    say,
    write_lines,
)
from regard.data import display_name
from regard.errors import ArgumentError, CheckpointError
from regard.runs.label_streams import LabelledLine, TaggedLine, classify_chunks, tag_chunks
from regard.runs.labels import Classifier, Tagger
from regard.runs.load import load
from regard.runs.streaming import check_input, read_chunks

L = TypeVar("L", LabelledLine, TaggedLine)


def label(
    model: ModelArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Text, one a line (.gz too); - is standard input.")
    ] = Path("-"),
    only: Annotated[bool, typer.Option("--only", help="The label alone, without the text.")] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also how probable each class, or the tag, is.")
    ] = False,
    pairs: Annotated[bool, typer.Option("--pairs", help="Lines are pairs of texts, with a tab between.")] = False,
    words: Annotated[
        bool, typer.Option("--words", help="For a tagger: words stand between spaces, as they are.")
    ] = False,
    as_json: JsonLinesOption = False,
    out: OutOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Label text line by line: a class for each line, or a tag for each word, whichever the model was trained for.

        regard label runs/reviews < texts.txt > labelled.tsv

        regard label runs/names sentences.txt.gz --out tagged.conll

    A classifier writes LABEL TAB TEXT, so that line n of the output is about line n of the input. --probabilities puts
    a column CLASS=PROBABILITY for each class between them. A line is a pair of texts, with a tab between, where the
    model was trained on pairs, or --pairs says so. An empty line gives an empty line.

    A tagger writes a word a line, WORD TAB TAG, and an empty line after each sentence, as the CoNLL tasks do;
    --probabilities adds a column with that of the tag. A line of the input is a sentence. Its words are found as for
    alignments (punctuation is a word of its own), or stand between spaces with --words.

    Works on streams: lines are answered in order while more come in, and a line typed is answered at once. A line that
    is no pair where one is needed gives an empty line and a message with its number on standard error; the exit code
    is then 1.

    --json: an object for each input line: line (from 1), texts, label, probabilities, cut; of a tagger line, text,
    words (each with word, tag, probability).
    """
    check_folder("--out", out, dash=True)
    check_input(file)
    opened = open_labelling(model, device, threads)
    if isinstance(opened, Tagger):
        _refuse({"--pairs": pairs, "--only": only}, f"{model} is a tagger; this is for a classifier")
        tagged = _tagged_json if as_json else _tagged(probabilities)
        _run(file, out, quiet, tag_chunks(opened, read_chunks(file), words), tagged)
        return
    _refuse({"--words": words}, f"{model} is a classifier; this is for a tagger")
    if pairs and opened.pairs is False:
        raise ArgumentError(f"--pairs: {model} was trained on single texts")
    classified = _classified_json if as_json else _classified(only, probabilities, opened.labels)
    _run(file, out, quiet, classify_chunks(opened, read_chunks(file), pairs or bool(opened.pairs)), classified)


def open_labelling(directory: Path, device: str, threads: int | None) -> Classifier | Tagger:
    """Set the number of CPU threads and load a model that labels.

    Raises:
        CheckpointError: as for `regard.load`, or the model is for another task.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    found = load(directory, device=device)
    if not isinstance(found, Classifier | Tagger):
        raise CheckpointError(f"{directory}: is a {type(found).__name__}; regard label needs a classifier or a tagger")
    return found


def _refuse(options: Mapping[str, bool], why: str) -> None:
    given = [option for option, value in options.items() if value]
    if given:
        raise ArgumentError(f"{given[0]}: {why}")


def _run(file: Path, out: Path | None, quiet: bool, chunks: Iterator[Sequence[L]], render: Callable[[L], str]) -> None:
    """Write what comes of each line, and say how it went."""
    name, lines, problems, began = display_name(file), 0, 0, time.perf_counter()

    def produce(write: Callable[[str], None]) -> None:
        nonlocal lines, problems
        # a bar would get between the lines of a terminal that is typed into or written to
        busy = (str(file) == "-" and sys.stdin.isatty()) or (out is None and sys.stdout.isatty())
        with progress(quiet or busy) as show:
            for answers in chunks:
                for answer in answers:
                    if isinstance(answer, LabelledLine) and answer.problem is not None:
                        problems += 1
                        say(f"{name}, line {answer.line}: not labelled: {answer.problem}")
                write("".join(map(render, answers)))
                lines += len(answers)
                show("labelled", lines, None)

    write_lines(out, produce)
    seconds = time.perf_counter() - began
    say(f"{lines:,} lines in {seconds:.1f} s, {lines / seconds:,.1f} a second", quiet)
    if problems:
        say(f"{problems:,} of {lines:,} lines could not be labelled and are empty in the output")
        raise typer.Exit(1)


def _classified(only: bool, probabilities: bool, labels: Sequence[str]) -> Callable[[LabelledLine], str]:
    def render(answer: LabelledLine) -> str:
        if answer.found is None:
            return "\n"
        columns = [answer.found.label]
        if probabilities:
            columns += [f"{label}={answer.found.probabilities[label]:.6f}" for label in labels]
        if not only:
            columns += [one_line(text) for text in answer.texts]
        return "\t".join(columns) + "\n"

    return render


def _classified_json(answer: LabelledLine) -> str:
    content: dict[str, Any] = {"line": answer.line, "texts": answer.texts}
    if answer.found is not None:
        found = answer.found
        content |= {"label": found.label, "probabilities": found.probabilities, "cut": found.cut}
    if answer.problem is not None:
        content |= {"texts": [answer.text], "error": answer.problem}
    return json_line(content)


def _tagged(probabilities: bool) -> Callable[[TaggedLine], str]:
    def render(answer: TaggedLine) -> str:
        rows = [[word.word, word.tag, f"{word.probability:.6f}"][: 3 if probabilities else 2] for word in answer.words]
        return "".join("\t".join(row) + "\n" for row in rows) + "\n"

    return render


def _tagged_json(answer: TaggedLine) -> str:
    words = [word._asdict() for word in answer.words]
    return json_line({"line": answer.line, "text": answer.text, "words": words})
