"""The `regard` command: one sub-command a file, and one way for errors to reach the user."""

import sys

import typer

from regard.cli.attend import attend
from regard.cli.evaluate import evaluate
from regard.cli.example import example
from regard.cli.info import info
from regard.cli.score import score
from regard.cli.train import train
from regard.cli.translate import translate
from regard.errors import RegardError

app = typer.Typer(
    name="regard",
    help="Sequence models built on attention: train them on your own data, run them, and see what they look at.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (example, train, translate, evaluate, score, attend, info):
    app.command()(command)


def main() -> None:
    """Run the command line; errors meant for the user are one line on standard error and exit code 2."""
    try:
        app()
    except RegardError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _fail(message: str) -> None:
    print(f"regard: error: {message}", file=sys.stderr)
    sys.exit(2)
