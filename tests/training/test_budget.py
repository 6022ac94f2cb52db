import itertools
import time

import pytest
import torch

from regard.errors import ArgumentError, TrainingError
from regard.training import Budget, Plan, Problem, StepDone, build_optimizer, calibrate, make_plan


def planned(toy, budget, **options):
    return make_plan(budget, toy.make_problem(toy.ToyModel(), noise=False), **options)


def test_steps_and_epochs(toy):
    assert planned(toy, Budget(steps=17)) == Plan(Budget(steps=17), 17, "steps")
    # 67 examples, 5 a batch: 14 micro-batches, 3 a step: 5 steps an epoch
    assert planned(toy, Budget(epochs=7), accumulate=3).steps == 35
    assert planned(toy, Budget(epochs=7, steps=34), accumulate=3).bound == "steps"
    assert planned(toy, Budget(epochs=7, steps=36), accumulate=3).bound == "epochs"


def test_tokens_are_counted_exactly(toy, tmp_path):
    budget = Budget(tokens=2003)
    plan = planned(toy, budget, accumulate=3)
    assert plan.bound == "tokens"
    done = []
    trainer = toy.make_trainer(tmp_path, plan=plan, listeners=[done.append])
    assert trainer.run().reason == "tokens"
    counts = [event.tokens for event in done if isinstance(event, StepDone)]
    assert sum(counts[:-1]) < 2003 <= sum(counts) == trainer.progress.tokens
    lengths = [len(sentence) - 1 for sentence in toy.examples()]
    assert plan == planned(toy, budget, accumulate=3, count=lambda indices: sum(lengths[i] for i in indices))
    assert planned(toy, Budget(tokens=2003, epochs=2)).bound == "epochs"


def test_minutes_leave_time_for_validations(toy):
    plan = planned(toy, Budget(minutes=2.0), seconds_per_step=0.5)
    assert (plan.steps, plan.bound, plan.seconds_per_step) == (240, "minutes", 0.5)
    plan = planned(toy, Budget(minutes=2.0), seconds_per_step=0.5, reserved_seconds=43.0)
    assert plan.steps == 154  # 77 s of steps
    assert planned(toy, Budget(minutes=0.001), seconds_per_step=7.0).steps == 1


def test_plan_survives_json(toy):
    plan = planned(toy, Budget(minutes=0.3, epochs=5), seconds_per_step=0.1)
    assert Plan.from_json(plan.as_json()) == plan


def test_wrong_budgets_are_named(toy):
    with pytest.raises(ArgumentError, match="never ends"):
        Budget()
    with pytest.raises(ArgumentError, match="epochs is 0"):
        Budget(epochs=0)
    with pytest.raises(ArgumentError, match="minutes is nan"):
        Budget(minutes=float("nan"))
    with pytest.raises(ArgumentError, match="seconds_per_step"):
        planned(toy, Budget(minutes=1.0))
    empty = Problem(lambda number: [], lambda indices, epoch: indices, len, lambda batch: torch.zeros(()))
    with pytest.raises(TrainingError, match="no batches"):
        make_plan(Budget(epochs=1), empty)
    with pytest.raises(TrainingError, match="no batches"):
        calibrate(torch.nn.Linear(1, 1), torch.optim.SGD([torch.zeros(1)], 0.1), empty)


def test_calibration_leaves_no_trace(toy, tmp_path):
    plain = toy.make_trainer(tmp_path / "plain")
    plain.run()
    measured = toy.make_trainer(tmp_path / "measured")
    measured.model.eval()
    before = toy.final_state(measured)
    seconds = calibrate(measured.model, measured.optimizer, measured.problem, accumulate=3, clip=1.0, steps=5)
    assert 0.0 < seconds < 5.0
    assert not measured.model.training
    toy.assert_same(before, toy.final_state(measured))
    measured.run()
    toy.assert_same(toy.final_state(plain), toy.final_state(measured))


def test_calibration_in_the_middle_of_a_run_leaves_no_trace(toy, tmp_path):
    trainer = toy.make_trainer(tmp_path, steps=7)
    trainer.run()
    before = toy.final_state(trainer)
    calibrate(trainer.model, trainer.optimizer, trainer.problem, steps=3)
    toy.assert_same(before, toy.final_state(trainer))


def test_calibration_times_steps_after_the_warm_up(toy, monkeypatch):
    """A clock that advances one second per optimizer step: exactly one second per step must come out."""
    model = toy.ToyModel()
    optimizer = build_optimizer(model, 0.1)
    ticks = itertools.count()
    now = [0.0]
    optimizer.register_step_post_hook(lambda *_: now.__setitem__(0, float(next(ticks) ** 1)))
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert calibrate(model, optimizer, toy.make_problem(model), warmup=3, steps=7) == pytest.approx(1.0)
