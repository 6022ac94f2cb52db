"""From the names of tokens back to their ids."""

from collections.abc import Sequence

from regard.data.tokenizers import Tokenizer
from regard.errors import ArgumentError


class PieceNames:
    """The names of a tokenizer's ids, to be looked up: the inverse of `Tokenizer.pieces`.

    Args:
        tokenizer: whose names.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._ids: dict[str, list[int]] = {}
        for index, name in enumerate(tokenizer.pieces(range(tokenizer.vocab_size))):
            self._ids.setdefault(name, []).append(index)

    def ids(self, pieces: Sequence[str]) -> list[int]:
        """The id of each piece.

        Raises:
            ArgumentError: a piece is not in the vocabulary, or several ids have its name.
        """
        return [self._id(piece) for piece in pieces]

    def _id(self, piece: str) -> int:
        found = self._ids.get(piece, [])
        if not found:
            raise ArgumentError(f"no piece {piece!r} in the vocabulary")
        if len(found) > 1:
            raise ArgumentError(f"{piece!r} is the name of the ids {', '.join(map(str, found))}: give ids instead")
        return found[0]
