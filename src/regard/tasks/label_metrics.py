"""How good predicted labels and tags are: accuracy, precision, recall and F1 of classes, and of entities.

All shares are between 0 and 1; a share of nothing is 0.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from regard.errors import ArgumentError

OUTSIDE: Final = "O"
"""The tag of a word that is in no entity."""

_PREFIXES: Final = ("B", "I", "E", "S")


@dataclass(frozen=True)
class ClassScore:
    """One class, or one type of entity.

    Attributes:
        precision: the part of what was predicted that is right.
        recall: the part of what there is that was found.
        f1: their harmonic mean.
        support: how many there are.
        predicted: how many were predicted.
    """

    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True)
class LabelReport:
    """Predicted labels against the true ones.

    Attributes:
        count: how many were judged.
        accuracy: the part that is right.
        macro_f1: mean of the F1s of the classes that occur, true or predicted.
        micro_f1: F1 of all decisions together; with one label each it equals the accuracy.
        classes: those that occur, by name, in the order of `labels`.
        labels: the names of rows and columns of `confusion`.
        confusion: how often row i was taken for column j.
    """

    count: int
    accuracy: float
    macro_f1: float
    micro_f1: float
    classes: dict[str, ClassScore]
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class EntityReport:
    """Predicted entities against the true ones, as CoNLL's evaluation counts them (Tjong Kim Sang and De Meulder 2003).

    An entity is right if its type and both its ends are.

    Attributes:
        total: all types together (micro average): CoNLL's precision, recall and F1.
        macro_f1: mean of the F1s of the types.
        types: by name, in alphabetical order.
    """

    total: ClassScore
    macro_f1: float
    types: dict[str, ClassScore]


@dataclass(frozen=True, order=True)
class Entity:
    """Words `start` to `stop` (excluded) of a sentence, and what they are."""

    start: int
    stop: int
    kind: str


def label_report(gold: Sequence[str], predicted: Sequence[str], labels: Iterable[str] = ()) -> LabelReport:
    """Compare labels one by one.

    Args:
        gold: the true ones.
        predicted: one for each.
        labels: the order of the rows of `confusion`; labels that occur and are not among them follow.

    Raises:
        ArgumentError: unequal numbers, or none.
    """
    _check(gold, predicted)
    pairs = Counter(zip(gold, predicted, strict=True))
    order = tuple(dict.fromkeys([*labels, *sorted({*gold, *predicted})]))
    support, answers = Counter(gold), Counter(predicted)
    classes = {
        name: _score(pairs[name, name], support[name], answers[name])
        for name in order
        if support[name] or answers[name]
    }
    accuracy = sum(pairs[name, name] for name in order) / len(gold)
    return LabelReport(
        count=len(gold),
        accuracy=accuracy,
        macro_f1=sum(score.f1 for score in classes.values()) / len(classes),
        micro_f1=accuracy,  # each wrong answer is one false positive and one false negative
        classes=classes,
        labels=order,
        confusion=tuple(tuple(pairs[row, column] for column in order) for row in order),
    )


def entity_report(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> EntityReport:
    """Compare the entities that tags of words mark, sentence by sentence.

    Args:
        gold: the true tags of each sentence; see `entities`.
        predicted: as many tags for each.

    Raises:
        ArgumentError: unequal numbers of sentences or words, or none; a tag marks no entity.
    """
    _check(gold, predicted)
    support, answers, right = Counter[str](), Counter[str](), Counter[str]()
    for number, (truth, said) in enumerate(zip(gold, predicted, strict=True)):
        if len(truth) != len(said):
            raise ArgumentError(f"sentence {number}: {len(said)} predicted tags for {len(truth)} words")
        wanted, found = set(entities(truth)), set(entities(said))
        support.update(one.kind for one in wanted)
        answers.update(one.kind for one in found)
        right.update(one.kind for one in wanted & found)
    types = {kind: _score(right[kind], support[kind], answers[kind]) for kind in sorted({*support, *answers})}
    return EntityReport(
        total=_score(right.total(), support.total(), answers.total()),
        macro_f1=sum(score.f1 for score in types.values()) / max(1, len(types)),
        types=types,
    )


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities that the tags of a sentence mark, in order, as CoNLL's `conlleval` finds them.

    `B-PER` begins an entity of the type PER, `I-PER` continues it, or begins one where none of this type goes on (as in
    the older scheme IOB1); `O` is none. `E-` (last word) and `S-` (single word) of the scheme IOBES are understood too.

    Raises:
        ArgumentError: a tag is of no such form.
    """
    found: list[Entity] = []
    start, before, kind = 0, OUTSIDE, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, new = _parts(tag)
        over = prefix in ("B", "S", OUTSIDE) or before in ("E", "S") or new != kind
        if before != OUTSIDE and over:
            found.append(Entity(start, place, kind))
        if prefix != OUTSIDE and (over or before == OUTSIDE):
            start = place
        before, kind = prefix, new
    return found


def marks_entities(tags: Iterable[str]) -> bool:
    """Whether tags are of the forms that `entities` reads, and at least one marks something."""
    known = set(tags)
    marks = known - {OUTSIDE}
    return bool(marks) and all(_is_mark(tag) for tag in marks)


def _is_mark(tag: str) -> bool:
    return tag[:1] in _PREFIXES and tag[1:2] == "-" and len(tag) > 2


def _parts(tag: str) -> tuple[str, str]:
    """The prefix and the type of a tag."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    if not _is_mark(tag):
        raise ArgumentError(f"tag {tag!r} marks no entity: expected 'O', or B-, I-, E- or S- and a type, as 'B-PER'")
    return tag[0], tag[2:]


def _score(right: int, support: int, predicted: int) -> ClassScore:
    # F1 = 2 P R / (P + R) = 2 right / (support + predicted)
    return ClassScore(
        precision=right / predicted if predicted else 0.0,
        recall=right / support if support else 0.0,
        f1=2 * right / (support + predicted) if support + predicted else 0.0,
        support=support,
        predicted=predicted,
    )


def _check(gold: Sequence[object], predicted: Sequence[object]) -> None:
    if len(gold) != len(predicted) or not gold:
        raise ArgumentError(f"{len(predicted)} predictions for {len(gold)} labels: expected one for each, and some")
