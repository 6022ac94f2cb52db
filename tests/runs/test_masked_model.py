"""`MaskedModel`: gaps and vectors against the model called by hand; padding and the batch don't matter."""

from pathlib import Path

import pytest
import torch

import regard
from label_examples import labelled
from regard.data import train_tokenizer
from regard.errors import ArgumentError, CheckpointError
from regard.models.bert import BERTConfig, build_masked_language_model
from regard.runs.directory import JOINT, write_model
from regard.runs.masked_model import MaskedModel

TEXTS = [text for _, text in labelled(100)]


def sharp(model: torch.nn.Module) -> None:
    """Larger weights: fresh ones say nearly the same everywhere."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)


def masked(kind: str = "word", next_sentence: bool = False) -> MaskedModel:
    tokenizer = train_tokenizer(kind, TEXTS, 320 if kind == "bpe" else None)  # type: ignore[arg-type]
    torch.manual_seed(0)
    config = BERTConfig(vocabulary=tokenizer.vocab_size + 1, layers=2, width=16, feedforward=32, heads=2, max_length=40)
    model = build_masked_language_model(config, next_sentence)
    sharp(model)
    return MaskedModel(model.eval(), tokenizer, tokenizer.vocab_size)


def test_gaps_are_filled_as_by_hand() -> None:
    found = masked()
    tokenizer = found.tokenizer
    ids = [
        tokenizer.bos_id,
        *tokenizer.encode("I see"),
        found.mask,
        *tokenizer.encode("cat in the"),
        found.mask,
        tokenizer.eos_id,
    ]
    assert found.encode("I see [MASK] cat in the [MASK]") == ids
    with torch.no_grad():
        logits = found.model.output(found.model(torch.tensor([ids]), torch.tensor([len(ids)])))[0]
    gaps = found.fill("  I see [MASK] cat in the [MASK] ", top=3)
    assert len(gaps) == 2
    for place, candidates in zip([3, 7], gaps, strict=True):
        probabilities = logits[place].softmax(-1)
        best = probabilities.sort(descending=True)
        assert [one.token for one in candidates] == best.indices[:3].tolist()
        assert [one.probability for one in candidates] == pytest.approx(best.values[:3].tolist(), rel=1e-5)
        for one in candidates:
            expected = "[MASK]" if one.token == found.mask else tokenizer.pieces([one.token])[0]
            assert one.piece == expected
    every = found.fill("[MASK]", top=10**6)[0]
    assert len(every) == found.model.config.vocabulary
    assert sum(one.probability for one in every) == pytest.approx(1.0, abs=1e-5)


def test_vectors_are_means_or_the_first_state() -> None:
    found = masked(next_sentence=True)
    texts = ["I see a cat", "look at a dog in the big old house", "a"]
    for how in ("mean", "cls"):
        vectors = found.embed(texts, how)  # type: ignore[arg-type]
        assert vectors.shape == (3, 16)
        for text, vector in zip(texts, vectors, strict=True):
            ids = torch.tensor([found.encode(text)])
            with torch.no_grad():
                states = found.model.encoder(ids, torch.tensor([ids.shape[1]]))[0]
            expected = states.mean(0) if how == "mean" else states[0]
            torch.testing.assert_close(vector, expected, rtol=1e-4, atol=1e-5)
    assert found.embed([]).shape == (0, 16)


def test_padding_and_the_batch_do_not_matter() -> None:
    found = masked()
    texts = [f"{text} [MASK]" for text in TEXTS[:20]]
    for text, gaps in zip(texts, found.fill_batch(texts, top=2), strict=True):
        alone = found.fill(text, top=2)
        for one, other in zip(gaps[0], alone[0], strict=True):
            assert one.token == other.token
            assert one.probability == pytest.approx(other.probability, rel=1e-4)
    torch.testing.assert_close(
        found.embed(texts), torch.cat([found.embed([text]) for text in texts]), rtol=1e-4, atol=1e-5
    )


def test_the_space_before_a_gap_belongs_to_what_fills_it() -> None:
    found = masked("bpe")
    tokenizer = found.tokenizer
    whole, first = tokenizer.encode_text("see the cat today."), tokenizer.encode_text("see the")
    last = tokenizer.encode_text(" today.")
    middle = whole[len(first) : len(whole) - len(last)]
    assert whole == [*first, *middle, *last]  # or the example is of no use
    frame = tokenizer.bos_id, tokenizer.eos_id
    assert found.encode("see the [MASK] today.") == [frame[0], *first, found.mask, *last, frame[1]]
    assert found.encode("see the cat[MASK]")[-3:-1] == [whole[len(first + middle) - 1], found.mask]


def test_spaces_are_characters_for_a_model_of_characters() -> None:
    found = masked("char")
    ids = found.encode("a [MASK]t")
    assert ids[1:-1] == [*found.tokenizer.encode_text("a "), found.mask, *found.tokenizer.encode_text("t")]


def test_a_directory_is_opened(tmp_path: Path) -> None:
    found = masked(next_sentence=True)
    found.tokenizer.save(tmp_path / JOINT)
    content = {"mask": found.mask, "next_sentence": True}
    config, weights = found.model.config, found.model.state_dict()
    write_model(tmp_path, "masked_language_modelling", config, weights, content)
    again = regard.load(tmp_path, device="cpu")
    assert isinstance(again, MaskedModel)
    assert again.fill("I see a [MASK]") == found.fill("I see a [MASK]")
    write_model(tmp_path, "masked_language_modelling", config, weights, content | {"mask": config.vocabulary})
    with pytest.raises(CheckpointError, match=r"config\.json: mask is \d+: expected an id from 0 to"):
        regard.load(tmp_path, device="cpu")


def test_errors() -> None:
    found = masked()
    with pytest.raises(ArgumentError, match=r"texts: number 0 has no \[MASK\]: 'I see'"):
        found.fill("I see")
    with pytest.raises(ArgumentError, match=r"texts: number 1 has no \[MASK\]"):
        found.fill_batch(["a [MASK]", "a"])
    with pytest.raises(ArgumentError, match="has 60 tokens; this model reads at most 38"):
        found.fill("[MASK] " * 60)
    with pytest.raises(ArgumentError, match="number 1 has 39 tokens"):
        found.embed(["a", "a " * 39])
    with pytest.raises(ArgumentError, match="top: got 0"):
        found.fill("[MASK]", top=0)
    with pytest.raises(ArgumentError, match="how: got 'max', expected 'mean' or 'cls'"):
        found.embed(["a"], how="max")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="expected a list of texts, got one text"):
        found.embed("a")


def test_tokens_are_named_for_recordings() -> None:
    found = masked("bpe")
    ids = [*found.encode("see the [MASK] today"), found.tokenizer.pad_id]
    tokens = found.tokens_of("text", ids, [True] * (len(ids) - 1) + [False])
    assert tokens.ids == tuple(ids)
    place = ids.index(found.mask)
    assert tokens.texts[place] == "[MASK]"
    assert [place for place, special in enumerate(tokens.special) if special] == [0, place, len(ids) - 2, len(ids) - 1]
    assert tokens.padding == (False,) * (len(ids) - 1) + (True,)
    assert [word.text for word in tokens.words] == ["see", "the", "today"]
    assert all(place not in word.tokens for word in tokens.words)


@pytest.mark.parametrize(
    ("kind", "text", "piece", "expected"),
    [
        ("bpe", "see the [MASK] a", "e", "see thee a"),
        ("bpe", "see the[MASK]", "▁", "see the "),
        ("word", "see the[MASK] (a", "cat", "see the cat (a"),
        ("word", "see ([MASK]", "cat", "see (cat"),
        ("word", "[MASK] is", "cat", "cat is"),
        ("char", "a [MASK]t", "c", "a ct"),
    ],
)
def test_a_filled_text_is_what_the_tokens_say(kind: str, text: str, piece: str, expected: str) -> None:
    found = masked(kind)
    token = next(one.token for one in found.fill(text, 10**6)[0] if one.piece == piece)
    assert found.filled(text, [token]) == expected
    with pytest.raises(ArgumentError, match="tokens: got 2 for 1 gaps"):
        found.filled(text, [token, token])
