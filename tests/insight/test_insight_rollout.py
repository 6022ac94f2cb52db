"""Roll-out by vectors against products of whole matrices."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from regard.attention import AttentionMap, Causal, Dense, Padding, scoring
from regard.attention.masks import Mask
from regard.errors import ArgumentError
from regard.insight import Reading, readings_of, render_roll_out, roll_out
from regard.insight.tokens import Role, Tokens


def stack(layers: int, mask: Mask | None, kind: str = "self", **options: Tensor) -> dict[str, AttentionMap]:
    torch.manual_seed(layers)
    return {
        f"layers.{n}": AttentionMap(torch.randn(2, 6, 7, 5), torch.randn(2, 3, 7, 5), mask=mask, **options)
        for n in range(layers)
    }


def text_readings(maps: dict[str, AttentionMap], element: int = 0) -> list[Reading]:
    return readings_of(maps, dict.fromkeys(maps, Role("self", "text", "text")), element=element)


def product(tables: Sequence[Tensor], residual: float = 0.5) -> Tensor:
    """Equation 1 of Abnar & Zuidema 2020 multiplied out, last layer first."""
    result = torch.eye(tables[0].shape[-1], dtype=torch.float64)
    for table in tables:
        result = (residual * torch.eye(len(result), dtype=torch.float64) + (1 - residual) * table) @ result
    return result


@pytest.mark.parametrize("element", [0, 1])
@pytest.mark.parametrize(
    "mask", [None, Causal(), Padding(torch.tensor([7, 4])), Causal() & Padding(torch.tensor([7, 4]))]
)
@pytest.mark.parametrize("residual", [0.5, 0.0, 0.8])
def test_one_stack(mask: Mask | None, element: int, residual: float) -> None:
    maps = stack(3, mask)
    found = roll_out(text_readings(maps, element), [3, 0, -1], residual=residual)
    expected = product([table.dense()[element].double().mean(0) for table in maps.values()], residual)
    assert found.positions == (3, 0, 6) and found.layers == tuple(maps) and found.sequence == "text"
    np.testing.assert_allclose(found.shares["text"], expected[[3, 0, 6]], atol=1e-6)
    np.testing.assert_allclose(found.lost, 1 - expected[[3, 0, 6]].sum(-1), atol=1e-6)


def test_sinks_and_rows_that_see_nothing_lose_mass() -> None:
    maps = stack(2, None, sink=torch.randn(6))
    found = roll_out(text_readings(maps), [2])
    expected = product([table.dense()[0].double().mean(0) for table in maps.values()])
    np.testing.assert_allclose(found.shares["text"][0], expected[2], atol=1e-6)
    assert found.lost[0] == pytest.approx(1 - expected[2].sum().item(), abs=1e-6) and found.lost[0] > 0.03
    assert found.shares["text"].sum() + found.lost[0] == pytest.approx(1, abs=1e-6)
    assert "lost to sinks" in render_roll_out(found, 60, False)
    seen = torch.ones(7, 7, dtype=torch.bool)
    seen[4] = False
    found = roll_out(text_readings(stack(2, Dense(seen))), [4, 5])
    assert found.lost[0] == pytest.approx(0.75) and found.shares["text"][0, 4] == pytest.approx(0.25)
    assert 0 < found.lost[1] < 0.25


def encoder_decoder() -> tuple[dict[str, AttentionMap], dict[str, Role]]:
    torch.manual_seed(5)
    real = Padding(torch.tensor([5, 3]))
    maps, roles = {}, {}
    for n in range(2):
        maps[f"encoder.{n}"] = AttentionMap(torch.randn(2, 2, 5, 3), torch.randn(2, 2, 5, 3), mask=real)
        roles[f"encoder.{n}"] = Role("self", "source", "source")
    for n in range(2):
        maps[f"decoder.{n}.self"] = AttentionMap(torch.randn(2, 2, 4, 3), torch.randn(2, 1, 4, 3), mask=Causal())
        roles[f"decoder.{n}.self"] = Role("causal", "target", "target")
        maps[f"decoder.{n}.cross"] = AttentionMap(torch.randn(2, 3, 4, 3), torch.randn(2, 3, 5, 3), mask=real)
        roles[f"decoder.{n}.cross"] = Role("cross", "target", "source")
    return maps, roles


@pytest.mark.parametrize("element", [0, 1])
def test_encoder_decoder(element: int) -> None:
    maps, roles = encoder_decoder()
    mean = {name: table.dense()[element].double().mean(0) for name, table in maps.items()}
    encoder = product([mean["encoder.0"], mean["encoder.1"]])
    # rows of (target inputs | source inputs), layer by layer
    own, other = torch.eye(4, dtype=torch.float64), torch.zeros(4, 5, dtype=torch.float64)
    for n in range(2):
        attended = 0.5 * torch.eye(4, dtype=torch.float64) + 0.5 * mean[f"decoder.{n}.self"]
        own, other = attended @ own, attended @ other
        own, other = 0.5 * own, 0.5 * other + 0.5 * mean[f"decoder.{n}.cross"] @ encoder
    readings = readings_of(maps, roles, element=element)
    found = roll_out(readings, [1, 3])
    assert found.sequence == "target"
    np.testing.assert_allclose(found.shares["target"], own[[1, 3]], atol=1e-6)
    np.testing.assert_allclose(found.shares["source"], other[[1, 3]], atol=1e-6)
    assert found.lost.max() < 1e-6
    alone = roll_out(readings, [2], sequence="source")  # the encoder by itself
    assert set(alone.shares) == {"source"} and alone.layers == ("encoder.0", "encoder.1")
    np.testing.assert_allclose(alone.shares["source"], encoder[[2]], atol=1e-6)


class Largest(TorchDispatchMode):
    """Notes the most elements of any tensor that is made."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(x, Tensor):
                self.numel = max(self.numel, x.numel())
        return result


