import math

import pytest
import torch
from torch import nn

from regard.attention import Document
from regard.models.bert import BERTConfig, MaskedLanguageModel, build_masked_language_model
from regard.tasks.masked_language_modelling import MaskedBatch, MaskedObjective, judge_masked, masked_loss

TOKENS = torch.tensor([[1, 5, 12, 7, 2, 0], [1, 12, 4, 2, 12, 2]])
LENGTHS = torch.tensor([5, 6])
CHOSEN = torch.tensor([[False, False, True, True, False, False], [False, True, False, False, True, False]])
TARGETS = torch.tensor([6, 7, 3, 9])
TYPES = torch.tensor([[0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1]])


def model(next_sentence: bool = False) -> MaskedLanguageModel:
    torch.manual_seed(0)
    config = BERTConfig(13, max_length=8, layers=2, width=16, feedforward=32, heads=2)
    made = build_masked_language_model(config, next_sentence)
    nn.init.normal_(made.encoder.embedding.tokens.weight)
    return made.eval()


def test_the_loss_is_that_of_the_hidden_tokens() -> None:
    bert = model()
    batch = MaskedBatch(TOKENS, LENGTHS, CHOSEN, TARGETS, 4)
    logits = bert.output(bert(TOKENS, LENGTHS))[CHOSEN]
    expected = nn.functional.cross_entropy(logits, TARGETS, reduction="sum")
    torch.testing.assert_close(masked_loss(bert, batch), expected)
    found = judge_masked(bert, batch, chunk=3)
    assert math.isclose(found.loss, float(expected.detach()), rel_tol=1e-5)
    assert found.said.tolist() == logits.argmax(-1).tolist()
    assert found.right == int((logits.argmax(-1) == TARGETS).sum()) and found.followed == 0
    assert batch.real.tolist() == [[True] * 5 + [False], [True] * 6]


def test_gradients_are_those_of_the_logits() -> None:
    bert = model()
    MaskedObjective(bert)(MaskedBatch(TOKENS, LENGTHS, CHOSEN, TARGETS, 4)).backward()
    found = [None if p.grad is None else p.grad.clone() for p in bert.parameters()]
    bert.zero_grad()
    nn.functional.cross_entropy(bert.output(bert(TOKENS, LENGTHS))[CHOSEN], TARGETS, reduction="sum").backward()
    for mine, p in zip(found, bert.parameters(), strict=True):
        torch.testing.assert_close(mine, p.grad, rtol=1e-4, atol=1e-5)


def test_the_next_sentence_counts_as_often_as_tokens_are_hidden() -> None:
    bert = model(next_sentence=True)
    follows = torch.tensor([1, 0])
    batch = MaskedBatch(TOKENS, LENGTHS, CHOSEN, TARGETS, 4, types=TYPES, follows=follows)
    states = bert.encoder(TOKENS, LENGTHS, TYPES)
    tokens = nn.functional.cross_entropy(bert.output(bert.transformed(states))[CHOSEN], TARGETS)
    pairs = nn.functional.cross_entropy(bert.following(states), follows)
    torch.testing.assert_close(masked_loss(bert, batch) / 4, tokens + pairs)  # the sum of the paper's two means
    assert judge_masked(bert, batch).followed == int((bert.following(states).argmax(-1) == follows).sum())
    # however rows are spread over micro-batches
    parts = [
        MaskedBatch(
            TOKENS[i : i + 1],
            LENGTHS[i : i + 1],
            CHOSEN[i : i + 1],
            TARGETS[2 * i : 2 * i + 2],
            2,
            types=TYPES[i : i + 1],
            follows=follows[i : i + 1],
        )
        for i in range(2)
    ]
    torch.testing.assert_close(sum(masked_loss(bert, part) for part in parts), masked_loss(bert, batch))


@torch.no_grad()
def test_documents_in_a_row_are_as_if_alone() -> None:
    bert = model()
    one = MaskedBatch(
        torch.tensor([[1, 12, 5, 2]]),
        torch.tensor([4]),
        torch.tensor([[False, True, False, False]]),
        torch.tensor([8]),
        1,
    )
    other = MaskedBatch(
        torch.tensor([[1, 12, 2]]), torch.tensor([3]), torch.tensor([[False, True, False]]), torch.tensor([3]), 1
    )
    packed = MaskedBatch(
        torch.tensor([[1, 12, 5, 2, 1, 12, 2, 0]]),
        torch.tensor([7]),
        torch.tensor([[False, True, False, False, False, True, False, False]]),
        torch.tensor([8, 3]),
        2,
        mask=Document(torch.tensor([[0, 0, 0, 0, 1, 1, 1, -1]])),
        positions=torch.tensor([[0, 1, 2, 3, 0, 1, 2, 0]]),
    )
    alone = float(masked_loss(bert, one) + masked_loss(bert, other))
    assert float(masked_loss(bert, packed)) == pytest.approx(alone, abs=1e-4)


@torch.no_grad()
def test_nothing_hidden_is_no_loss() -> None:
    none = MaskedBatch(TOKENS, LENGTHS, torch.zeros_like(CHOSEN), TARGETS[:0], 0)
    assert float(masked_loss(model(), none)) == 0
    assert judge_masked(model(), none).right == 0
