"""The operator and the map: `attend`, `AttentionMap`, `attention_plan`, scores, masks, biases and factors."""

from regard.attention.additive_compiled import compile_kernels
from regard.attention.biases import ALiBi, Bias, Diagonals, Factor, GaussianFactor, RelativeBias
from regard.attention.dispatch import AttentionPlan
from regard.attention.map import AttentionMap
from regard.attention.masks import Causal, Dense, Document, Interval, Mask, Near, Padding, Prefix, Window
from regard.attention.operator import attend, attention_plan
from regard.attention.scores import Additive, Cosine, Dot, Gaussian, General, Kernel, ScaledDot, Score

__all__ = [
    "ALiBi",
    "Additive",
    "AttentionMap",
    "AttentionPlan",
    "Bias",
    "Causal",
    "Cosine",
    "Dense",
    "Diagonals",
    "Document",
    "Dot",
    "Factor",
    "Gaussian",
    "GaussianFactor",
    "General",
    "Interval",
    "Kernel",
    "Mask",
    "Near",
    "Padding",
    "Prefix",
    "RelativeBias",
    "ScaledDot",
    "Score",
    "Window",
    "attend",
    "attention_plan",
    "compile_kernels",
]
