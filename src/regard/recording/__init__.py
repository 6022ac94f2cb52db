"""Recording: attention maps of a model's forward passes."""

from regard.recording.file import load_recording
from regard.recording.own import attention_modules
from regard.recording.recorder import Recorder, record
from regard.recording.recording import Recording

__all__ = ["Recorder", "Recording", "attention_modules", "load_recording", "record"]
