"""The same search as Hugging Face's `generate`, hypothesis for hypothesis, on a random model in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from regard.decoding import Average, NoPenalty, WhenBehind, WhenCertain, WhenFull, beam_search, greedy
from regard.layers.state import State

transformers = pytest.importorskip("transformers")

PAD, BOS, EOS = 1, 3, 2
RULES = {True: WhenFull(), False: WhenBehind(), "never": WhenCertain()}
SOURCES = torch.tensor([[5, 9, 11, 4, 2], [7, 6, 2, 1, 1], [13, 4, 4, 8, 2], [8, 2, 1, 1, 1], [12, 5, 9, 2, 1]])
SENTENCES = SOURCES.shape[0]


class Adapter:
    """A Hugging Face encoder-decoder behind the step protocol, without a cache."""

    def __init__(self, model):
        self.model = model

    def start(self, batch: Tensor) -> State:
        mask = batch != PAD
        memory = self.model.get_encoder()(input_ids=batch, attention_mask=mask).last_hidden_state
        prefix = batch.new_empty(batch.shape[0], 0)
        return State(sentence={"memory": memory, "mask": mask}, hypothesis={"prefix": prefix}, position=0)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        prefix = torch.cat((state.hypothesis["prefix"], tokens[:, None]), 1)
        width = tokens.shape[0] // state.sentence["mask"].shape[0]
        logits = self.model(
            encoder_outputs=(state.sentence["memory"].repeat_interleave(width, 0),),
            attention_mask=state.sentence["mask"].repeat_interleave(width, 0),
            decoder_input_ids=prefix,
            use_cache=False,
        ).logits[:, -1]
        return logits.log_softmax(-1), State(state.sentence, {"prefix": prefix}, state.position + 1)


@pytest.fixture(scope="module")
def bart():
    torch.manual_seed(7)
    config = transformers.BartConfig(
        vocab_size=17,
        d_model=12,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=3,
        decoder_attention_heads=3,
        encoder_ffn_dim=19,
        decoder_ffn_dim=19,
        max_position_embeddings=31,
        dropout=0.0,
        init_std=0.3,  # far from uniform
        pad_token_id=PAD,
        bos_token_id=0,
        eos_token_id=EOS,
        decoder_start_token_id=BOS,
        forced_eos_token_id=None,
    )
    model = transformers.BartForConditionalGeneration(config).double().eval()
    model.final_logits_bias[0, EOS] = 1.5  # some sequences end early, some are cut
    return model


def generate(model, **options):
    with torch.no_grad():
        return model.generate(
            SOURCES,
            attention_mask=SOURCES != PAD,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )


def stripped(sequence: Tensor) -> tuple[tuple[int, ...], bool]:
    """Tokens without start, end and padding, and whether there was an end."""
    tokens = sequence.tolist()[1:]
    if EOS in tokens:
        return tuple(tokens[: tokens.index(EOS)]), True
    return tuple(tokens), False


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("alpha", [1.0, 0.0, 2.0, -0.6])
@pytest.mark.parametrize("beam", [2, 3, 5])
def test_beam_search_equals_hugging_face(bart, beam, alpha, early_stopping):
    for min_length, max_length in ((0, 13), (3, 7)):
        theirs = generate(
            bart,
            num_beams=beam,
            num_return_sequences=beam,
            length_penalty=alpha,
            early_stopping=early_stopping,
            max_new_tokens=max_length,
            min_new_tokens=min_length,
        )
        model = Adapter(bart)
        ours = beam_search(
            model,
            model.start(SOURCES),
            beam=beam,
            bos=BOS,
            eos=EOS,
            max_length=max_length,
            min_length=min_length,
            nbest=beam,
            penalty=Average(alpha),
            stopping=RULES[early_stopping],
        )
        flat = [one for few in ours for one in few]
        assert len(flat) == SENTENCES * beam
        assert [(one.tokens, one.finished) for one in flat] == [stripped(row) for row in theirs.sequences]
        assert [one.score for one in flat] == pytest.approx(theirs.sequences_scores.tolist(), abs=1e-5)


def test_the_rules_and_penalties_make_a_difference(bart):
    """Otherwise the equality above would prove little."""
    model = Adapter(bart)

    def search(penalty, stopping):
        return beam_search(
            model,
            model.start(SOURCES),
            beam=5,
            bos=BOS,
            eos=EOS,
            max_length=13,
            nbest=5,
            penalty=penalty,
            stopping=stopping,
        )

    results = [search(Average(2.0), rule) for rule in RULES.values()] + [search(NoPenalty(), WhenFull())]
    assert all(first != second for n, first in enumerate(results) for second in results[:n])
    assert {one.finished for few in results[2] for one in few} == {True, False}


@pytest.mark.parametrize("min_length", [0, 3])
def test_greedy_equals_hugging_face(bart, min_length):
    theirs = generate(bart, num_beams=1, max_new_tokens=13, min_new_tokens=min_length)
    model = Adapter(bart)
    ours = greedy(model, model.start(SOURCES), bos=BOS, eos=EOS, max_length=13, min_length=min_length)
    assert [(one.tokens, one.finished) for one in ours] == [stripped(row) for row in theirs.sequences]
    assert len({len(one.tokens) for one in ours}) > 1
