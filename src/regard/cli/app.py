"""The `regard` command: one sub-command a file, and one way for errors to reach the user."""

import io
import os
import sys

import typer
from typer.main import get_group

from regard.cli.attend import attend
from regard.cli.average import average
from regard.cli.check_data import check_data
from regard.cli.compare import compare
from regard.cli.evaluate import evaluate
from regard.cli.example import example
from regard.cli.export import export
from regard.cli.fill import fill
from regard.cli.generate import generate
from regard.cli.grouped_help import GroupedCommand
from regard.cli.info import info
from regard.cli.label import label
from regard.cli.record import record
from regard.cli.score import score
from regard.cli.serve import serve
from regard.cli.tokenize import detokenize, tokenize
from regard.cli.train import train
from regard.cli.translate import translate
from regard.errors import RegardError

app = typer.Typer(
    name="regard",
    help="Sequence models built on attention: train them on your own data, run them, and see what they look at.",
    epilog="Commands, options and files complete with the Tab key after `regard --install-completion` and in a new "
    "terminal.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (
    example,
    check_data,
    train,
    translate,
    generate,
    fill,
    label,
    evaluate,
    score,
    attend,
    record,
    tokenize,
    detokenize,
    average,
    compare,
    serve,
    export,
    info,
)
for command in COMMANDS:
    app.command(cls=GroupedCommand)(command)


def main() -> None:
    """Run the command line and leave with its exit code.

    Errors meant for the user are one line on standard error and exit code 2; a command line that can't be understood
    gets a second line that says where help is. Ctrl-C is 130, and a reader that leaves (`| head`) 1, both without a
    word.
    """
    # A terminal that isn't UTF-8 shows ? for what it lacks. Standard error escapes it by itself; what other programs
    # read is written as UTF-8 (see `write_lines`).
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    arguments = sys.argv[1:] or ["--help"]
    try:
        # Typer answers completion here, turns Ctrl-C into 130, and leaves quietly where the reader has left
        code = app(arguments, prog_name="regard", standalone_mode=False)
    except typer.TyperException as error:
        _fail(" ".join(error.format_message().split()).replace("Value error, ", ""), _hint(arguments[0]))
    except RegardError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    sys.exit(code)


def _hint(first: str) -> str:
    return f"help: regard {first} -h" if first in get_group(app).commands else "help: regard -h"


def _fail(message: str, *more: str) -> None:
    print(f"regard: error{_process()}: {message}", *more, sep="\n", file=sys.stderr)
    sys.exit(2)


def _process() -> str:
    """Which of several processes this is (`torchrun` says so), unless it is the first or the only one."""
    rank = os.environ.get("RANK", "0")
    return "" if rank == "0" else f" (process {rank})"
