"""`LanguageModel`: generating, streaming, judging texts."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import regard
from models.small_language_models import POSITIONS, TEXT, save, small_language_model, small_tokenizer
from regard.decoding import Beam, DiverseBeam, Greedy, NoRepeatNgram, Sampling
from regard.decoding.text_stream import text_of_bytes
from regard.errors import ArgumentError, CheckpointError
from regard.models import gpt
from regard.runs.generations import Generation
from regard.runs.language_model import LanguageModel

PROMPTS = ["The tired dog", "T", "Two cats play near", "猫", " and", "The end\n"]
HOW = {
    "sampling": {},
    "all filters": {"temperature": 1.2, "top_k": 40, "top_p": 0.9, "min_p": 0.01, "seed": 6, "samples": 2},
    "greedy": {"beam": 1},
    "several": {"samples": 3},
    "stopped": {"samples": 3, "stop": ["e", " d", "\n\n"]},
    "ruled": {"rules": [NoRepeatNgram(2)], "samples": 2, "stop": ["th"]},
}
hows = pytest.mark.parametrize("name", HOW)


@pytest.fixture(scope="module")
def bpe() -> LanguageModel:
    return small_language_model("bpe", ends=2)


@pytest.fixture(scope="module")
def characters() -> LanguageModel:
    return small_language_model("char", begin=False)


@hows
def test_a_stream_is_what_is_generated(bpe, characters, name):
    finished = set()
    for model in (bpe, characters):
        for prompt in PROMPTS:
            wanted = model.generate(prompt, max_tokens=30, **HOW[name])
            texts, done = {}, {}
            for piece in model.stream_samples(prompt, max_tokens=30, **HOW[name]):
                assert piece.number not in done
                texts[piece.number] = texts.get(piece.number, "") + piece.text
                if piece.done is not None:
                    done[piece.number] = piece.done
            assert [texts[number] for number in range(len(wanted))] == [one.text for one in wanted]
            assert [done[number] for number in range(len(wanted))] == wanted
            assert "".join(model.stream(prompt, max_tokens=30, **HOW[name])) == wanted[0].text
            finished |= {one.finished for one in wanted}
    assert len(finished) > 1


@hows
def test_what_follows_a_prompt_does_not_depend_on_the_others(bpe, name):
    together = bpe.generate_each(PROMPTS, max_tokens=30, **HOW[name])
    turned = bpe.generate_each(PROMPTS[::-1], max_tokens=30, **HOW[name])
    for prompt, found, other in zip(PROMPTS, together, turned[::-1], strict=True):
        alone = bpe.generate(prompt, max_tokens=30, **HOW[name])
        for ours in (found, other):
            assert [one.ids for one in ours] == [one.ids for one in alone]
            assert [one.log_prob for one in ours] == pytest.approx([one.log_prob for one in alone], abs=1e-3)
    assert bpe.generate(PROMPTS, max_tokens=30, **HOW[name]) == [one for few in together for one in few]


def test_a_sample_is_a_function_of_seed_prompt_and_number(bpe):
    ids = {}
    for seed in (1, 2):
        for prompt in PROMPTS[:2]:
            many = bpe.generate(prompt, samples=4, seed=seed, max_tokens=12)
            few = bpe.generate(prompt, samples=2, seed=seed, max_tokens=12)
            assert [one.ids for one in many[:2]] == [one.ids for one in few]
            ids |= {(seed, prompt, number): one.ids for number, one in enumerate(many)}
    assert len(set(ids.values())) == len(ids) == 16


@pytest.mark.parametrize("kind", ["bpe", "char", "unigram", "word"])
def test_texts_longer_than_the_positions(kind):
    model = small_language_model(kind, ends=0)
    many = model.generate(PROMPTS, max_tokens=5 * POSITIONS, top_k=20)
    assert all(len(one.ids) == 5 * POSITIONS and one.finished == "length" for one in many)
    for prompt, one in zip(PROMPTS, many, strict=True):
        assert model.generate(prompt, max_tokens=5 * POSITIONS, top_k=20)[0].ids == one.ids


@pytest.mark.parametrize("preset", ["gpt-nano", "llama-nano"])
def test_prompts_are_read_in_chunks(monkeypatch, preset):
    model = small_language_model(preset=preset)
    prompts = [TEXT[: 3 * n] for n in range(1, 12)]
    wanted = model.generate(prompts, max_tokens=9, beam=2)
    for chunk in (1, 3):
        monkeypatch.setattr(gpt, "PROMPT_CHUNK", chunk)
        found = model.generate(prompts, max_tokens=9, beam=2)
        assert [one.ids for one in found] == [one.ids for one in wanted]
        assert [one.log_prob for one in found] == pytest.approx([one.log_prob for one in wanted], abs=1e-3)


def test_long_prompts_are_refused_or_cut(bpe):
    long = TEXT[:200]
    with pytest.raises(ArgumentError, match=rf"the prompt has \d+ tokens; .* for {POSITIONS}: shorten it.*cut=True"):
        bpe.generate(long)
    with pytest.raises(ArgumentError, match="prompt 1 has"):
        bpe.generate(["ok", long])
    with pytest.raises(ArgumentError, match="the prompt has"):
        bpe.stream(long)  # at once, not when it is read
    (cut,) = bpe.generate(long, cut=True, beam=1, max_tokens=20)
    last = bpe.tokenizer.encode_text(long)[-(POSITIONS - 1) :]  # and the start symbol
    with torch.no_grad():
        hidden = bpe.model(torch.tensor([[bpe.begin, *last]]))
    assert cut.ids[0] == int(bpe.model.output(hidden)[0, -1].argmax())
    assert cut.notes[0].endswith(f"tokens; the model read the last {POSITIONS - 1}")
    assert bpe.generate("ok", cut=True, beam=1) == bpe.generate("ok", beam=1)


def test_a_full_prompt_is_read_as_it_is(characters):
    prompt = TEXT[:POSITIONS]
    assert characters.prompt_length(prompt) == POSITIONS
    (found,) = characters.generate(prompt, max_tokens=3, beam=1)
    with torch.no_grad():
        hidden = characters.model(torch.tensor([characters.tokenizer.encode_text(prompt)]))
        best = characters.model.output(hidden)[0, -1].log_softmax(0).max(0)
    assert found.ids[0] == int(best.indices)
    assert found.token_log_probs[0] == pytest.approx(float(best.values), abs=1e-5)


def test_empty_prompts_are_the_beginning_of_a_text(bpe, characters):
    assert bpe.generate("", max_tokens=5, beam=1)[0].ids
    with pytest.raises(ArgumentError, match="the prompt is empty, and the model knows no beginning"):
        characters.generate("")
    with pytest.raises(ArgumentError, match="prompt 1 is empty"):
        characters.generate(["a", ""])
    assert bpe.generate([]) == []


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.integers(1, 5), st.sampled_from(PROMPTS), st.booleans())
def test_a_stop_string_ends_a_text_wherever_tokens_lie(bpe, start, size, prompt, twice):
    (free,) = bpe.generate(prompt, max_tokens=40, seed=8)
    text = free.text.replace("\N{REPLACEMENT CHARACTER}", "")
    if start + size > len(text):
        return
    stop = [text[start : start + size]]
    (found,) = bpe.generate(prompt, max_tokens=40, seed=8, stop=stop * (1 + twice))
    said = bpe.tokenizer.text_of(free.ids)
    assert (found.text, found.finished == "stop") == text_of_bytes(said, stop)
    assert found.ids == free.ids[: len(found.ids)]
    if found.finished == "stop":  # with the token that completes it, and none more
        assert stop[0].encode() in bpe.tokenizer.text_of(found.ids)
        assert stop[0].encode() not in bpe.tokenizer.text_of(found.ids[:-1])
        assert len(found.token_log_probs) == len(found.ids)
        assert found.log_prob == pytest.approx(math.fsum(found.token_log_probs), abs=1e-3)


def test_beam_search_stops_too(bpe):
    for one in bpe.generate(PROMPTS, beam=4, max_tokens=30, stop=["e", "o"]):
        assert "e" not in one.text and "o" not in one.text


def test_log_probabilities_are_those_of_the_text_that_was_said(characters):
    """What is drawn from may be filtered: probabilities are the model's own, as `score` gives them."""
    assert characters.begin is None
    checked = 0
    for prompt in ("The d", "Two"):
        for one in characters.generate(prompt, max_tokens=12, samples=24, top_k=9, temperature=0.7):
            if any(not characters.tokenizer.surfaces[token] for token in one.ids) or "\ufffd" in one.text:
                continue  # what the text doesn't show can't be read back
            checked += 1
            terms = characters.score([prompt + one.text])[0]
            assert one.token_log_probs[: len(one.ids)] == pytest.approx(terms[len(prompt) - 1 :], abs=1e-4)
            assert len(one.token_log_probs) == len(one.ids) + (one.finished == "end")
            assert one.log_prob == pytest.approx(math.fsum(one.token_log_probs), abs=1e-3)
    assert checked > 3


