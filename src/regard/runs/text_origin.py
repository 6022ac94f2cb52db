"""The trained model that a run on running text starts from: `training.init_from`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from torch import Tensor, nn

from regard.data.tokenizers import Tokenizer
from regard.errors import CheckpointError, RecipeError
from regard.interop.huggingface.directory import is_directory
from regard.interop.huggingface.weights import read_weights
from regard.models.config import TextConfig
from regard.runs.directory import CONFIG, read_config, read_joint_tokenizer, read_json
from regard.runs.initial import load_initial
from regard.training import load_weights_into

C = TypeVar("C", bound=TextConfig)

FREE: Final = ("dropout", "attention_dropout")
"""What a recipe may say otherwise than the model that it starts from."""


@dataclass(frozen=True)
class TextOrigin(Generic[C]):
    """A model that has learned something.

    Attributes:
        path: its directory.
        tokenizer: of its texts.
        config: its sizes; None: a run that isn't finished, whose sizes the recipe says again.
        weights: its state; None: they are in the files of a run.
        content: what else its config.json says, as here.
    """

    path: Path
    tokenizer: Tokenizer
    config: C | None
    weights: Mapping[str, Tensor] | None
    content: Mapping[str, Any]

    def put_into(self, model: nn.Module, leave_out: tuple[str, ...] = ()) -> None:
        """Put the weights into a fresh model of the same sizes.

        Args:
            model: gets them.
            leave_out: beginnings of names that `model` has nothing for.

        Raises:
            CheckpointError: it is of others.
        """
        if self.weights is None:
            load_initial(model, self.path)
            return
        kept = {name: tensor for name, tensor in self.weights.items() if not name.startswith(leave_out or ("\0",))}
        load_weights_into(model, kept, self.path)

    def changed(self, config: C, settings: Mapping[str, Any]) -> C:
        """The configuration of the trained model, with a recipe's dropout; `config`, if it isn't known.

        Args:
            config: what the recipe says alone.
            settings: what its section [model] has.

        Raises:
            RecipeError: a setting that is another in the trained model.
        """
        if self.config is None:
            return config
        known = asdict(self.config)
        for name, value in settings.items():
            if name not in FREE and value != known[name]:
                raise RecipeError(
                    f"model.{name} = {value!r}, but it is {known[name]!r} in the model of training.init_from; leave it "
                    "out"
                )
        return replace(self.config, **{name: settings[name] for name in FREE if name in settings})


def read_text_origin(directory: str | None, task: str, kind: type[C]) -> TextOrigin[C] | None:
    """Read the directory of a model that `regard train` made, finished or not, or one of Hugging Face's.

    Args:
        directory: `training.init_from`; None: there is none.
        task: what the model must be for.
        kind: its configuration.

    Raises:
        CheckpointError: it is missing or damaged, for another task, or has no tokenizer.
    """
    if directory is None:
        return None
    path = Path(directory)
    if (path / CONFIG).exists() and is_directory(read_json(path / CONFIG)):
        found = read_weights(path)
        config = found.model.config
        if found.task != task or not isinstance(config, kind):
            raise CheckpointError(f"{path}: a model for {found.task}: expected one for {task}")
        if not found.tokenizers:
            raise CheckpointError(f"{path}: has no tokenizer.json")
        return TextOrigin(path, found.tokenizers[0], config, found.model.state_dict(), found.content)
    if not path.is_dir():
        raise CheckpointError(f"{path} (training.init_from): no such directory")
    tokenizer = read_joint_tokenizer(path)
    if not (path / CONFIG).exists():
        return TextOrigin(path, tokenizer, None, None, {})
    saved = read_config(path)
    if saved.task != task:
        raise CheckpointError(f"{saved.path}: a model for {saved.task}: expected one for {task}")
    return TextOrigin(path, tokenizer, saved.config({kind.NAME: kind}), None, saved.content)
