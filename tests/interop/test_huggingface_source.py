"""Hooking Hugging Face models: nothing changes, everything is put back, and nothing else is disturbed."""

import copy
import functools
import threading
from collections.abc import Callable

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.gemma2 import modeling_gemma2

from regard.errors import ArgumentError, UnsupportedError
from regard.insight.tokens import Role
from regard.interop.huggingface.coverage import Kept, watched
from regard.interop.huggingface.families import FAMILIES, Family
from regard.interop.huggingface.source import HuggingFaceModel
from regard.recording import record

ALL = transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS
FAMILY = {family.name: family for family in FAMILIES}
NEW = pytest.mark.skipif(int(transformers.__version__.split(".")[0]) < 5, reason="needs transformers 5")


def _made(name: str, implementation: str | None = None) -> tuple[PreTrainedModel, dict[str, Tensor]]:
    family: Family = FAMILY[name]
    return family.make(implementation), family.inputs()


def _state(model: nn.Module) -> tuple[object, ...]:
    """What hooking might leave behind."""
    hooks = [(name, len(x._forward_hooks), len(x._forward_pre_hooks)) for name, x in model.named_modules()]
    return hooks, dict(ALL._local_mapping), ALL["sdpa"], modeling_gemma2.eager_attention_forward


@pytest.mark.parametrize("name", ["Llama", "Gemma 2"])
def test_everything_is_put_back(name: str) -> None:
    model, inputs = _made(name, "eager" if name == "Gemma 2" else "sdpa")
    before, attributes = _state(model), set(vars(model))
    with watched(model) as kept:
        assert _state(model) != before
        model(**inputs)
    assert _state(model) == before and set(vars(model)) == attributes
    with pytest.raises(ZeroDivisionError), watched(model):
        model(**inputs)
        raise ZeroDivisionError
    assert _state(model) == before and len(kept.tables) == 2
    model(**inputs)
    assert all(len(tables) == 1 for tables in kept.tables.values())


def test_a_function_of_the_users_own_stays_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = ALL["sdpa"]
    mine = functools.partial(shared)
    monkeypatch.setitem(ALL._local_mapping, "sdpa", mine)
    model, inputs = _made("Llama")
    with watched(model), pytest.raises(UnsupportedError, match=r"isn't that of transformers"):
        model(**inputs)
    assert ALL["sdpa"] is mine
    monkeypatch.undo()
    assert ALL["sdpa"] is shared


def test_recordings_may_overlap_in_any_order() -> None:
    first, inputs = _made("Llama")
    second, _ = _made("Mistral")
    before = _state(first)
    sources = [HuggingFaceModel(first), HuggingFaceModel(second), HuggingFaceModel(first)]
    kept = [Kept(source.roles) for source in sources]
    for source, one in zip(sources, kept, strict=True):
        source.open(list(source.roles), one)
    first(**inputs)
    assert [len(one.tables) for one in kept] == [2, 0, 2]
    sources[0].close()
    first(**inputs)
    second(**inputs)
    count = [sum(map(len, one.tables.values())) for one in kept]
    assert count == [2, 2, 4]
    sources[2].close()
    second(**inputs)
    sources[1].close()
    assert [sum(map(len, one.tables.values())) for one in kept] == [2, 4, 4]
    assert _state(first) == before
    for a, b in zip(kept[0].tables.values(), kept[2].tables.values(), strict=True):
        assert torch.equal(a[0].dense(), b[0].dense())


def test_other_models_are_neither_recorded_nor_disturbed() -> None:
    model, inputs = _made("Llama")
    other = copy.deepcopy(model)
    alone = other(**inputs).logits
    with watched(model) as kept:
        assert torch.equal(other(**inputs).logits, alone)
        flash = FAMILY["Bloom"].make()
        flash(**inputs)
    assert not kept.tables


def test_other_threads_run_on() -> None:
    model, inputs = _made("Llama")
    other, wanted = copy.deepcopy(model), {}

    def run() -> None:
        with torch.no_grad():
            wanted["logits"] = other(**inputs).logits

    with torch.no_grad(), watched(model) as kept:
        thread = threading.Thread(target=run)
        thread.start()
        mine = model(**inputs).logits
        thread.join()
    assert torch.equal(mine, wanted["logits"])
    assert all(len(tables) == 1 for tables in kept.tables.values())


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_a_copy_that_is_made_meanwhile_is_another_model(implementation: str) -> None:
    model, inputs = _made("Llama", implementation)
    with torch.no_grad():
        wanted = model(**inputs).logits
        with record(model) as recording:
            twin = copy.deepcopy(model)
            assert torch.equal(twin(**inputs).logits, wanted)
            assert not recording
            model(**inputs)
            assert len(recording) == 2
        assert torch.equal(twin(**inputs).logits, wanted)
        assert torch.equal(copy.deepcopy(twin)(**inputs).logits, wanted)
        with watched(twin) as kept:
            twin(**inputs)
    assert all(len(tables) == 1 for tables in kept.tables.values()) and len(kept.tables) == 2


