from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn

from regard.errors import TrainingError
from regard.training import Problem
from regard.training.processes import Alone
from regard.training.step import compute_gradients, step_groups


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def test_loss_is_normalised_by_the_tokens_of_the_whole_step(toy):
    """Any split into micro-batches gives the gradient of the mean over all tokens; a mean of means would not."""
    torch.manual_seed(7)
    model = toy.ToyModel(dropout=0.0).double()
    problem = toy.make_problem(model, noise=False)
    whole = compute_gradients(model, problem, [list(range(17))], 0, None, Alone())
    expected = gradients(model)
    for split in ([[0], list(range(1, 17))], [list(range(5)), list(range(5, 16)), [16]]):
        parts = compute_gradients(model, problem, split, 0, None, Alone())
        assert parts.tokens == whole.tokens == sum(len(s) - 1 for s in toy.examples()[:17])
        assert float(parts.loss) == pytest.approx(float(whole.loss), rel=1e-12)
        assert float(parts.norm) == pytest.approx(float(whole.norm), rel=1e-12)
        for name, gradient in gradients(model).items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-10, atol=1e-14)


def test_clipping_scales_to_the_norm_and_reports_the_norm_before(toy):
    torch.manual_seed(7)
    model = toy.ToyModel(dropout=0.0).double()
    problem = toy.make_problem(model, noise=False)
    free = compute_gradients(model, problem, [[0, 1, 2]], 0, None, Alone())
    plain = gradients(model)
    clip = 0.1 * float(free.norm)
    clipped = compute_gradients(model, problem, [[0, 1, 2]], 0, clip, Alone())
    assert float(clipped.norm) == pytest.approx(float(free.norm), rel=1e-12)
    assert float(nn.utils.get_total_norm([p.grad for p in model.parameters()])) == pytest.approx(clip, rel=1e-4)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, 0.1 * plain[name], rtol=1e-4, atol=1e-12)


def test_step_groups_end_with_a_shorter_one():
    assert list(step_groups([[1], [2], [3], [4], [5]], 2)) == [[[1], [2]], [[3], [4]], [[5]]]


def test_a_step_without_tokens_is_an_error(toy):
    model = nn.Linear(3, 1)
    nothing = Problem(lambda n: [[0]], lambda indices, epoch: torch.zeros(0, 3), len, lambda b: model(b).sum())
    with pytest.raises(TrainingError, match="no target tokens"):
        compute_gradients(model, nothing, [[0]], 0, 1.0, Alone())


def test_only_the_last_micro_batch_exchanges_gradients(toy):
    """Forward and backward of the others lie within `deferred`: torch notes down at the forward what to exchange."""
    inside = []

    class Watched(Alone):
        @contextmanager
        def deferred(self):
            self.active = True
            yield
            self.active = False

    processes = Watched()
    processes.active = False
    model = toy.ToyModel(dropout=0.0)
    problem = toy.make_problem(model, noise=False)
    watched = replace(problem, loss=lambda batch: inside.append(processes.active) or problem.loss(batch))
    compute_gradients(model, watched, [[0, 1], [2], [3, 4]], 0, None, processes)
    assert inside == [True, True, False]
