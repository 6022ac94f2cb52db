"""`regard translate`: lines in, translations out."""

import json
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.cli.options import (
    BeamOption,
    DeviceOption,
    Format,
    FormatOption,
    ModelArgument,
    QuietOption,
    ThreadsOption,
    check_folder,
    number,
    one_line,
    open_model,
    progress,
    say,
    write_lines,
)
from regard.data import display_name
from regard.decoding import LengthPenalty, Stopping, WhenBehind, WhenCertain, WhenFull
from regard.errors import ArgumentError
from regard.runs.build import length_penalty
from regard.runs.streaming import Answer, Search, read_chunks, translate_chunks
from regard.runs.translator import Translation, Translator


class PenaltyName(StrEnum):
    """Length penalties."""

    none = "none"
    gnmt = "gnmt"
    average = "average"


class StoppingName(StrEnum):
    """Stopping rules of the beam search."""

    full = "full"
    behind = "behind"
    certain = "certain"


STOPPING: dict[StoppingName, Stopping] = {
    StoppingName.full: WhenFull(),
    StoppingName.behind: WhenBehind(),
    StoppingName.certain: WhenCertain(),
}


def translate(
    model: ModelArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Text, a sentence a line (.gz too); - is standard input.")
    ] = Path("-"),
    out: Annotated[Path | None, typer.Option(help="File to write, whole or not at all; else standard output.")] = None,
    beam: BeamOption = None,
    nbest: Annotated[int | None, typer.Option(min=1, help="Give the N best translations; at most the beam.")] = None,
    scores: Annotated[bool, typer.Option("--scores", help="Put the score and a tab before each translation.")] = False,
    form: FormatOption = Format.text,
    penalty: Annotated[
        PenaltyName | None,
        typer.Option(help="Length penalty: score = log P; GNMT's; log P / length^alpha. Else the model's own."),
    ] = None,
    alpha: Annotated[float | None, typer.Option(min=0.0, help="Strength of the length penalty.")] = None,
    stopping: Annotated[
        StoppingName,
        typer.Option(
            help="A sentence is done when its beam is full of ended hypotheses (fastest), when those running are "
            "behind as well, or when nothing running can win any more (slowest)."
        ),
    ] = StoppingName.behind,
    min_length: Annotated[int, typer.Option(min=0, help="Fewest tokens of a translation.")] = 0,
    max_length: Annotated[
        int | None, typer.Option(min=1, help="Most tokens; else in proportion to the source's.")
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Translate text line by line: line n of the output translates line n of the input.

        regard translate runs/en-de < in.txt > out.txt

        regard translate runs/en-de in.txt.gz --out out.txt --beam 5

    Works on streams: lines are answered in order while more come in, and a line typed is answered at once. An empty
    line gives an empty line. A line with more tokens than the model has positions gives an empty line and a message
    with its number on standard error; the exit code is then 1.

    --scores: SCORE TAB TRANSLATION. The score is the log-probability after the length penalty; nan where a line was
    too long.

    --nbest N: up to N lines a sentence, best first, as Moses and Marian write them: NUMBER ||| TRANSLATION ||| SCORE,
    where NUMBER counts the input lines from 0.

    --format jsonl: an object for each input line: line (from 1), source, translations (text, score, log_prob, tokens,
    token_log_probs, finished), and error where it could not be translated.
    """
    check_folder("--out", out, dash=True)
    translator = open_model(model, device, threads)
    search = _search(translator, beam, nbest, penalty, alpha, stopping, min_length, max_length)
    render = _renderer(form, nbest is not None, scores)
    name = display_name(file)
    lines = problems = 0
    began = time.perf_counter()

    def produce(write: Callable[[str], None]) -> None:
        nonlocal lines, problems
        # a bar would get between the lines of a terminal that is typed into or written to
        busy = (str(file) == "-" and sys.stdin.isatty()) or (out is None and sys.stdout.isatty())
        with progress(quiet or busy) as show:
            for answers in translate_chunks(translator, read_chunks(file), search):
                for answer in answers:
                    if answer.problem is not None:
                        problems += 1
                        say(f"{name}, line {answer.line}: not translated: {answer.problem}")
                write("".join(map(render, answers)))
                lines += len(answers)
                show("translated", lines, None)

    write_lines(out, produce)
    seconds = time.perf_counter() - began
    say(f"{lines:,} lines in {seconds:.1f} s, {lines / seconds:,.1f} a second", quiet)
    if problems:
        say(f"{problems:,} of {lines:,} lines were too long and are empty in the output")
        raise typer.Exit(1)


def _search(
    translator: Translator,
    beam: int | None,
    nbest: int | None,
    penalty: PenaltyName | None,
    alpha: float | None,
    stopping: StoppingName,
    min_length: int,
    max_length: int | None,
) -> Search:
    width = translator.decoding["beam"] if beam is None else beam
    if nbest is not None and nbest > width:
        raise ArgumentError(f"--nbest {nbest} is more than the beam of {width}: add --beam {nbest}")
    if max_length is not None and min_length > max_length:
        raise ArgumentError(f"--min-length {min_length} is more than --max-length {max_length}")
    return Search(
        beam=width,
        nbest=nbest or 1,
        penalty=_penalty(translator, penalty, alpha),
        stopping=STOPPING[stopping],
        min_length=min_length,
        max_length=max_length,
    )


def _penalty(translator: Translator, name: PenaltyName | None, alpha: float | None) -> LengthPenalty:
    defaults = translator.decoding
    chosen = defaults["penalty"] if name is None else name.value
    return length_penalty(chosen, defaults["alpha"] if alpha is None else alpha)


def _renderer(form: Format, numbered: bool, scores: bool) -> Callable[[Answer], str]:
    if form is Format.jsonl:
        return _json_line
    if numbered:
        return _numbered_lines
    return _scored_line if scores else lambda answer: f"{_best(answer)[0]}\n"


def _best(answer: Answer) -> tuple[str, float]:
    """Text and score of the best translation; nothing and nan where there is none."""
    if not answer.translations:
        return "", float("nan")
    return one_line(answer.translations[0].text), answer.translations[0].score


def _scored_line(answer: Answer) -> str:
    text, score = _best(answer)
    return f"{number(score)}\t{text}\n"


def _numbered_lines(answer: Answer) -> str:
    rows = [(one_line(found.text), found.score) for found in answer.translations] or [_best(answer)]
    return "".join(f"{answer.line - 1} ||| {text} ||| {number(score)}\n" for text, score in rows)


def _json_line(answer: Answer) -> str:
    content: dict[str, Any] = {
        "line": answer.line,
        "source": answer.source,
        "translations": [_fields(found) for found in answer.translations],
    }
    if answer.problem is not None:
        content["error"] = answer.problem
    return json.dumps(content, ensure_ascii=False) + "\n"


def _fields(found: Translation) -> dict[str, Any]:
    names = ("text", "score", "log_prob", "tokens", "token_log_probs", "finished")
    return {name: getattr(found, name) for name in names}
