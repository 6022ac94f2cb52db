"""Rules give what Hugging Face's `generate` gives with the options of the same meaning."""

from __future__ import annotations

import pytest
import torch

from regard.decoding import (
    Average,
    Beam,
    ForcedPrefix,
    Greedy,
    Limits,
    MinP,
    NoRepeatNgram,
    RepetitionPenalty,
    Ruled,
    TopK,
    TopP,
)

pytest.importorskip("transformers")

import transformers

from oracles.bart import BOS, EOS, SENTENCES, SOURCES, Adapter, generate, make_bart, stripped

RULES = {
    "no bigram twice": ([NoRepeatNgram(2)], {"no_repeat_ngram_size": 2}),
    "no token twice": ([NoRepeatNgram(1)], {"no_repeat_ngram_size": 1}),
    "repetition dearer": ([RepetitionPenalty(1.7)], {"repetition_penalty": 1.7}),
    "repetition cheaper": ([RepetitionPenalty(0.6)], {"repetition_penalty": 0.6}),
    "both": ([RepetitionPenalty(1.3), NoRepeatNgram(3)], {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3}),
}


@pytest.fixture(scope="module")
def bart():
    return make_bart()


def said(results):
    return [(one.tokens, one.finished) for few in results for one in few]


@pytest.mark.parametrize("rule", RULES)
def test_beam_search_under_a_rule_equals_hugging_face(bart, rule):
    rules, options = RULES[rule]
    theirs = generate(bart, num_beams=4, num_return_sequences=4, max_new_tokens=12, **options)
    model = Ruled(Adapter(bart), rules)
    ours = Beam(4, nbest=4).run(model, model.start(SOURCES), Limits(BOS, EOS, 12))
    assert said(ours) == [stripped(row) for row in theirs.sequences]
    flat = [one.score for few in ours for one in few]
    assert flat == pytest.approx(theirs.sequences_scores.tolist(), abs=1e-5)
    plain = Beam(4, nbest=4).run(Adapter(bart), model.model.start(SOURCES), Limits(BOS, EOS, 12))
    assert said(plain) != said(ours)  # otherwise the equality would prove little


@pytest.mark.parametrize("n", [1, 2, 3])
def test_greedy_search_without_repeated_ngrams_equals_hugging_face(bart, n):
    theirs = generate(bart, num_beams=1, max_new_tokens=13, no_repeat_ngram_size=n)
    model = Ruled(Adapter(bart), [NoRepeatNgram(n)])
    ours = Greedy().run(model, model.start(SOURCES), Limits(BOS, EOS, 13))
    assert said(ours) == [stripped(row) for row in theirs.sequences]


@pytest.mark.parametrize("beam", [1, 3])
def test_a_prefix_equals_decoder_input_ids(bart, beam):
    """Scores differ: Hugging Face doesn't count the prefix."""
    prefix = SOURCES.new_tensor([BOS, 9, 4]).expand(SENTENCES, 3)
    theirs = generate(bart, num_beams=beam, decoder_input_ids=prefix, max_new_tokens=8, length_penalty=0.0)
    model = Ruled(Adapter(bart), [ForcedPrefix(((9, 4),) * SENTENCES)])
    ours = Beam(beam, penalty=Average(0.0)).run(model, model.start(SOURCES), Limits(BOS, EOS, 10))
    assert said(ours) == [stripped(row) for row in theirs.sequences]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (TopK(5), transformers.TopKLogitsWarper(5)),
        (TopP(0.7), transformers.TopPLogitsWarper(0.7)),
        (MinP(0.1), transformers.MinPLogitsWarper(0.1)),
    ],
)
def test_filters_keep_what_hugging_face_keeps(ours, theirs):
    log_probs = (2 * torch.randn(50, 97, generator=torch.manual_seed(3), dtype=torch.float64)).log_softmax(1)
    assert torch.equal(ours.kept(log_probs), theirs(None, log_probs) > -torch.inf)
