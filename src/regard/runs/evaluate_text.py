"""`evaluate_text`: how well a language model predicts a text."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from regard.data.documents import Unit, split_documents
from regard.runs.language_model import LanguageModel
from regard.runs.text_input import read_text
from regard.runs.text_reading import NAMES
from regard.runs.windows import Perplexity

__all__ = ["TextEvaluation", "evaluate_text", "read_text"]


@dataclass(frozen=True)
class TextEvaluation:
    """What `evaluate_text` found.

    Attributes:
        figures: perplexity, bits per byte, loss, accuracy, and of how many tokens and bytes.
        document: what a document of the text is.
        documents: how many there are; None: the text was taken as one that nothing closes.
        apart: whether each was predicted from its own beginning.
        closed: whether the end that closes each was predicted too.
        context: the fewest tokens that a token was predicted from, but for those near the beginning.
        seconds: the time that it took.
        notes: what a reader has to know.
    """

    figures: Perplexity
    document: Unit
    documents: int | None
    apart: bool
    closed: bool
    context: int
    seconds: float
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values for `json.dump`; what is no number is None."""
        figures = {name: _finite(value) for name, value in asdict(self.figures).items()}
        speed = {"seconds": self.seconds, "tokens_per_second": self.figures.tokens / self.seconds}
        documents = {"document": self.document, "documents": self.documents, "apart": self.apart, "closed": self.closed}
        return {**figures, **documents, "context": self.context, **speed, "notes": list(self.notes)}

    def lines(self) -> list[str]:
        """The same for people to read."""
        figures = self.figures
        rows = [
            ("perplexity", f"{figures.perplexity:,.2f} per token (loss {figures.loss:.4f})"),
            ("bits per byte", f"{figures.bits_per_byte:.4f}"),
            ("accuracy", f"{100 * figures.accuracy:.1f} % of the tokens are the most probable ones"),
            ("text", f"{figures.tokens:,} tokens, {figures.bytes:,} bytes"),
            ("documents", self._documents()),
            (
                "windows",
                f"of {figures.length:,} tokens, each {figures.stride:,} further: "
                f"every token has at least {self.context:,} before it, or all there are",
            ),
            ("speed", f"{figures.tokens / self.seconds:,.0f} tokens a second"),
        ]
        return [f"{name:<14} {value}" for name, value in rows] + [f"{'note':<14} {note}" for note in self.notes]

    def _documents(self) -> str:
        if self.documents is None:
            return "one, the whole text"
        name = NAMES[self.document] if self.documents != 1 else self.document
        how = "each from its own beginning" if self.apart else "one after another"
        return f"{self.documents:,} {name}, {how}, {'with' if self.closed else 'without'} the <eos> that closes it"


def evaluate_text(
    model: LanguageModel,
    text: str,
    *,
    document: Unit | None = None,
    stride: int | None = None,
    length: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TextEvaluation:
    """Judge a language model by how well it predicts a text, every token of it once.

    The text is read as in training, where the model's directory says how that was: packed documents are predicted each
    from its own beginning, those of a stream one after another, and their ends too. Other texts are predicted as one,
    in which line ends are characters.

    Args:
        model: the model.
        text: running text, however long.
        document: what a document of it is; None: what it was in training, or the whole if that isn't known.
        stride, length: of the windows that are read; see `LanguageModel.perplexity`.
        progress: is told how many tokens have been predicted, and of how many.

    Raises:
        ArgumentError: there is nothing to predict, or stride or length are out of range.
    """
    began = time.perf_counter()
    reading = model.reading
    trained = "file" if reading is None else reading.document
    unit, packed = document or trained, reading is not None and reading.layout == "packed"
    whole = unit == "file" and not packed  # cut from what goes on: nothing ends with it
    documents = [text] if whole else split_documents(text, unit)
    if whole:
        figures = model.perplexity(text, stride, length, progress)
    else:
        figures = model.perplexity_of_documents(documents, stride, length, progress)
    seconds = time.perf_counter() - began
    notes = []
    if reading is not None and unit != trained:
        notes.append(f"in training a document was a {trained}, and here it is a {unit}")
    if model.begin is None:
        of = "" if whole else " of a document" if reading is None or packed else " of all"
        notes.append(f"the first token{of} is not predicted: the model has no start symbol to predict it from")
    if unknown := model.unknown(*documents):
        notes.append(
            f"{unknown:,} tokens are <unk>, of which the model needn't say which they are: "
            "don't compare these figures with those of a model that knows them"
        )
    return TextEvaluation(
        figures,
        document=unit,
        documents=None if whole else len(documents),
        apart=not whole and (reading is None or packed),
        closed=not whole and reading is not None and bool(model.end),
        context=figures.length - figures.stride + 1,
        seconds=seconds,
        notes=tuple(notes),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