def test_the_end_is_any_of_the_ends(bpe):
    """Its probability is the sum of theirs, and none of them is said."""
    ended = [one for one in bpe.generate(PROMPTS, samples=20, max_tokens=20, seed=3) if one.finished == "end"]
    assert ended and not any(set(bpe.end) & set(one.ids) for one in ended)
    for prompt in PROMPTS[:2]:
        one = next(one for one in bpe.generate(prompt, samples=40, max_tokens=9) if one.finished == "end")
        ids = [bpe.begin, *bpe.tokenizer.encode_text(prompt), *one.ids]
        with torch.no_grad():
            last = bpe.model.output(bpe.model(torch.tensor([ids])))[0, -1].softmax(0)
        assert math.exp(one.token_log_probs[-1]) == pytest.approx(float(last[list(bpe.end)].sum()), rel=1e-4)


def test_padding_of_the_table_is_never_said():
    model = small_language_model(padding=500, ends=0)
    said = {one for found in model.generate(PROMPTS, samples=3, max_tokens=60) for one in found.ids}
    assert max(said) < model.tokenizer.vocab_size


def test_defaults_are_the_models_own_unless_others_are_given(tmp_path: Path):
    model = small_language_model()
    directory = save(model, tmp_path / "gpt", temperature=0.5, top_k=3, top_p=None, max_tokens=7)
    loaded = regard.load(directory, device="cpu")
    assert isinstance(loaded, LanguageModel) and not loaded.model.training
    assert (loaded.begin, loaded.end) == (model.begin, model.end)
    wanted = model.generate("The", temperature=0.5, top_k=3, max_tokens=7)
    assert loaded.generate("The") == wanted
    assert loaded.generate("The", top_k=300, temperature=1.0, max_tokens=200) == model.generate("The")
    assert loaded.generate("The", beam=1, max_tokens=200) == model.generate("The", beam=1)


