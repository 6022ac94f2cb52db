"""Budgets as steps: everyone's common step lies on everyone's grid."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.errors import CheckpointError, RecipeError
from regard.runs.compare.plan import Measured, Plan, digest, extend_plan, make_plan, read_plan
from regard.runs.recipe import make_recipe


def measured(seconds: float, most: int | None = None) -> Measured:
    return Measured("", seconds, 1.0, most)


def test_minutes_are_divided_by_the_time_of_a_step() -> None:
    plan = make_plan({"minutes": 2, "validations": 4}, {"slow": measured(1.1), "quick": measured(0.3)})
    # 120 / 1.1 = 109 steps: four times 27, and one step that nobody would judge
    assert plan.validate_every == 27
    assert plan.steps == {"slow": 108, "quick": 400}
    assert plan.common(["slow", "quick"]) == 108
    assert plan.common(["quick"]) == 400
    # 108 steps and the four validations, and two at the end
    assert plan.seconds("slow") == pytest.approx(108 * 1.1 + 6)


def test_equal_steps_stay_as_they_are() -> None:
    plan = make_plan({"steps": 100, "validations": 12}, {"a": measured(1.0, 100), "b": measured(0.1, 100)})
    assert plan.steps == {"a": 100, "b": 100}
    assert plan.validate_every == 8
    assert plan.common(["a", "b"]) == 100


def test_the_bound_that_comes_first_counts() -> None:
    plan = make_plan({"minutes": 1, "epochs": 3, "validations": 5}, {"a": measured(1.0, 50), "b": measured(2.0, 50)})
    assert plan.steps == {"a": 50, "b": 30}


@given(
    st.lists(st.floats(0.001, 30.0), min_size=1, max_size=5),
    st.integers(1, 40),
    st.floats(0.01, 60.0),
    st.none() | st.integers(1, 5000),
)
def test_every_model_reaches_the_common_step_on_the_grid_or_at_its_end(
    seconds: list[float], validations: int, minutes: float, most: int | None
) -> None:
    times = {str(number): measured(each, most) for number, each in enumerate(seconds)}
    plan = make_plan({"minutes": minutes, "validations": validations}, times)
    common = plan.common(times)
    assert common > 0
    for steps in plan.steps.values():
        assert steps == common or (steps > common and common % plan.validate_every == 0)


def test_models_are_added_on_the_same_grid() -> None:
    plan = make_plan({"minutes": 1, "validations": 3}, {"a": measured(1.0), "b": measured(0.5)})
    assert (plan.validate_every, plan.steps) == (20, {"a": 60, "b": 120})
    more = extend_plan(plan, {"c": measured(1.3)})
    assert more.steps == {"a": 60, "b": 120, "c": 46}
    assert more.common("abc") == 40
    assert more.common("ab") == 60
    with pytest.raises(RecipeError, match=r"d takes 6 steps .* validated every 20"):
        extend_plan(plan, {"d": measured(10.0)})


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"format": 1, "budget": {"steps": 3, "validations": 1}, "validate_every": 3, "steps": {}}')
    with pytest.raises(CheckpointError, match=r"plan\.json: damaged"):
        read_plan(path)
    path.write_text('{"format": 9}')
    with pytest.raises(CheckpointError, match="format 1"):
        read_plan(path)
    path.write_text("[]")
    with pytest.raises(CheckpointError, match=r"plan\.json"):
        read_plan(path)


def test_the_digest_knows_what_a_model_is_and_not_where_or_how_long_it_learns() -> None:
    base = {"data": {"source": "a", "target": "b"}, "training": {"steps": 3}}
    one = digest(make_recipe(base))
    for same in ({"seed": 7}, {"steps": 9}, {"minutes": 1.0}, {"threads": 2}, {"validate_every": 5}):
        assert digest(make_recipe(base | {"training": same})) == one
    moved = {**base, "data": {"source": "a", "target": "b", "folder": "/elsewhere", "prepared": "/there"}}
    assert digest(make_recipe(moved)) == one
    assert digest(make_recipe(base | {"training": {"learning_rate": 1.0}})) != one
    assert digest(make_recipe(base | {"model": {"width": 64}})) != one
    assert digest(make_recipe(base | {"model": {"name": "luong"}})) != one


def test_estimates_grow_with_validations() -> None:
    plan = Plan({}, 10, {"a": 100}, {"a": measured(0.5)})
    assert replace(plan, validate_every=50).seconds("a") < plan.seconds("a")
