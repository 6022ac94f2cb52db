"""What the tokenizers of a translator say of token ids."""

from collections.abc import Sequence

from regard.data import group_by_words, split_words
from regard.data.tokenizers import Tokenizer
from regard.decoding import Hypothesis
from regard.insight.tokens import Tokens, Word, parted
from regard.runs.directory import Tokenizers
from regard.runs.results import Translation
from regard.tasks.translation import Specials


def specials_of(tokenizers: Tokenizers) -> Specials:
    """The special tokens that the task adds."""
    source, target = tokenizers.source, tokenizers.target
    return Specials(target.pad_id, target.bos_id, target.eos_id, source.pad_id, source.eos_id)


def tokens_of(side: Tokenizer, ids: Sequence[int], real: Sequence[bool]) -> Tokens:
    """What stands at the positions of a sequence: special is what adds nothing to a text, and padding.

    Args:
        side: the tokenizer.
        ids: of each position.
        real: of each position, whether it is no padding. The symbol for padding is none where it is read as any other:
            some models begin with it, and some say it.

    Raises:
        ArgumentError: an id is not in the vocabulary.
    """
    texts = tuple(side.pieces(ids))
    special = tuple(not here or not side.surfaces[one] for one, here in zip(ids, real, strict=True))
    inside = [i for i, one in enumerate(special) if not one]
    plain = [ids[i] for i in inside]
    text = side.decode(plain)
    words = split_words(text)
    groups = group_by_words(side.spans(plain), words)
    found = (
        Word(text[start:stop], tuple(inside[i] for i in group))
        for (start, stop), group in zip(words, groups, strict=True)
    )
    return Tokens(texts, special, tuple(ids), parted(found), tuple(not here for here in real))


def words_of(side: Tokenizer, text: str, first: int = 0) -> tuple[tuple[str, ...], list[list[int]]]:
    """The words of a text, and for each the positions of its tokens.

    Args:
        side: the tokenizer.
        text: the text.
        first: the position of its first token, where others stand in front.
    """
    spans = split_words(text)
    groups = group_by_words(side.text_spans(text), spans)
    return tuple(text[start:stop] for start, stop in spans), [[first + at for at in group] for group in groups]


def translation_of(side: Tokenizer, found: Hypothesis) -> Translation:
    """What was found, as text."""
    tokens = list(found.tokens)
    return Translation(
        text=side.decode(tokens),
        score=found.score,
        log_prob=found.log_prob,
        tokens=tuple(side.pieces(tokens)),
        token_log_probs=found.token_log_probs,
        finished=found.finished,
    )