def test_only_what_is_chosen_is_told() -> None:
    model, inputs = _made("Llama")
    source = HuggingFaceModel(model)
    kept = Kept(source.roles)
    source.open(["model.layers.1.self_attn"], kept)
    model(**inputs)
    source.close()
    assert list(kept.tables) == ["model.layers.1.self_attn"]


def test_gradients_are_the_same_in_training() -> None:
    model, inputs = _made("Llama")
    model.config.attention_dropout = 0.5
    model = type(model)(model.config).train()

    def gradient(around: Callable[[], object]) -> Tensor:
        model.zero_grad()
        torch.manual_seed(5)
        around()
        weight = model.model.layers[0].self_attn.q_proj.weight
        assert weight.grad is not None
        return weight.grad.clone()

    def step() -> None:
        model(**inputs, labels=inputs["input_ids"]).loss.backward()

    alone = gradient(step)
    with watched(model) as kept:
        assert torch.equal(gradient(step), alone)
    table = kept.tables["model.layers.0.self_attn"][0]
    assert not table.scoring.q.requires_grad
    real = inputs["attention_mask"].bool()[:, None].expand(table.shape[:3])
    torch.testing.assert_close(table.dense().sum(-1)[real], torch.ones(int(real.sum())))  # before dropout


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_checkpointing_computes_again_is_not_told_again(reentrant: bool) -> None:
    model, inputs = _made("Llama")
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    with watched(model) as kept:
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert [len(tables) for tables in kept.tables.values()] == [1, 1]
    assert model.model.layers[0].self_attn.q_proj.weight.grad is not None


def test_inference_mode() -> None:
    model, inputs = _made("Llama")
    with torch.inference_mode(), watched(model) as kept:
        model(**inputs)
    table = kept.tables["model.layers.0.self_attn"][0]
    assert not table.scoring.q.is_inference() and not table.dense().is_inference()


ROLES = {
    "Llama": {"model.layers.0.self_attn": Role("causal", "text", "text")},
    "BERT": {"encoder.layer.0.attention.self": Role("self", "text", "text")},
    "GPT-2": {"transformer.h.0.attn": Role("causal", "text", "text")},
    "T5": {
        "encoder.block.0.layer.0.SelfAttention": Role("self", "source", "source"),
        "decoder.block.0.layer.0.SelfAttention": Role("causal", "target", "target"),
        "decoder.block.0.layer.1.EncDecAttention": Role("cross", "target", "source"),
    },
    "BART": {
        "model.encoder.layers.0.self_attn": Role("self", "source", "source"),
        "model.decoder.layers.0.self_attn": Role("causal", "target", "target"),
        "model.decoder.layers.0.encoder_attn": Role("cross", "target", "source"),
    },
    "Whisper": {
        "model.encoder.layers.0.self_attn": Role("self", "sound", "sound"),
        "model.decoder.layers.0.self_attn": Role("causal", "target", "target"),
        "model.decoder.layers.0.encoder_attn": Role("cross", "target", "sound"),
    },
    "ViT": {"attention": Role("self", "image", "image")},
    "CLIP": {
        "text_model.encoder.layers.0.self_attn": Role("causal", "text", "text"),
        "vision_model.encoder.layers.0.self_attn": Role("self", "image", "image"),
    },
    "Wav2Vec2": {"encoder.layers.0.attention": Role("self", "sound", "sound")},
    "ModernBERT": {"layers.0.attn": Role("self", "text", "text")},
}


@NEW
@pytest.mark.parametrize("name", ROLES)
def test_roles(name: str) -> None:
    roles = HuggingFaceModel(_made(name)[0]).roles
    for path, role in ROLES[name].items():
        assert next(found for known, found in roles.items() if known.endswith(path)) == role


@NEW
def test_roles_of_composed_models() -> None:
    text = FAMILY["BERT"].settings
    decoder = transformers.BertConfig(**text, is_decoder=True, add_cross_attention=True)
    image = transformers.ViTConfig(**FAMILY["ViT"].settings)
    kind = transformers.VisionEncoderDecoderConfig
    model = transformers.VisionEncoderDecoderModel(kind.from_encoder_decoder_configs(image, decoder)).eval()
    with torch.no_grad(), watched(model) as kept:
        model(**FAMILY["ViT"].inputs(), decoder_input_ids=torch.ones(2, 3, dtype=torch.long))
    assert {role.kind: role for role in kept.roles.values()} == {
        "self": Role("self", "image", "image"),
        "causal": Role("causal", "target", "target"),
        "cross": Role("cross", "target", "image"),
    }
    assert {kept.tables[name][0].shape for name, role in kept.roles.items() if role.kind == "cross"} == {(2, 4, 3, 17)}
    alone = transformers.BertLMHeadModel(decoder)
    cross = [role for role in HuggingFaceModel(alone).roles.values() if role.kind == "cross"]
    assert cross == [Role("cross", "text", "source")] * 2


