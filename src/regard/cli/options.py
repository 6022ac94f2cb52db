"""Options that several commands have, and what they share in handling them.

Every command keeps to this: results go to standard output, everything else to standard error. `--quiet` leaves nothing
there but errors and warnings; `--json` makes the result JSON, an object a line where a command answers line by line;
`--json-file FILE`, where it is offered, writes the same beside what is printed.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from regard.data import Pair, ParallelText, open_reader, read_parallel, read_table
from regard.errors import ArgumentError, DataError
from regard.files import write_whole
from regard.runs.load import Opened, load_translator, open_model_directory
from regard.runs.translator import Translator

ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="Directory made by `regard train`, or of a Hugging Face model.", show_default=False
    ),
]
BeamOption = Annotated[int | None, typer.Option(min=1, help="Width of the beam, 1 for greedy; else the model's own.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="CPU threads.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Nothing on standard error but errors and warnings.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
JsonLinesOption = Annotated[bool, typer.Option("--json", help="Print a JSON object for each line.")]
JsonFileOption = Annotated[Path | None, typer.Option("--json-file", help="Also write the result as JSON to this file.")]
OutOption = Annotated[Path | None, typer.Option(help="File to write, whole or not at all; else standard output.")]
SourceOption = Annotated[Path | None, typer.Option(help="Source sentences, one a line (.gz too, - is standard input).")]
TargetOption = Annotated[Path | None, typer.Option(help="Their translations, line by line.")]
PairsOption = Annotated[
    Path | None,
    typer.Option(help="Instead of both: a table (tab-separated, .csv, .jsonl, .parquet; - is tabs on standard input)."),
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(help="With --pairs: the columns of source and target, numbers from 1 or names: en,de. Else 1,2."),
]


def open_model(directory: Path, device: str, threads: int | None) -> Translator:
    """Set the number of CPU threads and load a model for translation.

    Raises:
        CheckpointError, RecipeError: as for `load_translator`.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    return load_translator(directory, device=device)


def open_any(directory: Path, device: str, threads: int | None) -> Opened:
    """Set the number of CPU threads and load a model, whatever it is for.

    Raises:
        CheckpointError, RecipeError: as for `regard.load`.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    return open_model_directory(directory, device=device)


def read_pairs(source: Path | None, target: Path | None, pairs: Path | None, columns: str | None) -> ParallelText:
    """Parallel text from --source and --target, or from --pairs: whatever training reads, or a table on standard input.

    Raises:
        ArgumentError: neither or both are given, or the columns are not two numbers or two names, or go with no table.
        DataError: a file cannot be used, or a row of it.
        MissingExtraError: the library for this kind of table is not installed.
    """
    if pairs is None and columns is not None:
        raise ArgumentError("--columns belongs to --pairs")
    if (source is None) != (target is None) or (source is None) == (pairs is None):
        raise ArgumentError("give --source and --target, or --pairs")
    if pairs is not None:
        return _read_table(pairs, columns or "1,2")
    assert source is not None and target is not None
    return read_parallel(source, target)


def _read_table(path: Path, columns: str) -> ParallelText:
    names = [name.strip() for name in columns.split(",")]
    numbers = [int(name) for name in names if name.isdecimal()]
    if len(names) != 2 or not all(names) or len(numbers) == 1 or 0 in numbers:
        raise ArgumentError(f"--columns {columns}: expected two numbers from 1 or two names, for example 1,2 or en,de")
    if str(path) == "-":
        if not numbers:
            raise ArgumentError(f"--columns {columns}: columns of a table on standard input are numbers from 1")
        return read_table(path, (numbers[0] - 1, numbers[1] - 1))
    reader = open_reader(Path(), pairs=str(path), columns=numbers or names)
    pairs, lines = [], []
    for row in reader.rows():
        if row.problem is not None:
            raise DataError(row.problem)
        pairs.append(Pair(row.source, row.target))
        lines.append(row.line)
    if not pairs:
        raise DataError(f"{reader.name}: there is no pair in it")
    return ParallelText(tuple(pairs), tuple(lines), reader.name)


def check_folder(option: str, path: Path | None, dash: bool = False) -> None:
    """Refuse, before any work, a file to write whose folder is missing.

    Args:
        option: for the message.
        path: the file, or None.
        dash: whether `-` stands for standard output.

    Raises:
        ArgumentError: there is no such folder, or the path is a folder, or `-` where that means nothing.
    """
    if path is None or (dash and str(path) == "-"):
        return
    if str(path) == "-":
        raise ArgumentError(f"{option} -: expected the name of a file")
    if path.is_dir():
        raise ArgumentError(f"{option} {path}: is a folder, expected the name of a file")
    if not path.parent.is_dir():
        raise ArgumentError(f"{option} {path}: there is no folder {path.parent}")


def check_outputs(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Refuse, before any work, files to write that are one another, or a file that is read.

    Args:
        outputs: by their options.
        inputs: likewise; `-` is no file.

    Raises:
        ArgumentError: two of them are the same file.
    """
    known = {path.resolve(): name for name, path in inputs.items() if path is not None and str(path) != "-"}
    for option, path in outputs.items():
        if path is None:
            continue
        other = known.setdefault(path.resolve(), option)
        if other != option:
            raise ArgumentError(f"{option} {path}: is the same file as {other}; choose another name")


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a file lies in a folder, or in one inside it, by its name or by what a link at its name leads to."""
    places = path.parent.resolve() / path.name, path.resolve()
    return any(place.is_relative_to(folder.resolve()) for place in places)


def write_lines(out: Path | None, produce: Callable[[Callable[[str], None]], None]) -> None:
    """Let `produce(write)` write text: to the file `out`, whole or not at all, or piece by piece to standard output.

    Text is UTF-8 whatever the locale, so that lines are the same everywhere.
    """
    if out is None or str(out) == "-":
        produce(_writer(sys.stdout.buffer))
        return

    def fill(path: Path) -> None:
        with open(path, "wb") as file:
            produce(_writer(file))

    write_whole(out, fill)


def _writer(file: BinaryIO) -> Callable[[str], None]:
    def write(text: str) -> None:
        file.write(text.encode("utf-8", "replace"))
        file.flush()

    return write


def json_line(content: Any) -> str:
    """`content` as JSON on a line of its own; numbers in it must be finite (see `finite`)."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"


def print_json(content: Any) -> None:
    """Print `content` on standard output as indented JSON, UTF-8 whatever the locale."""
    text = json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False)
    write_lines(None, lambda write: write(text + "\n"))


def finite(value: float) -> float | None:
    """`value`, or None where JSON has no number for it: nan and the infinities."""
    return value if math.isfinite(value) else None


def one_line(text: str) -> str:
    """`text` on one line: a model may generate any character, and a line more would shift all that follow."""
    return text.replace("\r", " ").replace("\n", " ")


def number(value: float) -> str:
    """A score as text."""
    return f"{value:.6f}"


def say(message: str, quiet: bool = False) -> None:
    """A line on standard error."""
    if not quiet:
        typer.echo(message, err=True)


@contextmanager
def progress(hidden: bool = False) -> Iterator[Callable[[str, int, int | None], None]]:
    """Gives a function that shows what is being done, how many sentences are done and of how many, if it is known.

    Shown on standard error where that is a terminal, unless `hidden`.
    """
    console = Console(file=sys.stderr)
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=hidden or not console.is_terminal,
    )
    task = bar.add_task("", total=None)
    with bar:
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
