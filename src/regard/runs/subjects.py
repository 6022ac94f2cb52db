"""What a model is to those who record it or look at it: something that reads texts."""

from collections.abc import Sequence
from typing import Literal, Protocol

from regard.errors import ArgumentError
from regard.recording import Recording
from regard.runs.jobs import too_long

SubjectKind = Literal["translator", "encoder-decoder", "decoder", "encoder"]


class Subject(Protocol):
    """A model that reads texts, and whose attention can be recorded meanwhile."""

    @property
    def name(self) -> str:
        """The class of the model."""
        ...

    @property
    def kind(self) -> SubjectKind:
        """What it reads: a text, or for "translator" and "encoder-decoder" also what is said to it."""
        ...

    def record(
        self,
        texts: Sequence[str],
        targets: Sequence[str] | None = None,
        *,
        where: str = "*",
        heads: Sequence[int] | None = None,
        generate: int | None = None,
    ) -> Recording:
        """What the attentions did with some texts, read as one padded batch in this order.

        Args:
            texts: none of them blank.
            targets: what is said to each text, token by token as given; None: what the model itself says to it. Only
                for "translator" and "encoder-decoder".
            where: pattern over the paths of attentions, with `*` and `?`.
            heads: which query heads are kept; None is all.
            generate: let the model write up to so many tokens instead, and record that; for "decoder" and
                "encoder-decoder".

        Raises:
            ArgumentError: a text is blank, or has more tokens than the model has positions; unequal numbers; targets
                or `generate` don't go with this kind of model; the pattern or the heads match nothing.
            UnsupportedError: the model has no attention that can be recorded, or reads something else than text.
        """
        ...


def check_texts(texts: Sequence[str], targets: Sequence[str] | None) -> None:
    """Check that there are texts, none of them blank, and a target for each if there are targets.

    Raises:
        ArgumentError: that isn't so.
    """
    if not texts:
        raise ArgumentError("there is no text")
    if targets is not None and len(targets) != len(texts):
        raise ArgumentError(f"{len(texts)} texts and {len(targets)} targets: expected one for each")
    for side, rows in (("text", texts), ("target", targets or ())):
        for number, row in enumerate(rows, start=1):
            if not row.strip():
                raise ArgumentError(f"{side} {number} is blank")


def check_lengths(side: str, lengths: Sequence[int], most: int) -> None:
    """Check that no text has more tokens than a model reads.

    Args:
        side: what the texts are called.
        lengths: of each, in tokens.
        most: how many the model reads.

    Raises:
        ArgumentError: that isn't so; of several texts, which.
    """
    for number, tokens in enumerate(lengths, start=1):
        problem = too_long(side, tokens, most)
        if problem:
            raise ArgumentError(problem if len(lengths) == 1 else f"text {number}: {problem}")
