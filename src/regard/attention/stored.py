"""A table of weights as named tensors and plain JSON data, and back: what recordings on disk are made of.

docs/recording-format.md describes the data. What comes from a file may be anything: all of it is checked.
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

import torch
from torch import Tensor

from regard.attention.biases import ALiBi, Bias, Diagonals, Factor, GaussianFactor, Given, RelativeBias
from regard.attention.extent import Extent, shape
from regard.attention.known import Known
from regard.attention.operands import Operand
from regard.attention.plain import fields_of, integer_of, integers_of, list_of, object_of, text_of, wrong
from regard.attention.scores import Form
from regard.attention.scoring import DTYPES, Scoring
from regard.attention.support import REFUSED
from regard.attention.visibility import Visibility
from regard.errors import ArgumentError, RegardError, UnsupportedError

Put = Callable[[Tensor], str]
"""Takes a tensor to be stored and gives the name that it is found under."""

Get = Callable[[str], Tensor]
"""Gives the tensor of a name; raises `ArgumentError` where there is none. On a meta device only shapes are checked."""

PARTS: Final = 64
"""How many unions and pairs of documents a mask may have: each costs time for every place of the table."""

FARTHEST: Final = 1 << 40
"""Largest offset of a bias, either way."""

WIDEST: Final = 1 << 24
"""Largest `max_distance` of a relative bias."""

FIELDS: Final = ("form", "scale", "softcap", "leading", "tensors", "bias", "factor", "visibility")
LIMITS: Final = ("causal", "lower", "start", "stop", "keys", "documents", "unions", "dense")


def describe(table: Scoring, put: Put) -> dict[str, Any]:
    """A table as JSON data, its tensors given to `put`; nothing of it is computed.

    Raises:
        UnsupportedError: a bias or factor of a class that isn't of this package, or too many unions in the mask.
    """
    sizes = table.extent
    return {
        "form": table.form,
        "scale": float(table.scale),
        "softcap": None if table.softcap is None else float(table.softcap),
        "leading": [*sizes.leading],
        "tensors": _put_operands(table.operands, "", put),
        "bias": _described(table.bias, "bias.", table.operands, put),
        "factor": _described(table.factor, "factor.", table.operands, put),
        "visibility": _described_visibility(table.visibility, sizes, put, _Budget()),
    }


def rebuild(content: Any, get: Get, known: Known | None = None) -> Scoring:
    """The table that `describe` described.

    Args:
        content: what `describe` returned, as it came from a file.
        get: its tensors.
        known: of the tensors that `get` gives, from other tables; None knows nothing.

    Raises:
        ArgumentError: the data are not those of a table, or its tensors don't fit together.
    """
    known = Known() if known is None else known
    given = fields_of("the map", content, FIELDS)
    form = given["form"]
    if form not in get_args(Form):
        raise wrong("form", "one of " + ", ".join(get_args(Form)), form)
    names = _names("tensors", given["tensors"], {"q", "k"} | ({"weight"} if form == "additive" else set()), {"sink"})
    q, k = get(names["q"]), get(names["k"])
    sizes = _extent(given["leading"], q, k)
    # parts below are built in four axes; the caller's layout says only how results are given back
    four = Extent.of(q, k)
    operands = {"q": Operand(q, "query"), "k": Operand(k, "key")}
    for name, heads, width in (("weight", {1, sizes.heads}, q.shape[-1]), ("sink", {sizes.heads}, 1)):
        if name in names:
            x = get(names[name])
            _fits(name, x, ({1}, heads, {1}, {width}), DTYPES)
            operands[name] = Operand(x, "head")
    softcap = None if given["softcap"] is None else _positive("softcap", given["softcap"])
    if softcap is not None and (form, "softcap") in REFUSED:
        raise ArgumentError(f"softcap is {softcap}: there is none with the {form} form")
    bias, of_bias = _rebuilt("bias", given["bias"], BIASES, get, four, known)
    factor, of_factor = _rebuilt("factor", given["factor"], FACTORS, get, four, known)
    return Scoring(
        cast(Form, form),
        operands | of_bias | of_factor,
        _positive("scale", given["scale"]),
        _rebuilt_visibility("visibility", given["visibility"], four, get, _Budget(), known),
        cast(Bias | None, bias),
        cast(Factor | None, factor),
        softcap,
        sizes,
    )


# Sizes and operands


def _extent(leading: Any, q: Tensor, k: Tensor) -> Extent:
    for name, x in (("q", q), ("k", k)):
        if x.ndim != 4 or x.dtype not in DTYPES:
            raise ArgumentError(f"{name} is {shape(x)} {x.dtype}: expected four axes of floating point")
    if q.dtype != k.dtype or q.shape[-1] != k.shape[-1]:
        raise ArgumentError(f"q is {shape(q)} {q.dtype}, k is {shape(k)} {k.dtype}: they must go together")
    four = Extent.of(q, k)
    axes = integers_of("leading", leading, 0, max(four.batch, four.heads))
    batch, heads = axes[:-1] if len(axes) > 1 else axes, axes[-1] if len(axes) > 1 else 1
    if math.prod(batch) != four.batch or heads != four.heads:
        raise ArgumentError(f"leading is {[*axes]} for {four.batch} batch elements of {four.heads} heads")
    return Extent(axes, four.batch, four.heads, four.groups, four.queries, four.keys, four.device, four.dtype)


def _put_operands(operands: Mapping[str, Operand], prefix: str, put: Put) -> dict[str, str]:
    """Names of the operands that begin with the prefix; those of scores have none, nor a point."""
    chosen = {name.removeprefix(prefix): x for name, x in operands.items() if name.startswith(prefix)}
    if not prefix:
        chosen = {name: x for name, x in chosen.items() if "." not in name}
    return {
        # of queries, keys and parameters all is kept; elsewhere an axis that was only expanded is stored once
        name: put(x.tensor if name in ("q", "k") or x.kind == "head" else _narrow(x.tensor))
        for name, x in chosen.items()
    }


def _narrow(x: Tensor) -> Tensor:
    """Without repetitions along axes that were only expanded."""
    for axis in range(x.ndim):
        if x.stride(axis) == 0 and x.shape[axis] > 1:
            x = x.narrow(axis, 0, 1)
    return x


def _names(name: str, x: Any, wanted: set[str], possible: set[str]) -> dict[str, str]:
    found = {text_of(name, key): text_of(f"{name}.{key[:80]}", one) for key, one in object_of(name, x).items()}
    missing, unknown = wanted - found.keys(), found.keys() - wanted - possible
    if missing or unknown:
        raise ArgumentError(f"{name} has {sorted(found)}: expected {sorted(wanted)}, and at most {sorted(possible)}")
    return found


def _fits(name: str, x: Tensor, axes: tuple[set[int], ...], dtypes: tuple[torch.dtype, ...]) -> None:
    if x.ndim != len(axes) or any(size not in fitting for size, fitting in zip(x.shape, axes, strict=True)):
        expected = ", ".join(" or ".join(map(str, sorted(fitting))) for fitting in axes)
        raise ArgumentError(f"{name} is {shape(x)}: expected ({expected})")
    if x.dtype not in dtypes:
        raise ArgumentError(f"{name} is {x.dtype}: expected {' or '.join(map(str, dtypes))}")


def _positive(name: str, x: Any) -> float:
    if isinstance(x, bool) or not isinstance(x, int | float) or not 0 < x <= sys.float_info.max:
        raise wrong(name, "a finite positive number", x)
    return float(x)


# Biases and factors: the tensors of their operands, from which they are made anew, and their numbers


@dataclass(frozen=True)
class Rule:
    """How biases or factors of one class are stored.

    Attributes:
        kind: the class.
        numbers: for each attribute that is no tensor, how it is checked; an attribute that is a tensor instead is None
            in the data.
        wanted, possible: the operands that there must be, and may be.
        make: makes one of the tensors of its operands, which have four axes, and its numbers.
    """

    kind: type
    numbers: dict[str, Callable[[str, Any], Any]]
    wanted: set[str]
    possible: set[str]
    make: Callable[[Mapping[str, Tensor], dict[str, Any]], Bias | Factor]


def _offset(name: str, x: Any) -> int | None:
    return None if x is None else integer_of(name, x, -FARTHEST, FARTHEST)


def _truth(name: str, x: Any) -> bool:
    if not isinstance(x, bool):
        raise wrong(name, "true or false", x)
    return x


def _flat(x: Tensor) -> Tensor:
    return x.reshape(-1)


def _rows(x: Tensor) -> Tensor:
    """(1, H, N, 1) as (H, N)."""
    if x.shape[0] != 1:
        raise ArgumentError(f"its tensor is {shape(x)}: expected (1, H, N, 1)")
    return _column(x)[0]


def _column(x: Tensor) -> Tensor:
    """(·, ·, ·, 1) without its last axis."""
    if x.shape[3] != 1:
        raise ArgumentError(f"its tensor is {shape(x)}: expected one number in its last axis")
    return x[..., 0]


def _placed(tensors: Mapping[str, Tensor], numbers: dict[str, Any]) -> dict[str, Any]:
    """The offset among the tensors, if it is one for each batch element."""
    if "offset" not in tensors:
        return numbers
    if numbers["offset"] is not None:
        raise ArgumentError("offset is a number and a tensor: expected one of them")
    return {**numbers, "offset": _flat(tensors["offset"])}


BIASES: Final[dict[str, Rule]] = {
    "table": Rule(Given, {"name": text_of}, {"table"}, set(), lambda x, n: Given(x["table"], n["name"])),
    "alibi": Rule(
        ALiBi, {"offset": _offset}, {"slopes"}, {"offset"}, lambda x, n: ALiBi(_flat(x["slopes"]), **_placed(x, n))
    ),
    "relative": Rule(
        RelativeBias,
        {
            "bidirectional": _truth,
            "max_distance": lambda name, x: integer_of(name, x, 1, WIDEST),
            "offset": _offset,
        },
        {"table"},
        {"offset"},
        lambda x, n: RelativeBias(_rows(x["table"]).t(), **_placed(x, n)),
    ),
    "diagonals": Rule(Diagonals, {}, {"values"}, set(), lambda x, n: Diagonals(_rows(x["values"]))),
}
"""Biases by the name that they have on disk."""

FACTORS: Final[dict[str, Rule]] = {
    "table": BIASES["table"],
    "gaussian": Rule(
        GaussianFactor, {"sigma": _positive}, {"centre"}, set(), lambda x, n: GaussianFactor(_column(x["centre"]), **n)
    ),
}
"""Factors by the name that they have on disk."""


def _described(
    rule: Bias | Factor | None, prefix: str, operands: Mapping[str, Operand], put: Put
) -> dict[str, Any] | None:
    if rule is None:
        return None
    for kind, known in (BIASES | FACTORS).items():
        if type(rule) is known.kind:
            numbers = {name: getattr(rule, name) for name in known.numbers}
            plain = {name: None if isinstance(x, Tensor) else x for name, x in numbers.items()}
            for name, check in known.numbers.items():
                check(f"{type(rule).__name__}: {name}", plain[name])
            return {"kind": kind, **plain, "tensors": _put_operands(operands, prefix, put)}
    known_names = ", ".join(known.kind.__name__ for known in (BIASES | FACTORS).values())
    raise UnsupportedError(f"{type(rule).__name__} can't be stored: the format knows {known_names}")


def _rebuilt(
    name: str, content: Any, rules: Mapping[str, Rule], get: Get, extent: Extent, known: Known
) -> tuple[Bias | Factor | None, dict[str, Operand]]:
    """A bias or factor and its operands, named as those of the whole table."""
    if content is None:
        return None, {}
    kind = object_of(name, content).get("kind")
    if not isinstance(kind, str) or kind not in rules:
        raise wrong(f"{name}: kind", "one of " + ", ".join(rules), kind)
    rule = rules[kind]
    given = fields_of(name, content, ("kind", "tensors", *rule.numbers))
    names = _names(f"{name}: tensors", given["tensors"], rule.wanted, rule.possible)
    tensors = {key: get(one) for key, one in names.items()}
    for key, x in tensors.items():
        # the classes themselves check what else they need
        if x.ndim != 4 or not (x.dtype == torch.int64 if key == "offset" else x.dtype in DTYPES):
            raise ArgumentError(f"{name}: {key} is {shape(x)} {x.dtype}: expected four axes of numbers")
        if key == "offset" and not known.within(names[key], x, -FARTHEST, FARTHEST):
            raise ArgumentError(f"{name}: {key} goes beyond {FARTHEST}")
    try:
        made = rule.make(tensors, {key: check(f"{name}: {key}", given[key]) for key, check in rule.numbers.items()})
        operands = made.operands(extent)
    except RegardError as error:
        raise ArgumentError(f"{name}: {error}") from error
    return made, {f"{name}.{key}": x for key, x in operands.items()}


# Visibility


class _Budget:
    """Counts the parts of a mask, which nest."""

    def __init__(self) -> None:
        self._left = PARTS

    def spend(self, parts: int) -> bool:
        """Whether there may be so many more."""
        self._left -= parts
        return self._left >= 0


def _described_visibility(seen: Visibility, sizes: Extent, put: Put, budget: _Budget) -> dict[str, Any]:
    farthest = sizes.queries + sizes.keys

    def limit(x: int | None) -> int | None:
        return None if x is None else max(-farthest, min(farthest, x))  # beyond it nothing more changes

    def place(x: Tensor | None) -> str | None:
        # places beyond the table mean the same as its ends, and four bytes are enough for them
        return None if x is None else put(_narrow(x).clamp(0, sizes.keys).to(_places(sizes)))

    if not budget.spend(len(seen.unions) + len(seen.documents)):
        raise UnsupportedError(f"a mask with more than {PARTS} unions (|) and packings can't be stored")
    return {
        "causal": limit(seen.causal),
        "lower": limit(seen.lower),
        "start": place(seen.start),
        "stop": place(seen.stop),
        "keys": None if seen.keys is None else put(_narrow(seen.keys)),
        "documents": [[put(q), put(k)] for q, k in seen.documents],
        "unions": [[_described_visibility(one, sizes, put, budget) for one in pair] for pair in seen.unions],
        "dense": None if seen.dense is None else put(_narrow(seen.dense)),
    }


def _places(sizes: Extent) -> torch.dtype:
    return torch.int32 if sizes.keys < 1 << 31 else torch.int64


def _rebuilt_visibility(name: str, content: Any, sizes: Extent, get: Get, budget: _Budget, known: Known) -> Visibility:
    given = fields_of(name, content, LIMITS)
    farthest = sizes.queries + sizes.keys
    one_or = {"batch": {1, sizes.batch}, "heads": {1, sizes.heads}, "rows": {1, sizes.queries}}
    rows = (one_or["batch"], one_or["heads"], one_or["rows"])

    def limit(key: str) -> int | None:
        return None if given[key] is None else integer_of(f"{name}: {key}", given[key], -farthest, farthest)

    def table(key: str, *axes: set[int], dtype: torch.dtype) -> Tensor | None:
        if given[key] is None:
            return None
        stored = text_of(f"{name}: {key}", given[key])
        x = get(stored)
        _fits(f"{name}: {key}", x, axes, (dtype,))
        if dtype == torch.bool:  # a byte that is neither 0 nor 1 would be a truth value of its own kind
            if not known.within(stored, x, 0, 1):
                raise ArgumentError(f"{name}: {key} has truth values that are neither 0 nor 1")
            return x.expand(*x.shape[:-1], sizes.keys)
        if not known.within(stored, x, 0, sizes.keys):
            raise ArgumentError(f"{name}: {key} is from {int(x.amin())} to {int(x.amax())} for {sizes.keys} keys")
        return known.wide(stored, x)

    def pairs(key: str) -> list[list[Any]]:
        found = [list_of(f"{name}: {key}", pair) for pair in list_of(f"{name}: {key}", given[key])]
        if any(len(pair) != 2 for pair in found) or not budget.spend(len(found)):
            raise ArgumentError(f"{name}: {key}: expected pairs, at most {PARTS} in the whole mask")
        return found

    documents = []
    for pair in pairs("documents"):
        q, k = (get(text_of(f"{name}: documents", one)) for one in pair)
        _fits(f"{name}: documents of queries", q, (one_or["batch"], {1}, {sizes.queries}, {1}), (torch.int64,))
        _fits(f"{name}: documents of keys", k, (one_or["batch"], {1}, {1}, {sizes.keys}), (torch.int64,))
        documents.append((q, k))
    unions = []
    for pair in pairs("unions"):
        a, b = (_rebuilt_visibility(f"{name}: union", one, sizes, get, budget, known) for one in pair)
        unions.append((a, b))
    columns = {1, sizes.keys}
    return Visibility(
        limit("causal"),
        limit("lower"),
        table("start", *rows, {1}, dtype=_places(sizes)),
        table("stop", *rows, {1}, dtype=_places(sizes)),
        table("keys", one_or["batch"], {1}, {1}, columns, dtype=torch.bool),
        tuple(documents),
        tuple(unions),
        table("dense", *rows, columns, dtype=torch.bool),
    )
