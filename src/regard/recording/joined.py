"""What a recording keeps of a step-wise generation: its steps joined to one map for each sequence that was found."""

from collections.abc import Mapping, Sequence

from regard.insight.tokens import Role
from regard.recording.calls import Calls, Reader


class Joined(Calls):
    """To be written."""

    def __init__(self, roles: Mapping[str, Role], heads: Sequence[int] | None, read: Reader) -> None:
        super().__init__(heads, 1, read)
