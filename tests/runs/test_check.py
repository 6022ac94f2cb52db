"""From a recipe to the parts that are checked."""

import gzip
from pathlib import Path

import pytest

from regard.runs.check import check_recipe, data_parts
from regard.runs.recipe import make_recipe


@pytest.mark.parametrize(
    ("source", "target", "suffixes"),
    [
        ("a/train.en", "a/train.de", (".en", ".de")),
        ("train.tok.en.gz", "train.tok.de.zst", (".en", ".de")),
        ("en.txt", "de.txt", (".src", ".tgt")),
        ("english", "german", (".src", ".tgt")),
    ],
)
def test_suffixes_of_a_copy(source: str, target: str, suffixes: tuple[str, str]) -> None:
    [part] = data_parts(make_recipe({"data": {"source": source, "target": target}}).data)
    assert (part.name, part.stem, part.suffixes, part.validation) == ("training", "train", suffixes, False)


def test_names_of_several_parts() -> None:
    train = [{"pairs": "a.tsv"}, {"source": "b.en", "target": "b.de"}]
    parts = data_parts(make_recipe({"data": {"train": train, "valid_pairs": "c.tsv"}}).data)
    assert [part.stem for part in parts] == ["train1", "train2", "valid"]
    assert [part.validation for part in parts] == [False, False, True]
    assert parts[1].suffixes == (".en", ".de")


def test_the_copy_is_what_a_recipe_can_read_again(tmp_path: Path) -> None:
    pairs = [(f"line {index} of the text", f"Zeile {index} des Textes") for index in range(200)]
    with gzip.open(tmp_path / "a.en.gz", "wt", encoding="utf-8") as file:
        file.write("".join(f"{source}\n" for source, _ in pairs))
    (tmp_path / "a.de").write_text("".join(f"{target}\n" for _, target in pairs), "utf-8")
    data = {"folder": str(tmp_path), "source": "a.en.gz", "target": "a.de"}
    report = check_recipe(make_recipe({"data": data}), clean=tmp_path / "clean")
    assert report.parts[0].kept == 200
    copy = {"folder": str(tmp_path / "clean"), "source": "train.en", "target": "train.de"}
    again = check_recipe(make_recipe({"data": copy}))
    assert [(one.name, one.count) for one in again.findings] == [(one.name, one.count) for one in report.findings]
    assert again.parts[0].rows == 200
