"""Numbers as a reader wants them."""

import math

NONE = "—"
"""Stands where there is no number."""


def whole(value: float) -> str:
    """Return a whole number in groups of three: 12 345 (with narrow no-break spaces)."""
    return f"{value:,.0f}".replace(",", "\u202f") if math.isfinite(value) else odd(value)


def short(value: float) -> str:
    """Return a number with three significant digits and k, M or G: 12.3 M."""
    if not math.isfinite(value):
        return odd(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit * 0.9995:
            return f"{_three(value / limit)}\u202f{unit}"
    return _three(value)


def fixed(value: float, digits: int) -> str:
    """Return a number with so many decimals."""
    return f"{value:.{digits}f}" if math.isfinite(value) else odd(value)


def significant(value: float) -> str:
    """Return a number of any size with three significant digits: 0.00123, 45.6, 1.2e-9."""
    if not math.isfinite(value):
        return odd(value)
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}"
    return whole(value) if abs(value) >= 1000 else _three(value)


def duration(seconds: float) -> str:
    """Return a length of time: 42 s, 12 min 30 s, 3 h 5 min."""
    if not math.isfinite(seconds):
        return odd(seconds)
    if seconds < 10:
        return f"{seconds:.1f}\u202fs"
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded}\u202fs"
    if rounded < 3600:
        minutes, rest = divmod(rounded, 60)
        return f"{minutes}\u202fmin" + (f" {rest}\u202fs" if rest else "")
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours}\u202fh" + (f" {rest}\u202fmin" if rest else "")


def size(count: float) -> str:
    """Return bytes as MiB or GiB."""
    if not math.isfinite(count):
        return odd(count)
    mebibytes = count / 2**20
    return f"{mebibytes:.0f}\u202fMiB" if mebibytes < 999.5 else f"{mebibytes / 1024:.2f}\u202fGiB"


def odd(value: float) -> str:
    """Return ∞, −∞, or "not a number"."""
    if math.isnan(value):
        return "not a number"
    return "∞" if value > 0 else "−∞"


def _three(value: float) -> str:
    if value == 0:
        return "0"
    value = float(f"{value:.3g}")  # first, as 0.9999 has one digit more before the point than it seems
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"
