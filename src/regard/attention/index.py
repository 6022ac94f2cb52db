"""Reading an index such as `[b, h, 10:20, :]` into the ranges that cover it and what is left to take from them."""

from typing import Any

from regard.errors import ArgumentError


def parse_index(index: Any, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[Any, ...]]:
    """Split an index into contiguous ranges, one for each axis, and the index to apply to the covered part.

    Args:
        index: an integer, a slice, `...`, or a tuple of these.
        shape: the indexed shape.

    Returns:
        ranges: slices with start and stop set; rest: the index that picks from the covered part what was asked for.

    Raises:
        ArgumentError: too many indices, one out of range, or of another kind.
    """
    items = list(index) if isinstance(index, tuple) else [index]
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise ArgumentError("an index can hold only one ...")
    missing = len(shape) - (len(items) - len(dots))
    if missing < 0:
        raise ArgumentError(f"{len(items) - len(dots)} indices for a table of {len(shape)} axes {shape}")
    at = dots[0] if dots else len(items)
    items[at : at + len(dots)] = [slice(None)] * missing
    pairs = [_parse_axis(item, axis, size) for axis, (item, size) in enumerate(zip(items, shape, strict=True))]
    return tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)


def _parse_axis(item: Any, axis: int, size: int) -> tuple[slice, Any]:
    if isinstance(item, slice):
        try:
            wanted = range(*item.indices(size))
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"axis {axis}: expected integers in a slice and no step of 0, not {item}") from error
        if wanted.step < 0:
            raise ArgumentError(f"axis {axis}: a slice must go forwards, not in steps of {wanted.step}")
        if len(wanted) == 0:
            return slice(0, 0), slice(None)
        return slice(wanted[0], wanted[-1] + 1), slice(None, None, wanted.step)
    if isinstance(item, bool) or not isinstance(item, int):
        raise ArgumentError(f"axis {axis}: expected an integer, a slice or ..., not {type(item).__name__}")
    position = item + size if item < 0 else item
    if not 0 <= position < size:
        raise ArgumentError(f"axis {axis}: index {item} is out of range for size {size}")
    return slice(position, position + 1), 0
