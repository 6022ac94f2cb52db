"""Going on from prompts: every search, many prompts of different lengths, rules, ensembles, end symbols."""

from __future__ import annotations

import pytest
import torch

from regard.decoding import (
    Average,
    Beam,
    DiverseBeam,
    Ends,
    Ensemble,
    Greedy,
    Limits,
    NoRepeatNgram,
    Prompted,
    Ruled,
    Sampling,
    TopK,
    WhenCertain,
)
from regard.errors import ArgumentError

V, EOS, ANY = 11, 1, 5
SEARCHES = {
    "greedy": Greedy(),
    "beam": Beam(3, nbest=3, penalty=Average(0.7), stopping=WhenCertain()),
    "diverse": DiverseBeam(4, groups=2, nbest=4),
    "sampling": Sampling(1.3, (TopK(6),), samples=3),
}
PROMPTS = [[4, 2, 9], [7], [3, 3, 8, 10, 2, 6], [5, 4]]


class Told:
    """A model of one known prompt that is not prompted: its first step is fed the prompt's end, whatever comes."""

    def __init__(self, model, prompt):
        self.model, self.prompt = model, prompt

    def start(self):
        return self.model.start(
            torch.tensor([self.prompt[:-1]], dtype=torch.int64), torch.tensor([len(self.prompt) - 1])
        )

    def step(self, tokens, state):
        first = int(state.hypothesis["used"][0]) == len(self.prompt) - 1
        return self.model.step(torch.full_like(tokens, self.prompt[-1]) if first else tokens, state)


def limits(count, keys=None, longest=6):
    return Limits(ANY, EOS, longest, keys=tuple(keys or range(20, 20 + count)))


def same(ours, theirs):
    assert [(one.tokens, one.finished) for one in ours] == [(one.tokens, one.finished) for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.token_log_probs == pytest.approx(other.token_log_probs)


@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_goes_on_from_each_prompt_as_if_it_were_alone(toys, name):
    model = toys.Reading(V, 100)
    prompted = Prompted(model)
    together = SEARCHES[name].run(prompted, prompted.start(*toys.padded(PROMPTS)), limits(len(PROMPTS)))
    for number, (prompt, found) in enumerate(zip(PROMPTS, together, strict=True)):
        alone = Told(model, prompt)
        (wanted,) = SEARCHES[name].run(alone, alone.start(), limits(1, [20 + number]))
        same(found, wanted)


def test_log_probabilities_are_those_of_the_text(toys):
    model = toys.Reading(V, 100)
    prompted = Prompted(model)
    for prompt, (found,) in zip(
        PROMPTS, Greedy().run(prompted, prompted.start(*toys.padded(PROMPTS)), limits(len(PROMPTS))), strict=True
    ):
        said = [*found.tokens, EOS][: len(found.token_log_probs)]
        for place, (token, term) in enumerate(zip(said, found.token_log_probs, strict=True)):
            of_text = model.log_prob(prompt[:-1], [prompt[-1], *said[:place]])
            assert term == pytest.approx(float(of_text[token]), rel=1e-6)
            assert int(of_text.argmax()) == token


def test_rules_are_about_what_is_said(toys):
    """A bigram of the prompt may be said once more; one that was said may not."""
    for model in (toys.Reading(4, 100), Ensemble([toys.Reading(4, 100), toys.Reading(4, 90)])):
        ruled = Ruled(Prompted(model), [NoRepeatNgram(2)])
        start = ruled.start(*toys.padded([[0, 2, 0, 2, 0], [2, 3]]))
        for (found,) in Greedy().run(ruled, start, Limits(ANY, 99, 16)):
            bigrams = [*zip(found.tokens, found.tokens[1:], strict=False)]
            assert len(bigrams) == len(set(bigrams)) > 5


def test_an_ensemble_is_prompted_as_a_whole(toys):
    models = [toys.Reading(V, 100), toys.Reading(V, 50)]
    for built in (Prompted(Ensemble(models)), Ensemble([Prompted(model) for model in models])):
        found = Greedy().run(built, built.start(*toys.padded(PROMPTS)), limits(4))
        one = Prompted(models[0])
        for ours, theirs in zip(found, Greedy().run(one, one.start(*toys.padded(PROMPTS)), limits(4)), strict=True):
            assert ours[0].tokens == theirs[0].tokens


@pytest.mark.parametrize(
    ("prompts", "lengths", "message"),
    [
        (torch.zeros(2, 3), torch.tensor([1, 2]), "prompts is torch.float32"),
        (
            torch.zeros(2, 3, dtype=torch.int64),
            torch.tensor([1]),
            r"lengths is torch.int64 \(1,\); expected int64 \(2,\)",
        ),
        (torch.zeros(2, 3, dtype=torch.int64), torch.tensor([0, 3]), r"lengths are \[0, 3\]; expected 1 to 3"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.tensor([4, 3]), r"lengths are \[4, 3\]; expected 1 to 3"),
    ],
)
def test_what_is_no_prompt_is_refused(toys, prompts, lengths, message):
    with pytest.raises(ArgumentError, match=message):
        Prompted(toys.Reading(V, 100)).start(prompts, lengths)


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("ends", [(), (1,), (9, 1, 4), (9, 9, 1)])
def test_several_ends_are_one(toys, name, ends):
    """The end symbol has the sum of their probabilities, they have none; the rest of the table's padding has none."""
    model = Ends(Prompted(toys.Reading(V, 100)), ends, vocabulary=V - 1)
    assert model.eos == V - 1
    start = model.start(*toys.padded(PROMPTS))
    plain = toys.Reading(V, 100)
    log_probs, _ = model.step(torch.full((4,), ANY), start)
    for prompt, row in zip(PROMPTS, log_probs, strict=True):
        own = plain.log_prob(prompt[:-1], prompt[-1:]).exp()
        wanted = own[:V].clone()
        wanted[-1] = sum(own[end] for end in set(ends))
        wanted[list(ends)] = 0
        assert torch.allclose(row.exp(), wanted)
    found = SEARCHES[name].run(model, start, Limits(ANY, model.eos, 12, keys=(1, 2, 3, 4)))
    every = [one for few in found for one in few]
    assert all(max(one.tokens, default=0) < V - 1 and not set(ends) & set(one.tokens) for one in every)
    assert any(one.finished for one in every) == bool(ends)
    for one in every:
        assert one.log_prob > -torch.inf


def test_ends_must_be_tokens(toys):
    with pytest.raises(ArgumentError, match=r"ends are \[3, 11\]; expected tokens from 0 to 10"):
        Ends(toys.Reading(V, 9), (3, V), V)
    model = Ends(Prompted(toys.Reading(V, 9)), (3,), V + 1)
    with pytest.raises(ArgumentError, match="vocabulary is 12; the model says 11 tokens"):
        model.step(torch.tensor([0]), model.start(*toys.padded([[1]])))
