"""What Hugging Face models do with masks, caches and dtypes is in their maps as they do it."""

import functools

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama import modeling_llama

from regard.attention import AttentionMap
from regard.attention.biases import Diagonals
from regard.errors import UnsupportedError
from regard.interop.huggingface.coverage import Kept, watched
from regard.interop.huggingface.entry import Call
from regard.interop.huggingface.families import FAMILIES
from regard.interop.huggingface.masks import Masks
from regard.interop.huggingface.tables import RULES

FAMILY = {family.name: family for family in FAMILIES}
NEW = pytest.mark.skipif(int(transformers.__version__.split(".")[0]) < 5, reason="needs transformers 5")


@pytest.fixture(autouse=True)
def _without_gradients() -> object:
    with torch.no_grad():
        yield


def _is_linear(table: AttentionMap) -> bool:
    return table.scoring.visibility.dense is None


def _tables(kept: Kept) -> list[AttentionMap]:
    return [table for tables in kept.tables.values() for table in tables]


def _eager(name: str, inputs: dict[str, Tensor], **named: object) -> list[Tensor]:
    return list(FAMILY[name].make("eager")(**inputs, output_attentions=True, **named).attentions)


def test_packed_sequences() -> None:
    model, ids = FAMILY["Llama"].make(), FAMILY["Llama"].inputs()["input_ids"][:1]
    places = torch.cat([torch.arange(9), torch.arange(15)])[None]
    wanted = _eager("Llama", {"input_ids": ids, "position_ids": places}, use_cache=False)
    with watched(model) as kept:
        model(input_ids=ids, position_ids=places, use_cache=False)
    for table, weight in zip(_tables(kept), wanted, strict=True):
        assert _is_linear(table)
        assert table.dense()[..., 9:, :9].abs().max() == 0
        torch.testing.assert_close(table.dense(), weight, atol=1e-5, rtol=0)


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded on the left"])
@pytest.mark.parametrize("name", ["Llama", "Mistral"])
def test_a_static_cache_is_recorded_as_a_growing_one(name: str, padded: bool) -> None:
    model, inputs = FAMILY[name].make(), FAMILY[name].inputs()
    if not padded:
        inputs = {"input_ids": inputs["input_ids"]}
    found: list[Kept] = []
    for cache in (None, "static"):
        with watched(model) as kept:
            model.generate(**inputs, max_new_tokens=4, do_sample=False, cache_implementation=cache, pad_token_id=1)
        found.append(kept)
    growing, static = (_tables(kept) for kept in found)
    assert len(growing) == len(static) == 8  # two layers, the prompt and three steps
    for a, b in zip(growing, static, strict=True):
        assert a.shape == b.shape and _is_linear(a) and _is_linear(b)
        torch.testing.assert_close(a.dense(), b.dense(), atol=1e-5, rtol=0)


def test_a_cached_step_is_the_row_of_the_whole() -> None:
    model, inputs = FAMILY["Llama"].make(), FAMILY["Llama"].inputs()
    with watched(model) as kept:
        model.generate(**inputs, max_new_tokens=3, do_sample=False, pad_token_id=1)
    sequence = model.generate(**inputs, max_new_tokens=3, do_sample=False, pad_token_id=1)
    mask = torch.cat([inputs["attention_mask"], torch.ones(2, 2, dtype=torch.long)], 1)
    places = (mask.cumsum(1) - 1).clamp(min=0)
    whole = _eager("Llama", {"input_ids": sequence[:, :-1], "attention_mask": mask, "position_ids": places})
    for tables, weight in zip(kept.tables.values(), whole, strict=True):
        assert [table.shape[-2:] for table in tables] == [(24, 24), (1, 25), (1, 26)]
        for step, table in enumerate(tables[1:]):
            wanted = weight[:, :, 24 + step : 25 + step, : 25 + step]
            torch.testing.assert_close(table.dense(), wanted, atol=1e-5, rtol=0)


