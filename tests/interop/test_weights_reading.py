"""Models read from Hugging Face directories compute what transformers computes: logits, greedy and beam search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from regard.decoding import (
    Average,
    Beam,
    Ends,
    Forbidden,
    Greedy,
    Limits,
    NoRepeatNgram,
    Prompted,
    Ruled,
    Search,
    WhenBehind,
    WhenFull,
)
from regard.decoding.forced import Forced
from regard.interop.huggingface.weights import read_weights

pytest.importorskip("transformers")

from oracles.huggingface_weights import (
    ALL,
    BERTS,
    BOS,
    ENCODER_DECODERS,
    EOS,
    LANGUAGE_MODELS,
    PAD,
    Case,
    batch,
    make,
    saved,
)

TOLERANCE = 1e-5


def near(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.std() > 0.1  # otherwise the equality would prove little
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("case", ENCODER_DECODERS.values(), ids=ENCODER_DECODERS)
@torch.no_grad()
def test_logits_of_encoder_decoders(case: Case, tmp_path: Path) -> None:
    theirs = make(case)
    found = read_weights(saved(theirs, tmp_path))
    assert found.task == "translation" and found.tokenizers == () and not found.model.training
    source, lengths = batch()
    target = torch.randint(3, 37, (3, 7), generator=torch.Generator().manual_seed(2))  # padding has no position in M2M
    mask = source != PAD
    logits = theirs(input_ids=source, attention_mask=mask.long(), decoder_input_ids=target).logits
    near(found.model.output(found.model(source, lengths, target)), logits)


@pytest.mark.parametrize("case", LANGUAGE_MODELS.values(), ids=LANGUAGE_MODELS)
@torch.no_grad()
def test_logits_of_language_models(case: Case, tmp_path: Path) -> None:
    theirs = make(case)
    found = read_weights(saved(theirs, tmp_path), "cpu")
    assert found.task == "language_modelling" and found.content == {"generation": {"begin": 0, "end": [EOS]}}
    tokens, _ = batch(longest=30)
    near(found.model.output(found.model(tokens)), theirs(tokens).logits)


@pytest.mark.parametrize("name", BERTS)
@torch.no_grad()
def test_outputs_of_bert(name: str, tmp_path: Path) -> None:
    theirs = make(BERTS[name])
    found = read_weights(saved(theirs, tmp_path))
    tokens, lengths = batch()
    types = (torch.arange(9)[None] > 2).long().expand(3, 9)
    mask = torch.arange(9)[None] < lengths[:, None]
    result = theirs(input_ids=tokens, attention_mask=mask.long(), token_type_ids=types)
    ours = found.model(tokens, lengths, types)
    match name:
        case "masked":
            assert found.task == "masked_language_modelling" and found.content["next_sentence"] is False
            near(found.model.output(ours)[mask], result.logits[mask])
        case "pretraining":
            assert found.content["next_sentence"] is True
            near(found.model.output(ours)[mask], result.prediction_logits[mask])
            states = found.model.encoder(tokens, lengths, types)
            near(found.model.following(states), result.seq_relationship_logits)
        case "classifier":
            assert found.task == "classification" and found.content == {"labels": ["LABEL_0", "LABEL_1", "LABEL_2"]}
            near(ours, result.logits)
        case "tagger":
            assert found.task == "tagging" and len(found.content["labels"]) == 5
            near(ours[mask], result.logits[mask])
        case "bare":
            assert found.task == "encoder" and found.content == {}
            near(ours[mask], result.last_hidden_state[mask])


def stripped(sequence: Tensor, prompt: int) -> list[int]:
    """What was said, without prompt, end and padding."""
    said = sequence[prompt:].tolist()
    return said[: said.index(EOS)] if EOS in said else said


SEARCHES: dict[str, tuple[Search, dict[str, Any]]] = {
    "greedy": (Greedy(), {"num_beams": 1}),
    "beam": (Beam(4, 4, Average(1.0), WhenBehind()), {"num_beams": 4, "length_penalty": 1.0}),
    "beam, longer": (
        Beam(4, 4, Average(2.0), WhenFull()),
        {"num_beams": 4, "length_penalty": 2.0, "early_stopping": True},
    ),
}


@pytest.mark.parametrize("size", [0, 1], ids=["free", "no token twice"])
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("case", ENCODER_DECODERS.values(), ids=ENCODER_DECODERS)
@torch.no_grad()
def test_translations_of_encoder_decoders(case: Case, search: str, size: int, tmp_path: Path) -> None:
    theirs = make(case, seed=3)
    model = read_weights(saved(theirs, tmp_path)).model
    source, lengths = batch(5)
    ours, options = SEARCHES[search]
    said = theirs.generate(
        input_ids=source,
        attention_mask=(source != PAD).long(),
        max_new_tokens=12,
        do_sample=False,
        num_return_sequences=options["num_beams"],
        no_repeat_ngram_size=size,
        bad_words_ids=[[PAD], [BOS]],  # padding has no position in M2M-100, and theirs counts the start as said
        **options,
    )
    ruled = Ruled(model, [Forbidden(((PAD,), (BOS,))), *([NoRepeatNgram(1)] if size else [])])
    found = ours.run(ruled, ruled.start(source, lengths), Limits(BOS, EOS, 12))
    assert [list(one.tokens) for few in found for one in few] == [stripped(row, 1) for row in said]
    if size:  # random models like to say one word again and again
        assert len(set(said.flatten().tolist())) > 12


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("case", LANGUAGE_MODELS.values(), ids=LANGUAGE_MODELS)
@torch.no_grad()
def test_continuations_of_language_models(case: Case, search: str, tmp_path: Path) -> None:
    theirs = make(case, seed=3)
    model = read_weights(saved(theirs, tmp_path)).model
    prompts, lengths = batch(4)
    ours, options = SEARCHES[search]
    whole = Ends(Prompted(model), (EOS,), model.config.vocabulary)
    found = ours.run(whole, whole.start(prompts, lengths), Limits(0, whole.eos, 12))
    for prompt, length, few in zip(prompts, lengths.tolist(), found, strict=True):
        said = theirs.generate(
            input_ids=prompt[None, :length],
            attention_mask=torch.ones(1, length, dtype=torch.int64),
            max_new_tokens=12,
            do_sample=False,
            num_return_sequences=options["num_beams"],
            **options,
        )
        assert [list(one.tokens) for one in few] == [stripped(row, length) for row in said]


@torch.no_grad()
def test_forced_tokens_are_those_of_generate(tmp_path: Path) -> None:
    theirs = make(ENCODER_DECODERS["bart"], seed=5)
    model = read_weights(saved(theirs, tmp_path)).model
    source, lengths = batch(5)
    said = theirs.generate(
        input_ids=source,
        attention_mask=(source != PAD).long(),
        max_new_tokens=8,
        num_beams=4,
        num_return_sequences=4,
        forced_bos_token_id=7,
        forced_eos_token_id=EOS,
        return_dict_in_generate=True,
        output_scores=True,
    )
    ruled = Ruled(model, [Forced((0,) * 5, 7), Forced((7,) * 5, EOS)])
    found = Beam(4, 4).run(ruled, ruled.start(source, lengths), Limits(BOS, EOS, 8))
    flat = [one for few in found for one in few]
    assert [list(one.tokens) for one in flat] == [stripped(row, 1) for row in said.sequences]
    assert {one.tokens[0] for one in flat} == {7} and all(one.finished for one in flat)
    assert [one.score for one in flat] == pytest.approx(said.sequences_scores.tolist(), abs=1e-5)


@pytest.mark.parametrize("case", [ALL["marian"], ALL["bart"], ALL["gpt2"], ALL["llama"], ALL["masked"]])
@torch.no_grad()
def test_half_precision_and_shards_become_float32(case: Case, tmp_path: Path) -> None:
    theirs = make(case).to(torch.bfloat16)
    theirs.save_pretrained(tmp_path, max_shard_size=4000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    model = read_weights(tmp_path).model
    assert {one.dtype for one in model.parameters()} == {torch.float32}
    again = make(case)
    with torch.no_grad():
        for one in again.parameters():
            one.copy_(one.to(torch.bfloat16))
        for one in again.buffers():
            if one.is_floating_point() and one.ndim == 2 and one.shape[0] == 1:  # the bias of the logits
                one.copy_(one.to(torch.bfloat16))
    again.save_pretrained(tmp_path / "float32")
    for ours, theirs_too in zip(model.parameters(), read_weights(tmp_path / "float32").model.parameters(), strict=True):
        assert torch.equal(ours, theirs_too)
