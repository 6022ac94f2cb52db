"""BPE dropout (Provilkov et al. 2020, "BPE-Dropout: Simple and Effective Subword Regularization").

In training each sentence is cut anew: byte-pair merges are left out at random. The library has this too, but its
generator can't be seeded, and a run that goes on could then not repeat what it would have done.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import Final

from regard.data.given_files import HIDDEN, has_member, merged
from regard.data.tokenizer_files import BYTES, SPACE_MARK, SPECIALS, build
from regard.data.tokenizers import Tokenizer
from regard.errors import ArgumentError, UnsupportedError

_NEVER: Final = 1 << 60  # the rank of a pair that is no merge
_MOST_WORDS: Final = 1 << 16
_NAMED_BYTES: Final = {name: bytes([byte]) for byte, name in enumerate(BYTES)}
_MARK_BYTES: Final = [len(SPECIALS) + byte for byte in SPACE_MARK.encode()]

_Word = tuple[list[int], list[int]]
"""The smallest symbols of a word, and the rank of the merge of each with the next (`_NEVER` for the last)."""


class BPEDropout:
    """Cuts token ids into smaller pieces of the same text.

    The algorithm is the paper's (Algorithm 1): a word starts as characters (bytes where a character is not in the
    vocabulary, or in byte-level tokenizers). At each step every possible merge of two neighbours is dropped with the
    given probability, anew and each occurrence for itself; of those that remain the one of highest priority is done,
    the leftmost of several. If none remains, the word is done.

    Args:
        tokenizer: of kind "bpe", or a given byte-pair tokenizer.
        probability: of dropping a merge, in [0, 1]. 0 changes nothing, 1 gives characters; the paper uses 0.1.

    Raises:
        ArgumentError: the probability is outside [0, 1].
        UnsupportedError: the tokenizer has no merges, or marks the inside or the end of words in its pieces.
    """

    def __init__(self, tokenizer: Tokenizer, probability: float) -> None:
        if not 0 <= probability <= 1:
            raise ArgumentError(f"probability: got {probability}, expected a number from 0 to 1")
        frame = tokenizer.frame
        model = frame["model"]
        if model.get("type") != "BPE":
            kind = model.get("type") if tokenizer.kind == "given" else tokenizer.kind
            raise UnsupportedError(f"BPE dropout needs a bpe tokenizer, or a given one with merges; this is {kind}")
        if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
            raise UnsupportedError("BPE dropout: pieces with a mark inside or at the end of words are not supported")
        self._probability = probability
        self._vocabulary: dict[str, int] = model["vocab"]
        self._unk = self._vocabulary.get(model.get("unk_token"), tokenizer.unk_id)
        self._merges = {
            (self._vocabulary[left], self._vocabulary[right]): (rank, self._vocabulary[piece])
            for rank, (left, right, piece) in enumerate(merged(frame))
        }
        self._text = _Text(tokenizer)
        self._words: dict[str, _Word] = {}

    def __call__(self, ids: Sequence[int], seed: Sequence[int]) -> list[int]:
        """Return other ids of the same text, the same ones for the same arguments.

        Args:
            ids: the ids of a text as `Tokenizer.encode` gives them; special tokens may be among them and stay.
            seed: any integers, for example (seed of the run, epoch, number of the sentence).

        Raises:
            ArgumentError: an id is not in the vocabulary, or byte tokens are not UTF-8 text.
        """
        if not self._probability:
            return list(ids)
        key = ",".join(map(str, seed)).encode()
        draw = random.Random(int.from_bytes(hashlib.blake2b(key, digest_size=16).digest())).random
        cut: list[int] = []
        for part in self._text.words(ids):
            if isinstance(part, int):
                cut.append(part)
                continue
            word = self._words.get(part)
            if word is None:
                if len(self._words) >= _MOST_WORDS:
                    self._words.clear()
                word = self._words[part] = self._start(part)
            symbols, ranks = word
            cut += self._merge(symbols.copy(), ranks.copy(), draw) if len(symbols) > 1 else symbols
        return cut

    def _start(self, word: str) -> _Word:
        """A word before the first merge."""
        symbols: list[int] = []
        for character in word:
            index = self._vocabulary.get(character)
            if index is None:
                found = [self._vocabulary.get(BYTES[byte]) for byte in character.encode()]
                known = [byte for byte in found if byte is not None]
                symbols += known if len(known) == len(found) and character != HIDDEN else [self._unk]
            else:
                symbols.append(index)
        ranks = [self._rank(pair) for pair in pairwise(symbols)]
        return symbols, [*ranks, _NEVER]

    def _rank(self, pair: tuple[int, int]) -> int:
        found = self._merges.get(pair)
        return _NEVER if found is None else found[0]

    def _merge(self, symbols: list[int], ranks: list[int], draw: Callable[[], float]) -> list[int]:
        """The word after the last merge. Drawing for the best merge first, and for the next only if it is dropped, is
        the same as drawing for all of them and taking the best that remains."""
        merges, probability = self._merges, self._probability
        while (best := min(ranks)) < _NEVER:
            place = ranks.index(best)
            if draw() < probability:
                others = sorted((rank, at) for at, rank in enumerate(ranks) if rank < _NEVER)[1:]
                place = next((at for _, at in others if draw() >= probability), -1)
                if place < 0:
                    break
            symbols[place] = merges[symbols[place], symbols[place + 1]][1]
            del symbols[place + 1], ranks[place + 1]
            if place + 1 < len(symbols):
                found = merges.get((symbols[place], symbols[place + 1]))
                ranks[place] = _NEVER if found is None else found[0]
            else:
                ranks[place] = _NEVER
            if place:
                found = merges.get((symbols[place - 1], symbols[place]))
                ranks[place - 1] = _NEVER if found is None else found[0]
        return symbols


class _Text:
    """The words that ids were made of, as the library's model gets them.

    Raises:
        UnsupportedError: words can't be found again, because the tokenizer drops the spaces between them.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        frame = tokenizer.frame
        self._splitter = build(frame, "the tokenizer").pre_tokenizer
        self._own = tokenizer.kind == "bpe"
        self._byte_level = has_member(frame.get("pre_tokenizer"), "ByteLevel")
        self._fixed = set(range(len(SPECIALS))) if self._own else {token["id"] for token in frame["added_tokens"]}
        # What each id adds to the text that is cut into words. Where ▁ in a text can't be told from a space, a given
        # tokenizer makes no difference either.
        self._surfaces = tokenizer.surfaces.copy()
        if not self._own and not self._byte_level:
            for index, name in enumerate(tokenizer.pieces(range(tokenizer.vocab_size))):
                if self._surfaces[index] != _NAMED_BYTES.get(name):
                    self._surfaces[index] = name.encode()
            self._surfaces[tokenizer.unk_id] = HIDDEN.encode()  # of no vocabulary, so unknown again
            self._fixed.discard(tokenizer.unk_id)
        if len("".join(self._split("ab cd"))) < len("ab cd"):
            raise UnsupportedError("BPE dropout needs pieces that hold the spaces of a text; this tokenizer drops them")

    def words(self, ids: Sequence[int]) -> Iterator[str | int]:
        """The words in turn, and the ids that are not text."""
        for fixed, group in groupby(ids, self._fixed.__contains__):
            if fixed:
                yield from group
                continue
            found = list(group)
            if min(found) < 0 or max(found) >= len(self._surfaces):
                raise ArgumentError(f"ids: got {min(found)} to {max(found)}, expected 0 to {len(self._surfaces) - 1}")
            try:
                text = b"".join([self._surfaces[index] for index in found]).decode()
            except UnicodeDecodeError as error:
                raise ArgumentError(f"ids: their bytes are not UTF-8 text: {error.reason}") from error
            # Trained tokenizers write ▁ as its bytes.
            for place, part in enumerate(text.split(SPACE_MARK) if self._own else (text,)):
                yield from _MARK_BYTES if place else ()
                yield from self._split(part)

    def _split(self, text: str) -> list[str]:
        if self._splitter is None:
            return [text]
        words: list[str] = [word for word, _ in self._splitter.pre_tokenize_str(text)]
        size = len(text.encode()) if self._byte_level else len(text)
        if sum(map(len, words)) == size + 1:  # a space was put in front, but the text has its own already
            words[0] = words[0][1:]
        return words