@pytest.mark.parametrize("generation", [{"end": None}, {"begin": 10_000}, {"end": [10_000]}, {"begin": "no"}])
def test_a_directory_that_is_not_understood_is_named(tmp_path: Path, generation):
    directory = save(small_language_model(), tmp_path / "gpt", **generation)
    with pytest.raises(CheckpointError, match=r"gpt/config.json: not a configuration this version understands"):
        regard.load(directory, device="cpu")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"beam": 2, "top_k": 3}, "beam and top_k are given"),
        ({"search": Greedy(), "beam": 2, "samples": 3}, "search and beam, samples are given"),
        ({"search": Greedy}, "expected a search"),
        ({"temperature": 0}, "temperature 0 is greedy search"),
        ({"top_p": 0.0}, "TopP: p is 0.0"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"samples": 0}, "samples is 0"),
        ({"stop": "ab"}, "expected a list"),
        ({"stop": [""]}, "not empty"),
        ({"beam": 0}, "beam is 0"),
    ],
)
def test_arguments_are_checked(bpe, how, message):
    with pytest.raises(ArgumentError, match=message):
        bpe.generate("The", **how)
    with pytest.raises(ArgumentError, match=message):
        bpe.stream("The", **how)


def test_a_beam_has_no_stream(bpe):
    with pytest.raises(ArgumentError, match="knows its text in the end only"):
        bpe.stream("The", beam=3)
    with pytest.raises(TypeError, match="no_such"):
        bpe.generate("The", no_such=3)


