"""Gradients by distance: against whole Jacobians, finite differences, and a recurrence whose gradients are known."""

import random

import pytest
import torch
from torch import Tensor, nn

from regard.layers import State
from regard.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig, Memory
from regard.models.families import FAMILIES
from regard.runs.compare.reach import DIRECTIONS, group, measure_reach
from regard.tasks.translation import Specials, collate

CPU = torch.device("cpu")
SPECIALS = Specials(pad=0, bos=1, eos=2, source_pad=0, source_eos=2)
VOCABULARY = 12
SIZES: dict[str, dict[str, object]] = {
    "transformer": {"encoder_layers": 2, "decoder_layers": 2, "width": 8, "feedforward": 16, "heads": 2},
    "rnn_seq2seq": {"layers": 1, "embedding": 6, "width": 8, "reverse_source": False},
    "bahdanau": {"embedding": 6, "width": 4, "attention_width": 5, "maxout": 6},
    "luong": {"layers": 1, "embedding": 6, "width": 8},
}


class LinearConfig(EncoderDecoderConfig):
    def words(self) -> str:
        return "h ← w h + x"


class LinearRecurrence(EncoderDecoder):
    """Encoder h_j = w h_{j−1} + x_j; decoder s_t = w s_{t−1} from the last h, logits only of the states' first part."""

    def __init__(self, factor: float, width: int) -> None:
        super().__init__(LinearConfig(VOCABULARY, VOCABULARY), nn.Linear(width, VOCABULARY, bias=False))
        self.table = nn.Embedding(VOCABULARY, width)
        self.factor = factor

    def embed(self, source: Tensor) -> Tensor:
        return self.table(source)

    def encode(self, embedded: Tensor, source_lengths: Tensor) -> Memory:
        states = [embedded[:, 0]]
        for x in embedded.unbind(1)[1:]:
            states.append(self.factor * states[-1] + x)
        return Memory(torch.stack(states, 1), source_lengths)

    def decode(self, memory: Memory, target: Tensor) -> Tensor:
        state = memory.states[:, -1]
        return torch.stack([state * self.factor**t for t in range(target.shape[1])], 1)

    def start(self, source: Tensor, source_lengths: Tensor) -> State:
        raise NotImplementedError

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        raise NotImplementedError

    def blocks(self) -> list[nn.Module]:
        return []


class FromTheEnd(LinearRecurrence):
    """The same read from its end, `<eos>` first; states in the order of the source."""

    def encode(self, embedded: Tensor, source_lengths: Tensor) -> Memory:
        return Memory(super().encode(embedded.flip(1), source_lengths).states.flip(1), source_lengths)

    def decode(self, memory: Memory, target: Tensor) -> Tensor:
        return super().decode(Memory(memory.states.flip(1), memory.lengths), target)

    def reading_order(self, source_lengths: Tensor, longest: int) -> Tensor:
        return super().reading_order(source_lengths, longest).flip(1)


def small(name: str, **changed: object) -> EncoderDecoder:
    family = FAMILIES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return family.build(family.config(VOCABULARY, VOCABULARY, **SIZES[name] | changed)).double()


def sentences(count: int, source: int, target: int, seed: int = 1) -> list[tuple[list[int], list[int]]]:
    rng = random.Random(seed)
    return [tuple([rng.randrange(3, VOCABULARY) for _ in range(n)] for n in (source, target)) for _ in range(count)]


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.25])
def test_a_linear_recurrence_reaches_back_by_powers_of_its_factor(factor: float) -> None:
    width = 3
    reach = measure_reach(LinearRecurrence(factor, width).double(), sentences(5, 11, 2), SPECIALS, CPU)
    assert [point.distance for point in reach.encoder] == list(range(12))
    for point in reach.encoder:
        # the Jacobian is w^d times the identity, so that the estimate is exact
        for norm in (point.lower, point.median, point.upper):
            assert norm == pytest.approx(width**0.5 * factor**point.distance, rel=1e-6)
        assert point.count == 5


