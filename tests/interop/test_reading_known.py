"""What is known of the sequences that Hugging Face models read: what was given to them last, or nothing."""

import copy
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from regard.recording import Recording, record

TINY = {"vocab_size": 50, "eos_token_id": 3, "bos_token_id": 1, "pad_token_id": 0}
LLAMA = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4} | TINY
HEADS = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40}
BART = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "max_position_embeddings": 64} | HEADS | TINY


def _model(kind: str) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        if kind == "llama":
            return transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).eval()
        if kind == "gpt2":
            config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **TINY)
            return transformers.GPT2LMHeadModel(config).eval()
        start: dict[str, Any] = {"decoder_start_token_id": 3, "forced_eos_token_id": None}
        if kind == "bart":
            return transformers.BartForConditionalGeneration(transformers.BartConfig(**BART, **start)).eval()
        return transformers.MarianMTModel(transformers.MarianConfig(**BART, **start)).eval()


PROMPTS = torch.tensor([[5, 6, 7, 8, 9, 10], [0, 0, 11, 12, 13, 14]])  # padded on the left
X, Y = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[9, 10, 11, 12]])
SAY = torch.tensor([[3, 8, 9]])


def _named(recording: Recording) -> dict[str, list[tuple[int, ...]]]:
    """What is known of the sequences of a recording, by their names."""
    found = {}
    for name in recording:
        role = recording.roles[name]
        for sequence, tokens in zip((role.queries, role.keys), recording.tokens(name), strict=True):
            found[sequence] = [one.ids for one in tokens]
    return found


@pytest.mark.parametrize("keep", [1, "generation"])
def test_a_pass_over_embeddings_has_no_names_of_the_pass_before(keep: Any) -> None:
    model = _model("llama")
    with torch.no_grad(), record(model, keep=keep) as recording:
        model(X)
        assert _named(recording) == {"text": [(5, 6, 7, 8)]}
        model(inputs_embeds=model.get_input_embeddings()(Y))
        assert _named(recording) == {"text": []}
        model(Y)
        assert _named(recording) == {"text": [(9, 10, 11, 12)]}


def test_a_generation_from_embeddings_has_no_names_of_the_pass_before() -> None:
    model = _model("llama")
    with torch.no_grad(), record(model) as recording:
        model(X)
        model.generate(inputs_embeds=model.get_input_embeddings()(Y), max_new_tokens=1)
    assert recording["model.layers.0.self_attn"].shape[-2:] == (4, 4) and _named(recording) == {"text": []}


@pytest.mark.parametrize("kind", ["bart", "marian"])
@pytest.mark.parametrize("keep", [1, "generation"])
def test_a_memory_that_is_given_has_no_names_of_the_pass_before(kind: str, keep: Any) -> None:
    model = _model(kind)
    encoder, x = model.get_encoder(), model.get_input_embeddings()(Y)
    with torch.no_grad(), record(model, keep=keep) as recording:
        model(input_ids=X, decoder_input_ids=SAY)
        assert _named(recording) == {"source": [(5, 6, 7, 8)], "target": [(3, 8, 9)]}
        memory = encoder(inputs_embeds=x)
        assert _named(recording)["source"] == []
        model(encoder_outputs=memory, decoder_input_ids=SAY)
        assert _named(recording) == {"source": [], "target": [(3, 8, 9)]}
        encoder(X)
        model(None, None, SAY, encoder_outputs=memory)
        assert _named(recording) == {"source": [], "target": [(3, 8, 9)]}
        model(input_ids=X, decoder_input_ids=SAY)
        model.get_decoder()(SAY, encoder_hidden_states=memory[0])
        assert _named(recording)["source"] == []
        model(input_ids=X, decoder_inputs_embeds=x)
        assert _named(recording) == {"source": [(5, 6, 7, 8)], "target": []}


@pytest.mark.parametrize("keep", [1, "generation"])
def test_the_source_of_a_generation_is_known_if_it_read_it(keep: Any) -> None:
    model, given = _model("bart"), {"max_new_tokens": 3, "min_new_tokens": 3}
    with torch.no_grad(), record(model, keep=keep) as recording:
        memory = model.get_encoder()(Y)
        model.generate(X, **given)
        assert _named(recording)["source"] == [(5, 6, 7, 8)]
        model.generate(encoder_outputs=memory, **given)
        assert _named(recording)["source"] == []


