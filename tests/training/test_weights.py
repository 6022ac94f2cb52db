import pytest
import torch

from regard.errors import ArgumentError, CheckpointError
from regard.training import (
    Budget,
    CheckpointStore,
    Plan,
    Progress,
    average_checkpoints,
    build_optimizer,
    load_weights,
    pack_weights,
    unpack_weights,
)
from regard.training.checkpoint import save_checkpoint
from regard.training.processes import Alone
from regard.training.weights import pack, unpack


def test_views_strided_and_scalar_tensors_survive():
    base = torch.arange(35.0).view(5, 7)
    tensors = {"t": base.t(), "row": base[3], "rest": base[1:], "scalar": torch.tensor(7), "none": torch.empty(0, 3)}
    back = unpack(pack(tensors))
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(back[name], tensor) and back[name].dtype == tensor.dtype, name


def test_tied_weights_are_stored_once_and_come_back_tied(toy):
    model = toy.ToyModel()
    content = pack_weights(model.state_dict())
    assert content.count(b'"out.weight"') == 0 and content.count(b"aliases") == 1
    back = unpack_weights(content)
    assert back.keys() == model.state_dict().keys()
    assert back["out.weight"] is back["table.weight"]
    other = toy.ToyModel()
    other.load_state_dict(back)
    assert torch.equal(other.table.weight, model.table.weight)


def saved(toy, folder, step, change, dtype=torch.float32):
    torch.manual_seed(step)
    model = toy.ToyModel().to(dtype)
    with torch.no_grad():
        change(model)
    optimizer = build_optimizer(model, 0.1)
    path = save_checkpoint(
        CheckpointStore(folder), model, optimizer, Progress(step=step), Plan(Budget(steps=9), 9, "steps"), Alone()
    )
    return path, model


def test_average_is_exact_in_float64_and_keeps_the_last_integers(toy, tmp_path):
    pairs = [saved(toy, tmp_path, step, lambda model, step=step: model.calls.fill_(step)) for step in (2, 3, 5)]
    mean = average_checkpoints([path for path, _ in pairs])
    for name, tensor in pairs[0][1].state_dict().items():
        if tensor.is_floating_point():
            exact = sum(model.state_dict()[name].double() for _, model in pairs) / 3
            assert torch.equal(mean[name], exact.float()), name
            assert mean[name].dtype == torch.float32
    assert int(mean["calls"]) == 5
    assert mean["out.weight"] is mean["table.weight"]


def test_average_in_half_precision_is_rounded_once(toy, tmp_path):
    """1 + 8·2⁻⁸ added up in bfloat16 would lose every small term."""
    values = [1.0] + [2.0**-8] * 8
    paths = [
        saved(toy, tmp_path, n, lambda model, v=v: model.hidden.bias.fill_(v), torch.bfloat16)[0]
        for n, v in enumerate(values)
    ]
    mean = average_checkpoints(paths)["hidden.bias"]
    assert mean.dtype == torch.bfloat16
    assert torch.equal(mean, torch.full((11,), (1 + 8 * 2.0**-8) / 9, dtype=torch.float64).bfloat16())


def test_average_of_one_is_itself_and_of_none_an_error(toy, tmp_path):
    path, model = saved(toy, tmp_path, 7, lambda model: None)
    mean = average_checkpoints([path])
    assert all(torch.equal(mean[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(ArgumentError, match="empty"):
        average_checkpoints([])


def test_average_of_different_models_or_damaged_files_is_an_error(toy, tmp_path):
    path, _ = saved(toy, tmp_path, 7, lambda model: None)
    other, _ = saved(toy, tmp_path, 11, lambda model: setattr(model, "norm", torch.nn.LayerNorm(13)))
    with pytest.raises(CheckpointError, match="step-000011"):
        average_checkpoints([path, other])
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match=r"step-000007/model\.safetensors"):
        load_weights(path)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_weights(tmp_path / "step-000099")
