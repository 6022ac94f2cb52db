import math
import os
import signal
import threading
from dataclasses import replace

import pytest
import torch

from regard.errors import ArgumentError, CheckpointError, TrainingError
from regard.training import (
    Budget,
    Cosine,
    Finished,
    InverseSqrt,
    Metric,
    Plan,
    Resumed,
    Saved,
    Settings,
    Started,
    StepDone,
    Validated,
    build_optimizer,
)
from regard.training import store as store_module


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def test_two_uninterrupted_runs_agree_and_another_seed_does_not(toy, tmp_path):
    first, second = toy.train(tmp_path / "a")[0], toy.train(tmp_path / "b")[0]
    expected = toy.final_state(first)
    second_state = toy.final_state(second)
    toy.assert_same(expected, second_state)
    third = toy.final_state(toy.train(tmp_path / "c", seed=6)[0])
    assert not torch.equal(third[0]["model/hidden.weight"], expected[0]["model/hidden.weight"])


def test_events_tell_the_whole_story(toy, tmp_path):
    heard = []
    trainer, finished = toy.train(tmp_path, listeners=[heard.append])
    steps = of(StepDone, heard)
    assert [event.step for event in steps] == list(range(1, 41))
    assert [event.epoch for event in steps] == [n // 5 for n in range(40)]  # 14 micro-batches, 3 a step
    assert [event.rate for event in steps] == [Cosine(0.02, 5, 40).rate(n) for n in range(1, 41)]
    assert steps[-1].loss < 0.7 * steps[0].loss
    assert all(event.grad_norm > 0 and event.seconds > 0 for event in steps)
    assert sum(event.tokens for event in steps[:5]) == sum(len(s) - 1 for s in toy.examples())
    assert [event.step for event in of(Validated, heard)] == [10, 20, 30, 40]
    assert [event.step for event in of(Saved, heard)] == sorted({0, *range(4, 41, 4), 10, 20, 30, 40})
    assert heard[0] == Started(0, 40, "steps")
    assert heard[-1] == finished == Finished("steps", 40)
    assert trainer.progress.tokens == sum(event.tokens for event in steps)


def test_what_is_kept(toy, tmp_path):
    metrics = {10: 3.0, 20: 1.0, 30: 2.0, 40: 1.5, 50: 1.0, 60: 4.0}
    trainer, _ = toy.train(
        tmp_path,
        60,
        validate=lambda step: {"loss": metrics[step]},
        settings=Settings(validate_every=10, save_every=4, keep=3),
    )
    # the best (the earlier of two equal ones), the last three validations, the newest two
    assert trainer.store.steps() == [20, 40, 50, 56, 60]
    assert trainer.progress.snapshots == (40, 50, 60)
    assert (trainer.progress.best, trainer.progress.best_step, trainer.progress.stale) == (1.0, 20, 4)


def test_early_stopping(toy, tmp_path):
    scores = {2: 10.0, 4: 30.0, 6: 20.0, 8: math.nan, 10: 30.0}
    options = {"validate": lambda step: {"loss": 0.0, "bleu": scores[step]}}
    settings = Settings(validate_every=2, patience=3, metric=Metric("bleu", "max"))
    heard = []
    trainer, finished = toy.train(tmp_path, 60, settings=settings, listeners=[heard.append], **options)
    assert finished == Finished("patience", 10)
    assert [event.improved for event in of(Validated, heard)] == [True, True, False, False, False]
    assert [event.stale for event in of(Validated, heard)] == [0, 0, 1, 2, 3]
    assert trainer.progress.best_step == 4 and 4 in trainer.store.steps()
    # resumed, it stops at once; with more patience it goes on
    assert toy.train(tmp_path, 60, settings=settings, **options)[1] == Finished("patience", 10)
    scores.update({12: 31.0, **dict.fromkeys(range(14, 61, 2), 5.0)})
    finished = toy.train(tmp_path, 60, settings=replace(settings, patience=5), **options)[1]
    assert finished == Finished("patience", 22)


def test_validation_leaves_no_trace(toy, tmp_path):
    watched = toy.train(tmp_path / "a", settings=Settings(accumulate=3, validate_every=3))[0]
    assert watched.model.training
    states = toy.final_state(watched)
    alone = toy.train(tmp_path / "b", settings=Settings(accumulate=3), validate=None)[0]
    for name, tensor in toy.final_state(alone)[0].items():
        assert torch.equal(tensor, states[0][name]), name


def test_saves_by_the_clock_do_not_change_the_result_nor_the_average(toy, tmp_path):
    calm = toy.train(tmp_path / "a", settings=Settings(accumulate=3, validate_every=10, keep=2))[0]
    expected = toy.final_state(calm)
    heard = []
    hasty = toy.train(
        tmp_path / "b",
        settings=Settings(accumulate=3, validate_every=10, keep=2, save_seconds=1e-9),
        listeners=[heard.append],
    )[0]
    assert len(of(Saved, heard)) == 41
    toy.assert_same(expected, toy.final_state(hasty))
    assert calm.progress.snapshots == hasty.progress.snapshots == (30, 40)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [3, 10])  # 10 is a step with a validation: it is made up for after the interruption
def test_a_signal_finishes_the_step_saves_and_the_run_goes_on_later(toy, tmp_path, number, at):
    expected = toy.final_state(toy.train(tmp_path / "a")[0])
    former = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    heard = []

    def interrupt(event):
        heard.append(event)
        if isinstance(event, StepDone) and event.step == at:
            os.kill(os.getpid(), number)

    trainer, finished = toy.train(tmp_path / "b", listeners=[interrupt])
    assert finished == Finished("interrupted", at)
    assert of(Saved, heard)[-1].step == at == trainer.store.steps()[-1]
    assert of(Validated, heard) == []
    assert former == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    heard.clear()
    trainer, finished = toy.train(tmp_path / "b", listeners=[heard.append])
    assert [event.step for event in of(Validated, heard)] == [10, 20, 30, 40]
    assert finished == Finished("steps", 40) and heard[0].step == at
    toy.assert_same(expected, toy.final_state(trainer))


