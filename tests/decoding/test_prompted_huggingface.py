"""Going on from prompts as Hugging Face's `generate` does, with the same random weights of GPT-2 and Llama."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regard.decoding import (
    Average,
    Beam,
    Ends,
    Greedy,
    Limits,
    MinP,
    Prompted,
    Sampling,
    Sliding,
    TopK,
    TopP,
    WhenBehind,
    WhenCertain,
    WhenFull,
)
from regard.decoding.sampling import tempered
from regard.interop.huggingface.weights import read_weights

transformers = pytest.importorskip("transformers")

VOCABULARY, EOS, PAD, POSITIONS = 29, 2, 1, 40
PROMPTS = [[5, 9, 11, 4, 17], [7], [13, 4, 4, 8, 20, 6, 9, 3], [8, 12], [12, 5, 9]]
RULES: dict[Any, Any] = {True: WhenFull(), False: WhenBehind(), "never": WhenCertain()}


def gpt2() -> Any:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=VOCABULARY, n_positions=POSITIONS, n_embd=12, n_layer=2, n_head=3, bos_token_id=0,
            eos_token_id=EOS, pad_token_id=PAD, tie_word_embeddings=False,
        )
    )  # fmt: skip


def llama() -> Any:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=16, intermediate_size=30, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=POSITIONS, tie_word_embeddings=False, bos_token_id=0,
            eos_token_id=EOS, pad_token_id=PAD,
        )
    )  # fmt: skip


@pytest.fixture(scope="module", params=[gpt2, llama], ids=["gpt2", "llama"])
def pair(request, tmp_path_factory):
    """Theirs and ours, in double precision."""
    torch.manual_seed(5)
    theirs = request.param()
    for name, parameter in theirs.named_parameters():  # far from uniform
        nn.init.normal_(parameter, 1.0 if "norm" in name or "ln_" in name else 0.0, 0.35)
    theirs.lm_head.weight.data[EOS] *= 2.0  # some texts end early
    directory = tmp_path_factory.mktemp("theirs")
    theirs.save_pretrained(directory)
    return theirs.eval().double(), read_weights(directory).model.double()


def generate(theirs: Any, prompts: list[list[int]], **options: Any) -> Any:
    """Theirs, prompts padded at the beginning."""
    longest = max(map(len, prompts))
    rows = torch.tensor([[PAD] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.no_grad():
        found = theirs.generate(
            rows, attention_mask=mask, do_sample=False, return_dict_in_generate=True, output_scores=True, **options
        )
    return [stripped(row) for row in found.sequences[:, longest:]], found


def stripped(said: Tensor) -> tuple[tuple[int, ...], bool]:
    tokens = said.tolist()
    return (tuple(tokens[: tokens.index(EOS)]), True) if EOS in tokens else (tuple(tokens), False)


def ours_of(model: Any, search: Any, padded: Any, max_length: int, min_length: int = 0) -> Any:
    prompted = Prompted(model)
    return search.run(prompted, prompted.start(*padded(PROMPTS)), Limits(0, EOS, max_length, min_length))


@pytest.mark.parametrize("min_length", [0, 4])
def test_greedy(pair, toys, min_length):
    theirs, ours = pair
    wanted, _ = generate(theirs, PROMPTS, num_beams=1, max_new_tokens=25, min_new_tokens=min_length)
    found = ours_of(ours, Greedy(), toys.padded, 25, min_length)
    assert [(one.tokens, one.finished) for (one,) in found] == wanted
    assert len({len(tokens) for tokens, _ in wanted}) > 1  # some end early


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("beam", [2, 4])
def test_beam_search(pair, toys, beam, early_stopping):
    theirs, ours = pair
    for alpha, longest in ((1.0, 18), (0.4, 9)):
        wanted, found = generate(
            theirs, PROMPTS, num_beams=beam, num_return_sequences=beam, length_penalty=alpha,
            early_stopping=early_stopping, max_new_tokens=longest,
        )  # fmt: skip
        search = Beam(beam, beam, Average(alpha), RULES[early_stopping])
        flat = [one for few in ours_of(ours, search, toys.padded, longest) for one in few]
        assert [(one.tokens, one.finished) for one in flat] == wanted
        assert [one.score for one in flat] == pytest.approx(found.sequences_scores.tolist(), abs=1e-5)


def test_each_prompt_alone_is_the_same(pair):
    theirs, _ = pair
    together, _ = generate(theirs, PROMPTS, num_beams=3, max_new_tokens=9)
    assert together == [generate(theirs, [prompt], num_beams=3, max_new_tokens=9)[0][0] for prompt in PROMPTS]


def test_one_end_of_several_is_theirs_where_only_one_is_probable(pair, toys):
    """`Ends` with one end symbol changes nothing."""
    theirs, ours = pair
    wanted, _ = generate(theirs, PROMPTS, num_beams=3, max_new_tokens=12)
    ends = Ends(Prompted(ours), (EOS,), VOCABULARY)
    found = Beam(3).run(ends, ends.start(*toys.padded(PROMPTS)), Limits(0, ends.eos, 12))
    assert [(one.tokens, one.finished) for (one,) in found] == wanted


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "min_p"),
    [(0.7, None, None, None), (1.3, 5, None, None), (1.0, None, 0.8, None), (2.0, None, None, 0.1), (0.9, 9, 0.7, 0.2)],
)
def test_what_is_drawn_from(pair, toys, temperature, top_k, top_p, min_p):
    """The filtered distribution is that of their warpers, in their order."""
    theirs, ours = pair
    prompted = Prompted(ours)
    with torch.no_grad():
        log_probs, _ = prompted.step(torch.zeros(5, dtype=torch.int64), prompted.start(*toys.padded(PROMPTS)))
        scores = torch.stack([theirs(torch.tensor([prompt])).logits[0, -1] for prompt in PROMPTS])
    filters = [make(x) for make, x in ((TopK, top_k), (TopP, top_p), (MinP, min_p)) if x is not None]
    made = transformers.generation.logits_process
    warpers = [made.TemperatureLogitsWarper(temperature)]
    for make, x in ((made.TopKLogitsWarper, top_k), (made.TopPLogitsWarper, top_p), (made.MinPLogitsWarper, min_p)):
        warpers += [] if x is None else [make(x)]
    for warper in warpers:
        scores = warper(None, scores)
    found = tempered(log_probs, temperature, filters)
    assert torch.allclose(found.exp(), scores.softmax(1), atol=1e-12)
    if filters:
        assert (found == -torch.inf).any()


def test_samples_are_drawn_from_it(pair, toys):
    """Frequencies of what follows a prompt, for first and second tokens, against their own distribution."""
    theirs, ours = pair
    prompted, count = Prompted(ours), 4000
    start = prompted.start(*toys.padded([PROMPTS[0]]))
    (found,) = Sampling(0.8, (TopK(6),), count).run(prompted, start, Limits(0, 99, 2, keys=(11,)))
    firsts = [one.tokens[0] for one in found]
    common = max(set(firsts), key=firsts.count)
    seconds = [one.tokens[1] for one in found if one.tokens[0] == common]
    warp = transformers.generation.logits_process.TopKLogitsWarper(6)
    for text, drawn in ((PROMPTS[0], firsts), ([*PROMPTS[0], common], seconds)):
        with torch.no_grad():
            wanted = warp(None, theirs(torch.tensor([text])).logits[:, -1] / 0.8).softmax(1)[0]
        shares = torch.tensor(drawn).bincount(minlength=VOCABULARY) / len(drawn)
        spread = (wanted * (1 - wanted) / len(drawn)).sqrt()
        assert bool(((shares - wanted).abs() <= 4.5 * spread + 1e-9).all())


@pytest.mark.parametrize("keep", [POSITIONS, 10])
def test_beyond_the_positions(pair, toys, keep):
    """Greedy tokens of what a forward pass over the window says, step by step."""
    theirs, ours = pair
    model = Prompted(Sliding(ours, POSITIONS, keep))
    found = Greedy().run(model, model.start(*toys.padded(PROMPTS)), Limits(0, 99, 100))
    for prompt, (one,) in zip(PROMPTS, found, strict=True):
        window = [*prompt]
        for token in one.tokens:
            with torch.no_grad():
                assert int(theirs(torch.tensor([window])).logits[0, -1].argmax()) == token
            window.append(token)
            if len(window) > POSITIONS:
                window = window[-keep:]