def test_searches_are_taken_as_they_are(bpe):
    assert len(bpe.generate("The", search=Beam(4, nbest=3), max_tokens=9)) == 3
    assert bpe.generate("The", search=Sampling(samples=2), max_tokens=9) == bpe.generate("The", samples=2, max_tokens=9)
    assert len(bpe.generate(PROMPTS, search=DiverseBeam(4, 2, nbest=2), max_tokens=9)) == 2 * len(PROMPTS)


def test_listeners_are_told_what_was_found(bpe):
    told = []
    bpe.listeners.append(lambda sentences, ids: told.append((sentences, ids)))
    try:
        found = bpe.generate_each(PROMPTS[:3], samples=2, max_tokens=5)
        list(bpe.stream(PROMPTS[0], samples=2, max_tokens=5))
    finally:
        bpe.listeners.clear()
    prompts = [[bpe.begin, *bpe.tokenizer.encode_text(prompt)] for prompt in PROMPTS]
    ids = [[*prompt, *one.ids] for prompt, few in zip(prompts, found, strict=False) for one in few]
    # in the order of the prompts; the longest stands first in the batch
    assert told == [([1, 1, 2, 2, 0, 0], ids), ([0, 0], ids[:2])]


# --- judging texts ---


def naive(model: LanguageModel, ids: list[int], stride: int, length: int) -> tuple[list[float], list[bool]]:
    """Each token by a pass of its own over what its window has before it, by the words of the documentation."""
    row = ids if model.begin is None else [model.begin, *ids]
    terms, hits = [], []
    for place in range(1, len(row)):
        begin = 0
        while begin + length < place:
            begin += stride
        with torch.no_grad():
            scores = model.model.output(model.model(torch.tensor([row[begin:place]])))[0, -1].log_softmax(0)
        terms.append(float(scores[row[place]]))
        hits.append(int(scores.argmax()) == row[place])
    return terms, hits


@pytest.mark.parametrize("begin", [True, False])
@pytest.mark.parametrize(("stride", "length"), [(None, None), (1, 5), (5, 5), (3, 8), (POSITIONS, POSITIONS), (1, 1)])
def test_perplexity_is_that_of_windows(begin, stride, length):
    model = small_language_model(begin=begin)
    ids = model.tokenizer.encode_text(TEXT)
    found = model.perplexity(TEXT, stride, length)
    size = POSITIONS if length is None else length
    step = size // 2 if stride is None else stride
    terms, hits = naive(model, ids, step, size)
    assert (found.stride, found.length, found.tokens) == (step, size, len(ids) - (not begin))
    loss = -math.fsum(terms) / len(terms)
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(loss), rel=1e-4)
    assert found.accuracy == sum(hits) / len(hits)
    first = 0 if begin else len(model.tokenizer.surfaces[ids[0]])
    assert found.bytes == len(TEXT.encode()) - first
    assert found.bits_per_byte == pytest.approx(loss * len(terms) / math.log(2) / found.bytes, rel=1e-5)
    assert model.perplexity(ids, stride, length) == found


