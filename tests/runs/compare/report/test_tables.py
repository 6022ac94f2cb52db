import csv
import io
import math
from dataclasses import replace

import pytest

from regard.runs.compare.report.formats import duration, short, significant, size, whole
from regard.runs.compare.report.measures import Measure, Summary, cost, quality, standing, summarise
from regard.runs.compare.report.tables import NAMES, Table, tables, to_csv
from regard.runs.compare.results import Estimate
from runs.compare.report.example_results import example_comparison


def read(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(table))))


def test_all_tables_are_there_with_a_row_for_each_finding() -> None:
    comparison = example_comparison(seeds=3)
    made = tables(comparison)
    assert tuple(made) == NAMES
    runs = [run for model in comparison.models for run in model.runs]
    assert len(made["models"].rows) == len(runs) == 12
    assert len(made["judged"].rows) == 24
    assert len(made["by_length"].rows) == 24 * 5
    assert len(made["curves"].rows) == sum(len(run.curve) for run in runs)
    assert len(made["training"].rows) == sum(len(run.training_loss) for run in runs)
    assert len(made["reach"].rows) == 4 * (40 + 69)
    assert len(made["probes"].rows) == 3 * 12 * 7
    assert len(made["sentences"].rows) == 4 * 4
    for table in made.values():
        assert all(len(row) == len(table.columns) for row in table.rows)


def test_csv_gives_back_the_numbers_to_the_last_digit() -> None:
    comparison = example_comparison(seeds=2)
    made = tables(comparison)
    model, run = comparison.models[2], comparison.models[2].runs[1]
    row = next(r for r in read(made["models"]) if (r["model"], r["seed"]) == (model.label, "2"))
    assert float(row["tokens_per_second"]) == run.tokens_per_second
    assert int(row["peak_memory_bytes"]) == run.peak_memory
    judged = next(r for r in read(made["judged"]) if (r["model"], r["seed"], r["at"]) == (model.label, "2", "seconds"))
    assert float(judged["bleu_low"]) == run.at_seconds.bleu.low
    assert float(judged["loss"]) == run.at_seconds.loss
    reach = [r for r in read(made["reach"]) if r["model"] == model.label and r["of"] == "output"]
    assert model.reach is not None
    assert [float(r["median"]) for r in reach] == [p.median for p in model.reach.output]
    last = [r for r in read(made["by_length"]) if r["model"] == model.label][4]
    assert (last["shortest"], last["longest"]) == ("25", "")


def test_csv_keeps_any_text() -> None:
    nasty = 'a,"b"\nc</script>\u200f三'
    comparison = example_comparison(probes=False)
    comparison = replace(comparison, sentences=(replace(comparison.sentences[0], source=nasty),))
    assert {row["source"] for row in read(tables(comparison)["sentences"])} == {nasty}


def test_what_is_missing_has_no_table_or_an_empty_cell() -> None:
    made = tables(example_comparison(probes=False, sentences=False, complete=False))
    assert tuple(made) == ("models", "judged", "by_length", "curves", "training")
    assert {row["peak_memory_bytes"] for row in read(made["models"])} == {""}
    assert {row["bleu"] for row in read(made["curves"])} == {""}
    assert tuple(tables(example_comparison(models=False))) == ("probes",)
    assert tables(example_comparison(models=False, probes=False)) == {}


def test_infinite_numbers_are_named() -> None:
    assert to_csv(Table("x", "x", ("a", "b", "c"), ((math.inf, math.nan, None),))).splitlines()[1] == "inf,nan,"


def test_summary_over_seeds() -> None:
    one = summarise([Estimate(30.0, 28.0, 32.0), None, Estimate(32.0, 30.5, 33.5)])
    assert one == Summary(31.0, 30.0, 32.0, 28.0, 33.5, 2, 3)
    assert summarise([Estimate(1.0, 0.0, 2.0), 3.0]) == Summary(2.0, 1.0, 3.0, None, None, 2, 2)
    assert summarise([None, None]) is None and summarise([]) is None


def test_memory_is_the_largest_of_the_seeds() -> None:
    model = example_comparison(seeds=3).models[1]
    peaks = [run.peak_memory or 0 for run in model.runs]
    memory = next(m for m in cost(example_comparison(seeds=3)) if m.name.startswith("Peak memory")).summary(model)
    assert memory is not None and (memory.value, memory.least, memory.most) == (max(peaks), min(peaks), max(peaks))


