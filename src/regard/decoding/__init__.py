"""Decoding over the step protocol: searches (greedy, beam, diverse and constrained beam, sampling), rules, ensembles,
length penalties and stopping rules; going on from prompts, beyond a model's positions, to stop strings; text as it
comes. Knows no model type."""

from regard.decoding.beam import beam_search
from regard.decoding.beam_loop import BeamRules
from regard.decoding.diverse import DiverseBeam, diverse_beam_search
from regard.decoding.ends import Ends
from regard.decoding.ensemble import Ensemble
from regard.decoding.filters import Filter, MinP, TopK, TopP
from regard.decoding.greedy import greedy
from regard.decoding.hypothesis import Hypothesis
from regard.decoding.lexical import ConstrainedBeam, constrained_beam_search
from regard.decoding.limits import Limits
from regard.decoding.penalties import GNMT, Average, LengthPenalty, NoPenalty
from regard.decoding.prompted import Prompted, Reader
from regard.decoding.protocol import StepModel
from regard.decoding.rules import (
    Forbidden,
    ForcedPrefix,
    NoRepeatNgram,
    Renormalized,
    RepetitionPenalty,
    Rule,
    Ruled,
)
from regard.decoding.said import Said
from regard.decoding.sampling import Sampling, sample
from regard.decoding.search import Beam, Greedy, Search, Stepwise
from regard.decoding.sliding import Sliding
from regard.decoding.stop_strings import StopAt
from regard.decoding.stopping import Stopping, WhenBehind, WhenCertain, WhenFull
from regard.decoding.text_stream import TextStream, text_of_bytes
from regard.layers.state import State

__all__ = [
    "GNMT",
    "Average",
    "Beam",
    "BeamRules",
    "ConstrainedBeam",
    "DiverseBeam",
    "Ends",
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
    "Prompted",
    "Reader",
    "Renormalized",
    "RepetitionPenalty",
    "Rule",
    "Ruled",
    "Said",
    "Sampling",
    "Search",
    "Sliding",
    "State",
    "StepModel",
    "Stepwise",
    "StopAt",
    "Stopping",
    "TextStream",
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
    "text_of_bytes",
]
