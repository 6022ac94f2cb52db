"""`regard average`: models, checkpoints of a run, what is said and refused."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from regard.runs.directory import load_model
from regard.training import CheckpointStore, Progress, pack_weights


def test_models_and_checkpoints(regard, tiny_model, tmp_path: Path) -> None:
    model = tiny_model.directory
    ran = regard("average", model, model, "--out", tmp_path / "a" / "mean", "--weights", "1,3")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == f"wrote the mean of 2 models into {tmp_path / 'a' / 'mean'}:\n  {model}\n  {model}\n"
    assert regard("translate", tmp_path / "a" / "mean", stdin=b"two dogs play\n").out == "zwei Hunde spielen\n"
    assert "mean of 2 models" in regard("info", tmp_path / "a" / "mean").out

    run = tmp_path / "a" / "mean"
    store = CheckpointStore(run / "checkpoints")
    weights = pack_weights(load_model(model, torch.device("cpu")).model.state_dict())
    state = json.dumps({"progress": asdict(Progress(step=3, snapshots=(1, 2, 3)))}).encode()
    files = [("model.safetensors", weights), ("state.json", state)]
    paths = [store.write(step, files) for step in (1, 2, 3)]
    ran = regard("average", run, "--last", 2, "--out", tmp_path / "b", "--json", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == {"directory": str(tmp_path / "b"), "averaged": [str(path) for path in paths[1:]]}
    assert (tmp_path / "b" / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL"], "one RUN: say which of its checkpoints with --last N or --best N, or give several runs"),
        (["MODEL", "MODEL", "--last", "2"], "--last is for one RUN, not for 2"),
        (["MODEL", "MODEL", "--best", "2"], "--best is for one RUN, not for 2"),
        (["MODEL", "--last", "2", "--best", "2"], "give --last or --best, not both"),
        (["MODEL", "--last", "2"], "0 regular checkpoints, 2 were asked for"),
        (["MODEL", "--best", "2"], "recipe.toml: does not say what the run was judged by"),
        (["MODEL", "MODEL", "--weights", "1;2"], "--weights 1;2: expected numbers with commas between"),
        (["MODEL", "MODEL", "--weights", "1,nan"], "weight nan: expected a number above 0"),
        (["MODEL", "nowhere"], "nowhere: not a model directory"),
    ],
)
def test_bad_input(regard, tiny_model, tmp_path: Path, arguments: list[str], message: str) -> None:
    given = [str(tiny_model.directory) if argument == "MODEL" else argument for argument in arguments]
    ran = regard("average", *given, "--out", tmp_path / "mean")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("regard: error: ") and ran.err.count("\n") == 1
    assert message in ran.err
    assert list(tmp_path.iterdir()) == []
