"""What a token looked at, and what looked at it, as shares of each piece of a text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from regard.errors import ArgumentError
from regard.insight.reading import (
    Numbers,
    Reading,
    check_alike,
    check_head,
    check_positions,
    frozen,
    mean_name,
    numbers,
    plain,
    texts_of,
)
from regard.insight.rollout import RollOut
from regard.insight.tokens import Tokens

Direction = Literal["looked at", "looked at by", "gathered from"]


@dataclass(frozen=True)
class Piece:
    """A word, or a token that is in none.

    Attributes:
        text: what stands there.
        share: of the attention.
        special: whether it is no part of the text.
        positions: of its tokens.
    """

    text: str
    share: float
    special: bool
    positions: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Highlight:
    """A text and how much of each position of it belongs to a chosen token.

    Attributes:
        direction: "looked at": shares are what the chosen query gave to each key; "looked at by": what each query gave
            to the chosen key; "gathered from": a roll-out.
        chosen: the token or word, as it is shown.
        positions: those chosen.
        sequence: of which sequence.
        other: the sequence that the shares are of, L positions.
        view: which layer and head.
        shares: (L,).
        tokens: what stands at the L positions; None where that isn't known.
        detail: said of it in the headline, after the other sequence.
    """

    direction: Direction
    chosen: str
    positions: tuple[int, ...]
    sequence: str
    other: str
    view: str
    shares: Numbers
    tokens: Tokens | None
    detail: str = ""

    @property
    def headline(self) -> str:
        """What is shown, in words; of a decoder, also that a row is that of reading a token, to say the next."""
        where = "" if self.sequence == self.other else f" in the {self.other}"
        places = ", ".join(map(str, self.positions[:8])) + ("…" if len(self.positions) > 8 else "")
        token = f"{self.chosen} ({self.sequence} {places})"
        if self.direction == "looked at by":
            return f"what looked at {token}{where}{self.detail} · {self.view}"
        if self.direction == "gathered from":
            return f"what {token} gathered from the {self.other}{self.detail} · {self.view}"
        return f"what {token} looked at{where}{self.detail} · {self.view}"

    def pieces(self, special: bool = True) -> tuple[Piece, ...]:
        """The text in words where they are known, in order.

        What a word was given is the sum over its tokens, what it gave the mean (as in `pool_to_words`).

        Args:
            special: whether special tokens are among them; those without any share, such as padding, never are.
        """
        shares = self.shares.tolist()
        if self.tokens is None:
            return tuple(Piece(str(at), share, False, (at,)) for at, share in enumerate(shares))
        found = []
        inside: set[int] = set()
        for word in self.tokens.words:
            inside.update(word.tokens)
            if word.tokens:
                total = sum(shares[at] for at in word.tokens)
                share = total / len(word.tokens) if self.direction == "looked at by" else total
                found.append(Piece(word.text, share, False, tuple(word.tokens)))
        for at, (text, apart) in enumerate(zip(self.tokens.texts, self.tokens.special, strict=True)):
            if at not in inside and (not apart or (special and shares[at] > 0)):
                found.append(Piece(text, shares[at], apart, (at,)))
        return tuple(sorted(found, key=lambda piece: piece.positions))

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dump`."""
        return {
            "direction": self.direction,
            "chosen": self.chosen,
            "positions": list(self.positions),
            "sequence": self.sequence,
            "other": self.other,
            "view": self.view,
            "shares": plain(self.shares),
            "tokens": texts_of(self.tokens, len(self.shares)),
            "pieces": [
                {"text": one.text, "share": plain(one.share), "special": one.special, "positions": list(one.positions)}
                for one in self.pieces()
            ],
        }


def looked_at(
    readings: Sequence[Reading], positions: Sequence[int], *, layer: str | None = None, head: int | None = None
) -> Highlight:
    """What a token looked at: the row p_i· of a head, or the mean over heads, layers or both.

    Args:
        readings: attentions between the same two sequences (`readings_between`).
        positions: of the rows' sequence, negative ones from its end; of several, such as a word's tokens, the mean.
        layer: name of one of the readings; None: their mean.
        head: one of the `head_numbers`; None: the mean of the heads.

    Raises:
        ArgumentError: no such layer, head or position, or readings of different sequences.
    """
    chosen, view = _choose(readings, layer, head)
    one = chosen[0]
    places = check_positions("positions", positions, one.table.shape[-2])
    total = torch.zeros(one.table.shape[-1], dtype=torch.float64)
    with torch.no_grad():
        for reading in chosen:
            heads = check_head(reading, head)
            for place in places:  # a row alone: of a map of any length only this much is computed
                row = reading.table[0, heads, place : place + 1, :]  # (H, 1, K)
                total += row.cpu().double().mean((0, 1)) / (len(chosen) * len(places))
    return Highlight(
        "looked at",
        _name(one.queries, places),
        places,
        one.role.queries,
        one.role.keys,
        view,
        numbers(total),
        one.keys,
        _read_to_say(one, places),
    )


