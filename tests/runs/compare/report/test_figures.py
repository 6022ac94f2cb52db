import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import matplotlib.image
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regard.runs.compare.report.figures import NAMES, draw_panel, pictures, write_picture
from regard.runs.compare.report.panels import bin_name, mean_line
from regard.runs.compare.report.style import COLOURS, DARK_COLOURS, Panel, drawable, looks_of
from regard.runs.compare.report.svg import inline
from regard.runs.compare.results import Comparison, ModelResult, Reach, ReachPoint
from runs.compare.report.example_results import example_comparison


def drawn(panel: Panel) -> tuple[Axes, list[str]]:
    pen = draw_panel(panel, Figure())
    return pen.axes, [says for _, says in pen.says.values()]


def changed(comparison: Comparison, **first: object) -> Comparison:
    models: tuple[ModelResult, ...] = (replace(comparison.models[0], **first), *comparison.models[1:])  # type: ignore[arg-type]
    return replace(comparison, models=models)


def test_pictures_are_those_with_data() -> None:
    assert tuple(pictures(example_comparison())) == NAMES
    assert tuple(pictures(example_comparison(models=False))) == ("probes",)
    rest = pictures(example_comparison(probes=False, complete=False))
    assert tuple(rest) == ("quality", "quality-by-length", "curves", "speed", "gradients")
    assert [p.title for p in rest["curves"].panels] == ["Loss against steps", "Loss against time"]  # no BLEU
    assert [p.title for p in rest["speed"].panels][2:] == ["Parameters"]  # no memory
    assert pictures(example_comparison(models=False, probes=False)) == {}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("figures")
    before = dict(matplotlib.rcParams)
    picture = pictures(example_comparison(seeds=2))["curves"]
    write_picture(picture, folder / "curves.png", folder / "curves.svg")
    assert dict(matplotlib.rcParams) == before
    yield folder


def test_files_can_be_opened(files: Path) -> None:
    image = matplotlib.image.imread(files / "curves.png")
    assert image.shape[0] > 1200 and image.shape[1] > 1600
    assert image[..., :3].std() > 0.02  # something is drawn
    assert image[:4, :, :3].min() == 1.0 and image[:, :4, :3].min() == 1.0  # nothing is cut off at the edge
    assert image[-4:, :, :3].min() == 1.0 and image[:, -4:, :3].min() == 1.0
    root = ElementTree.parse(files / "curves.svg").getroot()
    assert root.tag.endswith("svg") and sorted(p.name for p in files.iterdir()) == ["curves.png", "curves.svg"]


def test_points_and_bars_stand_where_the_figures_are() -> None:
    comparison = example_comparison()
    axes, says = drawn(pictures(comparison)["quality"].panels[0])
    bleus = [model.runs[0].at_tokens.bleu for model in comparison.models]
    dots = [line for line in axes.lines if len(line.get_xdata()) == 1]  # type: ignore[arg-type]
    bars = [line for line in axes.lines if len(line.get_xdata()) == 2]  # type: ignore[arg-type]
    assert [float(dot.get_xdata()[0]) for dot in dots] == [bleu.value for bleu in bleus]  # type: ignore[index]
    assert [tuple(bar.get_xdata()) for bar in bars] == [(bleu.low, bleu.high) for bleu in bleus]  # type: ignore[arg-type]
    assert any(text.startswith("Luong: ") and "95 % interval" in text for text in says)


def test_seeds_are_thin_lines_and_their_mean_a_bold_one() -> None:
    comparison = example_comparison(seeds=3)
    axes, says = drawn(pictures(comparison)["curves"].panels[0])
    curves = [line for line in axes.lines if len(line.get_xdata()) > 2]  # type: ignore[arg-type]
    widths = [line.get_linewidth() for line in curves]
    assert len(curves) == 4 * 4 and widths.count(2.0) == 4
    assert "Bahdanau, seed 2" in says and "Bahdanau, mean of 3 seeds" in says
    single, _ = drawn(pictures(example_comparison())["curves"].panels[0])
    assert sum(len(line.get_xdata()) > 2 for line in single.lines) == 4  # type: ignore[arg-type]


def test_seeds_without_a_curve_do_not_shift_the_names_of_others() -> None:
    comparison = example_comparison(seeds=3)
    runs = comparison.models[0].runs
    comparison = changed(comparison, runs=(replace(runs[0], curve=()), *runs[1:]))
    _, says = drawn(pictures(comparison)["curves"].panels[0])
    assert [s for s in says if s.startswith("no attention, seed") and ":" not in s] == [
        "no attention, seed 2",
        "no attention, seed 3",
    ]