@NEW
def test_an_encoder_decoder_step() -> None:
    model, inputs = FAMILY["T5"].make(), FAMILY["T5"].inputs()
    inputs.pop("decoder_input_ids")
    with watched(model) as kept:
        model.generate(**inputs, max_new_tokens=3, do_sample=False, num_beams=2)
    causal = kept.tables["decoder.block.1.layer.0.SelfAttention"]
    assert [table.shape for table in causal] == [(4, 4, 1, n) for n in (1, 2, 3)]
    assert all(isinstance(table.scoring.bias, Diagonals) for table in causal)
    cross = kept.tables["decoder.block.1.layer.1.EncDecAttention"]
    assert [table.shape for table in cross] == [(4, 4, 1, 24)] * 3
    assert cross[0].dense()[2:, ..., -7:].abs().max() == 0  # padding


@pytest.mark.parametrize("name", ["Llama", "Mistral"])
def test_rows_that_see_nothing_are_those_of_the_function(name: str) -> None:
    """Padding on the left: nothing at all with a mask of booleans, everything alike with the least numbers."""
    model, inputs = FAMILY[name].make("eager"), FAMILY[name].inputs()
    with watched(model) as kept:
        model(**inputs)
    for table, weight in zip(_tables(kept), _eager(name, inputs), strict=True):
        assert _is_linear(table)
        torch.testing.assert_close(table.dense(), weight, atol=1e-5, rtol=0)
        torch.testing.assert_close(table.dense()[1, :, 0], torch.full((4, 24), 1 / 24))
    with watched(model := FAMILY[name].make()) as kept:
        model(**inputs)
    assert all(table.dense()[1, :, 0].abs().max() == 0 for table in _tables(kept))


@NEW
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_rows_that_see_nothing_beside_a_position_bias(implementation: str) -> None:
    inputs = FAMILY["T5"].inputs()
    inputs["decoder_attention_mask"] = (torch.arange(13) >= torch.tensor([0, 5])[:, None]).long()
    wanted = FAMILY["T5"].make("eager")(**inputs, output_attentions=True).decoder_attentions
    with watched(model := FAMILY["T5"].make(implementation)) as kept:
        model(**inputs)
    for layer, weight in enumerate(wanted):
        table = kept.tables[f"decoder.block.{layer}.layer.0.SelfAttention"][0]
        torch.testing.assert_close(table.dense(), weight, atol=1e-5, rtol=0)


def test_masks_and_biases_are_kept_in_linear_memory() -> None:
    for family in FAMILIES:
        if family.since != "4.57":
            continue
        with watched(model := family.make()) as kept:
            model(**family.inputs())
        assert all(_is_linear(table) for table in _tables(kept)), family.name


@NEW
def test_a_position_bias_is_kept_in_linear_memory() -> None:
    with watched(model := FAMILY["T5"].make()) as kept:
        model(**FAMILY["T5"].inputs())
    for name, role in kept.roles.items():
        bias = kept.tables[name][0].scoring.bias
        assert bias is None if role.kind == "cross" else isinstance(bias, Diagonals)


@pytest.mark.parametrize("name", ["Llama", "gpt-oss"])
def test_bfloat16(name: str) -> None:
    model, inputs = FAMILY[name].make().bfloat16(), FAMILY[name].inputs()
    alone = model(**inputs).logits
    with watched(model) as kept:
        assert torch.equal(model(**inputs).logits, alone)
    real = inputs["attention_mask"].bool()[:, None].expand(2, 4, -1)
    for table, weight in zip(
        _tables(kept), FAMILY[name].make("eager").bfloat16()(**inputs, output_attentions=True).attentions, strict=True
    ):
        assert (table.dense() - weight.float())[real].abs().mean() < 0.01
        assert table.scoring.q.dtype == torch.bfloat16


class Attention(nn.Module):
    """A module such as the rules see."""

    is_causal = True


def _call(function: object = sdpa_attention_forward, **named: object) -> Call:
    torch.manual_seed(1)
    q, k = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 7, 8)
    arguments = {"query": q, "key": k, "value": k, "attention_mask": None, "is_causal": None, "scaling": None}
    return Call(function, Attention(), arguments | named, (q, None))  # type: ignore[arg-type]


def _made(rule: str, call: Call, filled: int | None = None) -> AttentionMap:
    return RULES[rule].table(call, Masks(), filled)