def looked_at_by(
    readings: Sequence[Reading], positions: Sequence[int], *, layer: str | None = None, head: int | None = None
) -> Highlight:
    """What looked at a token: the column p_·j, each query's share, of a head, or the mean over heads, layers or both.

    Queries that are padding look at nothing.

    Args:
        readings, layer, head: as for `looked_at`.
        positions: of the columns' sequence; of several, such as a word's tokens, the sum.

    Raises:
        ArgumentError: as for `looked_at`.
    """
    chosen, view = _choose(readings, layer, head)
    one = chosen[0]
    places = check_positions("positions", positions, one.table.shape[-1])
    total = torch.zeros(one.table.shape[-2], dtype=torch.float64)
    for reading in chosen:
        scoring, heads = reading.table.scoring, check_head(reading, head)
        marked = torch.zeros(scoring.extent.keys, 1, dtype=scoring.dtype, device=scoring.extent.device)
        marked[list(places)] = 1.0
        column = reading.table.apply(marked)[0, heads, :, 0]  # (H, Q)
        total += column.cpu().double().mean(0) * torch.as_tensor(reading.counted.copy()) / len(chosen)
    return Highlight(
        "looked at by",
        _name(one.keys, places),
        places,
        one.role.keys,
        one.role.queries,
        view,
        numbers(total),
        one.queries,
        ", each when it was read" if _decodes(one) else "",
    )


def rolled_out(result: RollOut) -> list[Highlight]:
    """A roll-out as highlighted texts: of each position, one for each sequence that it reads."""
    found = []
    for number, place in enumerate(result.positions):
        for other, shares in result.shares.items():
            name = _name(result.tokens.get(result.sequence), (place,))
            count = len(result.layers)
            view = f"roll-out of {count} attention{'' if count == 1 else 's'}"
            of, detail = result.tokens.get(other), "'s encoded positions" if other in result.encoded else ""
            share = frozen(shares[number])
            found.append(Highlight("gathered from", name, (place,), result.sequence, other, view, share, of, detail))
    return found


def view_name(readings: Sequence[Reading], layer: str | None, head: int | None) -> str:
    """What is shown of layers and heads, in words."""
    where = layer if layer is not None else readings[0].name if len(readings) == 1 else "mean of layers"
    return f"{where} · " + (mean_name(readings[0]) if head is None else f"head {head}")


def _choose(readings: Sequence[Reading], layer: str | None, head: int | None) -> tuple[list[Reading], str]:
    check_alike(readings)
    chosen = [one for one in readings if layer in (None, one.name)]
    if not chosen:
        raise ArgumentError(f"layer is {layer!r}, expected one of {', '.join(one.name for one in readings)}")
    for one in chosen:
        check_head(one, head)
    return chosen, view_name(chosen, layer, head)


def _decodes(one: Reading) -> bool:
    """Whether a row is that of reading a token to say the next one."""
    return one.role.kind != "self" and one.queries is not None


def _read_to_say(one: Reading, places: Sequence[int]) -> str:
    """Which row of a decoder is meant: the one that reads the token, which is there for the next, if that is known."""
    if not _decodes(one):
        return ""
    tokens, following = one.queries, max(places) + 1
    assert tokens is not None
    if following >= len(tokens.texts) or (tokens.padding and tokens.padding[following]):
        return " when it was read"
    # a whole word only if it begins there
    starts = {word.tokens[0]: word.text for word in tokens.words if word.tokens}
    return f" when it was read, to say {starts.get(following, tokens.texts[following])}"


def _name(tokens: Tokens | None, places: Sequence[int]) -> str:
    """The token or word at these positions."""
    if tokens is None:
        return ", ".join(map(str, places))
    for word in tokens.words:
        if set(word.tokens) == set(places):
            return word.text
    return " ".join(tokens.texts[place] for place in places)
