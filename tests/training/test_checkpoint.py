import json
import shutil

import pytest
import torch

from regard.errors import CheckpointError
from regard.training import Budget, Damaged, Plan, Resumed, build_optimizer, last_checkpoint, load_checkpoint
from regard.training.store import read_checkpoint


@pytest.fixture
def folder(toy, tmp_path):
    """A finished run's checkpoints: steps 32 (newest but one), 36 and 40."""
    toy.make_trainer(tmp_path).run()
    return tmp_path


def test_files_are_safetensors_and_json_only(toy, folder):
    trainer, _ = toy.train(folder)
    path = trainer.store.path(40)
    assert sorted(file.name for file in path.iterdir()) == [
        "manifest.json",
        "model.safetensors",
        "optimizer.safetensors",
        "random.safetensors",
        "state.json",
    ]
    state = json.loads((path / "state.json").read_text())
    assert state["progress"]["step"] == 40 and state["plan"]["steps"] == 40
    assert {"torch", "threads", "machine", "processes"} == state["environment"].keys()


def test_everything_comes_back_bit_for_bit(toy, tmp_path):
    trainer = toy.make_trainer(tmp_path, steps=23)
    trainer.run()
    expected = toy.final_state(trainer)
    other = toy.make_trainer(tmp_path, steps=23, seed=99)
    other.resume(load_checkpoint(trainer.store.path(23)))
    torch.rand(5)  # drawn between resume and run: must not matter
    other.run()
    toy.assert_same(expected, toy.final_state(other))


def test_no_checkpoint_is_none(tmp_path):
    assert last_checkpoint(tmp_path / "nowhere", pytest.fail) is None


def test_damage_falls_back_loudly_and_moves_the_damaged_one_away(toy, folder):
    expected = toy.final_state(toy.train(folder)[0])
    file = folder / "step-000040" / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:1009])
    heard = []
    trainer, finished = toy.train(folder, listeners=[heard.append])
    (damaged,) = [event for event in heard if isinstance(event, Damaged)]
    assert damaged.path == folder / "step-000040.damaged" and damaged.path.is_dir()
    assert str(file) in damaged.problem and "truncated" in damaged.problem
    assert damaged.fallback == folder / "step-000036"
    assert next(event.step for event in heard if isinstance(event, Resumed)) == 36
    assert finished.step == 40
    toy.assert_same(expected, toy.final_state(trainer))
    heard.clear()
    toy.train(folder, listeners=[heard.append])
    assert not [event for event in heard if isinstance(event, Damaged)]


def test_if_all_are_damaged_training_does_not_start_over(toy, folder):
    for path in folder.iterdir():
        (path / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"step-000040/state\.json: missing; no good checkpoint is left"):
        toy.train(folder)


def test_a_sound_file_with_foreign_content_is_damage(toy, folder):
    from regard.training import CheckpointStore

    store = CheckpointStore(folder)
    files = read_checkpoint(store.path(40))
    for name, content in (("state.json", b"{}"), ("state.json", b"[1"), ("random.safetensors", b"what")):
        store.write(41, {**files, name: content}.items())
        with pytest.raises(CheckpointError, match="step-000041"):
            load_checkpoint(store.path(41))


def test_a_checkpoint_of_another_model_is_an_error(toy, folder):
    saved = load_checkpoint(folder / "step-000040")
    wide = torch.nn.ModuleDict({"table": torch.nn.Embedding(23, 13)})
    with pytest.raises(CheckpointError, match=r"has calls, which the model lacks"):
        saved.restore(wide, build_optimizer(wide, 0.1))
    model = toy.ToyModel()
    model.hidden = torch.nn.Linear(11, 13)
    with pytest.raises(
        CheckpointError, match=r"hidden\.bias has shape \(11,\), expected \(13,\)|hidden\.weight has shape"
    ):
        saved.restore(model, build_optimizer(model, 0.1))


def test_differences_of_the_environment_are_told(toy, folder):
    heard = []
    toy.train(folder, listeners=[heard.append])
    assert next(event for event in heard if isinstance(event, Resumed)).notes == ()
    torch.set_num_threads(2)
    heard.clear()
    toy.train(folder, listeners=[heard.append])
    (note,) = next(event for event in heard if isinstance(event, Resumed)).notes
    assert "threads" in note and "2" in note


def test_the_plan_is_stored_from_the_first_moment(toy, tmp_path):
    """Killed before the first regular save, a run must still know what its minutes were frozen to."""
    plan = Plan(Budget(minutes=3.0), 3, "minutes", 0.25)
    heard = []

    def die(event):
        heard.append(event)
        if type(event).__name__ == "StepDone":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy.make_trainer(tmp_path, plan=plan, listeners=[die]).run()
    saved = last_checkpoint(tmp_path, pytest.fail)
    assert saved.progress.step == 0 and saved.plan == plan


def test_a_copied_run_directory_resumes(toy, folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("copy") / "there"
    shutil.copytree(folder, target)
    assert last_checkpoint(target, pytest.fail).progress.step == 40
