"""What stands at the positions of a text that a Hugging Face tokenizer made."""

from collections.abc import Callable, Sequence
from typing import Any

from regard.insight.tokens import Tokens


def reader_of(tokenizer: Any) -> Callable[[str, Sequence[int], Sequence[bool]], Tokens]:
    """What makes `Tokens` of the ids of a sequence, by a tokenizer of transformers."""
    raise NotImplementedError
