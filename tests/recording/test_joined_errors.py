"""What `Joined` refuses: steps that can't be one map, or don't go together. Errors name module and reason."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from regard.attention import ALiBi, AttentionMap, Causal, Dense, Dot, RelativeBias
from regard.errors import UnsupportedError
from regard.insight.tokens import Role, Tokens
from regard.recording.joined import Joined

ROLES = {"self": Role("causal", "target", "target"), "cross": Role("cross", "target", "source")}


def _numbers(sequence: str, ids: Sequence[int], real: Sequence[bool]) -> Tokens:
    return Tokens(tuple(map(str, ids)), tuple(not one for one in real), tuple(ids))


def _joined() -> Joined:
    return Joined(ROLES, None, _numbers)


def _one_step(joined: Joined, table: AttentionMap, ids: Tensor) -> None:
    joined.began()
    joined.fed("target", ids, None, None)
    joined.attended("self", table)


Q, K, IDS = torch.ones(1, 4, 3, 8), torch.ones(1, 2, 3, 8), torch.tensor([[1, 2, 3]])
HOLES = torch.tensor([[True, False, True]]).expand(3, 3)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (AttentionMap(Q, K, mask=Dense(HOLES)), "self: some query sees keys with a gap between them.*with keep=1"),
        (AttentionMap(Q, K, mask=Causal(), bias=torch.zeros(3, 3)), r"a bias \(Given\) that depends on more"),
        (AttentionMap(Q, K, mask=Causal(), bias=ALiBi()), r"a bias \(ALiBi\)"),
        (AttentionMap(Q, K, bias=RelativeBias(torch.zeros(8, 4))), r"a bias \(RelativeBias\)"),
        (AttentionMap(Q, K, factor=torch.ones(3, 3)), "a factor that is a table"),
        (AttentionMap(Q[:, :, :2], K), "its queries are 2 for each of 1, where 1 hypotheses were fed 3 each"),
        (AttentionMap(Q, torch.ones(1, 2, 5, 8)), "there are 5 keys where 3 positions were fed"),
    ],
    ids=["gaps", "table", "alibi", "relative", "factor", "queries", "keys"],
)
def test_what_cannot_be_joined(table: AttentionMap, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        _one_step(_joined(), table, IDS)


def _two_steps(joined: Joined, **later: object) -> None:
    """A step of three positions and one of one, whose table is made of `later`."""
    keys = torch.randn(1, 2, 4, 8, generator=torch.Generator().manual_seed(1))
    joined.began()
    joined.fed("target", IDS, None, None)
    joined.attended("self", AttentionMap(Q, keys[:, :, :3], mask=Causal(), sink=torch.ones(4)))
    joined.fed("target", torch.tensor([[4]]), later.pop("parents", None), None)
    given = {"k": keys, "sink": torch.ones(4), **later}
    joined.attended("self", AttentionMap(Q[:, :, :1], **given))
    joined.calls("self")


def test_steps_that_dont_go_together() -> None:
    _two_steps(_joined())  # these do
    with pytest.raises(UnsupportedError, match="self: the keys of a step don't continue those of the step before"):
        _two_steps(_joined(), k=torch.ones(1, 2, 4, 8))
    with pytest.raises(UnsupportedError, match="self: parameters of its score, its bias or its sinks changed"):
        _two_steps(_joined(), sink=torch.zeros(4))
    with pytest.raises(UnsupportedError, match="self: its score changed between steps"):
        _two_steps(_joined(), score=Dot())
    with pytest.raises(UnsupportedError, match="self: its score changed between steps"):
        _two_steps(_joined(), softcap=3.0)
    with pytest.raises(UnsupportedError, match="was fed a whole sequence again"):
        _two_steps(_joined(), k=torch.ones(1, 2, 1, 8))
    with pytest.raises(UnsupportedError, match="a step doesn't continue the one before it"):
        _two_steps(_joined(), parents=torch.tensor([5]))


def test_a_cache_with_an_order_of_its_own() -> None:
    """A cache that forgets keys in the middle: the newest old key is where it should be, the oldest isn't."""
    keys = torch.randn(1, 2, 4, 8)
    joined = _joined()
    joined.began()
    joined.fed("target", IDS, None, None)
    joined.attended("self", AttentionMap(Q, keys[:, :, :3], mask=Causal()))
    joined.fed("target", torch.tensor([[4]]), None, None)
    joined.attended("self", AttentionMap(Q[:, :, :1], keys[:, :, [0, 2, 3]]))
    with pytest.raises(UnsupportedError, match="self: the cache has an order of its own"):
        joined.calls("self")


def test_a_module_that_runs_twice_or_now_and_then() -> None:
    joined = _joined()
    _one_step(joined, AttentionMap(Q, K, mask=Causal()), IDS)
    with pytest.raises(UnsupportedError, match="self was called more than once"):
        joined.attended("self", AttentionMap(Q, K, mask=Causal()))
    joined.fed("target", torch.tensor([[4]]), None, None)
    with pytest.raises(UnsupportedError, match="self was not called in every step"):
        joined.calls("self")
    joined.fed("target", torch.tensor([[5]]), None, None)
    with pytest.raises(UnsupportedError, match="self was called not in every step"):
        joined.attended("self", AttentionMap(Q[:, :, :1], torch.ones(1, 2, 5, 8)))


def test_a_memory_that_changes() -> None:
    joined, memory = _joined(), torch.randn(1, 2, 5, 8)
    joined.began()
    for step in range(2):
        joined.fed("target", torch.tensor([[step]]), None, None)
        joined.attended("cross", AttentionMap(Q[:, :, :1], memory + step))
    with pytest.raises(UnsupportedError, match="cross: the memory is not the same in each step"):
        joined.calls("cross")


def test_a_sequence_that_was_never_fed() -> None:
    joined = _joined()
    _one_step(joined, AttentionMap(Q, K, mask=Causal()), IDS)
    joined.returned([0], [[7, 8, 9]])
    with pytest.raises(UnsupportedError, match=r"sequence 0 was found, but its beginning, \[7, 8, 9\], was never fed"):
        joined.calls("self")


def test_a_generation_of_which_nothing_was_fed() -> None:
    joined = _joined()
    joined.returned([], [])  # without a generation there is nothing to say
    joined.began()
    joined.attended("self", AttentionMap(Q, K, mask=Causal()))
    with pytest.raises(UnsupportedError, match="what the model was fed in its generation was not seen"):
        joined.returned([], [])


def test_hypotheses_of_which_nobody_says_where_they_come_from() -> None:
    joined = _joined()
    _one_step(joined, AttentionMap(Q, K, mask=Causal()), IDS)
    with pytest.raises(UnsupportedError, match="a step has 2 hypotheses after 1, without saying which"):
        joined.fed("target", torch.tensor([[4], [5]]), None, None)
