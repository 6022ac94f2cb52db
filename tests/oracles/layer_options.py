"""The scores that layers are tested with, for a head width and a number of heads: values and modules that make them."""

from collections.abc import Callable

from torch import nn

from regard.attention import Cosine, Dot, Gaussian, Kernel, ScaledDot, Score
from regard.layers import AdditiveScore, GeneralScore, Maker

LAYER_SCORES: dict[str, Callable[[int, int], Score | Maker[Score]]] = {
    "dot": lambda width, heads: Dot(),
    "scaled dot": lambda width, heads: ScaledDot(),
    "cosine": lambda width, heads: Cosine(3.0),
    "general": lambda width, heads: GeneralScore(width),
    "general per head": lambda width, heads: GeneralScore(width, heads),
    "gaussian": lambda width, heads: Gaussian(2.0),
    "additive": lambda width, heads: AdditiveScore(width),
    "additive per head": lambda width, heads: AdditiveScore(width, heads),
    "kernel elu+1": lambda width, heads: Kernel(),
    "kernel relu": lambda width, heads: Kernel("relu"),
}


def randomised(layer: nn.Module, spread: float = 0.3) -> nn.Module:
    """Every parameter drawn, in float64: biases and sinks start at zero, which would hide mistakes."""
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=spread)
    return layer.double()
