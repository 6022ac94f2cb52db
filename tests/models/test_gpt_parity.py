"""GPT with the weights of Hugging Face's GPT-2, Llama and Qwen2: the same logits and gradients; sizes of the papers."""

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from regard.models.config import parameter_count
from regard.models.gpt import GPT, GPTConfig, build_gpt

SIZES = {
    ("gpt2", 50257): 124_439_808,
    ("gpt2-medium", 50257): 354_823_168,
    ("gpt2-large", 50257): 774_030_080,
    ("gpt2-xl", 50257): 1_557_611_200,
    ("llama-7b", 32000): 6_738_415_616,
    ("llama-3-8b", 128256): 8_030_261_248,
}
TOKENS = torch.randint(0, 31, (3, 17), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("preset", "vocabulary"), SIZES)
def test_the_presets_have_the_sizes_of_the_papers(preset: str, vocabulary: int) -> None:
    with torch.device("meta"):
        model = build_gpt(GPTConfig.preset(preset, vocabulary=vocabulary))
    assert parameter_count(model) == SIZES[preset, vocabulary]


def randomised(model: nn.Module) -> Any:
    """Random values in every parameter: fresh biases and norms would hide mistakes."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, 1.0 if "norm" in name or "ln_" in name else 0.0, 0.2)
    return model.eval()


def gpt2_weights(theirs: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Hugging Face's GPT-2 stores matrices (in, out)."""
    ours = {
        "embedding.tokens.weight": theirs["transformer.wte.weight"],
        "embedding.positions.table": theirs["transformer.wpe.weight"],
        "output.weight": theirs["lm_head.weight"],
    }
    names = {"attention.input": "attn.c_attn", "attention.output": "attn.c_proj"}
    names |= {"feedforward.inner": "mlp.c_fc", "feedforward.outer": "mlp.c_proj"}
    norms = {"attention_residual.norm": "ln_1", "feedforward_residual.norm": "ln_2"}
    for i in range(layers):
        for part in ("weight", "bias"):
            for ours_name, name in names.items():
                x = theirs[f"transformer.h.{i}.{name}.{part}"]
                ours[f"layers.{i}.{ours_name}.{part}"] = x.T if part == "weight" else x
            for ours_name, name in norms.items():
                ours[f"layers.{i}.{ours_name}.{part}"] = theirs[f"transformer.h.{i}.{name}.{part}"]
    return ours | {f"norm.{part}": theirs[f"transformer.ln_f.{part}"] for part in ("weight", "bias")}


def llama_weights(theirs: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Hugging Face's Llama and Qwen2 have three input projections."""
    ours = {
        "embedding.tokens.weight": theirs["model.embed_tokens.weight"],
        "output.weight": theirs["lm_head.weight"],
        "norm.weight": theirs["model.norm.weight"],
    }
    names = {
        "attention.output": "self_attn.o_proj",
        "feedforward.gate": "mlp.gate_proj",
        "feedforward.inner": "mlp.up_proj",
        "feedforward.outer": "mlp.down_proj",
        "attention_residual.norm": "input_layernorm",
        "feedforward_residual.norm": "post_attention_layernorm",
    }
    for i in range(layers):
        for ours_name, name in names.items():
            ours[f"layers.{i}.{ours_name}.weight"] = theirs[f"model.layers.{i}.{name}.weight"]
        for part in ("weight", "bias"):
            each = [theirs.get(f"model.layers.{i}.self_attn.{x}_proj.{part}") for x in "qkv"]
            if each[0] is not None:
                ours[f"layers.{i}.attention.input.{part}"] = torch.cat([x for x in each if x is not None])
    return ours


def gpt2(activation: str, tied: bool) -> tuple[Any, GPTConfig]:
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=31, n_positions=23, n_embd=24, n_layer=3, n_head=4, n_inner=50, activation_function=activation,
            tie_word_embeddings=tied,
        )
    )  # fmt: skip
    kind: Any = {"gelu_new": "gelu_tanh", "gelu": "gelu", "relu": "relu"}[activation]
    return theirs, GPTConfig(
        vocabulary=31, layers=3, width=24, feedforward=50, heads=4, max_length=23, activation=kind, shared=tied
    )


