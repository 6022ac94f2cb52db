"""regard: build, train, run and see sequence models built on attention."""

from regard.attention import AttentionMap, attend, attention_plan

__all__ = ["AttentionMap", "attend", "attention_plan"]