class Broken(transformers.LogitsProcessor):
    """Fails at the second token."""

    def __init__(self, prompt: int) -> None:
        self.prompt = prompt

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if input_ids.shape[1] > self.prompt:
            raise ZeroDivisionError
        return scores


@pytest.mark.parametrize("kind", ["bart", "llama"])
def test_a_pass_after_a_generation_that_failed_is_no_part_of_it(kind: str) -> None:
    model = _model(kind)
    other: dict[str, Tensor] = {"input_ids": Y} | ({"decoder_input_ids": SAY} if kind == "bart" else {})
    broken = transformers.LogitsProcessorList([Broken(1 if kind == "bart" else 4)])
    with torch.no_grad(), record(model, keep="generation") as recording:
        with pytest.raises(ZeroDivisionError):
            model.generate(X, max_new_tokens=5, min_new_tokens=5, logits_processor=broken)
        named, tables = _named(recording), {name: table.dense() for name, table in recording.items()}
        model(**other)
        model(inputs_embeds=model.get_input_embeddings()(Y), **{k: v for k, v in other.items() if k != "input_ids"})
    assert named == _named(recording) and named["source" if kind == "bart" else "text"][0][:4] == (5, 6, 7, 8)
    for name, table in tables.items():
        assert torch.equal(recording[name].dense(), table)


class Own(transformers.GPT2LMHeadModel):
    """A model with a `generate` of its own."""

    def generate(self, *arguments: Any, **named: Any) -> Any:  # type: ignore[override]
        return super().generate(*arguments, **named)


@pytest.mark.parametrize("own", [False, True])
def test_arguments_by_their_place_are_known_to_every_recording(own: bool) -> None:
    model = _model("gpt2")
    if own:
        model.__class__ = Own
    options = {"attention_mask": (PROMPTS != 0).long(), "max_new_tokens": 4, "min_new_tokens": 4, "num_beams": 2}
    with record(model, keep="generation") as first, record(model, keep="generation") as second:
        found = model.generate(PROMPTS, **options)
    for recording in (first, second):
        assert _named(recording)["text"] == [tuple(row) for row in found[:, :-1].tolist()]


@pytest.mark.parametrize("cache", [None, "static"])
def test_padding_of_a_prompt_that_is_fed_in_parts(cache: str | None) -> None:
    model = _model("llama")
    ids = torch.tensor([[5, 6, 7, 8, 9, 10], [0, 0, 0, 0, 0, 14]])
    given = {"attention_mask": (ids != 0).long(), "do_sample": False, "cache_implementation": cache}
    options = {"max_new_tokens": 2, "min_new_tokens": 2, "prefill_chunk_size": 3, **given}
    with record(model, keep="generation") as recording:
        model.generate(ids, **options)
    tokens = recording.tokens("model.layers.0.self_attn")[0]
    assert [one.special for one in tokens] == [(False,) * 7, (True,) * 5 + (False,) * 2]
    with record(model) as last:
        with pytest.raises(ZeroDivisionError):  # where the prompt has just been fed
            model.generate(ids, **options, logits_processor=transformers.LogitsProcessorList([Broken(0)]))
        queries, _ = last.tokens("model.layers.0.self_attn")
    assert queries[1].special == (True, True, False)[-len(queries[1].ids) :]


def test_a_copy_of_the_model_is_another_model() -> None:
    model, options = _model("llama"), {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}
    with record(model, keep="generation") as recording:
        found = model.generate(X, **options)
        other = copy.deepcopy(model)
        assert torch.equal(other.generate(X, **options), found)
        other.generate(Y, **options)
    assert _named(recording)["text"] == [tuple(found[0, :-1].tolist())]
    assert torch.equal(other.generate(X, **options), found)


def test_everything_is_put_back_when_someone_took_a_method_away() -> None:
    model = _model("llama")
    with record(model):
        del model.generate
    hooks = [hook for part in model.modules() for hook in (part._forward_hooks, part._forward_pre_hooks)]
    assert not any(hooks) and not {"generate", "_reorder_cache", "get_compiled_call"} & vars(model).keys()
