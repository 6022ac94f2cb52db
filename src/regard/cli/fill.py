"""`regard fill`: a masked language model says what may stand in the gaps of a text."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

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
    say,
    write_lines,
)
from regard.data import display_name
from regard.errors import ArgumentError, CheckpointError
from regard.runs.load import load
from regard.runs.masked_model import MASK, Candidate, MaskedModel
from regard.runs.streaming import check_input, read_chunks


def fill(
    model: ModelArgument,
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help=f'With a gap or more: "The dog {MASK}.".', show_default=False)
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Instead: texts, one a line (.gz too); - is standard input.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many candidates for each gap.")] = 5,
    as_json: JsonLinesOption = False,
    out: OutOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Say what may stand in the gaps of a text, each gap a [MASK], with probabilities.

        regard fill runs/bert "A dog [MASK] in the [MASK]."

        regard fill runs/bert --file texts.txt --top 1 --json > filled.jsonl

    For each gap the candidates, best first: PROBABILITY TAB TOKEN TAB THE TEXT WITH IT. Gaps are independent of each
    other: in the text with a candidate, the other gaps have their own best ones. With --file the lines of a gap begin
    with LINE TAB GAP, both counted from 1.

    A line without a gap, or with too many tokens, gives a message with its number on standard error; the exit code is
    then 1.

    --json: an object for each text: line (from 1), text, gaps (for each the candidates: text, piece, token,
    probability), and error where it could not be filled.
    """
    check_folder("--out", out, dash=True)
    if (text is None) == (file is None):
        raise ArgumentError("give a text or --file" + (", not both" if text is not None else ""))
    if file is not None:
        check_input(file)
    masked = open_masked(model, device, threads)
    write_gaps = _json if as_json else _numbered if file is not None else _plain
    if text is not None:
        found = masked.fill(text, top)
        write_lines(out, lambda write: write(write_gaps(masked, 1, text, found)))
        return
    assert file is not None
    name, problems = display_name(file), 0

    def produce(write: Callable[[str], None]) -> None:
        nonlocal problems
        number = 1
        for chunk in read_chunks(file):
            for line, gaps in _answers(masked, chunk, top):
                if isinstance(gaps, str):
                    problems += 1
                    say(f"{name}, line {number}: not filled: {gaps}")
                    if as_json:
                        write(json_line({"line": number, "text": line, "gaps": [], "error": gaps}))
                else:
                    write(write_gaps(masked, number, line, gaps))
                number += 1

    write_lines(out, produce)
    if problems:
        raise typer.Exit(1)


def open_masked(directory: Path, device: str, threads: int | None) -> MaskedModel:
    """Set the number of CPU threads and load a masked language model.

    Raises:
        CheckpointError: as for `regard.load`, or the model is for another task.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    found = load(directory, device=device)
    if not isinstance(found, MaskedModel):
        raise CheckpointError(f"{directory}: is a {type(found).__name__}; regard fill needs a masked language model")
    return found


def _answers(masked: MaskedModel, lines: list[str], top: int) -> Iterator[tuple[str, list[list[Candidate]] | str]]:
    """For each line its gaps, or why there are none; lines that can be filled are filled together."""
    problems = [masked.problem(line) for line in lines]
    good = iter(masked.fill_batch([line for line, why in zip(lines, problems, strict=True) if why is None], top))
    for line, why in zip(lines, problems, strict=True):
        yield line, why if why is not None else next(good)


def _plain(masked: MaskedModel, number: int, text: str, gaps: list[list[Candidate]]) -> str:
    blocks = ["".join(f"{row}\n" for row in rows) for rows in _rows(masked, text, gaps)]
    return "\n".join(blocks)


def _numbered(masked: MaskedModel, number: int, text: str, gaps: list[list[Candidate]]) -> str:
    return "".join(
        f"{number}\t{gap}\t{row}\n" for gap, rows in enumerate(_rows(masked, text, gaps), start=1) for row in rows
    )


def _rows(masked: MaskedModel, text: str, gaps: list[list[Candidate]]) -> list[list[str]]:
    return [
        [
            f"{one.probability:.4f}\t{one_line(one.text)}\t{one_line(_with(masked, text, gaps, place, one))}"
            for one in candidates
        ]
        for place, candidates in enumerate(gaps)
    ]


def _with(masked: MaskedModel, text: str, gaps: list[list[Candidate]], place: int, one: Candidate) -> str:
    """The text with a candidate in a gap, and the best ones in the others."""
    chosen = [one if number == place else candidates[0] for number, candidates in enumerate(gaps)]
    return masked.filled(text, [candidate.token for candidate in chosen])


def _json(masked: MaskedModel, number: int, text: str, gaps: list[list[Candidate]]) -> str:
    fields = [[vars(one) for one in candidates] for candidates in gaps]
    return json_line({"line": number, "text": text, "gaps": fields})
