"""Recording: attention maps of a model's forward passes."""

from regard.recording.recording import Recording, attention_modules, record

__all__ = ["Recording", "attention_modules", "record"]
