import pytest
import torch

from regard.errors import ArgumentError
from regard.layers.state import State


def a_state() -> State:
    return State(
        sentence={"keys": torch.arange(6.0).view(3, 2), "mask": torch.tensor([True, False, True])},
        hypothesis={"cache": torch.arange(12).view(6, 2)},
        position=5,
    )


def test_select_sentences_touches_only_sentences():
    state = a_state()
    chosen = state.select_sentences(torch.tensor([2, 0]))
    assert chosen.sentence["keys"].tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert chosen.sentence["mask"].tolist() == [True, True]
    assert chosen.hypothesis["cache"] is state.hypothesis["cache"]
    assert chosen.position == 5


def test_select_hypotheses_touches_only_hypotheses():
    state = a_state()
    chosen = state.select_hypotheses(torch.tensor([5, 5, 0]))
    assert chosen.hypothesis["cache"].tolist() == [[10, 11], [10, 11], [0, 1]]
    assert chosen.sentence["keys"] is state.sentence["keys"]
    assert state.hypothesis["cache"].shape == (6, 2)


@pytest.mark.parametrize("kind", ["sentence", "hypothesis"])
def test_leading_axes_of_one_kind_must_agree(kind):
    tensors = {"a": torch.zeros(3), "b": torch.zeros(5, 2)}
    arguments = {"sentence": {}, "hypothesis": {}, "position": 0, kind: tensors}
    with pytest.raises(ArgumentError, match=rf"{kind} tensors.*'a': 3, 'b': 5"):
        State(**arguments)
