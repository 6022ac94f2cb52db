"""What Hugging Face models read and generate: joined maps are those of reading what was returned again."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from regard.errors import UnsupportedError
from regard.recording import Recording, record

TINY = {"vocab_size": 50, "eos_token_id": 3, "bos_token_id": 1, "pad_token_id": 0}
LLAMA = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4} | TINY
BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 3,
    "forced_eos_token_id": None,
} | TINY
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(num_key_value_heads=2, **LLAMA)),
    "mistral, window": lambda: transformers.MistralForCausalLM(
        transformers.MistralConfig(num_key_value_heads=2, sliding_window=4, **LLAMA)
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **TINY)
    ),
    "bart": lambda: transformers.BartForConditionalGeneration(transformers.BartConfig(**BART)),
    "marian": lambda: transformers.MarianMTModel(transformers.MarianConfig(**BART | {"decoder_start_token_id": 0})),
    "t5": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(d_model=32, d_kv=8, d_ff=40, num_layers=2, num_heads=4, decoder_start_token_id=0, **TINY)
    ),
}
PROMPTS = torch.tensor([[5, 6, 7, 8, 9, 10], [0, 0, 11, 12, 13, 14]])  # padded on the left
SOURCES = torch.tensor([[5, 6, 7, 8, 9, 3], [11, 12, 13, 3, 0, 0]])
SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beam": {"num_beams": 4},
    "several of a beam": {"num_beams": 4, "num_return_sequences": 3},
    "sampling": {"do_sample": True, "num_return_sequences": 2},
    "static cache": {"cache_implementation": "static"},
    "beam, static cache": {"num_beams": 3, "cache_implementation": "static"},
}


def _model(kind: str) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = MODELS[kind]().eval()
    if kind != "t5":  # livelier ones; T5 doesn't scale its scores, which would be too large to compare
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3)
    return model


def _given(model: PreTrainedModel) -> dict[str, Tensor]:
    ids = SOURCES if model.config.is_encoder_decoder else PROMPTS
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def _generate(model: PreTrainedModel, **options: Any) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        found: Tensor = model.generate(**_given(model), max_new_tokens=8, **options)
    return found


def _forced(model: PreTrainedModel, sentence: int, fed: list[int]) -> tuple[Recording, Tensor]:
    """The maps of one pass over what was fed for a sentence, and which rows are no padding."""
    ids, mask = (x[sentence : sentence + 1] for x in _given(model).values())
    said = torch.tensor([fed])
    with torch.no_grad(), record(model) as recording:
        if model.config.is_encoder_decoder:
            model(input_ids=ids, attention_mask=mask, decoder_input_ids=said)
            return recording, torch.ones_like(said[0], dtype=torch.bool)
        new = torch.ones(1, len(fed) - ids.shape[1], dtype=torch.long)
        mask = torch.cat([mask, new], 1)
        places = (mask.cumsum(1) - 1).clamp(min=0)
        model(input_ids=said, attention_mask=mask, position_ids=places)
    return recording, mask[0].bool()


def _untouched(model: PreTrainedModel) -> bool:
    hooks = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())
    return hooks == 0 and not {"generate", "_reorder_cache", "get_compiled_call"} & vars(model).keys()


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("search", SEARCHES)
def test_maps_of_what_was_generated_are_those_of_reading_it_again(kind: str, search: str) -> None:
    model = _model(kind)
    plain = _generate(model, **SEARCHES[search])
    try:
        with record(model, keep="generation") as recording:
            found = _generate(model, **SEARCHES[search])
    except UnsupportedError as error:
        if kind == "t5" and "can't be recorded" in str(error):
            pytest.skip(f"T5 in transformers {transformers.__version__}: {error}")
        raise
    assert torch.equal(found, plain) and _untouched(model)
    generated = next(name for name, role in recording.roles.items() if role.queries in ("text", "target"))
    each = len(found) // 2
    for number, row in enumerate(found.tolist()):
        tokens = recording.tokens(generated)[0][number]
        fed = [one for one, shown in zip(tokens.ids, tokens.texts, strict=True) if shown]
        prompt = 1 if model.config.is_encoder_decoder else PROMPTS.shape[1]
        end = row.index(3, prompt) if 3 in row[prompt:] else len(row)
        assert fed == row[: min(end, len(row) - 1)]
        whole, real = _forced(model, number // each, fed)
        assert list(whole) == list(recording)
        for name, role in recording.roles.items():
            expected, got = whole[name].dense()[0], recording[name].dense()[number]
            rows, columns = expected.shape[-2:]
            inside = slice(None) if role.queries == "source" else real  # what padding sees is up to the library
            kept, wanted = got[:, :rows, :columns][:, inside], expected[:, inside]
            torch.testing.assert_close(kept, wanted, atol=1e-5, rtol=1e-4)
            if role.queries != "source":
                assert got[:, rows:].abs().sum() == 0 and got[:, :rows, columns:].abs().sum() == 0
                assert tokens.special[: len(real)] == tuple((~real).tolist())


def test_source_tokens_go_along() -> None:
    model = _model("bart")
    with record(model, keep="generation") as recording:
        model.generate(**_given(model), max_new_tokens=3, min_new_tokens=3, num_beams=3, num_return_sequences=2)
    name = next(name for name, role in recording.roles.items() if role.kind == "cross")
    queries, keys = recording.tokens(name)
    assert [one.ids for one in keys] == [tuple(SOURCES[n].tolist()) for n in (0, 0, 1, 1)]
    assert keys[2].special == (False,) * 4 + (True,) * 2
    assert recording[name].shape == (4, 4, len(queries[0].ids), 6)


def test_padding_of_the_prompt_is_known() -> None:
    model = _model("llama")
    with record(model, keep="generation") as recording:
        model.generate(**_given(model), max_new_tokens=3, min_new_tokens=3, do_sample=False)
    queries, _ = recording.tokens("model.layers.0.self_attn")
    assert [one.special for one in queries] == [(False,) * 8, (True, True, *[False] * 6)]


def test_a_prompt_fed_in_parts_and_an_output_object() -> None:
    model = _model("llama")
    ids = PROMPTS[:1]
    with record(model, keep="generation") as recording:
        found = model.generate(
            ids, max_new_tokens=4, min_new_tokens=4, prefill_chunk_size=4, do_sample=False, return_dict_in_generate=True
        )
    with torch.no_grad(), record(model) as whole:
        model(found.sequences[:, :-1])
    for name in recording:
        torch.testing.assert_close(recording[name].dense(), whole[name].dense(), atol=1e-5, rtol=1e-4)


def test_a_vision_model_that_says_something() -> None:
    vision = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=40, image_size=16, patch_size=8
    )
    text = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **TINY)
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
    model = transformers.VisionEncoderDecoderModel(config).eval()
    for name, value in {"decoder_start_token_id": 1, "eos_token_id": 3, "pad_token_id": 0}.items():
        setattr(model.generation_config, name, value)
    pixels = torch.arange(2 * 3 * 256.0).view(2, 3, 16, 16) / 1000
    with record(model, keep="generation") as recording:
        found = model.generate(pixels, max_new_tokens=4, min_new_tokens=4, num_beams=3)
    fed = found[:, :4]
    with torch.no_grad(), record(model) as whole:
        model(pixel_values=pixels, decoder_input_ids=fed)
    assert list(recording) == list(whole)
    for name in recording:
        torch.testing.assert_close(recording[name].dense(), whole[name].dense(), atol=1e-5, rtol=1e-4)
    cross = next(name for name, role in recording.roles.items() if role.kind == "cross")
    queries, keys = recording.tokens(cross)
    assert [one.ids for one in queries] == [tuple(row) for row in fed.tolist()] and keys == []


def test_a_decoder_that_the_base_model_is_not_called_for() -> None:
    config = transformers.OPTConfig(
        hidden_size=32,
        ffn_dim=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        word_embed_proj_dim=32,
        max_position_embeddings=64,
        **TINY,
    )
    model = transformers.OPTForCausalLM(config).eval()
    with record(model, keep="generation") as recording:
        found = model.generate(PROMPTS[:1], num_beams=3, max_new_tokens=5, min_new_tokens=5)
    with torch.no_grad(), record(model) as whole:
        model(found[:, :-1])
    for name in recording:
        torch.testing.assert_close(recording[name].dense(), whole[name].dense(), atol=1e-5, rtol=1e-4)


def test_heads_and_layers_are_chosen() -> None:
    model = _model("llama")
    given = {"max_new_tokens": 4, "min_new_tokens": 4, "num_beams": 2}
    with record(model, keep="generation") as everything:
        model.generate(**_given(model), **given)
    with record(model, "*.1.self_attn", heads=[3, 0], keep="generation") as some:
        model.generate(**_given(model), **given)
    (name,) = some
    torch.testing.assert_close(some[name].dense(), everything[name].dense()[:, [3, 0]])


def test_the_last_generation_is_kept_whatever_comes_after_it() -> None:
    model = _model("gpt2")
    with record(model, keep="generation") as recording:
        model.generate(PROMPTS[:1], max_new_tokens=2, min_new_tokens=2)
        model.generate(PROMPTS[:1], max_new_tokens=5, min_new_tokens=5)
        with torch.no_grad():
            model(PROMPTS[:, 2:])
    assert [table.shape for table in recording.values()] == [(1, 4, 10, 10)] * 2
    assert len(recording.tokens("transformer.h.0.attn")[0][0].ids) == 10


def test_without_generate_the_last_pass_is_kept() -> None:
    model = _model("bart")
    given = _given(model)
    with torch.no_grad(), record(model, keep="generation") as recording:
        model(**given, decoder_input_ids=torch.tensor([[3, 8, 9], [3, 7, 0]]))
    cross = next(name for name, role in recording.roles.items() if role.kind == "cross")
    queries, keys = recording.tokens(cross)
    assert [one.ids for one in queries] == [(3, 8, 9), (3, 7, 0)] and keys[1].special[-2:] == (True, True)


class Broken(transformers.LogitsProcessor):
    """Fails at the second token."""

    def __init__(self, prompt: int) -> None:
        self.prompt = prompt

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if input_ids.shape[1] > self.prompt:
            raise ZeroDivisionError
        return scores


def _assisted(model: PreTrainedModel) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        other = transformers.LlamaForCausalLM(model.config).eval()
    found: Tensor = model.generate(PROMPTS[:1], assistant_model=other, max_new_tokens=8, do_sample=False)
    return found


def _continued(model: PreTrainedModel) -> Tensor:
    cache = DynamicCache()
    with torch.no_grad():
        model(PROMPTS[:1, :4], past_key_values=cache)
    found: Tensor = model.generate(PROMPTS[:1], past_key_values=cache, max_new_tokens=4, do_sample=False)
    return found


def _from_embeddings(model: PreTrainedModel) -> Tensor:
    x = model.get_input_embeddings()(PROMPTS[:1])
    found: Tensor = model.generate(inputs_embeds=x, max_new_tokens=4, do_sample=False)
    return found


NOT_FOLLOWED: dict[str, tuple[Callable[[PreTrainedModel], Tensor], str]] = {
    "assisted": (_assisted, "assisted decoding|don't continue|has an order of its own"),
    "no cache": (
        lambda model: model.generate(PROMPTS[:1], use_cache=False, max_new_tokens=3, min_new_tokens=3),
        "model.layers.0.self_attn: a step was fed a whole sequence again, as with use_cache=False.*with keep=1",
    ),
    "guidance": (
        lambda model: model.generate(PROMPTS[:1], guidance_scale=1.5, max_new_tokens=3, min_new_tokens=3),
        "a whole sequence again.*with guidance",
    ),
    "a cache from before": (_continued, "there are 6 keys where 2 positions were fed.*the cache held others before"),
    "embeddings": (_from_embeddings, "the prompt was given as embeddings"),
}


@pytest.mark.parametrize("way", NOT_FOLLOWED)
def test_what_is_not_followed_is_an_error_in_generations_only(way: str) -> None:
    model = _model("llama")
    run, message = NOT_FOLLOWED[way]
    plain = run(model)
    with pytest.raises(UnsupportedError, match=message):
        with record(model, keep="generation") as recording:
            run(model)
        recording["model.layers.0.self_attn"]
    assert _untouched(model)
    with record(model, keep=2) as recording:
        assert torch.equal(run(model), plain)
    assert len(recording.calls("model.layers.1.self_attn")) == 2 and _untouched(model)


def test_what_would_be_compiled_is_an_error() -> None:
    model = _model("llama")
    with record(model), pytest.raises(UnsupportedError, match="disable_compile=True"):
        model.get_compiled_call(None)
    assert _untouched(model)


def test_everything_is_put_back_after_an_error() -> None:
    model, cache = _model("llama"), DynamicCache()

    with pytest.raises(ZeroDivisionError), record(model, keep="generation"):
        model.generate(
            PROMPTS[:1],
            past_key_values=cache,
            num_beams=2,
            max_new_tokens=5,
            logits_processor=transformers.LogitsProcessorList([Broken(PROMPTS.shape[1])]),
        )
    assert _untouched(model) and not {"reorder_cache", "crop"} & vars(cache).keys()


def test_another_model_is_not_followed() -> None:
    model, other = _model("llama"), _model("gpt2")
    with record(model, keep="generation") as recording:
        found = model.generate(PROMPTS[:1], num_beams=2, max_new_tokens=4, min_new_tokens=4)
        other.generate(PROMPTS, num_beams=2, max_new_tokens=6)
    assert recording["model.layers.0.self_attn"].shape[-1] == found.shape[1] - 1
