"""Fonts for pictures: every character is drawn by a font that has it, or named in an error; never a box.

The order of choice is matplotlib's own DejaVu Sans, the Noto Sans CJK font of the `cjk` extra, the system's fonts.
Matplotlib draws each glyph with the first font of a family list that has it. Fonts found by file are made known with
`fontManager.addfont`, which lasts for this process; no setting (`rcParams`) is touched and nothing is written to disk.
"""

import importlib.metadata
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from regard.errors import MissingExtraError, UnsupportedError
from regard.insight.text import language_of

CJK_DISTRIBUTION = "notojp-matplotlib"
"""The font package of the `cjk` extra (Noto Sans CJK, SIL Open Font License). Only its font file is read: importing
the package would change matplotlib's settings."""

_BASE_FAMILY = "DejaVu Sans"
_NAMES_SHOWN = 12


@dataclass(frozen=True)
class Lettering:
    """How a set of texts is written.

    Attributes:
        families: font families; each glyph comes from the first that has it.
        language: tag for the shapes of Han characters (one code point, different shapes), or None.
    """

    families: tuple[str, ...]
    language: str | None

    def properties(self) -> dict[str, Any]:
        """Return keyword arguments for matplotlib texts; `$` in a word is a dollar sign, not mathematics."""
        import matplotlib

        properties: dict[str, Any] = {
            "fontfamily": list(self.families),
            "fontweight": "normal",
            "fontstyle": "normal",
            "parse_math": False,
            "usetex": False,
        }
        # Before 3.11 matplotlib cannot choose shapes by language: the font's default shapes are drawn.
        if self.language is not None and matplotlib.__version_info__ >= (3, 11):
            properties["language"] = self.language
        return properties


def lettering(texts: Iterable[str]) -> Lettering:
    """Choose fonts that have every character of `texts`.

    Raises:
        MissingExtraError: characters are in no font, and the `cjk` extra is not installed.
        UnsupportedError: characters are in no font, the extra's included.
    """
    texts = tuple(texts)
    needed = {ord(character) for text in texts for character in text if not character.isspace()}
    families: list[str] = [_BASE_FAMILY]
    needed -= _coverage_of_family(_BASE_FAMILY)
    package = cjk_font_file()
    if needed and package is not None:
        family = _register(package)
        if family is not None and needed & _coverage_of_family(family):
            families.append(family)
            needed -= _coverage_of_family(family)
    while needed:
        family = _best_system_family(frozenset(needed))
        if family is None:
            raise _missing(needed, package)
        families.append(family)
        needed -= _coverage_of_family(family)
    return Lettering(tuple(families), language_of(texts))


def cjk_font_file() -> Path | None:
    """Return the font file of the `cjk` extra, or None when the extra is not installed. No package code is run."""
    try:
        files = importlib.metadata.files(CJK_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files or ():
        if file.suffix.lower() in (".otf", ".ttf", ".ttc"):
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    return None


def embedded_font(texts: Iterable[str]) -> bytes | None:
    """Return a small WOFF font with just the characters of `texts` that a plain Latin font lacks and the extra has.

    For pages that are opened on machines without Chinese, Japanese or Korean fonts. It keeps the shapes for each
    language (`locl`). Returns None when there are no such characters or the `cjk` extra is not installed; the page
    then depends on the reader's fonts. Takes about two seconds: the whole font is read.
    """
    package = cjk_font_file()
    if package is None:
        return None
    needed = {ord(character) for text in texts for character in text} - _coverage_of_family(_BASE_FAMILY)
    needed &= coverage(package)
    if not needed:
        return None
    from fontTools import subset  # type: ignore[import-untyped]

    options = subset.Options(layout_features=["locl"], flavor="woff", hinting=False)
    font = subset.load_font(str(package), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=needed)
    subsetter.subset(font)
    content = io.BytesIO()
    subset.save_font(font, content, options)
    return content.getvalue()


@cache
def coverage(path: Path) -> frozenset[int]:
    """Return the code points that the font in `path` has a glyph for; empty when the file cannot be read as a font."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(path)).get_charmap())
    except (OSError, RuntimeError):  # FreeType's errors: a damaged file, or a format that it does not know
        return frozenset()


def _coverage_of_family(family: str) -> frozenset[int]:
    """Return the code points of the file that matplotlib opens for `family`, which is what will be drawn."""
    from matplotlib.font_manager import FontProperties, findfont

    # str(): newer versions return a path that also carries a face number
    return coverage(Path(str(findfont(FontProperties(family=[family]), fallback_to_default=False))))


@cache
def _register(path: Path) -> str | None:
    """Make the font in `path` known to matplotlib; return its family, or None when matplotlib cannot use it."""
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    try:
        family = str(FT2Font(str(path)).family_name)
        fontManager.addfont(str(path))
    except (OSError, RuntimeError):
        return None
    return family


@cache
def _system_files() -> tuple[Path, ...]:
    from matplotlib.font_manager import findSystemFonts

    # Plain cuts before bold and oblique ones; the path decides between equals, so the choice is repeatable.
    files = sorted({Path(name) for name in findSystemFonts()})
    return tuple(sorted(files, key=lambda file: "regular" not in file.name.lower()))


@cache
def _best_system_family(needed: frozenset[int]) -> str | None:
    """Return the family of the system font that has most of `needed`, or None when none has any."""
    ranked = sorted(_system_files(), key=lambda file: -len(needed & coverage(file)))
    for file in ranked:
        if not needed & coverage(file):
            return None
        family = _register(file)
        # matplotlib may know another file by the same name: what counts is the one that it will open
        if family is not None and needed & _coverage_of_family(family):
            return family
    return None


def _missing(needed: set[int], package: Path | None) -> MissingExtraError | UnsupportedError:
    names = ", ".join(
        f"{chr(c)} (U+{c:04X})" if chr(c).isprintable() else f"U+{c:04X}" for c in sorted(needed)[:_NAMES_SHOWN]
    )
    more = f" and {len(needed) - _NAMES_SHOWN} more" if len(needed) > _NAMES_SHOWN else ""
    problem = f"no font has {names}{more}"
    if package is None:
        return MissingExtraError(
            f'{problem}; for Chinese, Japanese and Korean run pip install "regard[cjk]", '
            "for other scripts install a system font that has them"
        )
    return UnsupportedError(f'{problem}, not even the one of "regard[cjk]"; install a system font that has them')
