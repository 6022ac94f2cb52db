"""Models of Hugging Face transformers, which is optional: it is imported only where one of its models is at hand."""

import sys

from torch import nn


def is_pretrained(model: nn.Module) -> bool:
    """Whether this is a model of transformers; then that library has been imported already."""
    library = sys.modules.get("transformers.modeling_utils")
    return library is not None and isinstance(model, library.PreTrainedModel)
