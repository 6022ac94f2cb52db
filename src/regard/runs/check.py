"""Checking the data of a recipe before anything is trained on it."""

from pathlib import Path

from regard.data.checks import CleanCopy, Part, Progress, Report, TokenizerMaker, check
from regard.data.checks.comparison import Pairs
from regard.data.compression import SUFFIXES
from regard.data.given_tokenizers import read_tokenizer
from regard.data.tokenizers import Tokenizer
from regard.errors import CheckpointError
from regard.runs.corpus import given_tokenizers, train_tokenizers, training_readers, validation_reader
from regard.runs.directory import Tokenizers
from regard.runs.recipe import DataRecipe, Recipe, TokenizerRecipe


def check_recipe(
    recipe: Recipe,
    *,
    tokenizer: Path | None = None,
    examples: int = 5,
    clean: Path | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Report:
    """Check the training and validation part of a recipe.

    Args:
        recipe: `data` and `tokenizer` count.
        tokenizer: directory of a model, or a tokenizer's file, to check with; None: those that the recipe gives as
            files, else ones trained on a sample.
        examples: how many places to give for each finding.
        clean: a folder for a cleaned copy; it is written only if the report isn't spoiled (`Report.spoiled`).
        progress: is told how far it is.

    Raises:
        ArgumentError: the folder for the copy is not free.
        CheckpointError: the model's tokenizer is missing or damaged.
        DataError: a file cannot be read at all.
    """
    parts = data_parts(recipe.data)
    maker = _maker(recipe.tokenizer, Path(recipe.data.folder or "."), tokenizer)
    length = recipe.data.max_length
    if clean is None:
        return check(parts, tokenizers=maker, max_length=length, examples=examples, progress=progress)
    with CleanCopy(clean, parts) as copy:
        report = check(parts, tokenizers=maker, max_length=length, examples=examples, keep=copy.add, progress=progress)
        if not report.spoiled:
            copy.finish(report)
    return report


def data_parts(data: DataRecipe) -> list[Part]:
    """The parts of a recipe: the training parts, then the validation part if one is given.

    Raises:
        DataError: a kind of file that is not read, or columns that don't fit it.
    """
    training = data.parts()
    found = []
    for number, (part, reader) in enumerate(zip(training, training_readers(data), strict=True), start=1):
        several = len(training) > 1
        found.append(
            Part(
                f"training {number}" if several else "training",
                reader,
                stem=f"train{number}" if several else "train",
                suffixes=_suffixes(part.source, part.target),
            )
        )
    valid = validation_reader(data)
    if valid is not None:
        found.append(Part("validation", valid, True, "valid", _suffixes(data.valid_source, data.valid_target)))
    return found


def _suffixes(source: str | None, target: str | None) -> tuple[str, str]:
    """Those of two files, if they tell the sides apart: train.tok.en.gz gives .en."""
    names = []
    for name in (source or "", target or ""):
        plain = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
        names.append(Path(plain).suffix)
    return (names[0], names[1]) if all(names) and names[0] != names[1] else (".src", ".tgt")


def _maker(recipe: TokenizerRecipe, folder: Path, given: Path | None) -> TokenizerMaker:
    finished = given_tokenizers(recipe, folder) if given is None else _read(given)
    if finished is not None:
        sides = finished.source, finished.target
        return lambda pairs: sides

    def train(pairs: Pairs) -> tuple[Tokenizer, Tokenizer]:
        made = train_tokenizers(recipe, list(pairs), folder)
        return made.source, made.target

    return train


def _read(path: Path) -> Tokenizers:
    if path.is_dir():
        found = Tokenizers.load(path)
        if found is None:
            raise CheckpointError(f"{path}: there is no tokenizer in this folder")
        return found
    one = read_tokenizer(path)
    return Tokenizers(one, one)