def test_causality_is_aligned_at_the_start_and_the_rest_is_cut() -> None:
    call = _call()
    table = _made("sdpa", call)
    assert table.shape == (2, 4, 5, 5) and table.dense().triu(1).abs().max() == 0
    q, k = call.arguments["query"], call.arguments["key"].repeat_interleave(2, 1)
    wanted = nn.functional.scaled_dot_product_attention(q, k, k, is_causal=True)
    torch.testing.assert_close(table.apply(k[:, :, :5]), wanted)
    assert _made("sdpa", _call(is_causal=False)).shape == (2, 4, 5, 7)
    assert _made("eager", _call()).dense().min() > 0  # whose function knows nothing of it


def test_a_scale_and_a_batch_of_one() -> None:
    call = _call(is_causal=False, scaling=0.3)
    call.arguments["query"] = call.arguments["query"][:1]
    table = _made("sdpa", call)
    k = call.arguments["key"].repeat_interleave(2, 1)
    wanted = nn.functional.scaled_dot_product_attention(call.arguments["query"].expand(2, -1, -1, -1), k, k, scale=0.3)
    torch.testing.assert_close(table.apply(k), wanted)


def test_a_mask_that_adds_numbers() -> None:
    mask = torch.randn(2, 1, 5, 7)
    mask[0, :, 2, 3:] = torch.finfo(torch.float32).min
    mask[1, :, 1] = torch.finfo(torch.float32).min
    mask[1, :, 4] = -torch.inf
    call = _call(attention_mask=mask)
    k = call.arguments["key"].repeat_interleave(2, 1)
    wanted = nn.functional.scaled_dot_product_attention(call.arguments["query"], k, k, attn_mask=mask)
    torch.testing.assert_close(_made("sdpa", call).apply(k), wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rows_of_the_least_number_in_half_precision(dtype: torch.dtype) -> None:
    mask = torch.zeros(2, 1, 5, 7, dtype=dtype)
    mask[1, :, 1] = torch.finfo(dtype).min
    call = _call(attention_mask=mask)
    q, k = (call.arguments[name].to(dtype) for name in ("query", "key"))
    call = _call(attention_mask=mask, query=q, key=k)
    k = k.repeat_interleave(2, 1)
    wanted = nn.functional.scaled_dot_product_attention(q, k, k, attn_mask=mask)
    torch.testing.assert_close(_made("sdpa", call).apply(k.float()), wanted.float(), atol=0.02, rtol=0)


REFUSED: dict[str, tuple[str, dict[str, object], str]] = {
    "a soft-cap that is ignored": ("sdpa", {"softcap": 5.0}, "ignores softcap"),
    "sinks that are ignored": ("sdpa", {"s_aux": torch.zeros(4)}, "ignores s_aux"),
    "a paged cache": ("sdpa", {"cache": object()}, "called with cache"),
    "a mask of heads": ("sdpa", {"head_mask": torch.ones(4)}, "called with head_mask"),
    "a scale that is learned": ("eager", {"scaling": torch.ones(())}, "scaling is a Tensor"),
    "booleans that are added": ("eager", {"attention_mask": torch.ones(2, 1, 5, 7).bool()}, "of booleans"),
    "nothing but infinity": ("eager", {"attention_mask": torch.full((2, 1, 5, 7), -torch.inf)}, "is no number"),
    "nothing in float16": (
        "eager",
        {
            "attention_mask": torch.full((2, 1, 5, 7), -65504.0, dtype=torch.float16),
            "query": torch.ones(2, 4, 5, 8, dtype=torch.float16),
            "key": torch.ones(2, 2, 7, 8, dtype=torch.float16),
        },
        "what float16 makes of that",
    ),
    "a mask of two axes": ("sdpa", {"attention_mask": torch.ones(2, 7).bool()}, r"its mask is \(2, 7\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_honoured_is_refused(name: str) -> None:
    rule, named, message = REFUSED[name]
    with pytest.raises(UnsupportedError, match=message):
        _made(rule, _call(**named))


def test_an_eager_function_that_does_something_else_is_noticed() -> None:
    call = _call(is_causal=False)
    q, k = call.arguments["query"], call.arguments["key"].repeat_interleave(2, 1)
    right = (q @ k.mT * 8**-0.5).softmax(-1)
    other = (q @ k.mT * 8**-0.5 + torch.arange(7) * 0.1).softmax(-1)
    assert RULES["eager"].table(Call(call.function, call.module, call.arguments, (q, right)), Masks(), None)
    for weights in (other, right[..., :5], right * torch.nan):
        with pytest.raises(UnsupportedError, match="weights"):
            RULES["eager"].table(Call(call.function, call.module, call.arguments, (q, weights)), Masks(), None)


def _eager_call(keys: int, size: float, dtype: torch.dtype, effect: Tensor | float = 0.0) -> Call:
    """Causal, with scores of about size², and with an effect on scores that the arguments say nothing of."""
    torch.manual_seed(1)
    q, k = ((size * torch.randn(1, 2, keys, 16)).to(dtype) for _ in range(2))
    mask = torch.full((keys, keys), torch.finfo(dtype).min, dtype=dtype).triu(1)[None, None]
    module = Attention().eval()
    module.num_key_value_groups = 1
    result = modeling_llama.eager_attention_forward(module, q, k, k, mask + effect, 0.25)
    arguments = {"query": q, "key": k, "value": k, "attention_mask": mask, "scaling": 0.25, "dropout": 0.0}
    return Call(modeling_llama.eager_attention_forward, module, arguments, result)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("keys", [64, 3000])
def test_an_effect_of_positions_is_noticed_at_any_length_and_in_half_precision(keys: int, dtype: torch.dtype) -> None:
    effect = torch.cos(torch.arange(keys)).expand(keys, keys).to(dtype, copy=True)
    effect[-1] = 0.0  # the first row, of one key, and the last are right
    assert _made("eager", _eager_call(keys, 0.3, dtype)).shape == (1, 2, keys, keys)
    with pytest.raises(UnsupportedError, match="differ from those of its scale, mask and bias"):
        _made("eager", _eager_call(keys, 0.3, dtype, effect))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [3, 6, 12])
def test_what_half_precision_rounds_is_not_taken_for_another_function(size: float, dtype: torch.dtype) -> None:
    assert _made("eager", _eager_call(64, size, dtype)).shape == (1, 2, 64, 64)


@pytest.mark.parametrize("name", ["Llama", "Qwen3", "Gemma 2", "gpt-oss"])
def test_what_autocast_rounds_is_not_taken_for_another_function(name: str) -> None:
    model, inputs = FAMILY[name].make("eager"), FAMILY[name].inputs()
    with torch.autocast("cpu", torch.bfloat16), watched(model) as kept:
        model(**inputs)
    assert len(_tables(kept)) == 2


@NEW
def test_weights_without_the_sink_that_scales_the_output() -> None:
    from transformers.models.granite_swa import modeling_granite_swa as granite

    config = transformers.GraniteSWAConfig(
        vocab_size=31, bos_token_id=1, eos_token_id=2, hidden_size=32, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=4, attention_dropout=0.0,
        attn_implementation="eager",
    )  # fmt: skip
    model = transformers.GraniteSWAForCausalLM(config).eval()
    for layer in model.model.layers:
        nn.init.normal_(layer.self_attn.sinks)
    found: list[tuple[Tensor, Tensor]] = []
    eager = granite.eager_attention_forward

    @functools.wraps(eager)
    def heard(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, *rest: object, **named: object) -> object:
        out = eager(module, q, k, v, *rest, **named)
        found.append((v, out[0]))
        return out

    granite.eager_attention_forward = heard
    try:
        ids = torch.arange(20).view(2, 10)
        mask = (torch.arange(10) >= torch.tensor([0, 3])[:, None]).long()  # rows that see nothing are the sink's
        with watched(model) as kept:
            model(input_ids=ids, attention_mask=mask)
    finally:
        granite.eager_attention_forward = eager
    for table, (v, out) in zip(_tables(kept), found, strict=True):
        torch.testing.assert_close(table.apply(v), out.transpose(1, 2), atol=1e-5, rtol=0)
        assert table.mass().max() < 1
    call = _call(s_aux=torch.zeros(4), is_causal=False)
    q, k = call.arguments["query"], call.arguments["key"].repeat_interleave(2, 1)
    other = (q @ k.mT * 8**-0.5 + torch.arange(7) * 0.1).softmax(-1)
    with pytest.raises(UnsupportedError, match="weights"):
        _made("eager", Call(call.function, call.module, call.arguments, (q, other)))