def mark(better: int, *readings: float | Estimate | None, show: str = ".1f", alone: str = "") -> list[str]:
    measure = Measure("x", lambda run: None, lambda value: format(value, show), better, alone=alone)  # type: ignore[arg-type]
    return standing(measure, [summarise([reading]) for reading in readings])


def test_no_winner_where_intervals_overlap() -> None:
    low, middle, high = Estimate(20, 19, 21), Estimate(30, 28, 32), Estimate(33, 31.5, 34.5)
    assert mark(1, low, middle, high) == ["", "level", "level"]
    assert mark(1, low, middle) == ["", "best"]
    assert mark(-1, low, middle) == ["best", ""]
    assert mark(0, low, middle) == ["", ""]
    assert mark(1, middle) == [""]  # nobody to be better than


def test_figures_that_read_the_same_are_level_and_missing_ones_stand_aside() -> None:
    first, second, third = Estimate(1.04, 1.03, 1.05), Estimate(1.01, 1.0, 1.02), Estimate(0.5, 0.4, 0.6)
    assert mark(1, first, second, third) == ["level", "level", ""]
    assert mark(-1, None, third, first) == ["", "best", ""]
    assert mark(1, Estimate(math.nan, 0, 1), first, third) == ["", "best", ""]
    measure = Measure("steps", lambda run: None, str, -1)
    some, every = summarise([100.0, None]), summarise([300.0, 310.0])
    assert standing(measure, [some, every]) == ["", "best"]


def test_one_run_without_an_interval_wins_nothing() -> None:
    assert mark(1, 50.0, 10.0) == ["", ""]
    assert mark(1, Estimate(50, 49, 51), 10.0) == ["", ""]
    assert mark(1, 50.0, 10.0, alone="fastest") == ["fastest", ""]
    assert mark(-1, 50.0, 10.0, None, alone="lowest") == ["", "lowest", ""]
    assert mark(1, 50.01, 50.04, 10.0, alone="fastest") == ["", "", ""]
    seeds = [summarise(readings) for readings in ([50.0, 51.0], [10.0, 11.0], [10.0, 50.5])]
    measure = Measure("x", lambda run: None, str, 1, alone="fastest")
    assert standing(measure, seeds[:2]) == ["best", ""] and standing(measure, seeds) == ["level", "", "level"]


def test_only_costs_are_marked_with_one_seed() -> None:
    comparison = example_comparison()
    for _, measures in quality(comparison):
        assert {m.name for m in measures if m.alone} == set()
    assert [m.alone for m in cost(comparison)] == ["fewest", "fastest", "fastest", "fastest", "lowest", "", ""]
    assert cost(comparison)[3].name == "Sentences a second, translating (beam 4, average log-probability)"


def test_measures_read_what_they_say() -> None:
    comparison = example_comparison(seeds=2)
    model = comparison.models[3]
    (tokens, at_tokens), (seconds, at_seconds) = quality(comparison)
    assert "2.64\u202fM target tokens" in tokens and "15\u202fmin" in seconds
    bleu = at_seconds[0].summary(model)
    assert bleu is not None and bleu.value == pytest.approx(sum(r.at_seconds.bleu.value for r in model.runs) / 2)
    error = at_tokens[4].summary(model)
    assert error is not None and at_tokens[4].show(error.value) == "21.4\u202f%"
    assert at_tokens[4].summary(comparison.models[0]) is None
    assert at_tokens[4].missing == "no attention"
    run = model.runs[0].at_seconds
    assert [(m.name, m.of(model.runs[0])) for m in at_seconds[5:]] == [
        ("Judged at step", run.step),
        ("Training time until then", run.seconds),
        ("Target tokens until then", run.tokens),
    ]
    steps = cost(comparison)[0]
    assert steps.summary(comparison.models[0]) is None and steps.missing == "not reached"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (whole(12345), "12 345"),
        (short(2_640_000), "2.64 M"),
        (short(999), "999"),
        (short(999_900), "1.00 M"),
        (short(0), "0"),
        (duration(4.25), "4.2 s"),
        (duration(59.7), "1 min"),
        (duration(754), "12 min 34 s"),
        (duration(7500), "2 h 5 min"),
        (duration(math.inf), "∞"),
        (size(300 * 2**20), "300 MiB"),
        (size(1.5 * 2**30), "1.50 GiB"),
        (significant(0.001234), "0.00123"),
        (significant(1.2e-9), "1.20e-09"),
        (significant(5806.4), "5 806"),
        (significant(math.nan), "not a number"),
    ],
)
def test_numbers(shown: str, expected: str) -> None:
    assert shown.replace("\u202f", " ") == expected
