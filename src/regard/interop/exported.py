"""What directories written for other engines have in common: tokenizer files, names of tokens, a README."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tokenizers

from regard.data.tokenizers import Tokenizer
from regard.errors import MissingExtraError
from regard.files import write_text

JOINT: Final = "tokenizer.json"
SOURCE, TARGET = "source.tokenizer.json", "target.tokenizer.json"
README: Final = "README.md"


@dataclass(frozen=True)
class Side:
    """One language of a model, as other programs read it: a file of the `tokenizers` library and names of tokens.

    Attributes:
        tokenizer: what reads and writes texts.
        file: name of its file in the directory.
    """

    tokenizer: Tokenizer
    file: str

    def save(self, directory: Path) -> None:
        """Write the tokenizer's file."""
        self.tokenizer.save(directory / self.file)

    def tokens(self, size: int) -> list[str]:
        """The token of each id as the file has it, all different; ids past the tokenizer's are named so.

        Args:
            size: how many ids the model has, as many as the tokenizer or more.
        """
        read = tokenizers.Tokenizer.from_str(self.tokenizer.content)
        known = [str(read.id_to_token(index)) for index in range(min(size, self.tokenizer.vocab_size))]
        return known + [f"<unused {index}>" for index in range(len(known), size)]


def sides(source: Tokenizer, target: Tokenizer) -> tuple[Side, Side]:
    """Both sides of a translation model: with one file where both languages share a tokenizer."""
    if source is target:
        return Side(source, JOINT), Side(source, JOINT)
    return Side(source, SOURCE), Side(target, TARGET)


def library(name: str, extra: str, why: str) -> Any:
    """A module that an extra brings.

    Args:
        name: of the module.
        extra: what brings it.
        why: what needs it, the beginning of the message.

    Raises:
        MissingExtraError: it isn't installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"{why} needs {error.name}: pip install 'regard[{extra}]'") from error


def write_readme(directory: Path, *paragraphs: str) -> None:
    """Write README.md: paragraphs, with an empty line between each two."""
    write_text(directory / README, "\n\n".join(paragraph.strip("\n") for paragraph in paragraphs) + "\n")


def python(code: str) -> str:
    """A block of Python in Markdown."""
    return f"```python\n{code.strip()}\n```"
