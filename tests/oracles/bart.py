"""A small Hugging Face encoder-decoder with random weights in float64, behind the step protocol, and its `generate`."""

from __future__ import annotations

import torch
import transformers
from torch import Tensor

from regard.layers.state import State

PAD, BOS, EOS = 1, 3, 2
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


def make_bart():
    """A model far from uniform, of which some sequences end early and some are cut."""
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
    """What `generate` gives for `SOURCES`, without sampling."""
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
