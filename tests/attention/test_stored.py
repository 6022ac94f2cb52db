"""Tables as named tensors and plain data: what comes back is the same table, bit for bit, or an error."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles.attention_cases import Case, case_id, case_strategy, one_option_cases
from oracles.attention_options import DTYPES
from regard.attention import (
    ALiBi,
    AttentionMap,
    Bias,
    Causal,
    Dense,
    Diagonals,
    Document,
    Interval,
    Mask,
    Padding,
    Prefix,
    RelativeBias,
    Window,
)
from regard.attention.operands import Operand
from regard.attention.scoring import Scoring
from regard.attention.stored import FACTORS, PARTS, describe, rebuild
from regard.attention.visibility import Visibility
from regard.errors import ArgumentError, RegardError, UnsupportedError


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Shelf:
    """Tensors by name, in the order in which they came."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def put(self, x: Tensor) -> str:
        self.tensors[f"tensor {len(self.tensors)}"] = x.clone(memory_format=torch.contiguous_format)
        return f"tensor {len(self.tensors) - 1}"

    def get(self, name: str) -> Tensor:
        return self.tensors[name]


def _there_and_back(table: AttentionMap) -> AttentionMap:
    shelf = Shelf()
    content = json.loads(json.dumps(describe(table.scoring, shelf.put), allow_nan=False))
    # on a meta device, as when a file is opened, all but the numbers is checked
    rebuild(content, lambda name: torch.empty_like(shelf.get(name), device="meta"))
    return AttentionMap.of(rebuild(content, shelf.get))


