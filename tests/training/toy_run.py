"""A small learning problem that uses everything a checkpoint must hold: dropout, tied weights, an integer buffer, and
random numbers from torch, Python and NumPy in its batches. Prime sizes; lengths differ, so tokens per batch do."""

import random
from pathlib import Path

import numpy as np
import torch
from torch import nn

from regard.training import Cosine, Metric, Plan, Problem, Settings, Trainer, build_optimizer, last_checkpoint
from regard.training.budget import Budget

WORDS, WIDTH, EXAMPLES, PER_BATCH = 23, 11, 67, 5


class ToyModel(nn.Module):
    def __init__(self, dropout=0.3):
        super().__init__()
        self.table = nn.Embedding(WORDS, WIDTH)
        self.hidden = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(WIDTH, WORDS)
        self.out.weight = self.table.weight
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, words):  # (N,) → (N, WORDS)
        if self.training:
            self.calls += 1
        return self.out(self.norm(self.dropout(torch.tanh(self.hidden(self.dropout(self.table(words)))))))


def examples():
    source = random.Random(3)
    sentences = []
    for _ in range(EXAMPLES):
        first, stride = source.randrange(WORDS), source.randrange(1, 4)
        sentences.append([(first + i * stride) % WORDS for i in range(source.randrange(2, 8))])
    return sentences


def make_problem(model, noise=True, per_batch=PER_BATCH):
    sentences = examples()

    def epoch(number):
        order = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(number)).tolist()
        return [order[i : i + per_batch] for i in range(0, EXAMPLES, per_batch)]

    def collate(indices, epoch):
        pairs = [(s[i], s[i + 1]) for s in (sentences[j] for j in indices) for i in range(len(s) - 1)]
        batch = torch.tensor(pairs)
        if noise and random.random() < 0.3:
            batch[np.random.randint(len(batch)), 0] = random.gauss(0, 1) > 0
        return batch

    def loss(batch):
        return nn.functional.cross_entropy(model(batch[:, 0]), batch[:, 1], reduction="sum")

    return Problem(epoch, collate, len, loss)


def make_trainer(folder, steps=40, settings=None, listeners=(), validate="loss", dropout=0.3, seed=5, **options):
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    model = ToyModel(dropout)
    problem = make_problem(model)
    settings = settings or Settings(accumulate=3, validate_every=10, save_every=4, keep=3, metric=Metric())

    def held_out(step):
        model.eval()
        torch.rand(7), random.random(), np.random.rand()  # a validation may draw: it must not show
        with torch.no_grad():
            batch = torch.tensor([(s[0], s[1]) for s in examples()])
            total = problem.loss(batch)
        return {"loss": float(total) / len(batch)}

    return Trainer(
        model,
        options.pop("optimizer", None) or build_optimizer(model, 0.02, weight_decay=0.1),
        options.pop("schedule", None) or Cosine(0.02, 5, steps),
        options.pop("problem", None) or problem,
        options.pop("plan", None) or Plan(Budget(steps=steps), steps, "steps"),
        Path(folder),
        settings=settings,
        validate=held_out if validate == "loss" else validate,
        listeners=listeners,
        **options,
    )


def train(folder, steps=40, listeners=(), **options):
    """What a command would do: make everything anew, resume if there is something to resume, run to the end."""
    trainer = make_trainer(folder, steps, listeners=listeners, **options)

    def tell(event):
        for listener in listeners:
            listener(event)

    saved = last_checkpoint(Path(folder), tell)
    if saved is not None:
        trainer.resume(saved)
    return trainer, trainer.run()


def final_state(trainer):
    """Everything that must agree bit for bit: weights, optimizer state, random states, place in the data."""
    from dataclasses import asdict

    from regard.training.optimizer import capture_optimizer
    from regard.training.random_state import capture_random

    optimizer = capture_optimizer(trainer.optimizer)
    progress = asdict(trainer.progress)
    del progress["seconds"]
    tensors = {f"model/{name}": t.detach().clone() for name, t in trainer.model.state_dict().items()}
    tensors |= {f"optimizer/{name}": t.clone() for name, t in optimizer.tensors.items()}
    tensors |= {f"random/{name}": t for name, t in capture_random().items()}
    return tensors, optimizer.numbers, progress


def assert_same(left, right):
    assert left[0].keys() == right[0].keys()
    for name, tensor in left[0].items():
        assert tensor.dtype == right[0][name].dtype, name
        assert torch.equal(tensor, right[0][name]), name
    assert left[1:] == right[1:]
