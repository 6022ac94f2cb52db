import torch
from torch import nn

from regard.attention import Document
from regard.models.gpt import GPTConfig, build_gpt
from regard.tasks.language_modelling import LanguageModellingObjective, TextBatch, language_loss, target_log_probs

VOCABULARY = 13
TOKENS = torch.tensor([[1, 5, 7, 7, 2, 9], [4, 4, 1, 12, 0, 0]])
TARGETS = torch.tensor([[5, 7, 7, 2, 9, 3], [4, 1, 12, 2, 0, 0]])
REAL = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    made = build_gpt(GPTConfig(VOCABULARY, max_length=8, layers=2, width=16, feedforward=32, heads=2, dropout=0.0))
    nn.init.normal_(made.embedding.tokens.weight)  # so that it says something
    return made.eval()


def test_the_loss_is_that_of_the_next_tokens() -> None:
    gpt = model()
    batch = TextBatch(TOKENS, TARGETS, REAL, 10)
    logits = gpt.output(gpt(TOKENS))
    expected = nn.functional.cross_entropy(logits[REAL], TARGETS[REAL], reduction="sum")
    torch.testing.assert_close(language_loss(gpt, batch), expected)
    full = TextBatch(TOKENS[:1], TARGETS[:1], REAL[:1], 6)
    assert full.full and not batch.full
    torch.testing.assert_close(
        language_loss(gpt, full), nn.functional.cross_entropy(logits[0], TARGETS[0], reduction="sum")
    )


def test_its_gradient_is_the_one_of_the_logits() -> None:
    gpt = model()
    LanguageModellingObjective(gpt)(TextBatch(TOKENS, TARGETS, REAL, 10)).backward()
    found = [p.grad.clone() for p in gpt.parameters()]
    gpt.zero_grad()
    nn.functional.cross_entropy(gpt.output(gpt(TOKENS))[REAL], TARGETS[REAL], reduction="sum").backward()
    for mine, p in zip(found, gpt.parameters(), strict=True):
        torch.testing.assert_close(mine, p.grad, rtol=1e-4, atol=1e-5)


def test_log_probs_add_up_to_the_loss() -> None:
    gpt = model()
    batch = TextBatch(TOKENS, TARGETS, REAL, 10)
    said = target_log_probs(gpt, batch)
    assert said.shape == (2, 6) and (said[~REAL] == 0).all()
    torch.testing.assert_close(-said.sum(), language_loss(gpt, batch).detach())


@torch.no_grad()
def test_documents_in_a_row_are_as_if_alone() -> None:
    gpt = model()
    texts = [[1, 5, 7, 2], [1, 2], [1, 9, 4, 4, 2]]
    alone = 0.0
    for text in texts:
        tokens = torch.tensor([text])
        count = len(text) - 1
        alone += float(language_loss(gpt, TextBatch(tokens[:, :-1], tokens[:, 1:], torch.ones(1, count) > 0, count)))
    row = [one for text in texts for one in text[:-1]]
    numbers = torch.tensor([[i for i, text in enumerate(texts) for _ in text[1:]] + [-1]])
    packed = TextBatch(
        tokens=torch.tensor([[*row, 0]]),
        targets=torch.tensor([[*(one for text in texts for one in text[1:]), 0]]),
        real=numbers >= 0,
        count=8,
        mask=Document(numbers),
        positions=torch.tensor([[*(place for text in texts for place in range(len(text) - 1)), 0]]),
    )
    assert abs(float(language_loss(gpt, packed)) - alone) < 1e-4
    leaking = TextBatch(packed.tokens, packed.targets, packed.real, 8, None, packed.positions)
    assert abs(float(language_loss(gpt, leaking)) - alone) > 1e-2
