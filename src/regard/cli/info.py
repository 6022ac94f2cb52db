"""`regard info`: what a model directory holds."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from regard.cli.options import JsonOption, ModelArgument, QuietOption, print_json
from regard.runs.info import describe


def info(
    model: ModelArgument,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Describe a model: architecture, size, vocabularies, what it was trained on and what it reached."""
    facts = describe(model)
    if as_json:
        print_json(facts)
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(Text(key), Text(f"{value:,}" if isinstance(value, int) else str(value)))
    Console().print(table)
