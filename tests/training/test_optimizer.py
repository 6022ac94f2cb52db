import pytest
import torch
from torch import nn

from regard.errors import ArgumentError, CheckpointError
from regard.training import build_optimizer
from regard.training.optimizer import capture_optimizer, restore_optimizer


def test_only_matrices_decay(toy):
    model = toy.ToyModel()
    optimizer = build_optimizer(model, 0.1, weight_decay=0.3)
    names = {id(p): name for name, p in model.named_parameters()}
    decayed = [{names[id(p)] for p in group["params"]} for group in optimizer.param_groups]
    assert decayed == [{"hidden.weight"}, {"table.weight", "hidden.bias", "norm.weight", "norm.bias", "out.bias"}]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
    assert optimizer.defaults["fused"] is True


def test_exempt_by_any_of_its_names(toy):
    model = nn.ModuleDict({"a": nn.Linear(3, 5, bias=False), "b": nn.Linear(3, 5, bias=False)})
    model["b"].weight = model["a"].weight
    (group,) = build_optimizer(model, 0.1, weight_decay=0.3, exempt=["b.weight"]).param_groups
    assert group["weight_decay"] == 0.0 and len(group["params"]) == 1
    with pytest.raises(ArgumentError, match=r"c\.weight"):
        build_optimizer(model, 0.1, exempt=["c.weight"])
    with pytest.raises(ArgumentError, match="requires_grad"):
        build_optimizer(nn.Dropout(), 0.1)


def step(model, optimizer):
    generator = torch.Generator().manual_seed(11)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)
    optimizer.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda model: build_optimizer(model, 0.1, weight_decay=0.3),
        lambda model: torch.optim.AdamW(model.parameters(), 0.1, amsgrad=True),
        lambda model: torch.optim.SGD(model.parameters(), 0.1, momentum=0.9),
    ],
)
def test_state_is_restored_exactly(toy, make):
    torch.manual_seed(3)
    first = toy.ToyModel()
    optimizer = make(first)
    for _ in range(3):
        step(first, optimizer)
    second = toy.ToyModel()
    second.load_state_dict(first.state_dict())
    other = make(second)
    restore_optimizer(other, capture_optimizer(optimizer))
    left, right = optimizer.state_dict(), other.state_dict()
    assert left["param_groups"] == right["param_groups"]
    assert left["state"].keys() == right["state"].keys()
    for index, entries in left["state"].items():
        assert entries.keys() == right["state"][index].keys()
        for key, value in entries.items():
            theirs = right["state"][index][key]
            same = (
                torch.equal(value, theirs) and value.dtype == theirs.dtype
                if torch.is_tensor(value)
                else value == theirs
            )
            assert same, (index, key)
    step(first, optimizer), step(second, other)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_changed_setting_is_an_error_but_the_learning_rate_is_free(toy):
    model = toy.ToyModel()
    optimizer = build_optimizer(model, 0.1, weight_decay=0.3)
    step(model, optimizer)
    saved = capture_optimizer(optimizer)
    with pytest.raises(CheckpointError, match=r"weight_decay = 0\.3, now it is 0\.2"):
        restore_optimizer(build_optimizer(model, 0.1, weight_decay=0.2), saved)
    with pytest.raises(CheckpointError, match="betas"):
        restore_optimizer(build_optimizer(model, 0.1, betas=(0.9, 0.999), weight_decay=0.3), saved)
    with pytest.raises(CheckpointError, match="same model"):
        restore_optimizer(torch.optim.AdamW(model.parameters(), 0.1), saved)
    restore_optimizer(build_optimizer(model, 0.7, weight_decay=0.3), saved)
