"""Decoding over the step protocol: greedy and beam search, length penalties and stopping rules. Knows no
model type."""

from regard.decoding.beam import beam_search
from regard.decoding.greedy import greedy
from regard.decoding.hypothesis import Hypothesis
from regard.decoding.penalties import GNMT, Average, LengthPenalty, NoPenalty
from regard.decoding.protocol import StepModel
from regard.decoding.stopping import Stopping, WhenBehind, WhenCertain, WhenFull
from regard.layers.state import State

__all__ = [
    "GNMT",
    "Average",
    "Hypothesis",
    "LengthPenalty",
    "NoPenalty",
    "State",
    "StepModel",
    "Stopping",
    "WhenBehind",
    "WhenCertain",
    "WhenFull",
    "beam_search",
    "greedy",
]
