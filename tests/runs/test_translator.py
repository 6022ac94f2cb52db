"""`Translator` on a random Transformer: nothing it gives depends on batching, caching or how much is asked for."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from regard.attention import AttentionMap
from regard.data import split_words, train_tokenizer
from regard.decoding import Average, NoPenalty, WhenCertain, beam_search
from regard.errors import ArgumentError, CheckpointError
from regard.layers import MultiHeadAttention
from regard.models.transformer import TransformerConfig, build_transformer
from regard.runs import translator as module
from regard.runs.directory import Tokenizers
from regard.runs.translator import Translator, load
from regard.tasks.translation import collate_sources

TEXTS = ["two dogs play", "one", "today one cat sleeps and two dogs play", "dogs", "cats cats cats cats cats", "x y"]
DECODING = {"beam": 4, "penalty": "average", "alpha": 1.0, "max_ratio": 1.5}


def _random(tokenizers: Tokenizers, dtype: torch.dtype) -> Translator:
    vocabulary = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    config = TransformerConfig(
        *vocabulary, 2, 3, 24, 40, 4, key_heads=2, max_length=61, norm="pre", shared="none", dropout=0.0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
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
    trained = load(tiny_model.directory, device="cpu")
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
    return int(DECODING["max_ratio"] * translator.source_length(text)) + module.EXTRA_LENGTH


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
    translator = load(tiny_model.directory, device="cpu")
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
        load(tmp_path / "nowhere")