def test_distances_of_outputs_run_through_the_source_and_then_the_target() -> None:
    """In the linear recurrence the gradient of token t at position j is w^(S − 1 − j + t) times one of its own."""
    model = LinearRecurrence(0.5, 3).double()
    nn.init.zeros_(model.table.weight)  # all logits are 0, so that this one depends on the token alone
    pairs = [([3, 4, 5], [6, 7])] * 2
    gradient = (model.output.weight - model.output.weight.mean(0)).detach()  # of log p(v) by the state
    own = [float(gradient[token].norm()) for token in (6, 7, 2)]
    reach = measure_reach(model, pairs, SPECIALS, CPU)
    by_distance: dict[int, list[float]] = {}
    for j in range(4):
        for t in range(3):
            by_distance.setdefault(3 - j + t, []).append(own[t] * 0.5 ** (3 - j + t))
    assert {p.distance: p.count for p in reach.output} == {d: 2 * len(v) for d, v in by_distance.items() if len(v) == 3}
    for point in reach.output:
        values = torch.tensor(by_distance[point.distance] * 2, dtype=torch.float64)
        assert point.median == pytest.approx(float(values.quantile(0.5)))
        assert (point.lower, point.upper) == pytest.approx((float(values.quantile(0.25)), float(values.quantile(0.75))))


def test_distances_are_those_of_reading() -> None:
    """Whatever order a model reads in, its gradients fall with the tokens read since, not with the place."""
    pairs = sentences(5, 6, 3)
    both = [kind(0.5, 3).double() for kind in (LinearRecurrence, FromTheEnd)]
    nn.init.zeros_(both[0].table.weight)
    both[1].load_state_dict(both[0].state_dict())
    forward, reverse = (measure_reach(model, pairs, SPECIALS, CPU) for model in both)
    for point in reverse.encoder:
        assert point.median == pytest.approx(3**0.5 * 0.5**point.distance, rel=1e-6)
    assert reverse.output == forward.output and len(forward.output) == 7 + 3


@pytest.mark.parametrize("name", ["rnn_seq2seq", "luong"])
def test_a_model_that_reverses_its_source_is_measured_along_its_way(name: str) -> None:
    model = small(name, reverse_source=True).eval()
    pair = sentences(1, 4, 3)[0]
    batch = collate([pair[0]], [pair[1]], SPECIALS, CPU)
    embedded = model.embed(batch.sources.tokens).detach()
    jacobian = torch.autograd.functional.jacobian(
        lambda x: model.encode(x, batch.sources.lengths).states[0, -1], embedded
    )[:, 0]  # (W, S, E)
    norms = jacobian.square().sum((0, 2)).sqrt().tolist()
    reach = measure_reach(model, [pair] * 5, SPECIALS, CPU)
    # read as 3 2 1 0 and <eos> last
    expected = [norms[j] for j in (4, 0, 1, 2, 3)]
    assert [point.median for point in reach.encoder] == pytest.approx(expected, rel=1e-6)
    assert expected[4] < expected[1]  # what was read first is the faintest


def log_probs(model: EncoderDecoder, embedded: Tensor, lengths: Tensor, batch) -> Tensor:
    hidden = model.decode(model.encode(embedded, lengths), batch.inputs)
    return model.output(hidden).log_softmax(-1)[0].gather(-1, batch.outputs[0, :, None])[:, 0]


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_norms_are_those_of_whole_jacobians(name: str) -> None:
    """Widths are at most as many as directions, where the estimate of the encoder is exact."""
    model = small(name).eval()
    pair = sentences(1, 4, 3)[0]
    batch = collate([pair[0]], [pair[1]], SPECIALS, CPU)
    lengths = batch.sources.lengths
    embedded = model.embed(batch.sources.tokens).detach()
    assert model.encode(embedded, lengths).states.shape[-1] <= DIRECTIONS

    def jacobian(function) -> Tensor:
        return torch.autograd.functional.jacobian(function, embedded)[..., 0, :, :]  # (·, S, E)

    encoder = jacobian(lambda x: model.encode(x, lengths).states[0, -1]).square().sum((0, 2)).sqrt()
    output = jacobian(lambda x: log_probs(model, x, lengths, batch)).norm(dim=-1)  # (T, S)
    reach = measure_reach(model, [pair] * 5, SPECIALS, CPU)
    assert [point.median for point in reach.encoder] == pytest.approx(encoder.flip(0).tolist(), rel=1e-6, abs=1e-12)
    by_distance: dict[int, list[float]] = {}
    for t, row in enumerate(output.tolist()):
        for j, norm in enumerate(row):
            by_distance.setdefault(4 - j + t, []).append(norm)
    for point in reach.output:
        values = torch.tensor(by_distance[point.distance] * 5, dtype=torch.float64)
        assert point.median == pytest.approx(float(values.quantile(0.5)), rel=1e-6, abs=1e-12)
        assert point.count == len(values)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_gradient_is_what_moving_an_embedding_changes(name: str) -> None:
    model = small(name).eval()
    batch = collate([[5]], [[7]], SPECIALS, CPU)
    lengths, step = batch.sources.lengths, 1e-5
    embedded = model.embed(batch.sources.tokens).detach()
    differences = torch.zeros(2, *embedded.shape[1:], dtype=torch.float64)  # (T, S, E)
    with torch.no_grad():
        for j in range(embedded.shape[1]):
            for e in range(embedded.shape[2]):
                moved = torch.zeros_like(embedded)
                moved[0, j, e] = step
                up, down = (log_probs(model, embedded + sign * moved, lengths, batch) for sign in (1, -1))
                differences[:, j, e] = (up - down) / (2 * step)
    norms = differences.norm(dim=-1)  # (T, S)
    reach = measure_reach(model, [([5], [7])] * 5, SPECIALS, CPU)
    found = {point.distance: point.median for point in reach.output}
    # distances 0 and 2 are one pair of positions each, so that all five values are the same
    assert found[0] == pytest.approx(float(norms[0, 1]), rel=1e-5, abs=1e-9)
    assert found[2] == pytest.approx(float(norms[1, 0]), rel=1e-5, abs=1e-9)