def llama(family: str, key_heads: int, tied: bool, head_width: int | None = None) -> tuple[Any, GPTConfig]:
    kinds = {"llama": transformers.LlamaForCausalLM, "qwen2": transformers.Qwen2ForCausalLM}
    configs = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config}
    more = {} if head_width is None else {"head_dim": head_width}
    theirs = kinds[family](
        configs[family](
            vocab_size=31, hidden_size=24, intermediate_size=50, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=key_heads, max_position_embeddings=23, tie_word_embeddings=tied, rms_norm_eps=1e-4,
            rope_parameters={"rope_type": "default", "rope_theta": 700.0}, **more,
        )
    )  # fmt: skip
    return theirs, GPTConfig.preset(
        "llama-nano", vocabulary=31, layers=3, width=24, feedforward=50, heads=4, key_heads=key_heads, shared=tied,
        norm_epsilon=1e-4, rotary_base=700.0, head_width=head_width,
        bias="queries_keys_values" if family == "qwen2" else "none",
    )  # fmt: skip


CASES = {
    "gpt2": (gpt2, ("gelu_new", True), gpt2_weights),
    "gpt2-gelu-untied": (gpt2, ("gelu", False), gpt2_weights),
    "llama": (llama, ("llama", 4, False), llama_weights),
    "llama-grouped-wide-heads": (llama, ("llama", 2, True, 10), llama_weights),
    "qwen2": (llama, ("qwen2", 2, True), llama_weights),
}
cases = pytest.mark.parametrize("case", CASES)


def pair(case: str) -> tuple[Any, GPT]:
    make, arguments, weights = CASES[case]
    theirs, config = make(*arguments)  # type: ignore[operator]
    randomised(theirs)
    ours = build_gpt(config).eval()
    ours.load_state_dict(weights(theirs.state_dict(), config.layers))  # every name is met, none is left over
    assert parameter_count(ours) == parameter_count(theirs)
    return theirs, ours


@cases
def test_same_weights_same_logits(case: str) -> None:
    theirs, ours = pair(case)
    with torch.no_grad():
        expected = theirs(TOKENS).logits
        found = ours.output(ours(TOKENS))
    assert expected.std() > 0.3
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@cases
def test_same_gradients(case: str) -> None:
    theirs, ours = (x.double() for x in pair(case))
    theirs(TOKENS, labels=TOKENS).loss.backward()
    logits = ours.output(ours(TOKENS[:, :-1]))
    nn.functional.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten()).backward()
    mine = {name: parameter.grad for name, parameter in ours.named_parameters()}
    expected = CASES[case][2]({n: p.grad for n, p in theirs.named_parameters(remove_duplicate=False)}, 3)
    for name, gradient in mine.items():
        # turns are computed in float32 there
        torch.testing.assert_close(gradient, expected[name], atol=2e-6, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@cases
def test_greedy_steps_say_what_generate_says(case: str) -> None:
    theirs, ours = pair(case)
    theirs.generation_config.eos_token_id = None
    found = TOKENS[:, :5]
    expected = theirs.generate(
        found, attention_mask=torch.ones_like(found), max_new_tokens=12, do_sample=False, pad_token_id=0
    ).tolist()
    with torch.no_grad():
        state = ours.start(found[:, :-1], torch.full((3,), 4))
        for _ in range(12):
            log_probs, state = ours.step(found[:, -1], state)
            found = torch.cat([found, log_probs.argmax(-1)[:, None]], 1)
    assert found.tolist() == expected


@cases
def test_texts_of_different_lengths_begin_together_there_and_end_together_here(case: str) -> None:
    theirs, ours = pair(case)
    lengths = torch.tensor([4, 9, 7])
    padded, real = torch.zeros(3, 9, dtype=torch.int64), torch.zeros(3, 9, dtype=torch.int64)
    for row, n in enumerate(lengths.tolist()):
        padded[row, 9 - n :], real[row, 9 - n :] = TOKENS[row, :n], 1
    with torch.no_grad():
        expected = theirs(padded, attention_mask=real, position_ids=(real.cumsum(1) - 1).clamp(min=0)).logits[:, -1]
        last = TOKENS.gather(1, lengths[:, None] - 1)[:, 0]
        found, _ = ours.step(last, ours.start(TOKENS[:, :8], lengths - 1))
    torch.testing.assert_close(found, expected.log_softmax(-1), atol=1e-5, rtol=0)
