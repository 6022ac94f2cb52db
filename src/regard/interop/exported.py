"""What directories written for other engines have in common: tokenizer files, names of tokens, a README."""

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tokenizers

from regard.data.normalization import join_normalizer, split_normalizer
from regard.data.tokenizers import Tokenizer
from regard.errors import MissingExtraError
from regard.files import write_text

JOINT: Final = "tokenizer.json"
SOURCE, TARGET = "source.tokenizer.json", "target.tokenizer.json"
README: Final = "README.md"
CONFIG: Final = "config.json"
STRIP: Final = {"type": "Strip", "strip_left": True, "strip_right": True}


@dataclass(frozen=True)
class Side:
    """What reads and writes texts of a model, as other programs have it: a file of the `tokenizers` library.

    Attributes:
        file: its name in the directory.
        content: JSON text; what the library makes of a text are the ids that this package gives it.
        size: how many ids there are.
    """

    file: str
    content: str
    size: int

    def save(self, directory: Path) -> None:
        """Write the file."""
        write_text(directory / self.file, self.content)

    def tokens(self, size: int) -> list[str]:
        """The token of each id as the library has it, all different; ids past the tokenizer's are named so.

        Args:
            size: how many ids the model has; where it has fewer than the tokenizer, the others are left out.
        """
        read = tokenizers.Tokenizer.from_str(self.content)
        known = [str(read.id_to_token(index)) for index in range(min(size, self.size))]
        return known + [f"<unused {index}>" for index in range(len(known), size)]


def sentence_sides(source: Tokenizer, target: Tokenizer) -> tuple[Side, Side]:
    """Both sides of a translation model: with one file where both languages share a tokenizer."""
    if source is target:
        joint = Side(JOINT, _of_sentences(source), source.vocab_size)
        return joint, joint
    return (
        Side(SOURCE, _of_sentences(source), source.vocab_size),
        Side(TARGET, _of_sentences(target), target.vocab_size),
    )


def text_side(tokenizer: Tokenizer) -> Side:
    """What reads and writes the running text of a language model, of which nothing is trimmed."""
    return Side(JOINT, _of_running_text(tokenizer), tokenizer.vocab_size)


def _of_sentences(tokenizer: Tokenizer) -> str:
    """The content of a file by which the library does what `Tokenizer.encode` does."""
    frame = json.loads(tokenizer.content)
    rules, rest = split_normalizer(frame.get("normalizer"))
    return json.dumps(frame | {"normalizer": join_normalizer([STRIP, *rules], rest)}, ensure_ascii=False)


def _of_running_text(tokenizer: Tokenizer) -> str:
    """The content of a file by which the library does what `Tokenizer.encode_text` and `text_of` do."""
    if tokenizer.kind not in ("bpe", "unigram"):
        return tokenizer.content
    frame = json.loads(tokenizer.content)
    rules, _ = split_normalizer(frame.get("normalizer"))  # what remains puts a space in front
    steps = [step for step in frame["decoder"]["decoders"] if step["type"] != "Strip"]  # and this takes it away
    frame["normalizer"] = join_normalizer(rules, None) if rules else None
    frame["decoder"] = frame["decoder"] | {"decoders": steps}
    return json.dumps(frame, ensure_ascii=False)


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


def write_readme(directory: Path, paragraphs: Sequence[str]) -> None:
    """Write README.md: paragraphs, with an empty line between each two."""
    write_text(directory / README, "\n\n".join(paragraph.strip("\n") for paragraph in paragraphs) + "\n")


def python(code: str) -> str:
    """A block of Python in Markdown."""
    return f"```python\n{code.strip()}\n```"
