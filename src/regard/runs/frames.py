"""What stands around the texts of a translation model of others, and the defaults of its decoding beyond the beam."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from regard.decoding import Forbidden, NoRepeatNgram, Renormalized, Rule, Stopping, WhenBehind, WhenCertain, WhenFull
from regard.decoding.forced import Forced
from regard.runs.directory import Tokenizers
from regard.tasks.translation import Specials

Side = Literal["source", "target"]

STOPPING: dict[str, Stopping] = {"behind": WhenBehind(), "full": WhenFull(), "certain": WhenCertain()}
"""When a beam search ends, by the name in `decoding`."""


def specials_in(frame: Mapping[str, Any]) -> Specials:
    """The special tokens that a directory says itself, instead of its tokenizers: those of Hugging Face's models.

    Args:
        frame: "start", "end", "pad", "source_begin", "source_end", "source_pad"; perhaps "unknown" and
            "source_unknown", which stand for ids that the tokenizer has and the model hasn't.
    """
    return Specials(
        frame["pad"],
        frame["start"],
        frame["end"],
        frame["source_pad"],
        frame["source_end"],
        tuple(frame["source_begin"]),
    )


def rules_in(decoding: Mapping[str, Any]) -> list[Rule]:
    """The rules that a model's own defaults have for every sentence."""
    rules: list[Rule] = []
    if size := decoding.get("no_repeat_ngram"):
        rules.append(NoRepeatNgram(size))
    if phrases := decoding.get("forbidden"):
        rules.append(Forbidden(tuple(tuple(phrase) for phrase in phrases)))
    return rules


def forced_in(decoding: Mapping[str, Any], limits: Sequence[int], prefixed: Sequence[bool]) -> list[Rule]:
    """What a model's own defaults want at the first and at the last place of every sentence, and after all rules.

    Args:
        decoding: the defaults.
        limits: the most tokens of each sentence.
        prefixed: which sentences begin with a prefix, instead.
    """
    rules: list[Rule] = []
    if (first := decoding.get("forced_first")) is not None:
        rules.append(Forced(tuple(-1 if begun else 0 for begun in prefixed), first))
    if (last := decoding.get("forced_last")) is not None:
        rules.append(Forced(tuple(limit - 1 for limit in limits), last))
    if decoding.get("renormalize"):
        rules.append(Renormalized())
    return rules


def unknown_ids(tokenizers: Tokenizers, frame: Mapping[str, Any] | None) -> dict[str, int]:
    """What stands for ids that the tokenizer of a side has and the model hasn't."""
    own = {"source": tokenizers.source.unk_id, "target": tokenizers.target.unk_id}
    given = {"source": "source_unknown", "target": "unknown"}
    return {side: (frame or {}).get(given[side], own[side]) for side in own}


def known_ids(rows: Sequence[Sequence[int]], vocabulary: int, unknown: int) -> list[list[int]]:
    """Ids of texts, those that a model of this vocabulary doesn't have replaced."""
    return [[one if one < vocabulary else unknown for one in row] for row in rows]
