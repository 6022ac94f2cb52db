"""The same search as Hugging Face's `generate`, hypothesis for hypothesis, on a random model in float64."""

from __future__ import annotations

import pytest

from regard.decoding import Average, NoPenalty, WhenBehind, WhenCertain, WhenFull, beam_search, greedy

pytest.importorskip("transformers")

from oracles.bart import BOS, EOS, SENTENCES, SOURCES, Adapter, generate, make_bart, stripped

RULES = {True: WhenFull(), False: WhenBehind(), "never": WhenCertain()}


@pytest.fixture(scope="module")
def bart():
    return make_bart()


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("alpha", [1.0, 0.0, 2.0, -0.6])
@pytest.mark.parametrize("beam", [2, 3, 5])
def test_beam_search_equals_hugging_face(bart, beam, alpha, early_stopping):
    for min_length, max_length in ((0, 13), (3, 7)):
        theirs = generate(
            bart,
            num_beams=beam,
            num_return_sequences=beam,
            length_penalty=alpha,
            early_stopping=early_stopping,
            max_new_tokens=max_length,
            min_new_tokens=min_length,
        )
        model = Adapter(bart)
        ours = beam_search(
            model,
            model.start(SOURCES),
            beam=beam,
            bos=BOS,
            eos=EOS,
            max_length=max_length,
            min_length=min_length,
            nbest=beam,
            penalty=Average(alpha),
            stopping=RULES[early_stopping],
        )
        flat = [one for few in ours for one in few]
        assert len(flat) == SENTENCES * beam
        assert [(one.tokens, one.finished) for one in flat] == [stripped(row) for row in theirs.sequences]
        assert [one.score for one in flat] == pytest.approx(theirs.sequences_scores.tolist(), abs=1e-5)


def test_the_rules_and_penalties_make_a_difference(bart):
    """Otherwise the equality above would prove little."""
    model = Adapter(bart)

    def search(penalty, stopping):
        return beam_search(
            model,
            model.start(SOURCES),
            beam=5,
            bos=BOS,
            eos=EOS,
            max_length=13,
            nbest=5,
            penalty=penalty,
            stopping=stopping,
        )

    results = [search(Average(2.0), rule) for rule in RULES.values()] + [search(NoPenalty(), WhenFull())]
    assert all(first != second for n, first in enumerate(results) for second in results[:n])
    assert {one.finished for few in results[2] for one in few} == {True, False}


@pytest.mark.parametrize("min_length", [0, 3])
def test_greedy_equals_hugging_face(bart, min_length):
    theirs = generate(bart, num_beams=1, max_new_tokens=13, min_new_tokens=min_length)
    model = Adapter(bart)
    ours = greedy(model, model.start(SOURCES), bos=BOS, eos=EOS, max_length=13, min_length=min_length)
    assert [(one.tokens, one.finished) for one in ours] == [stripped(row) for row in theirs.sequences]
    assert len({len(one.tokens) for one in ours}) > 1
