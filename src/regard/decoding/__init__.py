"""Decoding over the step protocol: searches (greedy, beam, diverse and constrained beam, sampling), rules, ensembles,
length penalties and stopping rules. Knows no model type."""

from regard.decoding.beam import beam_search
from regard.decoding.beam_loop import BeamRules
from regard.decoding.diverse import DiverseBeam, diverse_beam_search
from regard.decoding.ensemble import Ensemble
from regard.decoding.filters import Filter, MinP, TopK, TopP
from regard.decoding.greedy import greedy
from regard.decoding.hypothesis import Hypothesis
from regard.decoding.lexical import ConstrainedBeam, constrained_beam_search
from regard.decoding.limits import Limits
from regard.decoding.penalties import GNMT, Average, LengthPenalty, NoPenalty
from regard.decoding.protocol import StepModel
from regard.decoding.rules import Forbidden, ForcedPrefix, NoRepeatNgram, RepetitionPenalty, Rule, Ruled
from regard.decoding.sampling import Sampling, sample
from regard.decoding.search import Beam, Greedy, Search
from regard.decoding.stopping import Stopping, WhenBehind, WhenCertain, WhenFull
from regard.layers.state import State

__all__ = [
    "GNMT",
    "Average",
    "Beam",
    "BeamRules",
    "ConstrainedBeam",
    "DiverseBeam",
    "Ensemble",
    "Filter",
    "Forbidden",
    "ForcedPrefix",
    "Greedy",
    "Hypothesis",
    "LengthPenalty",
    "Limits",
    "MinP",
    "NoPenalty",
    "NoRepeatNgram",
    "RepetitionPenalty",
    "Rule",
    "Ruled",
    "Sampling",
    "Search",
    "State",
    "StepModel",
    "Stopping",
    "TopK",
    "TopP",
    "WhenBehind",
    "WhenCertain",
    "WhenFull",
    "beam_search",
    "constrained_beam_search",
    "diverse_beam_search",
    "greedy",
    "sample",
]
