import random

import numpy as np
import torch

from regard.training.random_state import capture_random, preserved_random, restore_random


def draw():
    return [
        torch.rand(3).tolist(),
        torch.randn(17).tolist(),
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),
        np.random.randn(3).tolist(),
    ]


def test_all_generators_go_on_where_they_were():
    random.gauss(0, 1), np.random.randn()  # each keeps a spare normal draw now
    states = capture_random()
    first = draw()
    assert draw() != first
    restore_random(states)
    assert draw() == first
    draw()
    restore_random(states)
    with preserved_random():
        draw()
    assert draw() == first


def test_states_without_a_spare_draw():
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    states = capture_random()
    first = draw()
    random.gauss(0, 1)
    restore_random(states)
    assert draw() == first
