"""Which sentences are shown, and what each model says and looks at."""

import numpy as np
import pytest

from regard.errors import ArgumentError, UnsupportedError
from regard.runs.compare.sentences import choose_sentences, side_by_side
from regard.runs.load import load_translator
from regard.runs.translator import Translator

LONG = "two dogs play " * 30


@pytest.fixture
def translator(tiny_model) -> Translator:
    return load_translator(tiny_model.directory, device="cpu")


def test_sentences_are_spread_over_the_lengths_from_short_to_long() -> None:
    sources = [" ".join(f"{i}w{j}" for j in range(1 + i * 7 % 100)) for i in range(100)]  # 1 to 100 words, mixed
    chosen = choose_sentences(sources, 5)
    lengths = [len(sources[i].split()) for i in chosen]
    assert lengths == sorted(lengths) and len(lengths) == 5
    assert lengths == pytest.approx([4 + 94 * (i + 0.5) / 5 for i in range(5)], abs=1)
    assert choose_sentences(sources, 5) == chosen


def test_the_extremes_the_empty_and_the_repeated_are_left_out() -> None:
    sources = ["a b c"] * 50 + [f"w{i} x y z" for i in range(100)] + ["", " ", "one", "two", LONG]
    chosen = choose_sentences(sources, 50)
    assert len(set(chosen)) == 50
    assert not {sources[i] for i in chosen} & {"", " ", "one", LONG}
    assert [i for i in chosen if i < 50] in ([], [0])
    equal = [i for i in chosen if 50 <= i < 150]
    assert equal == sorted(equal)  # of equally long ones the earlier comes first


def test_as_many_as_there_are() -> None:
    assert choose_sentences(["b b", "a", "", "c c c"], 3) == [1, 0, 3]
    assert choose_sentences(["b b", "a", "", "c c c"], 9) == [1, 0, 3]
    assert choose_sentences([f"w{i}" for i in range(40)], 39)[0] == 0  # too few for leaving out
    assert choose_sentences(["a", "b"], 0) == [] and choose_sentences([], 3) == []


def test_each_model_s_own_translation_and_what_it_looked_at(translator, tiny_model) -> None:
    sources = [tiny_model.sources[0], tiny_model.sources[9]]
    references = ["x", "y"]
    found = side_by_side([("one", translator), ("other", translator)], sources, references)
    assert [one.source for one in found] == sources and [one.reference for one in found] == references
    assert found[1].words == ("today", "two", "cats", "play")
    for result, target in zip(found, (tiny_model.targets[0], tiny_model.targets[9]), strict=True):
        assert [said.label for said in result.said] == ["one", "other"]
        for said in result.said:
            assert said.text == target and said.words == tuple(target.split())
            expected = translator.attention(result.source, target).alignment().weights
            assert np.asarray(said.weights) == pytest.approx(expected, abs=6e-5)
            assert np.asarray(said.weights).shape == (len(said.words), len(result.words))


def test_without_attention_there_are_no_weights(translator, tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str) -> None:
        raise UnsupportedError("no attention")

    monkeypatch.setattr(translator, "attention", refuse)
    (found,) = side_by_side([("none", translator)], tiny_model.sources[:1], tiny_model.targets[:1])
    assert found.said[0].text == tiny_model.targets[0] and found.said[0].weights is None


def test_other_errors_are_not_hidden(translator, tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: str, target: str) -> None:
        raise ArgumentError("broken")

    monkeypatch.setattr(translator, "attention", fail)
    with pytest.raises(ArgumentError, match="broken"):
        side_by_side([("one", translator)], tiny_model.sources[:1], tiny_model.targets[:1])


def test_what_is_too_long_or_empty_has_an_empty_translation(translator, tiny_model) -> None:
    found = side_by_side([("one", translator)], [LONG, tiny_model.sources[0], ""], ["a", "b", "c"])
    assert [one.said[0].text for one in found] == ["", tiny_model.targets[0], ""]
    assert [one.said[0].weights is None for one in found] == [True, False, True]
    assert found[0].said[0].words == ()
