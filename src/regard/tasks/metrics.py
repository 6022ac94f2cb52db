"""Quality of generated text: BLEU and chrF by sacreBLEU, exact matches."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF, CHRFScore

from regard.errors import ArgumentError

HAN = re.compile(r"[㐀-䶿一-鿿豈-﫿\U00020000-\U0003ffff]")
KANA = re.compile(r"[぀-ヿ]")
HANGUL = re.compile(r"[가-힯]")
BOOTSTRAP = 1000  # resamples behind a confidence interval (Koehn 2004)


@dataclass(frozen=True)
class Figure:
    """A corpus score with its 95 % confidence interval (half-width; None if not asked for) and sacreBLEU signature."""

    score: float
    interval: float | None
    signature: str


@dataclass(frozen=True)
class TextQuality:
    """Scores of a corpus of hypotheses against one reference each; all in per cent."""

    bleu: Figure
    chrf: Figure
    exact: float


class PlainCHRF(CHRF):
    """chrF with plain floats: sacreBLEU's bootstrap cannot average its own mix of 0.0 and numpy's float32."""

    def _compute_score_from_stats(self, stats: list[int]) -> CHRFScore:
        result = super()._compute_score_from_stats(stats)
        result.score = float(result.score)
        return result


def text_quality(
    hypotheses: Sequence[str], references: Sequence[str], *, tokenize: str = "auto", intervals: bool = False
) -> TextQuality:
    """BLEU (Papineni et al. 2002), chrF (Popović 2015) and the share of hypotheses equal to their reference.

    Args:
        hypotheses, references: one reference for each hypothesis.
        tokenize: sacreBLEU's tokenisation for BLEU; "auto" chooses by the script of the
            references, see `bleu_tokenization`.
        intervals: whether to compute confidence intervals by bootstrap resampling (fixed seed).

    Raises:
        ArgumentError: unequal numbers, or none.
    """
    if len(hypotheses) != len(references) or not references:
        raise ArgumentError(f"{len(hypotheses)} hypotheses for {len(references)} references: expected one for each")
    chosen = bleu_tokenization(references) if tokenize == "auto" else tokenize
    samples = BOOTSTRAP if intervals else 1
    scores = []
    for metric in (BLEU(tokenize=chosen), PlainCHRF()):
        result = metric.corpus_score(list(hypotheses), [list(references)], n_bootstrap=samples)
        interval = float(result._ci) if intervals and len(references) > 1 else None
        scores.append(Figure(float(result.score), interval, str(metric.get_signature())))
    matches = sum(h.strip() == r.strip() for h, r in zip(hypotheses, references, strict=True))
    return TextQuality(scores[0], scores[1], 100.0 * matches / len(references))


def bleu_tokenization(references: Sequence[str]) -> str:
    """sacreBLEU's tokenisation by script: "zh" for Chinese, "char" for Japanese and Korean, otherwise "13a"."""
    text = "".join(references)
    letters = sum(character.isalpha() for character in text) or 1
    kana, hangul, han = (len(pattern.findall(text)) / letters for pattern in (KANA, HANGUL, HAN))
    if kana > 0.05 or hangul > 0.3:
        return "char"
    return "zh" if han > 0.3 else "13a"
