"""regard: build, train, run and see sequence models built on attention."""

from regard.attention import AttentionMap, attend, attention_plan
from regard.recording import record
from regard.recording.file import load_recording
from regard.runs.load import load

__all__ = ["AttentionMap", "attend", "attention_plan", "load", "load_recording", "record"]