def test_each_run_is_marked_where_it_is_judged() -> None:
    comparison = example_comparison()
    run = comparison.models[1].runs[0]
    tokens, seconds = (replace(run.at_tokens, step=run.curve[k].step, seconds=run.curve[k].seconds) for k in (2, 5))
    run = replace(run, at_tokens=tokens, at_seconds=seconds)
    comparison = replace(comparison, models=(replace(comparison.models[1], runs=(run,)),))
    steps, time, *_ = pictures(comparison)["curves"].panels
    for panel, x, point in ((steps, tokens.step, run.curve[2]), (time, seconds.seconds / 60, run.curve[5])):
        axes, says = drawn(panel)
        (ring,) = [line for line in axes.lines if len(line.get_xdata()) == 1]  # type: ignore[arg-type]
        assert list(ring.get_xydata()[0]) == pytest.approx([x, point.loss])
        assert any(s.startswith(f"Bahdanau: judged at step {point.step}") for s in says)


def test_bars_show_what_seeds_span() -> None:
    comparison = example_comparison(seeds=3)
    speeds = [run.tokens_per_second for run in comparison.models[0].runs]
    axes, says = drawn(pictures(comparison)["speed"].panels[0])
    assert tuple(axes.lines[0].get_xdata()) == (min(speeds), max(speeds))  # type: ignore[arg-type]
    assert axes.patches[0].get_width() == pytest.approx(sum(speeds) / 3)  # type: ignore[attr-defined]
    assert any(s.startswith("no attention: ") and "seeds" in s for s in says)
    single, _ = drawn(pictures(example_comparison())["speed"].panels[0])
    assert not single.lines


@pytest.mark.parametrize("seeds", [1, 3])
def test_probes_have_intervals_over_all_seeds(seeds: int) -> None:
    comparison = example_comparison(seeds=seeds, models=False)
    runs = [run for run in comparison.probes[0].runs if run.label == "Bahdanau"]
    at = [next(one for one in run.lengths if one.length == 20) for run in runs]
    ends = (min(one.exact_low for one in at), max(one.exact_high for one in at))
    axes, says = drawn(pictures(comparison)["probes"].panels[0])
    bars = [tuple(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) == 2]  # type: ignore[arg-type]
    assert len(bars) == 4 * 7 and ends in bars
    said = next(s for s in says if s.startswith("Bahdanau, length 20, "))
    assert f"95 % interval {ends[0]:.1f} to {ends[1]:.1f}" in said
    assert ("Bahdanau, seed 2" in says) == (seeds == 3)


def test_mean_of_lines_of_unequal_length() -> None:
    assert mean_line([([0.0, 1.0, 2.0], [0.0, 2.0, 4.0]), ([1.0, 3.0], [4.0, 8.0])]) == ([1.0, 2.0], [3.0, 5.0])
    assert mean_line([([0.0], [5.0])]) == ([0.0], [5.0])


def test_each_model_has_its_own_look_and_keeps_it() -> None:
    comparison = example_comparison()
    looks = looks_of(comparison)
    assert [look.number for look in looks.values()] == [0, 1, 2, 3]
    assert len({(look.colour, look.marker, look.dash) for look in looks.values()}) == 4
    assert looks_of(replace(comparison, models=comparison.models[:2]))["Bahdanau"] == looks["Bahdanau"]


@pytest.mark.parametrize(("colours", "ground"), [(COLOURS, "#ffffff"), (DARK_COLOURS, "#1b202a")])
def test_colours_stand_out_from_the_ground(colours: tuple[str, ...], ground: str) -> None:
    def light(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in colours:
        dark, bright = sorted((light(colour), light(ground)))
        assert (bright + 0.05) / (dark + 0.05) > 3.8, colour


def test_zero_and_infinite_gradients_are_drawn_on_a_logarithmic_scale() -> None:
    points = (ReachPoint(0, 0.3, 0.1, 0.5, 9), ReachPoint(1, 0.0, 0.0, 0.0, 9), ReachPoint(2, 1e-9, 0.0, 1e-7, 9))
    comparison = example_comparison()
    runs = (replace(comparison.models[0].runs[0], largest_gradient=math.inf),)
    comparison = changed(comparison, reach=Reach(points, ()), runs=runs)
    made = pictures(comparison)
    for name in ("reach", "gradients"):
        for number, panel in enumerate(made[name].panels):
            assert inline(panel, f"x{number}").startswith("<svg")
    assert "largest ∞" in made["gradients"].panels[0].says


def test_one_point_and_one_length_are_enough() -> None:
    comparison = example_comparison(sentences=False)
    short = tuple(
        replace(m, speed=m.speed[:1], runs=tuple(replace(run, curve=run.curve[:1]) for run in m.runs))
        for m in comparison.models
    )
    made = pictures(replace(comparison, models=short))
    for name in ("curves", "time-per-token"):
        for panel in made[name].panels:
            assert inline(panel, "x").endswith("</svg>")


@pytest.mark.parametrize(("bin_", "name"), [((1, 8), "1–8"), ((25, None), "25 +"), ((3, 3), "3")])
def test_names_of_length_ranges(bin_: tuple[int, int | None], name: str) -> None:
    assert bin_name(bin_).replace("\u202f", " ") == name


def test_a_label_that_no_font_has_is_drawn_all_the_same() -> None:
    assert drawable("Luong\n三月") == "Luong 三月"
    assert drawable("x\U0010ff0dy") == "x?y"
    assert len(drawable("w" * 100)) == 40
