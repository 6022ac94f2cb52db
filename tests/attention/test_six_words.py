"""Attention among the six words of "Your journey starts with one step", each number worked out below by hand."""

import math

import pytest
import torch

from regard.attention import AttentionMap, Causal, Dot, ScaledDot, attend

WORDS = ("Your", "journey", "starts", "with", "one", "step")
EMBEDDINGS = (
    (0.43, 0.15, 0.89),
    (0.55, 0.87, 0.66),
    (0.57, 0.85, 0.64),
    (0.22, 0.58, 0.33),
    (0.77, 0.25, 0.10),
    (0.05, 0.80, 0.55),
)
X = torch.tensor(EMBEDDINGS)

# journey · word = 0.55 x + 0.87 y + 0.66 z
JOURNEY_SCORES = (
    0.55 * 0.43 + 0.87 * 0.15 + 0.66 * 0.89,  # 0.2365 + 0.1305 + 0.5874 = 0.9544
    0.55 * 0.55 + 0.87 * 0.87 + 0.66 * 0.66,  # 0.3025 + 0.7569 + 0.4356 = 1.4950
    0.55 * 0.57 + 0.87 * 0.85 + 0.66 * 0.64,  # 0.3135 + 0.7395 + 0.4224 = 1.4754
    0.55 * 0.22 + 0.87 * 0.58 + 0.66 * 0.33,  # 0.1210 + 0.5046 + 0.2178 = 0.8434
    0.55 * 0.77 + 0.87 * 0.25 + 0.66 * 0.10,  # 0.4235 + 0.2175 + 0.0660 = 0.7070
    0.55 * 0.05 + 0.87 * 0.80 + 0.66 * 0.55,  # 0.0275 + 0.6960 + 0.3630 = 1.0865
)
JOURNEY_WEIGHTS = (0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581)
JOURNEY_CONTEXT = (0.4419, 0.6515, 0.5683)


def test_the_numbers_of_journey_by_hand() -> None:
    assert pytest.approx((0.9544, 1.4950, 1.4754, 0.8434, 0.7070, 1.0865), abs=1e-9) == JOURNEY_SCORES
    # e^0.9544 = 2.5971, e^1.4950 = 4.4593, e^1.4754 = 4.3728, e^0.8434 = 2.3243, e^0.7070 = 2.0279, e^1.0865 = 2.9639
    powers = [math.exp(s) for s in JOURNEY_SCORES]
    assert powers == pytest.approx([2.5971, 4.4593, 4.3728, 2.3243, 2.0279, 2.9639], abs=6e-5)
    assert sum(powers) == pytest.approx(18.7453, abs=3e-4)
    weights = [p / sum(powers) for p in powers]
    assert weights == pytest.approx(JOURNEY_WEIGHTS, abs=6e-5)
    context = [sum(w * word[d] for w, word in zip(weights, EMBEDDINGS, strict=True)) for d in range(3)]
    assert context == pytest.approx(JOURNEY_CONTEXT, abs=6e-5)


def test_attend_gives_the_context_of_journey() -> None:
    context, lse = attend(X, X, X, score=Dot(), return_lse=True)
    assert context[1].tolist() == pytest.approx(JOURNEY_CONTEXT, abs=6e-5)
    assert lse[1].item() == pytest.approx(math.log(sum(math.exp(s) for s in JOURNEY_SCORES)), abs=1e-6)


def test_the_map_gives_the_weights_of_journey() -> None:
    table = AttentionMap(X, X, score=Dot())
    assert table.shape == (6, 6)
    assert table[1].tolist() == pytest.approx(JOURNEY_WEIGHTS, abs=6e-5)
    weights, words = table.top(3)
    assert [WORDS[i] for i in words[1]] == ["journey", "starts", "step"]
    assert weights[1].tolist() == pytest.approx([0.2379, 0.2333, 0.1581], abs=6e-5)
    by_hand = -sum(w * math.log(w) for w in (math.exp(s) / 18.7453 for s in JOURNEY_SCORES))
    assert table.entropy()[1].item() == pytest.approx(by_hand, abs=1e-4)


def test_journey_sees_only_itself_and_your_when_causal() -> None:
    """The scores 0.9544 and 1.4950 differ by 0.5406, so that the weights are 1 / (1 + e^0.5406) = 0.3680 and 0.6320."""
    first = 1 / (1 + math.exp(0.5406))
    assert first == pytest.approx(0.3680, abs=6e-5)
    expected = [first * a + (1 - first) * b for a, b in zip(EMBEDDINGS[0], EMBEDDINGS[1], strict=True)]
    context = attend(X, X, X, score=Dot(), mask=Causal())
    assert context[1].tolist() == pytest.approx(expected, abs=1e-5)
    assert context[0].tolist() == pytest.approx(EMBEDDINGS[0], abs=1e-7)
    assert AttentionMap(X, X, score=Dot(), mask=Causal())[1].tolist() == pytest.approx(
        [first, 1 - first, 0, 0, 0, 0], abs=1e-5
    )


def test_scaling_divides_the_scores_by_the_root_of_the_width() -> None:
    powers = [math.exp(s / math.sqrt(3)) for s in JOURNEY_SCORES]
    expected = [p / sum(powers) for p in powers]
    assert AttentionMap(X, X, score=ScaledDot())[1].tolist() == pytest.approx(expected, abs=1e-6)
