"""The operator and the map: `attend`, `AttentionMap`, `attention_plan`, scores and masks."""

from regard.attention.dispatch import AttentionPlan
from regard.attention.map import AttentionMap
from regard.attention.masks import Causal, Dense, Mask, Padding
from regard.attention.operator import attend, attention_plan
from regard.attention.scores import Dot, ScaledDot, Score

__all__ = [
    "AttentionMap",
    "AttentionPlan",
    "Causal",
    "Dense",
    "Dot",
    "Mask",
    "Padding",
    "ScaledDot",
    "Score",
    "attend",
    "attention_plan",
]