def test_no_tensor_is_as_large_as_a_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "BLOCK", 1 << 14)
    length = 2500
    q, k = torch.randn(1, 2, length, 4), torch.randn(1, 1, length, 4)
    readings = text_readings({name: AttentionMap(q, k, mask=Causal()) for name in "ab"})
    with Largest() as made:
        found = roll_out(readings, [length - 1, 5])
    assert length * 2 <= made.numel < length * length / 20
    assert found.shares["text"].shape == (2, length) and found.shares["text"][1, 6:].max() == 0


def test_a_roll_out_without_the_encoder_says_so() -> None:
    maps, roles = encoder_decoder()
    whole, part = readings_of(maps, roles), readings_of(maps, roles)[2:]
    assert roll_out(whole, [1]).encoded == () and roll_out(part, [1]).encoded == ("source",)
    said = render_roll_out(roll_out(part, [1]), 200, False)
    assert "gathered from the source's encoded positions" in said and "gathered from the target ·" in said
    assert "encoded" not in render_roll_out(roll_out(whole, [1]), 200, False)
    assert "roll-out of 1 attention\n" in render_roll_out(roll_out(part[-1:], [1]), 200, False)


def test_plain_data() -> None:
    maps = stack(1, None)
    tokens = Tokens(tuple("abcdefg"), (False,) * 7)
    readings = readings_of(maps, {"layers.0": Role("self", "text", "text")}, lambda name: ([tokens] * 2, [tokens] * 2))
    found = roll_out(readings, [1])
    data = json.loads(json.dumps(found.to_json()))
    assert data["tokens"]["text"] == list("abcdefg") and data["positions"] == [1]
    np.testing.assert_array_equal(np.float32(data["shares"]["text"]), found.shares["text"])
    with pytest.raises(ValueError, match="read-only"):
        found.shares["text"][0, 0] = 1


def test_errors() -> None:
    maps, roles = encoder_decoder()
    readings = readings_of(maps, roles)
    for message, call in (
        ("no position 4, only 0 to 3", lambda: roll_out(readings, [4])),
        ("a position twice", lambda: roll_out(readings, [1, -3])),
        ("give one position", lambda: roll_out(readings, [])),
        ("residual is 1.5", lambda: roll_out(readings, [0], residual=1.5)),
        ("sequence is 'image'", lambda: roll_out(readings, [0], sequence="image")),
        ("readings is empty", lambda: roll_out([], [0])),
        ("order of the model", lambda: roll_out([*readings[2:], *readings[:2]], [0])),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()
    step = {"a": AttentionMap(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 5, 2))}
    with pytest.raises(ArgumentError, match="1 rows and 5 columns"):
        roll_out(text_readings(step), [0])
    shrinking = {name: AttentionMap(torch.zeros(n, 2), torch.zeros(n, 2)) for name, n in (("a", 8), ("b", 4))}
    with pytest.raises(ArgumentError, match="layers of one length"):
        roll_out(text_readings(shrinking), [0])
