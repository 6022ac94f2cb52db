"""`regard fill`: gaps of a text, of lines of a file, as JSON; errors."""

import json
from pathlib import Path

import pytest
import torch

from label_examples import labelled
from regard.data import train_tokenizer
from regard.models.bert import BERTConfig, build_masked_language_model
from regard.runs.directory import JOINT, write_model

TEXTS = [text for _, text in labelled(60)]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked model that has learned which words there are: the bias of its output is made for that."""
    directory = tmp_path_factory.mktemp("bert")
    tokenizer = train_tokenizer("word", TEXTS)
    tokenizer.save(directory / JOINT)
    config = BERTConfig(vocabulary=tokenizer.vocab_size + 1, layers=1, width=16, feedforward=32, heads=2, max_length=20)
    torch.manual_seed(1)
    model = build_masked_language_model(config)
    with torch.no_grad():
        model.output.bias[tokenizer.encode("cat")[0]] = 6.0
        model.output.bias[tokenizer.encode("dog")[0]] = 5.0
    content = {"mask": tokenizer.vocab_size, "next_sentence": False}
    write_model(directory, "masked_language_modelling", config, model.state_dict(), content)
    return directory


def test_a_text(regard, bert: Path) -> None:
    ran = regard("fill", bert, "I see a [MASK] in the [MASK]", "--top", 2)
    assert ran.code == 0
    blocks = [[line.split("\t") for line in block.split("\n")] for block in ran.out.rstrip("\n").split("\n\n")]
    assert [[row[1] for row in block] for block in blocks] == [["cat", "dog"], ["cat", "dog"]]
    assert blocks[0][1][2] == "I see a dog in the cat"
    assert blocks[1][1][2] == "I see a cat in the dog"
    assert 1 > float(blocks[0][0][0]) > float(blocks[0][1][0]) > 0


def test_nothing_is_on_standard_error_if_quiet(regard, bert: Path) -> None:
    ran = regard("fill", bert, "I see a [MASK]", "--quiet", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out)["text"] == "I see a [MASK]"


def test_lines_of_a_file(regard, bert: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("I see a [MASK]\nno gap\n[MASK] and [MASK]\n")
    ran = regard("fill", bert, "--file", tmp_path / "in.txt", "--top", 1, "--out", tmp_path / "out.tsv")
    assert ran.code == 1
    assert f"{tmp_path / 'in.txt'}, line 2: not filled: has no [MASK]: 'no gap'" in ran.err
    rows = [line.split("\t") for line in (tmp_path / "out.tsv").read_text().splitlines()]
    assert [row[:2] for row in rows] == [["1", "1"], ["3", "1"], ["3", "2"]]
    assert rows[1][3:] == ["cat", "cat and cat"]


def test_json(regard, bert: Path) -> None:
    ran = regard("fill", bert, "--file", "-", "--top", 3, "--json", stdin=b"I see a [MASK]\nno gap\n")
    first, second = (json.loads(line) for line in ran.lines)
    assert first["line"] == 1
    assert [one["text"] for one in first["gaps"][0]][:2] == ["cat", "dog"]
    assert set(first["gaps"][0][0]) == {"text", "piece", "token", "probability"}
    assert second["error"].startswith("has no [MASK]")


def test_what_cannot_be_filled(regard, bert: Path, tiny_model) -> None:
    assert "has no [MASK]: 'nothing'" in regard("fill", bert, "nothing").err
    assert "give a text or --file" in regard("fill", bert).err
    assert "give a text or --file, not both" in regard("fill", bert, "a [MASK]", "--file", "-").err
    ran = regard("fill", tiny_model.directory, "a [MASK]")
    assert ran.code == 2
    assert "is a Translator; regard fill needs a masked language model" in ran.err