def test_the_estimate_is_right_in_the_mean() -> None:
    """With fewer directions than the state has numbers: over many sentences the squares average to the exact one."""

    class Fixed(LinearRecurrence):
        def encode(self, embedded: Tensor, source_lengths: Tensor) -> Memory:
            return Memory(embedded @ matrix, source_lengths)

    width = 40
    matrix = torch.randn(width, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    matrix *= torch.logspace(0, -3, width, dtype=torch.float64)  # a few directions matter
    model = Fixed(1.0, width).double()
    singles = [measure_reach(model, [([], [])] * 5, SPECIALS, CPU).encoder[0]]
    assert singles[0].lower < singles[0].median < singles[0].upper  # each sentence has directions of its own
    many = measure_reach(model, [([], [])] * 400, SPECIALS, CPU).encoder[0]
    assert many.median == pytest.approx(float(matrix.norm()), rel=0.06)


def test_distances_are_pooled_beyond_32() -> None:
    assert [group(d) for d in range(32)] == list(range(32))
    assert [group(d) for d in (32, 33, 34, 63)] == [33, 33, 35, 63]
    assert [group(d) for d in (64, 67, 68, 127)] == [66, 66, 70, 126]
    assert all(group(group(d)) == group(d) and abs(group(d) - d) <= d / 32 for d in range(32, 3000))
    reach = measure_reach(LinearRecurrence(1.0, 2).double(), sentences(5, 70, 1), SPECIALS, CPU)
    assert [p.distance for p in reach.encoder][30:] == [30, 31, *range(33, 64, 2), 66, 70]
    assert {p.distance: p.count for p in reach.encoder} == {
        **dict.fromkeys(range(32), 5), **dict.fromkeys(range(33, 64, 2), 10), 66: 20, 70: 15
    }  # fmt: skip


def test_few_values_make_no_point() -> None:
    pairs = [*sentences(4, 9, 2), *sentences(4, 3, 2)]
    reach = measure_reach(LinearRecurrence(0.9, 2).double(), pairs, SPECIALS, CPU)
    assert [p.distance for p in reach.encoder] == [0, 1, 2, 3]  # longer ones have four values
    assert measure_reach(LinearRecurrence(0.9, 2).double(), [], SPECIALS, CPU).output == ()


def test_long_targets_are_done_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pairs = small("transformer"), sentences(2, 5, 9)
    whole = measure_reach(model, pairs, SPECIALS, CPU)
    monkeypatch.setattr("regard.runs.compare.reach.ROWS", 4)
    parts = measure_reach(model, pairs, SPECIALS, CPU)
    for a, b in zip(whole.output, parts.output, strict=True):
        assert (a.distance, a.count, a.median) == (b.distance, b.count, pytest.approx(b.median, rel=1e-9))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_model_and_the_generators_stay_as_they_are(name: str) -> None:
    model = small(name).train()
    model.output.eval()
    before = {module: module.training for module in model.modules()}
    random_state = torch.get_rng_state()
    told: list[tuple[str, int, int]] = []
    with torch.no_grad():
        first = measure_reach(model, sentences(2, 4, 3), SPECIALS, CPU, lambda *what: told.append(what))
    assert first == measure_reach(model.eval(), sentences(2, 4, 3), SPECIALS, CPU)  # dropout is off in both
    assert told == [("measuring gradients", i, 2) for i in range(3)]
    model.train()
    model.output.eval()
    assert {module: module.training for module in model.modules()} == before
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