def test_context_helps_or_at_least_counts(bpe):
    """A smaller stride is another figure: windows do something."""
    figures = {bpe.perplexity(TEXT, stride).loss for stride in (1, 4, POSITIONS)}
    assert len(figures) == 3


def test_perplexity_checks_its_arguments(bpe, characters):
    with pytest.raises(ArgumentError, match=f"length is 99; expected 1 to the model's positions, {POSITIONS}"):
        bpe.perplexity(TEXT, length=99)
    with pytest.raises(ArgumentError, match="stride is 6; expected 1 to the length, 5"):
        bpe.perplexity(TEXT, 6, 5)
    with pytest.raises(ArgumentError, match="no token to predict"):
        bpe.perplexity("")
    with pytest.raises(ArgumentError, match="no token to predict"):
        characters.perplexity("T")
    with pytest.raises(ArgumentError, match="expected tokens from 0 to"):
        bpe.perplexity([1, 5000])
    for ask, message in (
        (lambda: bpe.perplexity(TEXT, stride=4.5), "stride is 4.5; expected a whole number"),
        (lambda: bpe.perplexity(TEXT, length="8"), "length is '8'; expected a whole number"),
        (lambda: bpe.generate("a", max_tokens="a"), "max_tokens is 'a'; expected a whole number"),
        (lambda: bpe.generate("a", max_tokens=2.5), "max_tokens is 2.5; expected a whole number"),
        (lambda: bpe.generate(None), "prompts: got None"),
        (lambda: bpe.generate([1]), "prompt 0: got 1, expected text"),
        (lambda: bpe.score(["a", None]), "texts: got None, expected text"),
    ):
        with pytest.raises(ArgumentError, match=message):
            ask()


@pytest.mark.parametrize("begin", [True, False])
def test_scores_are_those_of_each_text_alone(begin):
    model = small_language_model(begin=begin)
    texts = ["The dog", "", TEXT, "T", "Two cats play", "猫"]
    for text, terms in zip(texts, model.score(texts), strict=True):
        ids = model.tokenizer.encode_text(text)
        wanted, _ = naive(model, ids, POSITIONS // 2, POSITIONS)
        assert terms == pytest.approx(wanted, abs=1e-4)
        assert len(terms) == max(0, len(ids) - (not begin))
    with pytest.raises(ArgumentError, match="is one text; expected a list"):
        model.score("The dog")  # type: ignore[arg-type]


@pytest.mark.parametrize("begin", [True, False])
def test_embeddings(begin):
    model = small_language_model(begin=begin)
    texts = ["The dog", "Two cats play near", "T"]
    for how in ("mean", "last"):
        found = model.embed(texts, how)
        assert found.shape == (3, 16) and found.dtype == torch.float32
        for text, vector in zip(texts, found, strict=True):
            ids = model.tokenizer.encode_text(text)
            with torch.no_grad():
                hidden = model.model(torch.tensor([[model.begin, *ids] if begin else ids]))[0]
            wanted = hidden[-1] if how == "last" else hidden[-len(ids) :].mean(0)
            assert torch.allclose(vector, wanted, atol=1e-5)
    assert model.embed([]).shape == (0, 16)
    with pytest.raises(ArgumentError, match="expected 'mean' or 'last'"):
        model.embed(texts, "cls")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="texts: number 1 is empty"):
        model.embed(["The", ""])
    with pytest.raises(ArgumentError, match=rf"number 0 has \d+ tokens; the model has positions for {POSITIONS}"):
        model.embed([TEXT])


def test_generations_are_values():
    tokenizer = small_tokenizer("bpe")
    model = LanguageModel(small_language_model().model, tokenizer, None, ())
    (one,) = model.generate("The", max_tokens=3)
    assert isinstance(one, Generation) and one == model.generate("The", max_tokens=3)[0]
    assert list(one.tokens) == tokenizer.pieces(one.ids)
