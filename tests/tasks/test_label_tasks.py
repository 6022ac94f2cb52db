"""Losses of classification and tagging from their definition; padding and the batch don't matter."""

from typing import TypeVar

import torch
from torch import Tensor

from regard.models.bert import BERTConfig, build_classifier, build_tagger
from regard.tasks import classification, tagging
from regard.tasks.framing import Frame, FramedRow, frame_texts
from regard.tasks.tagging import WordRow, word_rows

FRAME = Frame(begin=1, end=2, pad=0)
CPU = torch.device("cpu")
M = TypeVar("M", bound=torch.nn.Module)
CONFIG = BERTConfig(
    vocabulary=30, layers=2, width=16, feedforward=32, heads=2, dropout=0.0, attention_dropout=0.0, max_length=16
)


def texts() -> list[FramedRow]:
    return [frame_texts([5, 6, 7, 8], [9, 10], FRAME, 16), frame_texts([11], None, FRAME, 16)]


def words() -> list[WordRow]:
    return [*word_rows([[5, 6], [7], [8, 9, 10]], FRAME, 16), *word_rows([[11]], FRAME, 16)]


def sharpened(model: M) -> M:
    """Larger weights: fresh ones say nearly the same of everything."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(20)
    return model.eval()


def smoothed(log_probs: Tensor, targets: list[int], smoothing: float) -> Tensor:
    """(1 − ε) on the true class plus ε / C on every one."""
    true = log_probs.gather(1, torch.tensor(targets)[:, None]).sum()
    return -((1 - smoothing) * true + smoothing * log_probs.mean(1).sum())


def test_loss_of_classification() -> None:
    model, rows = sharpened(build_classifier(CONFIG, 3)), texts()
    batch = classification.collate(rows, [2, 0], FRAME, CPU)
    alone = [classification.collate([row], [0], FRAME, CPU).texts for row in rows]
    log_probs = torch.cat([classification.classification_logits(model, one) for one in alone]).log_softmax(-1)
    assert log_probs.exp().std(0).max() > 1e-3  # the model tells them apart
    for smoothing in (0.0, 0.1):
        loss = classification.ClassificationObjective(model, smoothing)(batch)
        torch.testing.assert_close(loss, smoothed(log_probs, [2, 0], smoothing))


def test_loss_of_tagging_asks_first_pieces_alone() -> None:
    model, rows = sharpened(build_tagger(CONFIG, 4)), words()
    batch = tagging.collate(rows, [[1, 0, 3], [2]], FRAME, CPU)
    assert batch.first.tolist()[0] == [False, True, False, True, True, False, False, False]
    assert batch.tags.tolist() == [1, 0, 3, 2]
    whole = model(batch.texts.tokens[:1], batch.texts.lengths[:1])[0]  # (L, C)
    log_probs = torch.cat([whole[[1, 3, 4]], model(torch.tensor([[1, 11, 2]]), torch.tensor([3]))[0, 1:2]]).log_softmax(
        -1
    )
    for smoothing in (0.0, 0.1):
        loss = tagging.TaggingObjective(model, smoothing)(batch)
        torch.testing.assert_close(loss, smoothed(log_probs, [1, 0, 3, 2], smoothing))


def test_what_stands_in_padding_does_not_matter() -> None:
    model = sharpened(build_classifier(CONFIG, 3))
    batch = classification.collate(texts(), [0, 1], FRAME, CPU)
    before = classification.classification_logits(model, batch.texts)
    batch.texts.tokens[~batch.texts.real()] = 17
    torch.testing.assert_close(classification.classification_logits(model, batch.texts), before, rtol=0, atol=0)


def test_the_types_of_a_pair_matter() -> None:
    model = sharpened(build_classifier(CONFIG, 3))
    pair, one = frame_texts([5, 6], [7], FRAME, 16), frame_texts([5, 6, 2, 7], None, FRAME, 16)
    assert pair.ids == one.ids
    batch = classification.collate([pair, one], [0, 0], FRAME, CPU)
    first, second = classification.classification_logits(model, batch.texts)
    assert (first - second).abs().max() > 1e-3
