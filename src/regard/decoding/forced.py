"""A rule that says which token comes at a place, whatever the model says."""

from dataclasses import dataclass

import torch
from torch import Tensor

from regard.decoding.rules import Moment
from regard.errors import ArgumentError


@dataclass(frozen=True)
class Forced:
    """Each sentence's hypotheses say one given token at a place.

    It has probability 1 there, so that scores don't change (`ForcedPrefix` keeps the model's probabilities instead).
    This is what Hugging Face's `forced_bos_token_id` and `forced_eos_token_id` do, at the first place and at the last.

    Attributes:
        places: for each sentence of the batch, how many tokens come before the place; −1 where there is none.
        token: which one.

    Raises:
        ArgumentError: a negative token.
    """

    places: tuple[int, ...]
    token: int

    def __post_init__(self) -> None:
        if self.token < 0:
            raise ArgumentError(f"Forced: the token is {self.token}; expected 0 or more")

    def tensors(self) -> dict[str, Tensor]:
        """The places (S,)."""
        return {"places": torch.tensor(self.places, dtype=torch.int64)}

    def apply(self, log_probs: Tensor, moment: Moment) -> Tensor:
        """0 for the token and −inf for all others, at the place."""
        places = moment.tensors["places"]
        places = places.repeat_interleave(log_probs.shape[0] // max(places.shape[0], 1), 0)  # (N,)
        here = places == moment.said.shape[1]
        if not bool(here.any()):
            return log_probs
        forced = torch.full_like(log_probs, -torch.inf)
        forced[:, self.token] = 0.0
        return torch.where(here[:, None], forced, log_probs)
