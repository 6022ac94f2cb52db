"""What the attentions of a Hugging Face model are for, by its configuration, its paths and the inputs it names."""

from collections.abc import Iterable, Mapping

from torch import nn
from transformers import PreTrainedModel

from regard.insight.tokens import Kind, Role
from regard.interop.huggingface.modules import ancestors, forward_of, names_in, owner_of

SEQUENCES = {"pixel_values": "image", "input_values": "sound", "input_features": "sound"}
"""What a model reads that isn't text, by the name of its main input."""

PATHS = {"vision": "image", "visual": "image", "image": "image", "audio": "sound", "speech": "sound"}
"""The same by words in a path: of models whose parts share one class of model."""


def roles_of(model: PreTrainedModel, modules: Mapping[str, nn.Module]) -> dict[str, Role]:
    """The role of each attention, by path."""
    pair = bool(model.config.is_encoder_decoder)
    encoded = "source"
    roles: dict[str, Role] = {}
    for path, module in modules.items():
        stack = _stack(path) if pair else ""
        read = _read(model, path)
        if stack == "encoder":
            encoded = "source" if read == "text" else read
            roles[path] = Role("self", encoded, encoded)
            continue
        mine = "target" if pair else read
        kind = _kind(model, path, module)
        roles[path] = Role(kind, mine, encoded if kind == "cross" else mine)
    return roles


def _stack(path: str) -> str:
    """The outermost encoder or decoder that a path leads through."""
    for part in path.lower().split("."):
        for stack in ("encoder", "decoder"):
            if part.endswith(stack):
                return stack
    return "decoder"


def _read(model: PreTrainedModel, path: str) -> str:
    """What a part of a model reads."""
    for part in path.lower().split("."):
        for word, sequence in PATHS.items():
            if word in part:
                return sequence
    return SEQUENCES.get(owner_of(model, path).main_input_name, "text")


def _kind(model: PreTrainedModel, path: str, module: nn.Module) -> Kind:
    last = path.lower().split(".")[-2:]
    if vars(module).get("is_cross_attention", False) or any(
        word in part for part in last for word in ("cross", "encoder_attn", "encdec")
    ):
        return "cross"
    if vars(module).get("is_causal", False):
        return "causal"
    config = owner_of(model, path).config
    if getattr(config, "use_bidirectional_attention", False):
        return "self"
    return "causal" if _made_causal(ancestors(model, path)) else "self"


def _made_causal(around: Iterable[nn.Module]) -> bool:
    """Whether the innermost module that makes masks makes causal ones only."""
    for module in around:
        function = forward_of(type(module))
        names = [] if function is None else [name for name in names_in(function.__code__) if "mask" in name]
        causal = [name for name in names if "causal" in name and ("create" in name or "prepare" in name)]
        if causal or any("bidirectional" in name for name in names):
            return bool(causal) and not any("bidirectional" in name for name in names)
    return False