def test_a_second_signal_stops_at_once(toy, tmp_path):
    def interrupt(event):
        if isinstance(event, StepDone) and event.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        toy.train(tmp_path, listeners=[interrupt])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert toy.make_trainer(tmp_path).store.steps() == [0, 4]


def test_in_another_thread_signals_are_left_alone(toy, tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(toy.train(tmp_path, 7)[1]))
    thread.start()
    thread.join()
    assert results == [Finished("steps", 7)]


def test_a_finished_run_is_left_as_it_is(toy, tmp_path):
    expected = toy.final_state(toy.train(tmp_path)[0])
    heard = []
    trainer, finished = toy.train(tmp_path, listeners=[heard.append])
    assert [type(event) for event in heard] == [Resumed, Started, Finished] and finished.reason == "steps"
    toy.assert_same(expected, toy.final_state(trainer))


def test_an_extended_budget_goes_on_and_with_a_free_schedule_equals_one_run(toy, tmp_path):
    """Inverse square root does not know the total, so 20 steps and then 40 are the same as 40 at once."""
    options = {"schedule": InverseSqrt(0.02, 5), "settings": Settings(accumulate=3, validate_every=10, keep=2)}
    expected = toy.final_state(toy.train(tmp_path / "a", 40, **options)[0])
    toy.train(tmp_path / "b", 20, **options)
    heard = []
    trainer, finished = toy.train(tmp_path / "b", 40, listeners=[heard.append], **options)
    assert finished.step == 40 and of(StepDone, heard)[0].step == 21
    assert of(Saved, heard)[0].step == 20  # the new plan is stored before anything else
    toy.assert_same(expected, toy.final_state(trainer))


def test_an_extended_cosine_follows_the_longer_curve(toy, tmp_path):
    toy.train(tmp_path, 20)
    heard = []
    toy.train(tmp_path, 40, listeners=[heard.append])
    assert [event.rate for event in of(StepDone, heard)] == [Cosine(0.02, 5, 40).rate(n) for n in range(21, 41)]


def test_a_smaller_budget_ends_at_once(toy, tmp_path):
    toy.train(tmp_path, 20)
    heard = []
    _, finished = toy.train(tmp_path, 10, listeners=[heard.append])
    assert finished.step == 20 and of(StepDone, heard) == []


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_a_number_stops_before_it_touches_the_weights(toy, tmp_path, what):
    model = toy.ToyModel()
    good = toy.make_problem(model)
    calls = [0]

    def loss(batch):
        total = good.loss(batch)
        calls[0] += 1
        if calls[0] == 8 and what == "loss":
            total = total * math.inf
        elif calls[0] == 8:
            total.register_hook(lambda gradient: gradient * math.nan)
        return total

    optimizer = build_optimizer(model, 0.02)
    trainer = toy.make_trainer(
        tmp_path,
        optimizer=optimizer,
        problem=replace(good, loss=loss),
        validate=None,
        settings=Settings(save_every=2),
    )
    trainer.model = model
    with pytest.raises(TrainingError) as caught:
        trainer.run()
    message = str(caught.value)
    assert message.startswith("step 8: the loss is") and ("inf" if what == "loss" else "nan") in message
    for hint in ("lower learning rate", "warm-up", "clip", "step-000006"):
        assert hint in message
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert trainer.store.steps() == [4, 6]


def test_a_full_disk_ends_the_run_and_leaves_the_last_good_checkpoint(toy, tmp_path, monkeypatch):
    expected = toy.final_state(toy.train(tmp_path / "a")[0])
    write, calls = store_module.write_bytes, [0]

    def full(path, content):
        calls[0] += 1
        if calls[0] > 12:  # five files a checkpoint: the third, of step 8, is cut short
            path.write_bytes(content[: len(content) // 2])
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_bytes", full)
        with pytest.raises(CheckpointError, match=r"No space left.*last good checkpoint is .*step-000004"):
            toy.train(tmp_path / "b")
    assert sorted(entry.name for entry in (tmp_path / "b").iterdir()) == ["step-000000", "step-000004"]
    trainer, _ = toy.train(tmp_path / "b")
    toy.assert_same(expected, toy.final_state(trainer))


def test_wrong_set_ups_are_named(toy, tmp_path):
    with pytest.raises(ArgumentError, match="accumulate is 0"):
        Settings(accumulate=0)
    with pytest.raises(ArgumentError, match="validate is None"):
        toy.make_trainer(tmp_path, validate=None)
    with pytest.raises(TrainingError, match=r"no metric 'bleu'; it gives: accuracy, loss"):
        toy.train(
            tmp_path,
            validate=lambda step: {"loss": 1.0, "accuracy": 0.5},
            settings=Settings(validate_every=2, metric=Metric("bleu", "max")),
        )


def test_changed_data_are_noticed(toy, tmp_path):
    plan = Plan(Budget(steps=3), 3, "steps")
    toy.train(tmp_path, plan=plan, settings=Settings(accumulate=3), validate=None)
    model = toy.ToyModel()
    with pytest.raises(TrainingError, match=r"micro-batch 9 of epoch 0, which has only 2"):
        toy.train(
            tmp_path, 40, problem=toy.make_problem(model, per_batch=59), settings=Settings(accumulate=3), validate=None
        )
    with pytest.raises(TrainingError, match="no batches"):
        toy.train(tmp_path, 40, problem=replace(toy.make_problem(model), epoch=lambda n: []))
