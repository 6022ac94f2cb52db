"""Layers: ordinary modules with plain arguments, of which models are built."""

from regard.layers.attention import Attention, StepAttend, StepwiseAttention, additive_attention
from regard.layers.block import SelfAttentionBlock
from regard.layers.cache import Since, grown
from regard.layers.embedding import DroppedEmbedding, PositionedEmbedding, TokenEmbedding
from regard.layers.feedforward import ACTIVATIONS, FeedForward, GatedFeedForward
from regard.layers.loss import linear_cross_entropy
from regard.layers.makers import AdditiveScore, Fixed, GeneralScore, LearnedSink, Maker, RelativePositionBias
from regard.layers.maxout import Maxout
from regard.layers.multihead import Attend, KeysValues, MultiHeadAttention
from regard.layers.positions import LearnedPositions, Positions, SinusoidalPositions
from regard.layers.recurrent import Recurrent, RecurrentState, StackedCells, zero_state
from regard.layers.residual import PostNorm, PreNorm, Residual
from regard.layers.rotary import RotaryPositions, Rotation, Stretch
from regard.layers.selfattention import CausalSelfAttention, SelfAttention, SimpleSelfAttention
from regard.layers.state import State

__all__ = [
    "ACTIVATIONS",
    "AdditiveScore",
    "Attend",
    "Attention",
    "CausalSelfAttention",
    "DroppedEmbedding",
    "FeedForward",
    "Fixed",
    "GatedFeedForward",
    "GeneralScore",
    "KeysValues",
    "LearnedPositions",
    "LearnedSink",
    "Maker",
    "Maxout",
    "MultiHeadAttention",
    "PositionedEmbedding",
    "Positions",
    "PostNorm",
    "PreNorm",
    "Recurrent",
    "RecurrentState",
    "RelativePositionBias",
    "Residual",
    "RotaryPositions",
    "Rotation",
    "SelfAttention",
    "SelfAttentionBlock",
    "SimpleSelfAttention",
    "Since",
    "SinusoidalPositions",
    "StackedCells",
    "State",
    "StepAttend",
    "StepwiseAttention",
    "Stretch",
    "TokenEmbedding",
    "additive_attention",
    "grown",
    "linear_cross_entropy",
    "zero_state",
]