def test_a_part_that_cannot_be_heard_is_named() -> None:
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.OPTConfig(**FAMILY["OPT"].settings), transformers.GPTJConfig(**FAMILY["GPT-J"].settings)
    )
    with torch.device("meta"):
        opt = transformers.OPTForCausalLM(config.encoder)
        opt.model.decoder.other = transformers.GPTJForCausalLM(config.decoder)
    with pytest.raises(UnsupportedError, match=r"its part 'model.decoder.other', a GPTJForCausalLM, computes"):
        HuggingFaceModel(opt)


def test_another_implementation_is_refused() -> None:
    model, _ = _made("Llama")
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(
        UnsupportedError, match=r"LlamaForCausalLM .* by 'flex_attention': .*attn_implementation='sdpa'"
    ):
        HuggingFaceModel(model)


def test_arguments_of_unknown_meaning_are_refused() -> None:
    model, inputs = _made("Llama")
    with watched(model):
        model(**inputs, indices=None)
        with pytest.raises(UnsupportedError, match=r"LlamaAttention by sdpa.* called with block_indices"):
            model(**inputs, block_indices=torch.zeros(1))
        model(**inputs)


def test_an_implementation_that_is_changed_meanwhile_is_noticed() -> None:
    model, inputs = _made("Llama")

    def mine(module: nn.Module, query: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:
        return query.transpose(1, 2), None

    ALL["mine"] = mine
    try:
        with watched(model):
            model.config._attn_implementation = "mine"
            with pytest.raises(UnsupportedError, match=r"'model.layers.0.self_attn' can't be recorded: .* not called"):
                model(input_ids=inputs["input_ids"])
    finally:
        del ALL["mine"]


@NEW
def test_a_module_that_attends_twice_is_refused() -> None:
    config = transformers.DiffLlamaConfig(**FAMILY["Llama"].settings)
    model = transformers.DiffLlamaModel(config).eval()
    with watched(model), pytest.raises(UnsupportedError, match=r"DiffLlamaAttention .* was called 2 times"):
        model(**FAMILY["Llama"].inputs())


def test_compiled_models_are_refused() -> None:
    model, _ = _made("Llama")
    compiled = copy.deepcopy(model)
    compiled.compile(backend="eager")
    with pytest.raises(UnsupportedError, match="it is compiled"):
        HuggingFaceModel(compiled)
    model.model.layers[1] = torch.compile(model.model.layers[1], backend="eager")
    with pytest.raises(UnsupportedError, match=r"'model.layers.1._orig_mod' is compiled"):
        HuggingFaceModel(model)


def test_a_call_from_compiled_code_is_refused() -> None:
    model, _ = _made("Llama")
    attention = model.model.layers[0].self_attn
    q = torch.randn(1, 4, 3, 16)

    @torch.compile(backend="eager")
    def attend(q: Tensor) -> Tensor:
        context: Tensor = ALL["sdpa"](attention, q, q[:, :2], q[:, :2], None)[0]
        return context

    with watched(model), pytest.raises(UnsupportedError, match="call it uncompiled"):
        attend(q)


@pytest.mark.parametrize("tokenizer", ["gpt2", 3])
def test_what_is_no_tokenizer(tokenizer: object) -> None:
    with pytest.raises(
        ArgumentError, match=f"tokenizer must be one of transformers, .* not a {type(tokenizer).__name__}"
    ):
        record(_made("Llama")[0], tokenizer=tokenizer)


def test_recordings_of_one_model_close_in_any_order() -> None:
    config = transformers.LlamaConfig(
        vocab_size=31, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    model = transformers.LlamaForCausalLM(config).eval()
    model.generation_config.eos_token_id = None
    before = set(vars(model))
    first, second = record(model), record(model, keep="generation")
    one, other = first.__enter__(), second.__enter__()
    model.generate(torch.tensor([[3, 4, 5]]), max_new_tokens=2, do_sample=False)
    first.__exit__(None, None, None)
    model.generate(torch.tensor([[3, 4, 5, 6]]), max_new_tokens=3, do_sample=False)
    second.__exit__(None, None, None)
    model(torch.tensor([[3, 4]]))
    assert set(vars(model)) == before
    (name,) = one
    assert one[name].shape == (1, 2, 1, 4) and other[name].shape == (1, 2, 6, 6)
