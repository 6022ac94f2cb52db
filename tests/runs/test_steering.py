"""Prefixes and phrases of text: whatever a model says after the tokens, the text is as asked."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from regard.data import Tokenizer, train_tokenizer
from regard.data.tokenizers import Kind
from regard.decoding import ConstrainedBeam, ForcedPrefix, Limits, Ruled, Sampling
from regard.errors import ArgumentError
from regard.layers import State
from regard.runs.steering import Steering

LINES = [
    "zwei Hunde spielen im Schnee",
    "ein Hund schläft",
    "heute schlafen zwei Katzen, ja!",
    "两只狗在玩",
    "一只狗睡觉",
]
KINDS: tuple[Kind, ...] = ("bpe", "unigram", "word", "char")
TOKENIZERS = {kind: train_tokenizer(kind, LINES * 4, 380 if kind in ("bpe", "unigram") else None) for kind in KINDS}


class Chatter:
    """Says anything, ends seldom: log-probabilities from a hash of the last token and the position."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.size, self.eos = tokenizer.vocab_size, tokenizer.eos_id

    def start(self, sentences: int) -> State:
        return State({"seed": torch.arange(sentences)}, {}, 0)

    def step(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        mixed = (tokens[:, None] + 31 * state.position + 7) * 7919 + (torch.arange(self.size) + 1) * 104729
        logits = 4.0 * (mixed % 10007).double() ** 3 % 10007 / 10007
        logits[:, : self.eos] = -torch.inf  # <pad> and <bos>
        return logits.log_softmax(1), State(state.sentence, state.hypothesis, state.position + 1)


def texts_after(tokenizer: Tokenizer, prefixes: list[str], samples: int = 20) -> list[list[str]]:
    steering = Steering(tokenizer)
    made = [steering.prefix(text) for text in prefixes]
    rule = ForcedPrefix(tuple(one.tokens for one in made), tuple(one.endings for one in made), steering.ranks)
    model = Ruled(Chatter(tokenizer), [rule])
    limits = Limits(tokenizer.bos_id, tokenizer.eos_id, 24, keys=tuple(range(len(prefixes))))
    found = Sampling(2.0, samples=samples).run(model, model.start(len(prefixes)), limits)
    return [[tokenizer.decode(one.tokens) for one in few] for few in found]


@pytest.mark.parametrize("kind", KINDS)
def test_a_translation_begins_with_its_prefix(kind: Kind) -> None:
    prefixes = ["zwei Hunde", "zwei Hunde ", "ein", "", "heute schlafen zwei", "狗", "两只", "ja"]
    tokenizer = TOKENIZERS[kind]
    for prefix, texts in zip(prefixes, texts_after(tokenizer, prefixes), strict=True):
        written = prefix if kind != "word" else prefix.replace("两只", "两 只")  # words are joined by spaces
        assert all(text.startswith(written) for text in texts)
        assert len(set(texts)) > 10


@settings(max_examples=60, deadline=None)
@example("bpe", "H  ")
@given(st.sampled_from(["bpe", "unigram"]), st.text(st.sampled_from("zweiHundschläf ,!狗两玩▁é"), max_size=9))
def test_a_prefix_of_subwords_is_any_text(kind: Kind, prefix: str) -> None:
    said = prefix.strip()
    wanted = f"{said} " if said and prefix.endswith(" ") else said  # one space, however many are given
    for text in texts_after(TOKENIZERS[kind], [prefix, "ein"], samples=3)[0]:
        assert text.startswith(wanted)


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char", "word"])
def test_a_prefix_may_end_within_a_longer_token_and_white_space_completes_the_word(kind: Kind) -> None:
    tokenizer = TOKENIZERS[kind]
    steering = Steering(tokenizer)
    within, complete = steering.prefix("zwei Hund"), steering.prefix("zwei Hund ")
    assert list(within.tokens) == tokenizer.encode("zwei Hund")
    first, last = within.endings[1 if kind in ("bpe", "word") else -1]
    longer = {tokenizer.decode([token]) for token in steering.ranks.argsort()[first:last].tolist()}
    left = {"bpe": "Hund", "word": "Hund", "char": "d", "unigram": tokenizer.decode(list(within.tokens[-1:]))}[kind]
    assert left in longer and all(text.startswith(left) for text in longer)
    assert kind not in ("bpe", "word") or "Hunde" in longer
    assert len(complete.tokens) == len(within.tokens) + 1
    for text in texts_after(tokenizer, ["zwei Hund "])[0]:
        assert text.startswith("zwei Hund ")
    assert any(not text.startswith("zwei Hund ") for text in texts_after(tokenizer, ["zwei Hund"])[0])


def test_what_is_not_in_the_vocabulary_is_named() -> None:
    for kind, text, named in (("word", "zwei Hu", "Hu"), ("char", "zwei ωμέγα", "ω")):
        for ask in (Steering(TOKENIZERS[kind]).prefix, Steering(TOKENIZERS[kind]).phrase):
            with pytest.raises(ArgumentError, match=f"'{named}' is not in the target's vocabulary"):
                ask(text)
    with pytest.raises(ArgumentError, match="a phrase is empty"):
        Steering(TOKENIZERS["bpe"]).phrase("  ")


@pytest.mark.parametrize("kind", KINDS)
def test_a_translation_contains_its_phrases(kind: Kind) -> None:
    tokenizer = TOKENIZERS[kind]
    steering, model = Steering(tokenizer), Chatter(tokenizer)
    phrases = [["Hunde", "im"], ["狗"], ["heute schlafen", "ja !" if kind == "word" else "ja!"], []]
    search = ConstrainedBeam(6, nbest=3)
    asked = tuple([steering.phrase(one) for one in few] for few in phrases)
    limits = Limits(tokenizer.bos_id, tokenizer.eos_id, 40, constraints=asked)
    for wanted, found in zip(phrases, search.run(model, model.start(len(phrases)), limits), strict=True):
        for one in found:
            text = tokenizer.decode(one.tokens)
            assert all(phrase in text for phrase in wanted) and (one.finished or not wanted)


def test_a_phrase_can_follow_without_a_space_where_its_script_has_none() -> None:
    steering = Steering(TOKENIZERS["bpe"])
    pieces = TOKENIZERS["bpe"].pieces
    assert [pieces(one) for one in steering.phrase("Hund")] == [["▁Hund"]]
    assert [pieces(one)[0] for one in steering.phrase(", ja")] == ["▁", ","]
    assert [pieces(one) for one in steering.phrase("狗")] == [["狗"]]
