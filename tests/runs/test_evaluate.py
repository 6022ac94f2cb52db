"""`evaluate` against sacreBLEU, the translator's own scores and alignments worked out by hand."""

import math

import pytest
import torch
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from regard.attention import AttentionMap
from regard.errors import ArgumentError, MissingExtraError
from regard.runs.evaluate import evaluate
from regard.runs.load import load_translator
from regard.runs.translator import Attention, Translator

LONG = "two dogs play " * 30


@pytest.fixture(scope="module")
def translator(tiny_model) -> Translator:
    return load_translator(tiny_model.directory, device="cpu")


def test_text_scores_are_sacrebleu_s(translator, tiny_model) -> None:
    references = [target.replace("Hund", "hund").replace("zwei", "Zwei") for target in tiny_model.targets]
    found = evaluate(translator, tiny_model.sources, references)
    assert list(found.translations) == tiny_model.targets
    said = tiny_model.targets
    assert found.quality.bleu.score == pytest.approx(BLEU(tokenize="13a").corpus_score(said, [references]).score)
    assert found.quality.chrf.score == pytest.approx(CHRF().corpus_score(said, [references]).score)
    assert found.bleu_lowercase is not None
    assert found.bleu_lowercase.score == pytest.approx(100.0)
    assert "case:lc" in found.bleu_lowercase.signature and "tok:13a" in found.bleu_lowercase.signature
    metric = BLEU(tokenize="13a")
    assert found.quality.bleu.interval == pytest.approx(metric.corpus_score(said, [references], n_bootstrap=1000)._ci)
    assert found.quality.bleu.signature == str(metric.get_signature())
    same = sum(a == b for a, b in zip(said, references, strict=True))
    assert 0 < same < len(said)
    assert found.quality.exact == pytest.approx(100 * same / len(said))


def test_likelihood_is_the_mean_over_tokens_not_over_sentences(translator, tiny_model) -> None:
    sources = [*tiny_model.sources[:5], LONG, "dogs"]
    references = [*tiny_model.targets[1:6], "x", LONG]
    found = evaluate(translator, sources, references)
    scores = translator.score(sources[:5], references[:5])
    values = [value for row in scores for value in row]
    assert found.likelihood is not None
    assert found.likelihood.tokens == len(values)
    assert found.likelihood.loss == pytest.approx(-sum(values) / len(values))
    assert found.likelihood.perplexity == pytest.approx(math.exp(-sum(values) / len(values)))
    assert found.translations[5] == "" and found.translations[6] != ""
    assert [note.partition(" has")[0] for note in found.notes] == ["pair 6: the source", "pair 7: the target"]


def test_buckets_of_length_hold_every_sentence_once(translator, tiny_model) -> None:
    sources = [*tiny_model.sources, "two dogs play today today today", "", "one " * 11]
    references = [*tiny_model.targets, "zwei Hunde spielen", "nichts", "ein Hund"]
    found = evaluate(translator, sources, references)
    sizes = {(one.shortest, one.longest): one.sentences for one in found.by_length}
    assert sizes == {(1, 5): len(sources) - 2, (6, 10): 1, (11, 15): 1}
    said = [*found.translations[: len(tiny_model.sources)], found.translations[-2]]
    wanted = [*tiny_model.targets, "nichts"]
    result = BLEU(tokenize="13a").corpus_score(said, [wanted], n_bootstrap=1000)
    assert found.by_length[0].bleu == pytest.approx(result.score)
    assert found.by_length[0].interval == pytest.approx(result._ci) and result._ci > 0
    assert [one.interval for one in found.by_length[1:]] == [None, None]  # a single sentence has none
    assert [one["interval"] for one in found.to_json()["by_length"]] == [one.interval for one in found.by_length]


def test_exact_matches_by_category(translator, tiny_model) -> None:
    references = [*tiny_model.targets[:5], *("falsch" for _ in tiny_model.targets[5:])]
    names = ["b"] * 4 + ["a"] * (len(references) - 4)
    found = evaluate(translator, tiny_model.sources, references, categories=names)
    assert list(found.categories) == ["a", "b"]
    assert (found.categories["b"].sentences, found.categories["b"].exact) == (4, 100.0)
    assert found.categories["a"].sentences == 7
    assert found.categories["a"].exact == pytest.approx(100 / 7)


