import importlib.metadata
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from regard.errors import MissingExtraError, UnsupportedError
from regard.insight import fonts
from regard.insight.fonts import cjk_font_file, coverage, embedded_font, lettering
from regard.insight.text import language_of, visible

SENTENCE = "三月四日星期二六点半"


def drawn(text: str, **changed: str) -> np.ndarray:
    figure = Figure(figsize=(1, 1), dpi=80)
    FigureCanvasAgg(figure)
    figure.text(0.1, 0.3, text, fontsize=40, **(lettering([text]).properties() | changed))
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., 0]  # type: ignore[attr-defined]


def test_the_extra_covers_gb2312() -> None:
    file = cjk_font_file()
    assert file is not None
    cells = (bytes((row, cell)) for row in range(0xB0, 0xF8) for cell in range(0xA1, 0xFF))
    characters = [c.decode("gb2312") for c in cells if c[0] != 0xD7 or c[1] <= 0xF9]
    assert len(characters) == 6763
    assert not {ord(c) for c in characters} - coverage(file)


def test_each_character_has_a_font_and_latin_stays_with_dejavu() -> None:
    assert lettering(["half past six", "$5 – 7 €"]).families == ("DejaVu Sans",)
    chosen = lettering(["March", SENTENCE])
    assert chosen.families[0] == "DejaVu Sans"
    covered = frozenset[int]().union(*(fonts._coverage_of_family(family) for family in chosen.families))
    assert {ord(c) for c in SENTENCE} <= covered


def test_glyphs_are_drawn_and_differ() -> None:
    pictures = {c: drawn(c) for c in "三月半"}
    for picture in pictures.values():
        assert (picture < 128).sum() > 40
    # a missing glyph would give one and the same box
    assert not np.array_equal(pictures["三"], pictures["月"])
    assert not np.array_equal(pictures["月"], pictures["半"])


@pytest.mark.skipif(matplotlib.__version_info__ < (3, 11), reason="older versions know no languages")
def test_chinese_words_get_chinese_shapes() -> None:
    assert lettering(["直"]).properties()["language"] == "zh-Hans"
    assert lettering(["直か"]).properties()["language"] == "ja"
    assert not np.array_equal(drawn("直"), drawn("直", language="ja"))
    assert lettering(["half"]).properties().get("language") is None


def test_a_missing_glyph_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"U\+10FF0D.*regard\[cjk\]"):
        lettering(["half", SENTENCE, "\U0010ff0d"])


def test_without_extra_and_system_fonts_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "cjk_font_file", lambda: None)
    monkeypatch.setattr(fonts, "_best_system_family", lambda needed: None)
    with pytest.raises(MissingExtraError, match=r'月 \(U\+6708\).*pip install "regard\[cjk\]"'):
        lettering(["三月"])
    assert embedded_font(["三月"]) is None


def test_system_fonts_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    package = cjk_font_file()
    assert package is not None
    monkeypatch.setattr(fonts, "cjk_font_file", lambda: None)
    monkeypatch.setattr(fonts, "_system_files", lambda: (Path("/nowhere/damaged.ttf"), package))
    fonts._best_system_family.cache_clear()
    assert lettering(["三月"]).families == ("DejaVu Sans", "Noto Sans CJK JP")
    fonts._best_system_family.cache_clear()


def test_no_global_setting_is_touched() -> None:
    before = dict(matplotlib.rcParams)
    lettering([SENTENCE])
    assert dict(matplotlib.rcParams) == before


def test_the_extra_is_what_the_project_declares() -> None:
    requirements = importlib.metadata.requires("regard") or []
    project = Path(__file__).parents[2] / "pyproject.toml"
    assert requirements and f'cjk = ["{fonts.CJK_DISTRIBUTION}' in project.read_text(encoding="utf-8")


def test_embedded_font_has_just_what_is_needed(tmp_path: Path) -> None:
    assert embedded_font(["half", "past"]) is None
    content = embedded_font(["half", SENTENCE, "半"])
    assert content is not None and content[:4] == b"wOFF" and len(content) < 30_000
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

    (tmp_path / "font.woff").write_bytes(content)
    assert set(TTFont(tmp_path / "font.woff").getBestCmap()) == {ord(c) for c in SENTENCE}


@pytest.mark.parametrize(
    ("word", "shown"),
    [("a\tb\n", "a b"), ("\u200b", "␣"), ("", "␣"), ("a\ufe0f\u200db", "ab"), ("三\u3000月", "三 月"), ("$5", "$5")],
)
def test_visible(word: str, shown: str) -> None:
    assert visible(word) == shown


@pytest.mark.parametrize(
    ("words", "language"),
    [(["half"], None), (["三月"], "zh-Hans"), (["三月", "の"], "ja"), (["三월"], "ko"), (["𠮷"], "zh-Hans")],
)
def test_language(words: list[str], language: str | None) -> None:
    assert language_of(words) == language
