"""Whole numbers in English and Chinese words, linked: "three thousand and five" is 三千零五.

Chinese groups by 万 (ten thousand) and says 零 once for any run of empty places inside a number; 十 opens a number
as 十五 and is 一十五 inside one. 2 is 二 as a digit, and 两 when it leads 千 or 万 or stands alone before a measure
word (两本书, but 二百本书, 十二本书). English says "and" before the last two digits; it is linked to 零 where both
are there.
"""

from functools import cache

from regard.data.example.phrase import Phrase, listed, word

LARGEST = 99_999
"""The largest number that `number` can say."""

SMALL = listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = listed("- ten twenty thirty forty fifty sixty seventy eighty ninety")
DIGITS = "零一二三四五六七八九"


def english_below_hundred(n: int) -> str:
    """0 to 99 as one English word: "seven", "seventeen", "seventy-seven"."""
    if n < 20:
        return SMALL[n]
    return TENS[n // 10] + (f"-{SMALL[n % 10]}" if n % 10 else "")


def chinese_below_hundred(n: int, inside: bool = False) -> str:
    """0 to 99 in Chinese; `inside` a larger number 10 to 19 begin with 一十."""
    if n < 10:
        return DIGITS[n]
    tens = "" if n < 20 and not inside else DIGITS[n // 10]
    return tens + "十" + (DIGITS[n % 10] if n % 10 else "")


def digit(n: int) -> Phrase:
    """One digit read by itself, as in a telephone number: "five", 五."""
    return word(SMALL[n], DIGITS[n])


@cache
def number(n: int) -> Phrase:
    """The number n in words.

    Raises:
        ValueError: n is negative or larger than `LARGEST`.
    """
    if not 0 <= n <= LARGEST:
        raise ValueError(f"number takes 0 to {LARGEST}, not {n}")
    if n < 100:
        return word(english_below_hundred(n), chinese_below_hundred(n))
    thousands, rest = divmod(n, 1000)
    spoken = _thousands(thousands)
    if not rest:
        return spoken
    if rest < 100:
        # 零 stands for the empty hundreds; without thousands there are none
        return spoken + word("and", "零") + _last_two(rest)
    # 20,300 leaves the thousands of its 万 empty (两万零三百), and English has no word for that
    gap = word("", "零") if thousands >= 10 and thousands % 10 == 0 else word("", "")
    return spoken + gap + _hundreds(rest)


@cache
def count(n: int) -> Phrase:
    """The number n before a measure word or unit: 2 alone is 两, anything else as in `number`."""
    return word("two", "两") if n == 2 else number(n)


def year(n: int) -> Phrase:
    """A year, 1110 to 2099, as two English words and four Chinese digits: "nineteen ninety-five", 一九九五.

    Raises:
        ValueError: the last two digits are below 10 ("oh five" is not in the grammar).
    """
    century, rest = divmod(n, 100)
    if rest < 10:
        raise ValueError(f"year takes years whose last two digits are 10 to 99, not {n}")
    first, second = f"{century:02}", f"{rest:02}"
    return word(english_below_hundred(century), _digits(first)) + word(english_below_hundred(rest), _digits(second))


def _thousands(n: int) -> Phrase:
    """n thousand, n from 0 (nothing) to 99; from 10 thousand on Chinese counts in 万."""
    if n == 0:
        return word("", "")
    if n < 10:
        return word(SMALL[n], "两" if n == 2 else DIGITS[n]) + word("thousand", "千")
    tens, ones = divmod(n, 10)
    lead = "两" if tens == 2 else DIGITS[tens]
    if not ones:
        return word(f"{english_below_hundred(n)} thousand", f"{lead}万")
    # "fifteen thousand" is 一万五千: the word holds both digits, "thousand" both units
    characters = (lead, "万", DIGITS[ones], "千")
    return Phrase((english_below_hundred(n), "thousand"), characters, frozenset({(0, 0), (1, 1), (0, 2), (1, 3)}))


def _hundreds(n: int) -> Phrase:
    """100 to 999, whether alone or at the end of a larger number."""
    hundreds, rest = divmod(n, 100)
    spoken = word(SMALL[hundreds], DIGITS[hundreds]) + word("hundred", "百")
    if not rest:
        return spoken
    return spoken + word("and", "零" if rest < 10 else "") + _last_two(rest)


def _last_two(n: int) -> Phrase:
    """1 to 99 at the end of a larger number."""
    return word(english_below_hundred(n), chinese_below_hundred(n, inside=True))


def _digits(text: str) -> str:
    return "".join(DIGITS[int(character)] for character in text)
