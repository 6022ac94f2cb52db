"""The exception tree: every error a user can cause is a `RegardError` with a message written for that user.

The command line prints the message of a `RegardError` and exits with code 2; anything else is a bug.
"""


class RegardError(Exception):
    """Base of all errors raised on purpose."""


class ArgumentError(RegardError, ValueError):
    """An argument has a wrong shape, dtype, device or value; the message names it, what came and what was expected."""


class UnsupportedError(RegardError, NotImplementedError):
    """A combination that is not built; the message names the nearest one that is."""


class DataError(RegardError):
    """A data file cannot be used; the message names the file and, where there is one, the line."""


class RecipeError(RegardError):
    """A recipe or setting is wrong; the message names the key, what came and what was expected."""


class CheckpointError(RegardError):
    """A saved model or checkpoint is missing, damaged or of another kind; the message names the file."""


class TrainingError(RegardError):
    """Training cannot go on, for example because the loss is not a number."""


class MissingExtraError(RegardError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""
