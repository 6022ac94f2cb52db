"""`regard example`: write the example corpus."""

from pathlib import Path
from typing import Annotated

import typer

from regard.cli.options import JsonOption, QuietOption, print_json, say
from regard.data.example import write_example


def example(
    directory: Annotated[Path, typer.Argument(help="Folder to write into; made if it isn't there.")],
    seed: Annotated[int, typer.Option(help="Another seed draws another corpus from the same grammar.")] = 1,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write the example corpus: English–Chinese sentences with gold word alignments.

    Dates, weekdays, times, prices, quantities and phone numbers from a grammar, split into train, valid and test by
    value, and a recipe that learns them in two minutes on two cores:

        regard example demo/data

        regard train demo/data/recipe.toml --out demo/run
    """
    write_example(directory, seed)
    recipe = directory / "recipe.toml"
    if as_json:
        print_json({"directory": str(directory), "recipe": str(recipe), "seed": seed})
        return
    say(f"wrote the example corpus into {directory}; train on it with:", quiet)
    say(f"  regard train {recipe} --out {directory.parent / 'run'}", quiet)