def _assert_same(before: AttentionMap, after: AttentionMap) -> None:
    assert after.shape == before.shape
    assert before.scoring.q.dtype == after.scoring.q.dtype and before.scoring.dtype == after.scoring.dtype
    torch.testing.assert_close(after.dense(), before.dense(), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(after.lse(), before.lse(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", one_option_cases(), ids=case_id)
def test_every_option_in_every_dtype(case: Case, dtype: torch.dtype) -> None:
    problem = case.make(dtype)
    table = AttentionMap(problem.q, problem.k, **problem.options)
    _assert_same(table, _there_and_back(table))
    _assert_same(table.detached(), _there_and_back(table.detached()))


@settings(max_examples=150, deadline=None)
@given(case_strategy(), st.sampled_from(DTYPES), st.booleans())
def test_any_combination(case: Case, dtype: torch.dtype, some_heads: bool) -> None:
    problem = case.make(dtype)
    heads = [case.sizes.heads - 1, 0] if some_heads and case.sizes.heads > 1 else None
    table = AttentionMap(problem.q, problem.k, **problem.options).detached(heads)
    after = _there_and_back(table)
    _assert_same(table, after)
    _assert_same(table, _there_and_back(after.detached()))


@pytest.mark.parametrize("leading", [(), (3,), (2, 4), (2, 3, 4), (2, 1, 3, 2), (0, 2)], ids=str)
def test_the_callers_axes(leading: tuple[int, ...]) -> None:
    table = AttentionMap(_draw(*leading, 5, 3), _draw(*leading, 7, 3), mask=Causal())
    after = _there_and_back(table)
    _assert_same(table, after)
    assert after.received().shape == table.received().shape


MORE: dict[str, dict[str, Any]] = {
    "intervals": {"mask": Interval(torch.tensor([-9, 1, 3, 5, 900]), torch.tensor([2, 3, 3, 900, 901]))},
    "diagonals": {"bias": Diagonals(_draw(4, 11))},
    "far causal": {"mask": Causal(-(1 << 62))},
    "far window": {"mask": Window(1 << 30, 1 << 30, 1 << 31)},
    "unions of unions": {
        "mask": (Prefix(2) & Document(torch.tensor([1, 0, 0, 2, -1]), torch.arange(7) % 3)) | Causal(0)
    },
    "nothing is seen": {"mask": Padding(torch.tensor([0, 0]))},
    "far ALiBi": {"bias": ALiBi(offset=123456)},
    "no number in the keys": {"mask": Padding(torch.tensor([3, 6])), "sink": torch.tensor([1.0, torch.inf, -3.0, 0.0])},
}


@pytest.mark.parametrize("name", MORE)
def test_more_options(name: str) -> None:
    q, k = _draw(2, 4, 5, 6), _draw(2, 2, 7, 6, seed=1)
    if name.startswith("no number"):
        k[:, :, 5] = torch.nan
    table = AttentionMap(q, k, **MORE[name])
    _assert_same(table, _there_and_back(table))


@pytest.mark.parametrize(("queries", "keys"), [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_empty_tables(queries: int, keys: int) -> None:
    for mask in (None, Causal(), Dense(torch.ones(queries, keys, dtype=torch.bool))):
        table = AttentionMap(_draw(2, 2, queries, 3), _draw(2, 2, keys, 3), mask=mask)
        _assert_same(table, _there_and_back(table))


def test_axes_that_were_expanded_are_stored_once() -> None:
    mask = Dense((_draw(1, 1, 5, 7) > 0).expand(8, 4, 5, 7))
    bias = _draw(4, 1, 1).expand(8, 4, 5, 7)
    table = AttentionMap(_draw(8, 4, 5, 6), _draw(8, 4, 7, 6), mask=mask, bias=bias).detached()
    shelf = Shelf()
    content = describe(table.scoring, shelf.put)
    assert shelf.get(content["visibility"]["dense"]).shape == (1, 1, 5, 7)
    assert shelf.get(content["bias"]["tensors"]["table"]).shape == (1, 4, 1, 1)
    _assert_same(table, AttentionMap.of(rebuild(content, shelf.get)))


def test_every_attribute_is_stored() -> None:
    """Whoever adds one must add it to the format."""
    assert {field.name for field in fields(Scoring)} == {
        *("form", "operands", "scale", "visibility", "bias", "factor", "softcap", "extent")
    }
    assert {field.name for field in fields(Visibility) if field.init} == {
        *("causal", "lower", "start", "stop", "keys", "documents", "unions", "dense")
    }


def test_what_the_format_does_not_know_is_refused() -> None:
    class Mine(Bias):
        def operands(self, extent):
            return {"x": Operand(torch.zeros(1, 1, 1, 1), "table")}

        def block(self, parts, rows, columns, extent):
            return parts["x"]

        def at(self, parts, extent):
            return lambda b, h, i, j: parts["x"][0, 0, 0, 0]

    q = _draw(1, 2, 3, 4)
    with pytest.raises(UnsupportedError, match=r"Mine can't be stored: the format knows Given, ALiBi"):
        describe(AttentionMap(q, q, bias=Mine()).scoring, Shelf().put)
    many: Mask = Window(1, 1)
    for i in range(PARTS + 1):
        many = many | Window(i, 0, i)
    with pytest.raises(UnsupportedError, match=f"more than {PARTS} unions"):
        describe(AttentionMap(q, q, mask=many).scoring, Shelf().put)


def _sound() -> tuple[dict[str, Any], Shelf]:
    """A table with something of everything."""
    mask = (Padding(torch.tensor([5, 7])) | Dense(torch.eye(5, 7, dtype=torch.bool))) & Interval(
        torch.zeros(5, dtype=torch.long), torch.full((5,), 6)
    )
    mask = mask & Document(torch.tensor([1, 0, 1, 0, 1]), torch.arange(7) % 2) & Window(4, 1)
    table = AttentionMap(
        _draw(2, 4, 5, 6),
        _draw(2, 2, 7, 6),
        mask=mask,
        bias=RelativeBias(_draw(8, 4), offset=torch.tensor([1, 2])),
        factor=torch.rand(5, 7),
        softcap=3.0,
        sink=_draw(4),
    )
    shelf = Shelf()
    return json.loads(json.dumps(describe(table.scoring, shelf.put))), shelf


def _changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(content))
    place = copy
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copy


WRONG: list[tuple[tuple[Any, ...], Any, str]] = [
    (("form",), "outer", "form is 'outer': expected one of inner"),
    (("form",), [], "form is list"),
    (("form",), "additive", "tensors has"),
    (("scale",), float("nan"), "scale is nan: expected a finite positive number"),
    (("scale",), -1.0, "scale is -1.0"),
    (("scale",), True, "scale is True"),
    (("scale",), 10**400, "scale is 1000"),
    (("scale",), ..., "lacks field 'scale'"),
    (("more",), 1, "unknown field 'more'"),
    (("softcap",), 0, "softcap is 0"),
    (("softcap",), "3", "softcap is '3'"),
    (("leading",), [2, 3], r"leading is \[2, 3\] for 2 batch elements of 4 heads"),
    (("leading",), [8], "leading"),
    (("leading",), [10**30, 4], "expected an integer from 0 to 4"),
    (("leading",), {}, "leading is dict: expected a list"),
    (("tensors",), {}, "tensors has"),
    (("tensors", "q"), 3, "tensors.q is 3: expected a string"),
    (("tensors", "q"), "sink", "q is "),
    (("tensors", "weight"), "q", "tensors has"),
    (("tensors", "sink"), "q", r"sink is \(2, 4, 5, 6\): expected \(1, 4, 1, 1\)"),
    (("bias",), 3, "bias is 3: expected an object"),
    (("bias", "kind"), "mine", "bias: kind is 'mine': expected one of table, alibi"),
    (("bias", "kind"), "diagonals", "bias has an unknown field"),
    (("bias", "max_distance"), 10**9, "max_distance is 1000000000"),
    (("bias", "max_distance"), 1, "max_distance must be more than"),
    (("bias", "bidirectional"), 1, "bidirectional is 1: expected true or false"),
    (("bias", "offset"), 3, "offset is a number and a tensor"),
    (("bias", "tensors", "offset"), "q", "offset is"),
    (("bias", "tensors", "table"), "q", "bias: "),
    (("bias", "tensors", "table"), ..., "bias: tensors has"),
    (("factor", "kind"), "alibi", "factor: kind is 'alibi': expected one of table, gaussian"),
    (("factor", "tensors", "table"), "k", "factor: factor is"),
    (("factor", "tensors", "table"), "keys", "factor: table is"),
    (("factor", "name"), None, "factor: name is None"),
    (("visibility",), None, "visibility is None"),
    (("visibility", "causal"), 13, "causal is 13: expected an integer from -12 to 12"),
    (("visibility", "lower"), 10**30, "lower is 1000"),
    (("visibility", "causal"), 0.5, "causal is 0.5"),
    (("visibility", "start"), "q", "start is"),
    (("visibility", "stop"), "far", "stop is from 0 to 8 for 7 keys"),
    (("visibility", "dense"), "q", "dense is"),
    (("visibility", "dense"), "bytes", "truth values that are neither 0 nor 1"),
    (("visibility", "documents"), [["q"]], "documents: expected pairs"),
    (("visibility", "documents"), [["q", "k"]], "documents of queries is"),
    (("visibility", "documents"), ["ab"], "documents is 'ab': expected a list"),
    (("visibility", "unions"), [[None, None]], "union is None: expected an object"),
    (("visibility", "unions", 0), [], "unions: expected pairs"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[f"{path} {value}"[:60] for path, value, _ in WRONG])
def test_wrong_data_are_an_error_that_says_what_is_wrong(path: tuple[Any, ...], value: Any, message: str) -> None:
    content, shelf = _sound()
    known = {"q": content["tensors"]["q"], "k": content["tensors"]["k"], "sink": content["tensors"]["sink"]}
    shelf.tensors |= {name: shelf.get(stored) for name, stored in known.items()}
    shelf.tensors["keys"] = torch.ones(2, 1, 1, 7, dtype=torch.bool)
    shelf.tensors["far"] = torch.tensor([0, 1, 2, 8, 3], dtype=torch.int32).view(1, 1, 5, 1)
    shelf.tensors["bytes"] = torch.full((1, 1, 5, 7), 3, dtype=torch.uint8).view(torch.bool)
    with pytest.raises(ArgumentError, match=message):
        rebuild(_changed(content, path, value), shelf.get)


def test_too_many_parts_of_a_mask() -> None:
    content, shelf = _sound()
    pair = content["visibility"]["documents"][0]
    content["visibility"]["documents"] = [pair] * (PARTS + 1)
    with pytest.raises(ArgumentError, match=f"at most {PARTS} in the whole mask"):
        rebuild(content, shelf.get)
    empty = describe(AttentionMap(_draw(2, 4, 5, 6), _draw(2, 2, 7, 6)).scoring, Shelf().put)["visibility"]
    deep = empty
    for _ in range(PARTS + 1):
        deep = {**empty, "unions": [[deep, empty]]}
    content["visibility"] = deep
    with pytest.raises(ArgumentError, match="in the whole mask"):
        rebuild(content, shelf.get)


def test_shapes_that_do_not_go_together() -> None:
    content, shelf = _sound()
    for name, x, message in (
        ("k", _draw(2, 3, 7, 6), "divide the query heads"),
        ("k", _draw(3, 2, 7, 6), "same batch axes"),
        ("k", _draw(2, 2, 7, 5), "must go together"),
        ("k", _draw(2, 2, 7, 6).double(), "must go together"),
        ("k", _draw(2, 2, 7), "four axes"),
        ("q", torch.ones(2, 4, 5, 6, dtype=torch.long), "four axes of floating point"),
        ("q", torch.ones(2, 4, 5, 0), "must go together"),
    ):
        with pytest.raises(ArgumentError, match=message):
            rebuild(_changed(content, ("tensors", name), "other"), lambda n, x=x: x if n == "other" else shelf.get(n))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["tensor 0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else []
    return [here for key in keys for here in ((*path, key), *_places(content[key], (*path, key)))]


SOUND, SHELF = _sound()


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(_places(SOUND)), st.just(...) | JUNK | st.sampled_from(sorted(SHELF.tensors)))
def test_any_change_is_harmless_or_an_error(path: tuple[Any, ...], value: Any) -> None:
    def get(name: str) -> Tensor:
        if name not in SHELF.tensors:
            raise ArgumentError(f"there is no {name}")
        return SHELF.get(name)

    try:
        table = AttentionMap.of(rebuild(_changed(SOUND, path, value), get))
    except RegardError:
        return
    assert table.dense().shape == table.shape
    assert table.pool((2, 2)).shape[-2:] == (2, 2) and table.received().shape[-1] == table.shape[-1]


def test_a_factor_needs_no_bias_of_its_name() -> None:
    """Both may be tables; the operands keep them apart."""
    q, k = _draw(1, 2, 3, 4), _draw(1, 2, 5, 4)
    table = AttentionMap(q, k, bias=_draw(3, 5), factor=torch.rand(3, 5))
    shelf = Shelf()
    content = describe(table.scoring, shelf.put)
    assert content["bias"]["tensors"] != content["factor"]["tensors"] and "table" in FACTORS
    after = AttentionMap.of(rebuild(content, shelf.get))
    _assert_same(table, after)
    assert not torch.equal(
        after.dense(), AttentionMap.of(replace(after.scoring, factor=None)).dense()
    )  # the factor does something
