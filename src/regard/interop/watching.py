"""How a model is watched: what a `Source` tells an `Observer` while it runs."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from torch import Tensor

from regard.attention import AttentionMap
from regard.insight.tokens import Role


class Observer(Protocol):
    """Is told what a model does. Tensors are the model's own: what is kept must be copied.

    In a pass over whole sequences `read` is called for each sequence, then `attended` for each attention, in the order
    of the model. In step-wise generation `began` comes first, `fed` before each step's `attended`, and `returned` at
    the end if whoever searches says what was found; before each `fed` of a prompt, `read` says what of it is padding.
    """

    def read(self, sequence: str, ids: Tensor | None, real: Tensor | None) -> None:
        """The model reads a sequence as a whole.

        Args:
            sequence: its name, as in the roles.
            ids: (N, T) integers; None: it isn't known any more what is read under this name.
            real: (N, T) bool, False at padding; None where there is none. Of a prompt that is fed in parts it goes on
                to the end of the prompt.
        """
        ...

    def attended(self, name: str, table: AttentionMap) -> None:
        """An attention was computed.

        Args:
            name: path of its module.
            table: (N, H, Q, K). In a step of generation Q may be the positions of this step and K all positions so far.
        """
        ...

    def began(self) -> None:
        """A step-wise generation begins."""
        ...

    def fed(self, sequence: str, ids: Tensor, parents: Tensor | None, sentences: Tensor | None) -> None:
        """A step of generation begins.

        Args:
            sequence: whose tokens are generated.
            ids: (N, T) the tokens that each hypothesis is fed; the first time the whole prompt.
            parents: (N,) which hypothesis of the step before each one continues; None: the same.
            sentences: (N,) which sentence of the generation's batch each hypothesis belongs to; None: N is the batch.
        """
        ...

    def returned(self, sentences: Sequence[int], ids: Sequence[Sequence[int]]) -> None:
        """The search is over.

        Args:
            sentences: for each sequence that was found, which sentence of the batch it belongs to.
            ids: all tokens that were fed for it, prompt and begin included, and perhaps more that were never fed.
        """
        ...


class Source(Protocol):
    """A model that can be watched."""

    @property
    def roles(self) -> Mapping[str, Role]:
        """The model's attentions by module path, in its order."""
        ...

    def open(self, names: Collection[str], observer: Observer) -> None:
        """Watch the attentions `names` until `close`."""
        ...

    def close(self) -> None:
        """Leave the model as it was found."""
        ...
