"""`Joined`: the steps of a generation as one map, from keys that grow or stay; in linear memory; or an error."""

import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from regard.attention import (
    AttentionMap,
    Causal,
    GaussianFactor,
    Near,
    Padding,
    ScaledDot,
    Window,
)
from regard.attention.biases import Diagonals
from regard.insight.tokens import Role, Tokens
from regard.recording.joined import Joined

ROLES = {
    "encoder": Role("self", "source", "source"),
    "self": Role("causal", "target", "target"),
    "cross": Role("cross", "target", "source"),
}
CLOSE = {"atol": 1e-6, "rtol": 1e-5}


def _numbers(sequence: str, ids: Sequence[int], real: Sequence[bool]) -> Tokens:
    return Tokens(tuple(map(str, ids)), tuple(not one for one in real), tuple(ids))


class Beams:
    """Sequences of random queries and keys that branch at random, as in a beam search.

    Keys and queries of a position depend on the whole beginning, as in a model.
    """

    def __init__(self, sentences: int, width: int, prompt: int, steps: int, heads: int = 4, groups: int = 2) -> None:
        self.heads, self.groups = heads, groups
        chance = random.Random(5)
        self.parents: list[list[int]] = []
        self.ids: list[list[list[int]]] = []  # of each step and hypothesis, what it is fed
        self.ways: list[list[tuple[int, ...]]] = []
        for step in range(steps):
            count = sentences * width
            parents = [n // width * width + chance.randrange(width) for n in range(count)] if step else [*range(count)]
            fed = [[1 + (7 * n + 3 * step) % 40] for n in range(count)] if step else None
            first = [[(11 * (n // width) + i) % 40 + 1 for i in range(prompt)] for n in range(count)]
            self.parents.append(parents)
            self.ids.append(fed or first)
            before = self.ways[-1] if step else [()] * count
            self.ways.append([(*before[p], *self.ids[-1][n]) for n, p in enumerate(parents)])
        self.sentences = [n // width for n in range(sentences * width)]

    def vectors(self, way: Sequence[int], seed: int, heads: int) -> Tensor:
        """(heads, positions, 8) for a sequence of tokens."""
        rows = []
        for i in range(len(way)):
            generator = torch.Generator().manual_seed(hash((seed, *way[: i + 1])) % 2**31)
            rows.append(torch.randn(heads, 8, generator=generator))
        return torch.stack(rows, 1)

    def q(self, way: Sequence[int]) -> Tensor:
        return self.vectors(way, 1, self.heads)

    def k(self, way: Sequence[int]) -> Tensor:
        return self.vectors(way, 2, self.groups)


def _feed(joined: Joined, beams: Beams, step: int) -> int:
    """Tell a step; how many positions it feeds."""
    ids = torch.tensor(beams.ids[step])
    parents = torch.tensor(beams.parents[step]) if step else None
    joined.fed("target", ids, parents, None if step else torch.tensor(beams.sentences))
    return ids.shape[1]


def _run(joined: Joined, beams: Beams, window: int | None = None, **options: object) -> None:
    joined.began()
    for step, ways in enumerate(beams.ways):
        new = _feed(joined, beams, step)
        q = torch.stack([beams.q(way)[:, -new:] for way in ways])
        k = torch.stack([beams.k(way) for way in ways])
        mask = Causal() if window is None else Window(window, 0)
        joined.attended("self", AttentionMap(q, k, mask=mask, **options))


def _joined(heads: list[int] | None = None) -> Joined:
    return Joined(ROLES, heads, _numbers)


def test_the_hypotheses_of_the_last_step_without_a_word_of_what_was_found() -> None:
    beams, joined = Beams(2, 3, 4, 6), _joined()
    _run(joined, beams)
    (table,) = joined.calls("self")
    assert table.shape == (6, 4, 9, 9)
    for row, way in enumerate(beams.ways[-1]):
        whole = AttentionMap(beams.q(way)[None], beams.k(way)[None], mask=Causal())
        torch.testing.assert_close(table.dense()[row], whole.dense()[0], **CLOSE)
    assert [tokens.ids for tokens in joined.tokens("target")] == beams.ways[-1]


def test_sequences_that_were_found_are_followed_back() -> None:
    beams, joined = Beams(2, 3, 4, 6), _joined()
    _run(joined, beams)
    found = [beams.ways[2][4], (*beams.ways[5][0], 99), (*beams.ways[3][1], 98, 97)]
    joined.returned([1, 0, 0], found)
    (table,) = joined.calls("self")
    assert table.shape == (3, 4, 9, 9)
    for row, way in enumerate([beams.ways[2][4], beams.ways[5][0], beams.ways[3][1]]):
        whole = AttentionMap(beams.q(way)[None], beams.k(way)[None], mask=Causal()).dense()[0]
        n = len(way)
        torch.testing.assert_close(table.dense()[row, :, :n, :n], whole, **CLOSE)
        assert table.dense()[row, :, n:].abs().sum() == 0 and table.dense()[row, :, :, n:].abs().sum() == 0
        tokens = joined.tokens("target")[row]
        assert tokens.ids[:n] == way and len(tokens.ids) == 9
        assert tokens.special == (*[False] * n, *[True] * (9 - n)) and set(tokens.texts[n:]) <= {""}
    assert joined.calls("self")[0] is table  # put together once


def test_heads_are_chosen_with_their_keys() -> None:
    beams, all_heads, some = Beams(2, 2, 3, 4), _joined(), _joined([3, 0])
    _run(all_heads, beams, sink=torch.arange(4.0))
    _run(some, beams, sink=torch.arange(4.0))
    torch.testing.assert_close(some.calls("self")[0].dense(), all_heads.calls("self")[0].dense()[:, [3, 0]], **CLOSE)


@pytest.mark.parametrize("drops", [False, True], ids=["all keys", "forgets the first keys"])
def test_windows(drops: bool) -> None:
    beams, joined = Beams(1, 2, 3, 6), _joined()
    if not drops:
        _run(joined, beams, window=2)
    else:
        joined.began()
        for step, ways in enumerate(beams.ways):
            new = _feed(joined, beams, step)
            q = torch.stack([beams.q(way)[:, -new:] for way in ways])
            k = torch.stack([beams.k(way)[:, -(new + 2) :] for way in ways])
            joined.attended("self", AttentionMap(q, k, mask=Window(2, 0)))
    for row, way in enumerate(beams.ways[-1]):
        whole = AttentionMap(beams.q(way)[None], beams.k(way)[None], mask=Window(2, 0))
        torch.testing.assert_close(joined.calls("self")[0].dense()[row], whole.dense()[0], **CLOSE)


def test_the_empty_end_of_a_cache_is_left_out() -> None:
    beams, joined = Beams(1, 2, 3, 4), _joined()
    joined.began()
    for step, ways in enumerate(beams.ways):
        new = _feed(joined, beams, step)
        q = torch.stack([beams.q(way)[:, -new:] for way in ways])
        k = torch.stack([torch.nn.functional.pad(beams.k(way), (0, 0, 0, 9 - len(way))) for way in ways])
        joined.attended("self", AttentionMap(q, k, mask=Causal(len(ways[0]) - new)))
    for row, way in enumerate(beams.ways[-1]):
        whole = AttentionMap(beams.q(way)[None], beams.k(way)[None], mask=Causal())
        torch.testing.assert_close(joined.calls("self")[0].dense()[row], whole.dense()[0], **CLOSE)


def test_soft_cap_scale_and_sink_stay() -> None:
    beams, joined = Beams(1, 2, 2, 3), _joined()
    options = {"score": ScaledDot(0.7), "softcap": 1.5, "sink": torch.arange(4.0)}
    _run(joined, beams, **options)
    for row, way in enumerate(beams.ways[-1]):
        whole = AttentionMap(beams.q(way)[None], beams.k(way)[None], mask=Causal(), **options)
        torch.testing.assert_close(joined.calls("self")[0].dense()[row], whole.dense()[0], **CLOSE)


def _diagonals(queries: int, keys: int) -> Diagonals:
    """A bias of the distance, of a step whose ends are aligned."""
    away = torch.arange(1 - keys, queries, dtype=torch.float32)
    return Diagonals(torch.stack([torch.sin(away * (h + 1)) for h in range(4)]))


def test_a_bias_of_the_distance() -> None:
    beams, joined = Beams(1, 2, 3, 5), _joined([2, 1])
    joined.began()
    for step, ways in enumerate(beams.ways):
        new = _feed(joined, beams, step)
        q = torch.stack([beams.q(way)[:, -new:] for way in ways])
        k = torch.stack([beams.k(way) for way in ways])
        bias = _diagonals(new, k.shape[2])
        joined.attended("self", AttentionMap(q, k, mask=Causal(), bias=bias))
    joined.returned([0, 0], [beams.ways[4][1], beams.ways[2][0]])
    for row, way in enumerate([beams.ways[4][1], beams.ways[2][0]]):
        n = len(way)
        whole = AttentionMap(beams.q(way)[None], beams.k(way)[None], mask=Causal(), bias=_diagonals(n, n))
        table = joined.calls("self")[0].dense()[row, :, :n, :n]
        torch.testing.assert_close(table, whole.dense()[0, [2, 1]], **CLOSE)


def test_a_memory_is_kept_once_for_each_sentence() -> None:
    generator = torch.Generator().manual_seed(3)
    memory = torch.randn(2, 2, 5, 8, generator=generator)
    lengths = torch.tensor([5, 3])
    factor = {"mask": lambda centre: Near(centre, 2.0) & Padding(lengths), "sigma": 1.0}
    beams, joined = Beams(2, 3, 1, 4), _joined()
    joined.began()
    joined.attended("encoder", AttentionMap(memory.repeat(1, 2, 1, 1), memory, mask=Padding(lengths)))
    queries: list[Tensor] = []
    for step, ways in enumerate(beams.ways):
        _feed(joined, beams, step)
        q = torch.stack([beams.q(way)[:, -1:] for way in ways])  # (N, H, 1, D)
        queries.append(q)
        folded = q[:, :, 0].unflatten(0, (2, 3)).transpose(1, 2)  # (S, H, W, D): hypotheses of one sentence together
        centre = folded.sum(-1).abs() % 3
        table = AttentionMap(
            folded,
            memory,
            mask=factor["mask"](centre),
            factor=GaussianFactor(centre, 1.0),
        )
        joined.attended("cross", table)
    joined.returned([1, 0], [beams.ways[3][4], beams.ways[1][2]])
    cross, encoder = joined.calls("cross")[0], joined.calls("encoder")[0]
    assert cross.shape == (2, 4, 4, 5) and cross.scoring.k.shape == (2, 2, 5, 8)
    for row, (sentence, way) in enumerate([(1, beams.ways[3][4]), (0, beams.ways[1][2])]):
        q = beams.q(way)[None]
        centre = q.sum(-1).abs() % 3
        mask = Near(centre, 2.0) & Padding(lengths[sentence : sentence + 1])
        whole = AttentionMap(q, memory[sentence : sentence + 1], mask=mask, factor=GaussianFactor(centre, 1.0))
        torch.testing.assert_close(cross.dense()[row, :, : len(way)], whole.dense()[0], **CLOSE)
        assert cross.dense()[row, :, len(way) :].abs().sum() == 0
    whole = AttentionMap(memory.repeat(1, 2, 1, 1), memory, mask=Padding(lengths)).dense()
    torch.testing.assert_close(encoder.dense(), whole[[1, 0]], **CLOSE)


def test_a_new_generation_forgets_the_last_and_other_passes_dont() -> None:
    first, second, joined = Beams(1, 2, 3, 4), Beams(2, 1, 2, 3), _joined()
    _run(joined, first)
    _run(joined, second)
    joined.returned([1], [second.ways[2][1]])
    table = joined.calls("self")[0]
    assert table.shape == (1, 4, 4, 4)
    joined.read("source", torch.ones(1, 7, dtype=torch.long), None)
    joined.read("target", torch.ones(1, 9, dtype=torch.long), None)
    whole = AttentionMap(torch.randn(1, 4, 9, 8), torch.randn(1, 2, 9, 8), mask=Causal())
    joined.attended("self", whole)
    assert joined.calls("self")[0] is table and len(joined.tokens("target")[0].ids) == 4


def test_a_pass_after_a_generation_without_a_word_of_what_was_found() -> None:
    beams, joined, memory = Beams(1, 2, 3, 4), _joined(), torch.ones(1, 2, 5, 8)
    joined.began()
    joined.read("source", torch.tensor([[4, 5, 6, 7, 8]]), None)
    joined.attended("encoder", AttentionMap(memory.repeat(1, 2, 1, 1), memory))
    for step in range(4):
        _feed(joined, beams, step)
    joined.read("source", torch.tensor([[9, 9, 9, 9, 9]]), None)
    joined.attended("encoder", AttentionMap(memory.repeat(1, 2, 1, 1), memory, mask=Causal()))
    assert [tokens.ids for tokens in joined.tokens("source")] == [(4, 5, 6, 7, 8)] * 2
    assert joined.calls("encoder")[0].dense().min() > 0.19
    joined.returned([0], [beams.ways[3][1]])  # and what was found is said late
    assert [tokens.ids for tokens in joined.tokens("target")] == [beams.ways[3][1]]


def test_a_sequence_that_is_not_known_any_more() -> None:
    joined = _joined()
    joined.read("source", torch.tensor([[4, 5]]), None)
    joined.read("source", None, None)
    joined.read("target", None, None)
    assert joined.tokens("source") == joined.tokens("target") == []


def test_of_a_search_that_found_nothing_nothing_is_kept() -> None:
    beams, joined = Beams(1, 2, 2, 3), _joined()
    _run(joined, beams)
    joined.returned([], [])
    assert not joined.names() and joined.tokens("target") == []


def test_without_a_generation_the_last_call_is_kept() -> None:
    joined = _joined([1])
    for length in (3, 5):
        joined.read("target", torch.arange(length)[None], torch.tensor([[True] * (length - 1) + [False]]))
        q, k = torch.randn(1, 4, length, 8), torch.randn(1, 2, length, 8)
        joined.attended("self", AttentionMap(q, k, mask=Causal()))
    assert joined.calls("self")[0].shape == (1, 1, 5, 5) and list(joined.names()) == ["self"]
    assert joined.tokens("target")[0].special == (False,) * 4 + (True,) and joined.tokens("source") == []


def _storages(x: object, found: dict[int, int], seen: set[int]) -> dict[int, int]:
    """Bytes of every storage that an object holds, by address."""
    if id(x) in seen:
        return found
    seen.add(id(x))
    if isinstance(x, Tensor):
        found[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
    elif isinstance(x, dict):
        for value in x.values():
            _storages(value, found, seen)
    elif isinstance(x, (list, tuple)):
        for value in x:
            _storages(value, found, seen)
    elif hasattr(x, "__dict__"):
        _storages(vars(x), found, seen)
    return found


def _steps_in_a_static_cache(joined: Joined, steps: int, capacity: int = 600) -> tuple[int, set[int]]:
    """Bytes kept of `steps` steps, and the addresses of what the model's tensors lie in."""
    keys, queries = torch.randn(1, 2, capacity, 8), torch.randn(1, 4, capacity, 8)
    cache, theirs = torch.zeros(1, 2, capacity, 8), set()
    joined.began()
    for step in range(steps):
        joined.fed("target", torch.tensor([[step]]), None, None)
        cache[:, :, step] = keys[:, :, step]
        q = queries[:, :, step : step + 1]
        theirs |= {x.untyped_storage().data_ptr() for x in (cache, q)}
        joined.attended("self", AttentionMap(q, cache[:, :, : step + 1], mask=Causal()))
    kept = _storages(joined, {}, set())
    expected = AttentionMap(queries[:, :, :steps], keys[:, :, :steps], mask=Causal()).dense()
    cache.zero_()  # and written to by the next generation
    torch.testing.assert_close(joined.calls("self")[0].dense(), expected, **CLOSE)
    return sum(kept.values()), theirs & kept.keys()


def test_memory_is_linear_and_none_of_the_models() -> None:
    few, shared = _steps_in_a_static_cache(_joined(), 100)
    many, also = _steps_in_a_static_cache(_joined(), 400)
    assert not shared and not also
    assert many < 4.2 * few
    assert many < 400 * (4 + 2) * 8 * 4 * 1.5  # queries and new keys, and little besides


def test_recorded_in_inference_mode_and_used_with_a_gradient() -> None:
    beams, joined = Beams(1, 2, 2, 3), _joined()
    with torch.inference_mode():
        _run(joined, beams)
    table = joined.calls("self")[0]
    x = torch.ones(1, requires_grad=True)
    (table[0, 0] * x).sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()
