"""The rule that says which token comes at a place; `generate` has it, too (tests/interop/test_weights_reading.py)."""

from __future__ import annotations

import pytest
import torch

from regard.decoding.forced import Forced
from regard.decoding.rules import Moment
from regard.errors import ArgumentError


def test_only_sentences_at_their_place_are_forced() -> None:
    log_probs = torch.randn(6, 5, dtype=torch.float64).log_softmax(1)
    rule = Forced((1, -1, 2), 3)
    for said, forced in ((0, []), (1, [0, 1]), (2, [4, 5])):  # two hypotheses for each of three sentences
        moment = Moment(torch.zeros(6, said, dtype=torch.int64), log_probs, rule.tensors())
        after = rule.apply(log_probs, moment)
        for row in range(6):
            expected = torch.full((5,), -torch.inf, dtype=torch.float64) if row in forced else log_probs[row]
            if row in forced:
                expected[3] = 0.0
            assert torch.equal(after[row], expected)


def test_a_negative_token_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="the token is -1"):
        Forced((0,), -1)