def _attention(source: str, target: str, looks_at: list[int]) -> Attention:
    """Attention over words that are tokens: target word j looks at source word looks_at[j] only."""
    sides = tuple(source.split()), tuple(target.split())
    keys = torch.eye(len(sides[0]) + 1) * 99
    queries = torch.eye(len(sides[0]) + 1)[[*looks_at, len(sides[0])]] * 99
    table = AttentionMap(queries[None, None], keys[None, None])
    groups = [(names, [[i] for i in range(len(names))]) for names in sides]
    return Attention({"decoder.layers.0.cross": table}, source, target, *sides, *groups)


def test_alignment_error_rate_by_hand(translator, monkeypatch: pytest.MonkeyPatch) -> None:
    looks_at = {"one dog plays": [0, 2, 1], "two cats sleep": [0, 1, 1]}
    asked = []

    def attention(source: str, target: str) -> Attention:
        asked.append(target)
        return _attention(source, target, looks_at[source])

    monkeypatch.setattr(translator, "attention", attention)
    sources = ["one dog plays", "two cats sleep", "", LONG]
    references = ["ein spielt Hund", "zwei Katzen schlafen", "", "x"]
    sure = [{(0, 0), (1, 2), (2, 1)}, {(0, 0), (2, 2)}, set(), {(0, 0)}]
    possible = [sure[0], sure[1] | {(1, 1)}, set(), {(0, 0)}]
    gold = list(zip(sure, possible, strict=True))
    found = evaluate(translator, sources * 5, references * 5, gold=gold * 5)
    assert asked == references[:2] * 5
    # predicted: three right of the first pair, of the second 0-0 (sure), 1-1 (possible), 1-2 (wrong)
    assert found.alignment is not None
    assert (found.alignment.predicted, found.alignment.sure) == (5 * 6, 5 * 5)
    assert found.alignment.precision == pytest.approx(5 / 6)
    assert found.alignment.recall == pytest.approx(4 / 5)
    assert found.alignment.error_rate == pytest.approx(1 - (4 + 5) / (6 + 5))


def test_beam_and_progress_are_passed_on(translator, tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []
    whole = translator.translate
    monkeypatch.setattr(translator, "translate", lambda texts, beam: widths.append(beam) or whole(texts, beam=beam))
    told: list[tuple[str, int, int]] = []
    evaluate(translator, tiny_model.sources, tiny_model.targets, beam=2, progress=lambda *what: told.append(what))
    assert widths == [2]
    assert told[:2] == [("translating", 0, 11), ("translating", 11, 11)]
    assert told[-1] == ("scoring the references", 11, 11)


def test_chinese_is_scored_by_characters_and_has_no_case(translator, tiny_model) -> None:
    found = evaluate(translator, tiny_model.sources[:3], ["一只狗睡觉。", "两只狗睡觉。", "一只猫睡觉。"])
    assert "tok:zh" in found.quality.bleu.signature
    assert found.bleu_lowercase is None


def test_moses_bleu(translator, tiny_model) -> None:
    pytest.importorskip("sacremoses")
    references = [f"{target.upper()}" for target in tiny_model.targets]
    found = evaluate(translator, tiny_model.sources, references, moses="de")
    assert found.bleu_moses is not None
    assert found.bleu_moses.score == pytest.approx(100.0)
    assert "case:lc" in found.bleu_moses.signature and "moses:de" in found.bleu_moses.signature


def test_moses_without_its_extra_is_said_before_the_work(translator, tiny_model, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sacremoses", None)
    monkeypatch.setattr(translator, "translate", lambda *_, **__: pytest.fail("worked first"))
    with pytest.raises(MissingExtraError, match=r"regard\[moses\]"):
        evaluate(translator, tiny_model.sources, tiny_model.targets, moses="de")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"references": ["x"]}, "references: got 1 for 11 sources"),
        ({"gold": [(set(), set())]}, "gold: got 1 for 11 sources"),
        ({"categories": []}, "categories: got 0 for 11 sources"),
        ({"sources": [], "references": []}, "sources: there is none"),
        ({"tokenize": "klingon"}, "no tokenisation 'klingon': there are auto, "),
        ({"gold": [({(0, 3)}, {(0, 3)})] * 11}, "gold: pair 1: link 0-3 in a pair of 3 source and 3 target words"),
    ],
)
def test_bad_arguments_are_said_before_the_work(translator, tiny_model, monkeypatch, changes, message: str) -> None:
    monkeypatch.setattr(translator, "translate", lambda *_, **__: pytest.fail("worked first"))
    arguments = {"sources": tiny_model.sources, "references": tiny_model.targets} | changes
    with pytest.raises(ArgumentError, match=message):
        evaluate(translator, **arguments)
