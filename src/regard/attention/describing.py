"""How a score or bias that holds tensors is printed: their shapes, not their numbers."""

from dataclasses import fields

from torch import Tensor


class Described:
    """Base of dataclasses (with `repr=False`) that are printed as `Name(field=value)`, a tensor as its shape."""

    def __repr__(self) -> str:
        shown = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        values = (f"{name}={tuple(x.shape) if isinstance(x, Tensor) else x!r}" for name, x in shown.items())
        return f"{type(self).__name__}({', '.join(values)})"
