"""`evaluate_text`: how well a language model predicts a text."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from regard.runs.language_model import LanguageModel
from regard.runs.text_input import read_text
from regard.runs.windows import Perplexity

__all__ = ["TextEvaluation", "evaluate_text", "read_text"]


@dataclass(frozen=True)
class TextEvaluation:
    """What `evaluate_text` found.

    Attributes:
        figures: perplexity, bits per byte, loss, accuracy, and of how many tokens and bytes.
        context: the fewest tokens that a token was predicted from, but for those near the beginning of the text.
        seconds: the time that it took.
        notes: what a reader has to know.
    """

    figures: Perplexity
    context: int
    seconds: float
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values for `json.dump`; what is no number is None."""
        figures = {name: _finite(value) for name, value in asdict(self.figures).items()}
        speed = {"seconds": self.seconds, "tokens_per_second": self.figures.tokens / self.seconds}
        return {**figures, "context": self.context, **speed, "notes": list(self.notes)}

    def lines(self) -> list[str]:
        """The same for people to read."""
        figures = self.figures
        rows = [
            ("perplexity", f"{figures.perplexity:,.2f} per token (loss {figures.loss:.4f})"),
            ("bits per byte", f"{figures.bits_per_byte:.4f}"),
            ("accuracy", f"{100 * figures.accuracy:.1f} % of the tokens are the most probable ones"),
            ("text", f"{figures.tokens:,} tokens, {figures.bytes:,} bytes"),
            (
                "windows",
                f"of {figures.length:,} tokens, each {figures.stride:,} further: "
                f"every token has at least {self.context:,} before it, or all there are",
            ),
            ("speed", f"{figures.tokens / self.seconds:,.0f} tokens a second"),
        ]
        return [f"{name:<14} {value}" for name, value in rows] + [f"{'note':<14} {note}" for note in self.notes]


def evaluate_text(
    model: LanguageModel,
    text: str,
    *,
    stride: int | None = None,
    length: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TextEvaluation:
    """Judge a language model by how well it predicts a text, every token of it once.

    Args:
        model: the model.
        text: running text, however long; it is taken as one text.
        stride, length: of the windows that are read; see `LanguageModel.perplexity`.
        progress: is told how many tokens have been predicted, and of how many.

    Raises:
        ArgumentError: there is nothing to predict, or stride or length are out of range.
    """
    began = time.perf_counter()
    figures = model.perplexity(text, stride, length, progress)
    seconds = time.perf_counter() - began
    notes = []
    if model.begin is None:
        notes.append("the first token is not predicted: the model has no start symbol to predict it from")
    if unknown := model.unknown(text):
        notes.append(
            f"{unknown:,} tokens are <unk>, of which the model needn't say which they are: "
            "don't compare these figures with those of a model that knows them"
        )
    return TextEvaluation(figures, figures.length - figures.stride, seconds, tuple(notes))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
