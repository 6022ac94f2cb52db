"""Layers: ordinary modules with plain arguments, of which models are built."""

from regard.layers.embedding import PositionedEmbedding, TokenEmbedding
from regard.layers.feedforward import FeedForward
from regard.layers.loss import linear_cross_entropy
from regard.layers.multihead import Attend, KeysValues, MultiHeadAttention
from regard.layers.positions import LearnedPositions, Positions, SinusoidalPositions
from regard.layers.residual import PostNorm, PreNorm, Residual
from regard.layers.selfattention import CausalSelfAttention, SelfAttention, SimpleSelfAttention
from regard.layers.state import State

__all__ = [
    "Attend",
    "CausalSelfAttention",
    "FeedForward",
    "KeysValues",
    "LearnedPositions",
    "MultiHeadAttention",
    "PositionedEmbedding",
    "Positions",
    "PostNorm",
    "PreNorm",
    "Residual",
    "SelfAttention",
    "SimpleSelfAttention",
    "SinusoidalPositions",
    "State",
    "TokenEmbedding",
    "linear_cross_entropy",
]
