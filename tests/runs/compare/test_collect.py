"""Logs of runs: points at steps, tokens and seconds, and whether two runs were given the same batches."""

import json
from pathlib import Path

import numpy as np
import pytest

from regard.errors import CheckpointError, DataError
from regard.runs.compare.collect import LOG, History, check_same_batches, lowest_common_loss, read_history


def step(number: int, tokens: int = 100, seconds: float = 0.5, loss: float = 2.0, norm: float = 1.0) -> dict:
    return {"event": "step", "step": number, "tokens": tokens, "seconds": seconds, "loss": loss, "grad_norm": norm}


def validation(number: int, loss: float) -> dict:
    return {"event": "validation", "step": number, "metrics": {"loss": loss, "bleu": 10.0 * number}, "seconds": 99.0}


def write(folder: Path, *lines: dict | str) -> Path:
    folder.mkdir(exist_ok=True)
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / LOG).write_text(text)
    return folder


@pytest.fixture
def history(tmp_path: Path) -> History:
    lines: list[dict | str] = [step(1, 100, 0.5, 4.0), step(2, 300, 0.5, 2.0), validation(2, 3.0)]
    # interrupted here; step 3 is taken again, and the later line counts
    lines += [step(3, 100, 9.0, 9.0, 9.0), '{"event": "st', step(3, 100, 1.0, 1.0, 7.0), step(4, 100, 1.0, 1.0)]
    lines += [validation(4, 1.0), step(5, 100, 1.0, 1.0), validation(5, 1.5)]
    return read_history(write(tmp_path, *lines), 5)


def test_points_of_a_run(history: History) -> None:
    assert len(history) == 5
    assert [history.tokens_at(number) for number in range(1, 6)] == [100, 400, 500, 600, 700]
    assert [history.seconds_at(number) for number in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 4.0]
    assert history.gradients.max() == 7.0
    assert history.tokens_per_second() == 100.0  # of 200, 600, 100, 100, 100
    curve = history.curve()
    assert [(point.step, point.tokens, point.seconds, point.loss, point.bleu) for point in curve] == [
        (2, 400, 1.0, 3.0, 20.0),
        (4, 600, 3.0, 1.0, 40.0),
        (5, 700, 4.0, 1.5, 50.0),
    ]
    assert curve[0].exact is None


def test_the_training_loss_is_thinned_by_tokens(history: History) -> None:
    assert [point[0] for point in history.training_loss()] == [1, 2, 3, 4, 5]
    assert history.training_loss(2) == ((2, 400, 1.0, pytest.approx(2.5)), (5, 700, 4.0, pytest.approx(1.0)))
    long = History(np.arange(1.0, 1001), np.arange(1.0, 1001), np.ones(1000), np.ones(1000), {})
    points = long.training_loss()
    assert len(points) == 200
    assert points[-1] == (1000, 1000, 1000.0, 1.0)


def test_the_last_validation_within_a_time(history: History) -> None:
    assert history.last_within(4.0) == (5, True)
    assert history.last_within(3.95) == (5, True)  # two per cent are no difference
    assert history.last_within(3.5) == (4, True)
    assert history.last_within(1.0) == (2, True)
    assert history.last_within(0.9) == (2, False)


def test_steps_to_a_loss(history: History) -> None:
    assert history.first_at_most(3.0) == 2
    assert history.first_at_most(2.9) == 4
    assert history.first_at_most(0.5) is None


def test_every_run_reached_the_lowest_common_loss(tmp_path: Path, history: History) -> None:
    other = read_history(write(tmp_path / "b", step(1), validation(1, 2.25)), 1)
    assert lowest_common_loss([history, other]) == 2.25
    assert other.first_at_most(2.25) == 1
    assert history.first_at_most(2.25) == 4


def test_a_log_that_lacks_a_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"log\.jsonl: lacks step 2"):
        read_history(write(tmp_path, step(1), step(3)), 3)
    with pytest.raises(CheckpointError, match=r"log\.jsonl: has no validation; remove"):
        read_history(write(tmp_path, step(1), step(2), validation(2, 1.0)), 1)
    with pytest.raises(CheckpointError, match=r"log\.jsonl: cannot be read"):
        read_history(tmp_path / "none", 3)


def test_batches_are_compared_step_by_step(tmp_path: Path) -> None:
    rows = {"a": [10, 20, 30], "b": [10, 20], "c": [10, 21, 30]}
    found = {}
    for name, tokens in rows.items():
        steps = (step(number, count) for number, count in enumerate(tokens, start=1))
        folder = write(tmp_path / name, *steps, validation(1, 1.0))
        found[folder] = read_history(folder, len(tokens))
    first, shorter, other = found
    check_same_batches({first: found[first], shorter: found[shorter]})
    with pytest.raises(DataError, match=r"c/log\.jsonl: step 2 has other target tokens than in .*a/log\.jsonl"):
        check_same_batches({first: found[first], other: found[other]})
