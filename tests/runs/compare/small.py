"""A comparison that takes seconds: two small transformers that learn to turn four words round."""

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from regard.runs.compare.compare import compare
from regard.runs.compare.group import Reporter
from regard.runs.compare.members import Member
from regard.runs.compare.results import Comparison
from regard.runs.compare.settings import Setup, read_setup
from regard.runs.logs import log_listener
from regard.runs.train import Run

WORDS = ("red", "blue", "green", "small", "large", "old", "new")
ROWS = [f"the {a} {b} {c}" for a in WORDS for b in WORDS for c in ("dog", "cat", "bird", "fish")]
PARTS = {"train": ROWS[:160], "valid": ROWS[160:180], "test": ROWS[180:]}

RECIPE = """
[data]
source = "train.en"
target = "train.de"
valid_source = "valid.en"
valid_target = "valid.de"

[tokenizer]
kind = "word"

[model]
encoder_layers = 1
decoder_layers = 1
heads = 2
dropout = 0.0

[training]
steps = 9
tokens_per_batch = 256
warmup = 5
learning_rate = 1e-2
validation_sentences = 2
average = 2
device = "cpu"

[decoding]
beam = 1

[compare]
title = "Two sizes"
test_source = "test.en"
test_target = "test.de"
alignments = "test.align"
validations = 3
sentences = 2

[[compare.models]]
label = "Narrow"
model = { width = 8, feedforward = 16 }

[[compare.models]]
label = "Wide"
model = { width = 16, feedforward = 32 }
training = { learning_rate = 5e-3 }
"""


def write_small(folder: Path, recipe: str = RECIPE) -> Path:
    """Write the corpus and the recipe; gives the recipe's path."""
    for name, rows in PARTS.items():
        folder.joinpath(f"{name}.en").write_text("".join(f"{row}\n" for row in rows))
        folder.joinpath(f"{name}.de").write_text("".join(f"{' '.join(reversed(row.split()))}\n" for row in rows))
        folder.joinpath(f"{name}.align").write_text("0-3 1-2 2-1 3-0\n" * len(rows))
    path = folder / "small.toml"
    path.write_text(recipe)
    return path


class Told:
    """A reporter's ear."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.counted: list[str] = []
        self.reporter = Reporter(self.said.append, self._counting, quiet=True)

    @contextmanager
    def _counting(self):
        yield lambda what, done, total: self.counted.append(what)


class Trainer:
    """Trains members in this process, which is much quicker than starting one; remembers which."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.trained: list[str] = []
        self.stop_at = stop_at

    def __call__(self, member: Member, quiet: bool) -> None:
        if self.stop_at == len(self.trained):
            raise KeyboardInterrupt
        self.trained.append(member.directory.name)
        Run(member.recipe, member.directory, lambda text: None).train([log_listener(member.directory / "log.jsonl")])


def run_small(
    recipe: Path,
    out: Path,
    settings: Sequence[str] = (),
    train: Trainer | None = None,
    told: Told | None = None,
    **more,
) -> Comparison:
    return compare(setup(recipe, settings, **more), out, (told or Told()).reporter, train or Trainer())


def setup(recipe: Path, settings: Sequence[str] = (), **more) -> Setup:
    return read_setup([recipe], settings, **more)
