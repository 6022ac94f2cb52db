"""`Translator`: a trained model with its tokenizers, which translates, scores and shows what it looked at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regard.data import inference_batches
from regard.decoding import (
    Ensemble,
    ForcedPrefix,
    Hypothesis,
    LengthPenalty,
    Limits,
    Rule,
    Ruled,
    Search,
    StepModel,
    Stopping,
)
from regard.decoding.ensemble import log_mean
from regard.errors import ArgumentError, UnsupportedError
from regard.insight.tokens import Tokens
from regard.layers import Attend
from regard.models.encoder_decoder import EncoderDecoder
from regard.recording import record
from regard.runs.directory import SavedConfig, Tokenizers, open_model
from regard.runs.frames import Side, forced_in, rules_in
from regard.runs.jobs import (
    Job,
    Lengths,
    Line,
    Settings,
    check_list,
    make_job,
    make_lines,
    sentence_key,
    unsaid,
)
from regard.runs.pair_reading import PairReader
from regard.runs.results import Attention, Translation
from regard.runs.searches import choose_search
from regard.runs.sides import specials_of, tokens_of, translation_of, words_of
from regard.runs.steering import Steering
from regard.tasks.translation import Specials, token_log_probs

__all__ = ["Attention", "Translation", "Translator", "open_translation", "specials_of"]

BATCH_TOKENS = 4096  # source positions decoded together, times the width of the search in memory
BATCH_ROWS = 128
BATCH_HYPOTHESES = 1024


class Translator:
    """A trained encoder–decoder model with its tokenizers, or several that speak as one (`regard.runs.ensembles`).

    Calls don't change it: a process may keep one and use it again and again, from one thread at a time.

    Args:
        model: in evaluation mode, on its device.
        tokenizers: of both languages.
        decoding: defaults: beam, penalty, alpha, max_ratio (see `regard.runs.recipe.DecodingRecipe`); those of models
            of others have more (see `regard.runs.frames`).
        others: more models over the same vocabularies, on the same device; translations and scores are by the mean of
            all probabilities, attention is the first model's.
        weights: of the models in that mean; equal if not given.
        frame: the special tokens around texts, if they are not those of the tokenizers (see `regard.runs.frames`).

    Raises:
        ArgumentError: the weights don't fit the models.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        tokenizers: Tokenizers,
        decoding: dict[str, Any],
        others: Sequence[EncoderDecoder] = (),
        weights: Sequence[float] | None = None,
        frame: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.models = (model, *others)
        self.tokenizers = tokenizers
        self.decoding = decoding
        self.frame = frame
        self._reader = PairReader(self.models, tokenizers, frame)
        self.device = self._reader.device
        self.max_tokens = self._reader.longest
        """Longest source or target in tokens."""
        self._ensemble = Ensemble(self.models, weights)
        self.weights = self._ensemble.weights
        self._steering = Steering(tokenizers.target)
        self.listeners: list[Callable[[Sequence[int], Sequence[Sequence[int]]], None]] = []
        """Called after the search for each batch with, for all that was found in the order of the texts: which
        sentence of the batch it is of, and the ids that the models said, `<bos>` first. Recordings listen."""

    @property
    def specials(self) -> Specials:
        """The special tokens around texts."""
        return self._reader.specials

    @property
    def attends(self) -> bool:
        """Whether the model has attention that can be looked at."""
        return any(isinstance(module, Attend) for module in self.model.modules())

    def check_attends(self) -> None:
        """Refuse a model without attention, before anything is translated in order to look at it.

        Raises:
            UnsupportedError: it has none.
        """
        if not self.attends:
            raise UnsupportedError(f"this model has no attention to look at: {self.model.config.words()}")

    def translate(
        self,
        texts: Sequence[str],
        *,
        beam: int | None = None,
        penalty: LengthPenalty | None = None,
        stopping: Stopping | None = None,
        min_length: int = 0,
        max_length: int | None = None,
        attention: bool = False,
        search: Search | None = None,
        rules: Sequence[Rule] = (),
        prefixes: Sequence[str] | None = None,
        constraints: Sequence[Sequence[str]] | None = None,
        seed: int = 1,
    ) -> list[Translation]:
        """The best translation of each text, in order; by sampling, its first sample.

        What is found for a text does not depend on the other texts.

        Args:
            texts: sources; an empty one has an empty translation.
            beam: width of the beam; 1 is greedy search.
            penalty: length penalty.
            stopping: when a sentence is done.
            min_length, max_length: of the translation in tokens; by default the longest is `max_ratio` times the
                source's tokens plus ten, and more where a prefix, phrases or `min_length` need it.
            attention: also run the model over each finished translation and keep what it looked at.
            search: instead of beam, penalty and stopping: how translations are looked for (`Greedy`, `Beam`,
                `DiverseBeam`, `ConstrainedBeam`, `Sampling`).
            rules: what may be said (`NoRepeatNgram`, `RepetitionPenalty`, `Forbidden`); `log_prob` is then after them.
            prefixes: for each text what its translation begins with, "" for anything. A prefix may end within a
                word; white space at its end says that the word is complete.
            constraints: for each text the phrases that its translation contains; the search is then a
                `ConstrainedBeam`. A phrase begins with a word, and may end within one.
            seed: of sampling. A text's samples follow from the seed, the text and the model: equal texts have equal
                samples, in any batch.

        Raises:
            ArgumentError: a text has more tokens than the model has positions, a prefix or phrase cannot be said, or
                not under the rules; the message has its index. Arguments contradict each other.
        """
        best = [
            results[0]
            for results in self.translate_nbest(
                texts,
                nbest=1 if search is None else None,
                beam=beam,
                penalty=penalty,
                stopping=stopping,
                min_length=min_length,
                max_length=max_length,
                search=search,
                rules=rules,
                prefixes=prefixes,
                constraints=constraints,
                seed=seed,
            )
        ]
        if not attention:
            return best
        return [
            replace(one, attention=self.attention(text, one.text) if one.text.strip() else None)
            for text, one in zip(texts, best, strict=True)
        ]

    def translate_nbest(
        self,
        texts: Sequence[str],
        *,
        nbest: int | None = None,
        beam: int | None = None,
        penalty: LengthPenalty | None = None,
        stopping: Stopping | None = None,
        min_length: int = 0,
        max_length: int | None = None,
        search: Search | None = None,
        rules: Sequence[Rule] = (),
        prefixes: Sequence[str] | None = None,
        constraints: Sequence[Sequence[str]] | None = None,
        seed: int = 1,
    ) -> list[list[Translation]]:
        """The `nbest` best translations of each text, best first; other arguments and errors as for `translate`.

        With `search`, all that it finds: it says how many itself. Samples come in the order in which they are drawn.
        There can be fewer where the search found fewer.

        Args:
            nbest: at most the beam; all of the beam if not given.

        Raises:
            ArgumentError: also if nbest exceeds the beam.
        """
        lines = make_lines(texts, prefixes, constraints)
        chosen = choose_search(
            self.decoding,
            search,
            constrained=any(line.phrases for line in lines),
            nbest=nbest,
            beam=beam,
            penalty=penalty,
            stopping=stopping,
        )
        results = self.attempt(lines, Settings(chosen, tuple(rules), min_length, max_length, seed))
        for number, found in enumerate(results):
            if not found:
                raise ArgumentError(unsaid(number))
        return results

    def attempt(self, lines: Sequence[Line], settings: Settings) -> list[list[Translation]]:
        """What `translate_nbest` finds; nothing for a line whose phrases can't be said under the rules.

        Raises:
            ArgumentError: as for `translate`, but for that.
        """
        chosen = choose_search(
            self.decoding,
            settings.search,
            constrained=any(line.phrases for line in lines),
            nbest=1 if settings.search is None else None,
        )
        lengths = self._lengths(settings.min_length, settings.max_length)
        sources = self.encode("source", [line.text for line in lines])
        jobs = [
            make_job(
                source,
                line.prefix,
                line.phrases,
                lengths=lengths,
                steering=self._steering,
                key=sentence_key(settings.seed, line.text),
                number=number,
            )
            for number, (line, source) in enumerate(zip(lines, sources, strict=True))
        ]
        results: list[list[Translation]] = [[Translation("", 0.0, 0.0, (), (), True)] for _ in lines]
        wanted = [i for i, job in enumerate(jobs) if job.source]
        rows = max(1, min(BATCH_ROWS, BATCH_HYPOTHESES // chosen.width))
        for batch in inference_batches([len(jobs[i].source) + 1 for i in wanted], BATCH_TOKENS, rows):
            indices = [wanted[int(i)] for i in batch]
            found = self._found([jobs[i] for i in indices], chosen, settings.rules, lengths.shortest)
            # what was cut lacks phrases: nothing was possible any more (see `constrained_beam_search`)
            said = [
                [one for one in hypotheses if one.finished or not jobs[i].phrases]
                for i, hypotheses in zip(indices, found, strict=True)
            ]
            for i, hypotheses in zip(indices, said, strict=True):
                results[i] = [translation_of(self.tokenizers.target, one) for one in hypotheses]
            self._tell(indices, said)
        return results

    def problem(
        self,
        text: str,
        prefix: str = "",
        phrases: Sequence[str] = (),
        *,
        min_length: int = 0,
        max_length: int | None = None,
    ) -> str | None:
        """Why `translate` would refuse a text, with what its translation begins with and contains, before it looks.

        Raises:
            ArgumentError: the lengths contradict each other.
        """
        lengths, steering = self._lengths(min_length, max_length), self._steering
        try:
            make_job(self.encode("source", [text])[0], prefix, phrases, lengths=lengths, steering=steering, key=0)
        except ArgumentError as error:
            return str(error)
        return None

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> list[list[float]]:
        """Natural-log probability of each token of given translations, `<eos>` last; an empty pair gives [].

        Raises:
            ArgumentError: unequal numbers, or a text with too many tokens.
        """
        check_list("sources", sources)
        check_list("targets", targets)
        if len(sources) != len(targets):
            raise ArgumentError(f"{len(sources)} sources and {len(targets)} targets: expected one for each")
        encoded = self._reader.pairs(sources, targets)
        wanted = [i for i, pair in enumerate(encoded) if any(pair)]
        results: list[list[float]] = [[] for _ in sources]
        lengths = [max(len(encoded[i][0]), len(encoded[i][1])) + 1 for i in wanted]
        for batch in inference_batches(lengths, BATCH_TOKENS, BATCH_ROWS):
            indices = [wanted[int(i)] for i in batch]
            pairs = self._reader.batch([encoded[i] for i in indices])
            members = [token_log_probs(each, pairs) for each in self.models]
            for i, values in zip(indices, zip(*members, strict=True), strict=True):
                tensors = [torch.tensor(each, dtype=torch.float64) for each in values]
                results[i] = log_mean(tensors, self.weights).tolist()
        return results

    def attention(self, source: str, target: str) -> Attention:
        """What the model looks at when it reads `source` and says `target` (which need not be its own translation).

        Raises:
            ArgumentError: a text is empty or has too many tokens.
            UnsupportedError: the model has no attention.
        """
        self.check_attends()
        if not source.strip() or not target.strip():
            raise ArgumentError("attention needs a source and a target that are not empty")
        batch = self._reader.batch(self._reader.pairs([source], [target]))
        with torch.no_grad(), record(self.model) as maps:
            self.model(batch.sources.tokens, batch.sources.lengths, batch.inputs)
        one, other = self.tokenizers.source, self.tokenizers.target
        tokens = one.pieces(batch.sources.tokens[0].tolist()), other.pieces(batch.outputs[0].tolist())
        words = words_of(one, source, len(self.specials.source_begin)), words_of(other, target)
        return Attention(maps, source, target, tuple(tokens[0]), tuple(tokens[1]), *words)

    def tokens_of(self, sequence: str, ids: Sequence[int], real: Sequence[bool]) -> Tokens:
        """What stands at the positions of a "source" or "target" that the model reads, for recordings."""
        side = self.tokenizers.source if sequence == "source" else self.tokenizers.target
        return tokens_of(side, ids, real)

    def real_targets(self, inputs: Tensor) -> Tensor:
        """Which of what the decoder reads is no padding, for recordings; see `PairReader.real_targets`."""
        return self._reader.real_targets(inputs)

    def encode(self, side: Side, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts as the model reads them, without what stands around them; none is refused as too long."""
        return self._reader.ids(side, texts)

    def source_length(self, text: str) -> int:
        """Number of tokens of a source; it may not exceed `max_tokens`."""
        return len(self.tokenizers.source.encode(text))

    def _found(
        self, jobs: Sequence[Job], search: Search, rules: Sequence[Rule], shortest: int
    ) -> list[list[Hypothesis]]:
        """What the search finds for one batch."""
        model: StepModel = self._ensemble if len(self.models) > 1 else self.model
        begun = [bool(job.prefix.tokens) for job in jobs]
        rules = [*rules_in(self.decoding), *rules, *forced_in(self.decoding, [job.limit for job in jobs], begun)]
        if any(begun):
            tokens, endings = tuple(job.prefix.tokens for job in jobs), tuple(job.prefix.endings for job in jobs)
            rules = [*rules, ForcedPrefix(tokens, endings, self._steering.ranks[: self.model.config.target_vocabulary])]
        if rules:
            model = Ruled(model, rules)
        limits = Limits(
            self.specials.bos,
            self.specials.eos,
            torch.tensor([job.limit for job in jobs], device=self.device),
            shortest,
            tuple(job.key for job in jobs),
            tuple(job.phrases for job in jobs),
        )
        sources = self._reader.sources([job.source for job in jobs])
        with torch.inference_mode():
            return search.run(model, model.start(sources.tokens, sources.lengths), limits)

    def _tell(self, indices: Sequence[int], found: Sequence[Sequence[Hypothesis]]) -> None:
        """Tell the listeners what was found for the texts `indices` of a batch."""
        in_order = [(at, one) for at in sorted(range(len(found)), key=indices.__getitem__) for one in found[at]]
        sentences, ids = [at for at, _ in in_order], [[self.specials.bos, *one.tokens] for _, one in in_order]
        for listener in tuple(self.listeners):
            listener(sentences, ids)

    def _lengths(self, shortest: int, longest: int | None) -> Lengths:
        if longest is None and (own := self.decoding.get("max_length")) is not None:
            longest = max(min(own, self.max_tokens), shortest)
        if not shortest:  # a default yields to a length that is asked for
            most = self.max_tokens if longest is None else longest
            shortest = min(self.decoding.get("min_length") or 0, most)
        return Lengths(self.max_tokens, self.decoding["max_ratio"], shortest, longest)


def open_translation(directory: Path, saved: SavedConfig, device: torch.device) -> Translator:
    """The translator of a directory whose config.json has been read; see `regard.runs.load`.

    Raises:
        CheckpointError: something else in it is missing or damaged.
    """
    found = open_model(directory, saved, device)
    return Translator(found.model, found.tokenizers, found.decoding)
