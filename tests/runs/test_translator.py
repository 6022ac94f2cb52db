"""`Translator` on a random Transformer: nothing it gives depends on batching, caching or how much is asked for."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from regard.attention import AttentionMap
from regard.data import split_words, train_tokenizer
from regard.decoding import (
    Average,
    Beam,
    ConstrainedBeam,
    DiverseBeam,
    Forbidden,
    Greedy,
    NoPenalty,
    NoRepeatNgram,
    Sampling,
    Search,
    TopP,
    WhenBehind,
    WhenCertain,
    beam_search,
)
from regard.errors import ArgumentError, CheckpointError
from regard.layers import MultiHeadAttention
from regard.models.transformer import TransformerConfig, build_transformer
from regard.recording import record
from regard.runs.directory import Tokenizers
from regard.runs.ensembles import ensemble
from regard.runs.jobs import EXTRA_LENGTH
from regard.runs.load import load_translator
from regard.runs.translator import Translator
from regard.tasks.translation import collate_sources

TEXTS = ["two dogs play", "one", "today one cat sleeps and two dogs play", "dogs", "cats cats cats cats cats", "x y"]
DECODING = {"beam": 4, "penalty": "average", "alpha": 1.0, "max_ratio": 1.5}


def _random(tokenizers: Tokenizers, dtype: torch.dtype, seed: int = 11) -> Translator:
    vocabulary = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    config = TransformerConfig(
        *vocabulary, 2, 3, 24, 40, 4, key_heads=2, max_length=61, norm="pre", shared="none", dropout=0.0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_transformer(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.35)  # distinct probabilities: fresh weights are nearly uniform
    return Translator(model.to(dtype).eval(), tokenizers, DECODING)


@pytest.fixture(scope="module")
def tokenizers(tiny_model) -> Tokenizers:
    """Few tokens, so that a random model says `<eos>` now and then."""
    return Tokenizers(train_tokenizer("bpe", tiny_model.sources, 300), train_tokenizer("char", tiny_model.targets))


@pytest.fixture(scope="module")
def deep(tokenizers) -> Translator:
    """A random model of several layers; pre-norm, since a random post-norm one hardly looks at its input."""
    return _random(tokenizers, torch.float64)


@pytest.fixture(scope="module", params=["random", "trained"])
def double(deep, tiny_model, request) -> Translator:
    if request.param == "random":
        return deep
    trained = load_translator(tiny_model.directory, device="cpu")
    return Translator(trained.model.double(), trained.tokenizers, DECODING)


@pytest.fixture(scope="module")
def single(tokenizers) -> Translator:
    return _random(tokenizers, torch.float32)


def _ids(translator: Translator, texts: Sequence[str]) -> list[list[int]]:
    return translator.tokenizers.source.encode_batch(list(texts))


def _uncached(translator: Translator, text: str, limit: int) -> tuple[list[int], list[float]]:
    """Greedy search in which every step runs the whole model again."""
    model, specials = translator.model, translator.specials
    source = collate_sources(_ids(translator, [text]), specials, translator.device)
    tokens, log_probs = [specials.bos], []
    with torch.no_grad():
        while len(tokens) <= limit:
            hidden = model(source.tokens, source.lengths, torch.tensor([tokens]))
            best = model.output(hidden[0, -1]).log_softmax(-1).max(-1)
            tokens.append(int(best.indices))
            log_probs.append(float(best.values))
            if tokens[-1] == specials.eos:
                break
    return [token for token in tokens[1:] if token != specials.eos], log_probs


def _limit(translator: Translator, text: str) -> int:
    return int(DECODING["max_ratio"] * translator.source_length(text)) + EXTRA_LENGTH


def test_greedy_with_a_cache_is_greedy_without(double: Translator) -> None:
    pieces = double.tokenizers.target.pieces
    for text, found in zip(TEXTS, double.translate(TEXTS, beam=1), strict=True):
        tokens, log_probs = _uncached(double, text, _limit(double, text))
        assert list(found.tokens) == pieces(tokens)
        assert found.token_log_probs == pytest.approx(log_probs, abs=1e-10)


def test_single_precision_scores_are_those_of_double(single: Translator, tokenizers) -> None:
    twice = _random(tokenizers, torch.float64)
    for beam in (1, 4):
        for one, other in zip(single.translate(TEXTS, beam=beam), twice.translate(TEXTS, beam=beam), strict=True):
            assert one.tokens == other.tokens
            assert one.score == pytest.approx(other.score, abs=1e-5 * len(other.token_log_probs))
            assert one.token_log_probs == pytest.approx(other.token_log_probs, abs=1e-5)


def test_a_beam_of_one_is_greedy(double: Translator) -> None:
    source = collate_sources(_ids(double, TEXTS), double.specials, double.device)
    with torch.no_grad():
        state = double.model.start(source.tokens, source.lengths)
    limits = torch.tensor([_limit(double, text) for text in TEXTS])
    options = {"bos": double.specials.bos, "eos": double.specials.eos, "max_length": limits}
    found = beam_search(double.model, state, beam=1, penalty=NoPenalty(), stopping=WhenCertain(), **options)
    for (one,), greedy in zip(found, double.translate(TEXTS, beam=1), strict=True):
        assert tuple(double.tokenizers.target.pieces(list(one.tokens))) == greedy.tokens
        assert one.token_log_probs == pytest.approx(greedy.token_log_probs, abs=1e-12)


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_batched_is_one_by_one(double: Translator, beam: int) -> None:
    together = double.translate(TEXTS, beam=beam)
    for text, one in zip(TEXTS, together, strict=True):
        (alone,) = double.translate([text], beam=beam)
        assert (one.tokens, one.text, one.finished) == (alone.tokens, alone.text, alone.finished)
        assert one.score == pytest.approx(alone.score, abs=1e-10)
    turned = double.translate(TEXTS[::-1], beam=beam)
    assert [one.tokens for one in turned[::-1]] == [one.tokens for one in together]


def test_batched_is_one_by_one_in_single_precision(single: Translator) -> None:
    for text, one in zip(TEXTS, single.translate(TEXTS, beam=3), strict=True):
        (alone,) = single.translate([text], beam=3)
        assert one.tokens == alone.tokens
        assert one.log_prob == pytest.approx(alone.log_prob, abs=1e-5 * len(one.token_log_probs))


def test_the_best_does_not_depend_on_how_many_are_asked_for(double: Translator) -> None:
    best = double.translate(TEXTS, beam=4)
    for nbest in (1, 2, 4):
        found = double.translate_nbest(TEXTS, nbest=nbest, beam=4)
        assert [several[0] for several in found] == best
        for several in found:
            assert len(several) <= nbest
            assert [one.score for one in several] == sorted((one.score for one in several), reverse=True)
            assert len({(one.tokens, one.finished) for one in several}) == len(several)


def test_scores_follow_from_log_probabilities(double: Translator) -> None:
    for found in double.translate(TEXTS, penalty=Average(0.7)):
        assert found.log_prob == pytest.approx(math.fsum(found.token_log_probs))
        assert len(found.token_log_probs) == len(found.tokens) + found.finished
        assert found.score == pytest.approx(found.log_prob / len(found.token_log_probs) ** 0.7)


def test_score_of_a_text_is_what_the_model_gives_its_tokens(double: Translator) -> None:
    targets = ["zwei Hunde spielen", "ein", "heute", "Hund Hund", "x", ""]
    for source, target, values in zip(TEXTS, targets, double.score(TEXTS, targets), strict=True):
        ids = double.tokenizers.target.encode(target)
        batch = collate_sources(_ids(double, [source]), double.specials, double.device)
        with torch.no_grad():
            hidden = double.model(batch.tokens, batch.lengths, torch.tensor([[double.specials.bos, *ids]]))
            table = double.model.output(hidden[0]).log_softmax(-1)
        wanted = [float(table[i, token]) for i, token in enumerate([*ids, double.specials.eos])]
        assert values == pytest.approx(wanted, abs=1e-10)


def test_score_of_the_own_greedy_translation_is_its_log_probability(tiny_model) -> None:
    translator = load_translator(tiny_model.directory, device="cpu")
    own = translator.translate(tiny_model.sources, beam=1)
    for found, values in zip(own, translator.score(tiny_model.sources, [one.text for one in own]), strict=True):
        assert sum(values) == pytest.approx(found.log_prob, abs=1e-5)
        assert values == pytest.approx(found.token_log_probs, abs=1e-5)


def test_empty_texts_have_empty_translations_and_lengths_are_limits(double: Translator) -> None:
    found = double.translate(["", "two dogs play", "  "], max_length=3)
    assert [found[i].text for i in (0, 2)] == ["", ""]
    assert found[0].score == 0.0 and found[0].finished
    assert len(found[1].tokens) <= 3
    assert all(len(one.tokens) >= 7 for one in double.translate(TEXTS, min_length=7))
    assert double.translate([]) == []


def _dense(layer: MultiHeadAttention, x: Tensor, memory: Tensor | None, mask: Tensor | None) -> Tensor:
    """Softmax of scaled dot products, all at once: (B, H, Q, K)."""
    q, (k, _) = (layer.queries(x), layer.keys_values(memory)) if memory is not None else layer.project(x)
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1)


def test_attention_maps_are_a_dense_recomputation(deep: Translator) -> None:
    source, target = "today one cat sleeps", "heute zwei Katzen"
    seen: dict[str, tuple[Tensor, ...]] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given}))
        for name, layer in deep.model.named_modules()
        if isinstance(layer, MultiHeadAttention)
    ]
    found = deep.attention(source, target)
    for hook in hooks:
        hook.remove()
    assert len(found.maps) == len(seen) == 2 + 2 * 3
    for name, table in found.maps.items():
        layer = deep.model.get_submodule(name)
        assert isinstance(layer, MultiHeadAttention)
        inputs = seen[name]
        size = inputs[0].shape[1]
        causal = torch.ones(size, size, dtype=torch.bool).tril() if name.startswith("decoder") else None
        memory = inputs[1] if name.endswith("cross") else None
        dense = _dense(layer, inputs[0], memory, None if memory is not None else causal)
        torch.testing.assert_close(table.dense(), dense, rtol=0, atol=1e-12)


def test_alignment_pools_the_chosen_layers_and_heads(deep: Translator) -> None:
    found = deep.attention("today one cat sleeps", "heute zwei Katzen")
    assert (found.layers(), found.heads()) == (3, 4)
    tables = [found.maps[f"decoder.layers.{i}.cross"].dense()[0] for i in range(3)]  # each (H, T, S)
    everything = torch.stack(tables)
    choices = {(1, 2): everything[1, 2], (-1, 0): everything[2, 0], (0, None): everything[0].mean(0)}
    choices |= {(None, 3): everything[:, 3].mean(0), (None, None): everything.mean((0, 1))}
    for (layer, head), weights in choices.items():
        alignment = found.alignment(layer, head)
        assert alignment.source_words == ("today", "one", "cat", "sleeps")
        assert alignment.target_words == ("heute", "zwei", "Katzen")
        for j, rows in enumerate(found.target_words[1]):
            for i, columns in enumerate(found.source_words[1]):
                wanted = weights[rows][:, columns].sum(1).mean()
                assert float(alignment.weights[j, i]) == pytest.approx(float(wanted), abs=1e-6)
    for layer, head in ((3, None), (-4, None), (None, 4), (0, -1)):
        with pytest.raises(ArgumentError, match=r"the decoder has layers 0 to 2|each layer has heads 0 to 3"):
            found.alignment(layer, head)


def test_words_of_attention_are_those_of_the_text(deep: Translator) -> None:
    found = deep.attention("Ünknown — 犬 dogs!", "zwei 狗, ja")
    for text, (words, groups) in ((found.source, found.source_words), (found.target, found.target_words)):
        assert list(words) == [text[a:b] for a, b in split_words(text)]
        assert all(groups)


def test_what_stands_in_front_of_a_source_is_no_part_of_its_words(deep: Translator) -> None:
    own = deep.specials
    ids = {"start": own.pad, "end": 7, "pad": own.pad, "source_pad": own.source_pad, "source_end": 9}
    begin = (own.bos, 8)
    framed = Translator(deep.model, deep.tokenizers, DECODING, frame={**ids, "source_begin": [*begin]})
    source, target = "today one cat sleeps", "heute zwei Katzen"
    read = [*begin, *deep.tokenizers.source.encode(source), 9]
    said = [*deep.tokenizers.target.encode(target), 7]
    found = framed.attention(source, target)
    assert list(found.source_tokens) == deep.tokenizers.source.pieces(read)
    assert list(found.target_tokens) == deep.tokenizers.target.pieces(said)
    with torch.no_grad(), record(deep.model) as maps:
        deep.model(torch.tensor([read]), torch.tensor([len(read)]), torch.tensor([[own.pad, *said[:-1]]]))
    weights = torch.stack([maps[f"decoder.layers.{i}.cross"].dense()[0] for i in range(3)]).mean((0, 1))  # (T, S)
    assert weights.shape == (len(found.target_tokens), len(found.source_tokens))
    places = {"source": [], "target": []}
    for side, text, first in (("source", source, len(begin)), ("target", target, 0)):
        spans = (deep.tokenizers.source if side == "source" else deep.tokenizers.target).text_spans(text)
        for start, stop in split_words(text):
            places[side].append([first + i for i, (a, b) in enumerate(spans) if a < stop and start < b])
    alignment = found.alignment()
    for j, rows in enumerate(places["target"]):
        for i, columns in enumerate(places["source"]):
            wanted = weights[rows][:, columns].sum(1).mean()
            assert float(alignment.weights[j, i]) == pytest.approx(float(wanted), abs=1e-6)
    plain = deep.attention(source, target)  # and without
    assert plain.source_words[1] == [[i - len(begin) for i in group] for group in found.source_words[1]]
    assert plain.target_words == found.target_words


def test_translate_with_attention_keeps_maps(double: Translator) -> None:
    found = double.translate(["two dogs", ""], attention=True)
    assert found[1].attention is None
    plain = double.translate(["two dogs"])[0]
    assert found[0].tokens == plain.tokens and plain.attention is None
    if found[0].text.strip():
        assert found[0].attention is not None
        assert isinstance(found[0].attention.maps["decoder.layers.0.cross"], AttentionMap)


def test_errors_name_the_text(deep: Translator, tmp_path) -> None:
    with pytest.raises(ArgumentError, match=r"source 1 has .* tokens; the model has positions for 60"):
        deep.translate(["dogs", "dogs " * 99])
    with pytest.raises(ArgumentError, match="target 0 has"):
        deep.score(["dogs"], ["x " * 99])
    with pytest.raises(ArgumentError, match="1 sources and 2 targets"):
        deep.score(["dogs"], ["a", "b"])
    with pytest.raises(ArgumentError, match="nbest must be from 1 to the beam, 4, not 5"):
        deep.translate_nbest(["dogs"], nbest=5)
    with pytest.raises(ArgumentError, match="not empty"):
        deep.attention("dogs", "")
    with pytest.raises(CheckpointError, match="no such model directory"):
        load_translator(tmp_path / "nowhere")


SEARCHES: list[Search] = [
    Greedy(),
    Beam(3, nbest=3),
    DiverseBeam(4, 2, nbest=4),
    ConstrainedBeam(4, nbest=2),
    Sampling(samples=3),
    Sampling(1.7, (TopP(0.8),), samples=2),
]
PREFIXES = ["zwei Hu", "", "heute ", "z", "", "n"]


@pytest.mark.parametrize("search", SEARCHES, ids=lambda one: type(one).__name__)
def test_any_search_gives_the_same_whatever_the_batch(deep: Translator, search: Search) -> None:
    options = {"search": search, "rules": [NoRepeatNgram(3)], "seed": 5}
    if isinstance(search, ConstrainedBeam):
        options["constraints"] = [["Katze"], [], ["ei", "zw"], [], [], ["Hund"]]
    for prefixes in (None, PREFIXES):
        together = deep.translate_nbest(TEXTS, prefixes=prefixes, **options)
        assert together == deep.translate_nbest(TEXTS, prefixes=prefixes, **options)
        assert [found[0] for found in together] == deep.translate(TEXTS, prefixes=prefixes, **options)
        for i, text in enumerate(TEXTS):
            one = {name: [value[i]] if name == "constraints" else value for name, value in options.items()}
            (alone,) = deep.translate_nbest([text], prefixes=None if prefixes is None else [prefixes[i]], **one)
            assert [found.text for found in alone] == [found.text for found in together[i]]
            for found, other in zip(alone, together[i], strict=True):
                assert found.score == pytest.approx(other.score, abs=1e-10)
                pieces = found.tokens[len(PREFIXES[i]) :] if prefixes else found.tokens
                grams = [pieces[n : n + 3] for n in range(len(pieces) - 2)]
                assert len(set(grams)) == len(grams)
                assert found.text.startswith(prefixes[i] if prefixes else "")
                assert all(phrase in found.text for phrase in one.get("constraints", [[]])[0])


def test_parts_of_a_search_are_the_search(double: Translator) -> None:
    parts = {"beam": 3, "penalty": Average(0.5), "stopping": WhenCertain()}
    whole = Beam(3, 2, Average(0.5), WhenCertain())
    assert double.translate_nbest(TEXTS, nbest=2, **parts) == double.translate_nbest(TEXTS, search=whole)
    assert double.translate(TEXTS) == double.translate(TEXTS, search=Beam(4, 1, Average(1.0), WhenBehind()))
    assert [len(found) for found in double.translate_nbest(TEXTS[:2])] == [4, 4]
    constrained = double.translate(["two dogs"], constraints=[["ein"]])
    assert constrained == double.translate(["two dogs"], constraints=[["ein"]], search=ConstrainedBeam(4))
    assert double.translate(TEXTS, constraints=[[] for _ in TEXTS]) == double.translate(TEXTS)


def test_samples_follow_from_seed_and_text(deep: Translator) -> None:
    texts = [TEXTS[0], TEXTS[2], TEXTS[0]]
    many = deep.translate_nbest(texts, search=Sampling(samples=4), seed=3)
    assert [one.text for one in many[0]] == [one.text for one in many[2]]  # equal texts agree
    assert len({one.text for one in many[0]}) > 1
    for samples, seed in ((2, 3), (4, 4), (4, -3)):
        others = deep.translate_nbest(texts, search=Sampling(samples=samples), seed=seed)
        for few, more in zip(others, many, strict=True):
            assert ([one.text for one in few] == [one.text for one in more[:samples]]) == (seed == 3)
    for one in many[1]:
        assert one.log_prob == pytest.approx(sum(one.token_log_probs))


def test_many_samples_are_drawn_in_small_batches(deep: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    found = deep.translate_nbest(TEXTS, search=Sampling(samples=3), max_length=9)
    monkeypatch.setattr("regard.runs.translator.BATCH_HYPOTHESES", 7)
    assert [[one.text for one in few] for few in found] == [
        [one.text for one in few] for few in deep.translate_nbest(TEXTS, search=Sampling(samples=3), max_length=9)
    ]


def test_forbidden_tokens_are_not_said(double: Translator) -> None:
    plain = double.translate(["two dogs play"])[0]
    ids = double.tokenizers.target.encode(plain.text)
    other = double.translate(["two dogs play"], rules=[Forbidden(((ids[0],),))])[0]
    assert other.tokens[0] != plain.tokens[0]


def test_a_prefix_changes_what_follows_and_makes_room_for_itself(tiny_model) -> None:
    translator = load_translator(tiny_model.directory, device="cpu")
    sources = ["one cat plays", "two cats play"]
    found = translator.translate(sources, prefixes=["heute", ""])
    assert found[0].text.startswith("heute ") and found[1].text == "zwei Katzen spielen"
    assert found[0].log_prob == pytest.approx(sum(translator.score(sources[:1], [found[0].text])[0]), abs=1e-4)
    assert translator.translate(["one cat plays"], prefixes=["eine Ka"])[0].text == "eine Katze spielt"
    long = "zwei Katzen spielen " * 3
    assert translator.translate(["one"], prefixes=[long])[0].text.startswith(long)
    assert translator.translate(["", "one"], prefixes=["heute", ""])[0].text == ""
    assert translator.problem("one", long) is None
    problem = translator.problem("one", long, max_length=5)
    assert problem is not None and "the source: with its prefix, a translation has" in problem


def test_phrases_that_rules_do_not_allow_are_an_error_that_names_the_text(tiny_model) -> None:
    translator = load_translator(tiny_model.directory, device="cpu")
    wishes = {"constraints": [["ein"], ["zwei", "zwei"]], "rules": [NoRepeatNgram(1)]}
    for ask in (translator.translate, translator.translate_nbest):
        with pytest.raises(ArgumentError, match="source 1: its phrases cannot be said under the rules given"):
            ask(["one dog", "two dogs"], **wishes)
    assert translator.translate(["two dogs"], constraints=[["zwei", "zwei"]])[0].text.count("zwei") == 2


def test_one_text_is_no_list_of_texts(tiny_model) -> None:
    translator = load_translator(tiny_model.directory, device="cpu")
    for ask in (lambda: translator.translate("dog"), lambda: translator.score(["dog"], "Hund")):
        with pytest.raises(ArgumentError, match="is one text; expected a list"):
            ask()


def test_a_shortest_length_makes_room_for_itself(deep: Translator) -> None:
    (found,) = deep.translate(["one"], min_length=40, search=Greedy())
    assert len(found.tokens) >= 40


def test_an_ensemble_is_the_mean_of_its_members(tokenizers: Tokenizers, deep: Translator) -> None:
    other = _random(tokenizers, torch.float64, seed=12)
    both = ensemble([deep, other], [3.0, 1.0])
    targets = ["zwei Hunde spielen", "ein", "heute", "Hund Hund", "x", ""]
    for mean, one, two in zip(*(each.score(TEXTS, targets) for each in (both, deep, other)), strict=True):
        wanted = [math.log(0.75 * math.exp(a) + 0.25 * math.exp(b)) for a, b in zip(one, two, strict=True)]
        assert mean == pytest.approx(wanted, abs=1e-10)
    found = both.translate(TEXTS, search=Sampling(1.2))
    again = both.score(TEXTS, [one.text for one in found])
    for one, values in zip(found, again, strict=True):
        if one.finished and both.tokenizers.target.unk_id not in both.tokenizers.target.encode(one.text):
            assert one.log_prob == pytest.approx(sum(values), abs=1e-8)
    assert [one.text for one in ensemble([deep, deep]).translate(TEXTS)] == [one.text for one in deep.translate(TEXTS)]
    nested = ensemble([both, other], [0.5, 0.5])
    assert nested.weights == pytest.approx((0.375, 0.125, 0.5))
    assert nested.attention("two dogs", "ein").source_tokens == deep.attention("two dogs", "ein").source_tokens


def test_members_of_an_ensemble_have_the_same_tokenizers(deep: Translator, tiny_model) -> None:
    with pytest.raises(ArgumentError, match="model 2 has another source tokenizer than model 1"):
        ensemble([deep, load_translator(tiny_model.directory, device="cpu")])
    own = deep.specials
    ids = {"start": own.bos, "end": own.eos, "pad": own.pad, "source_pad": own.source_pad, "source_end": own.source_eos}
    framed = Translator(deep.model, deep.tokenizers, DECODING, frame={**ids, "source_begin": [own.bos]})
    with pytest.raises(ArgumentError, match="model 2 has other special tokens around texts"):
        ensemble([deep, framed])
    assert ensemble([framed, framed]).specials == framed.specials
    assert [one.text for one in ensemble([framed, framed]).translate(TEXTS)] == [
        one.text for one in framed.translate(TEXTS)
    ]
    with pytest.raises(ArgumentError, match="no translators"):
        ensemble([])
    with pytest.raises(ArgumentError, match="2 translators and 1 weights"):
        ensemble([deep, deep], [1.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"search": Greedy(), "beam": 3}, "search and beam are given"),
        ({"search": Sampling(), "penalty": NoPenalty(), "stopping": WhenCertain()}, "search and penalty, stopping"),
        ({"search": Sampling(), "constraints": [["ein"]]}, "expected a ConstrainedBeam"),
        ({"prefixes": ["ein", "zwei"]}, "prefixes are for 2 texts; expected one for each of 1"),
        ({"constraints": []}, "constraints are for 0 texts"),
        ({"prefixes": ["ωμέγα"]}, "prefix 0: 'ω' is not in the target's vocabulary"),
        ({"constraints": [["ein", "ωμέγα"]]}, "source 0, phrase 'ωμέγα': 'ω' is not"),
        (
            {"constraints": [["ein"]], "max_length": 3},
            "source 0: with its phrases, .* 4 tokens or more; at most 3",
        ),
        ({"search": Greedy}, "search is <class .*Greedy'>; expected a search, such as"),
        ({"search": "greedy"}, "search is 'greedy'; expected a search"),
        ({"prefixes": "n"}, "prefixes: 'n' is one text; expected a list"),
        ({"constraints": "n"}, "constraints: 'n' is one text"),
        ({"constraints": ["ein"]}, "constraints of source 0: 'ein' is one text"),
        ({"min_length": 9, "max_length": 3}, "max_length is 3; expected .* at least min_length, 9"),
        ({"min_length": -1}, "min_length is -1"),
        ({"max_length": 0}, "max_length is 0"),
        ({"max_length": 61}, "max_length is 61; the model has positions for 60"),
        ({"min_length": 61}, "min_length is 61; the model has positions for 60"),
        ({"prefixes": ["n" * 99]}, "source 0: with its prefix, .* 99 tokens or more; at most 60"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(deep: Translator, arguments, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        deep.translate(["dogs"], **arguments)
