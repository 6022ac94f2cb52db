"""What directories written for other engines have in common: tokenizer files, names of tokens, a README."""

import importlib
import json
from collections.abc import Mapping, Sequence
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
EXTRA_LENGTH: Final = 10
"""What a translation may have beyond `max_ratio` times its source's tokens."""
SPECIALS_ARE_FOUND: Final = (
    "The tokenizer file finds the names of special tokens in a text, such as `</s>`, if the tokenizer came from "
    "elsewhere: take them out of texts that you don't trust. `regard` doesn't find them, and it also reads the "
    "character `▁` itself, and separators such as U+001C at the ends of a text, otherwise."
)
"""For a README: where a file of the `tokenizers` library does something else than this package."""


@dataclass(frozen=True)
class Side:
    """What reads and writes texts of a model, as other programs have it: a file of the `tokenizers` library.

    Attributes:
        file: its name in the directory.
        content: JSON text; what the library makes of a text are the ids that this package gives it, but where the
            text has the name of a special token of a given tokenizer (which the library takes for the token), the
            character ▁ itself, or a control character that `str.strip` takes for white space at one of its ends.
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
        MissingExtraError: it isn't installed, or is and can't be loaded.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{why} needs {error.name}: pip install 'regard[{extra}]'") from error
    except ImportError as error:
        raise MissingExtraError(f"{why} needs {name}, which is installed and can't be loaded: {error}") from error


def least_length(decoding: Mapping[str, Any], positions: int) -> int:
    """The fewest tokens of a translation by a model's defaults.

    Args:
        decoding: the defaults; see `regard.runs.frames`.
        positions: the most tokens that the model has positions for.
    """
    own = decoding.get("max_length")
    return min(decoding.get("min_length") or 0, positions if own is None else own, positions)


def most_length(decoding: Mapping[str, Any], positions: int, count: str) -> str:
    """The most tokens of a translation by a model's defaults: a number, or a formula in Python.

    Args:
        decoding, positions: see `least_length`.
        count: Python for how many tokens the source has, without what stands around them.
    """
    if (own := decoding.get("max_length")) is not None:
        return str(min(own, positions))
    most = f"int({decoding['max_ratio']} * {count})"
    least = least_length(decoding, positions)
    return f"min({f'max({most}, {least})' if least else most} + {EXTRA_LENGTH}, {positions})"


def differences(notes: Sequence[str]) -> str:
    """For a README: which defaults of a model its program doesn't have, or that it has them all."""
    if not notes:
        return (
            "The program has the model's defaults, and finds what `regard translate` finds with them, but for rounding."
        )
    lines = "\n".join(f"- {note}" for note in notes)
    return f"Translations can be others than those of `regard translate`:\n\n{lines}"


def write_readme(directory: Path, paragraphs: Sequence[str]) -> None:
    """Write README.md: paragraphs, with an empty line between each two."""
    write_text(directory / README, "\n\n".join(paragraph.strip("\n") for paragraph in paragraphs) + "\n")


def python(code: str) -> str:
    """A block of Python in Markdown."""
    return f"```python\n{code.strip()}\n```"
