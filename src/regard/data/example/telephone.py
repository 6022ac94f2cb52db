"""Telephone numbers of six digits, read one by one: "double five" is 五五."""

import random
from itertools import pairwise

from regard.data.example.numbers import DIGITS, SMALL, digit
from regard.data.example.phrase import Draft, Phrase, aligned, between, pick, word

_FRAMES = (
    ("my/a number/b is/c {x}", "我的/a 号码/b 是/c {x}"),
    ("her/a number/b is/c {x}", "她的/a 号码/b 是/c {x}"),
    ("is/c your/a number/b {x} ?/q", "你的/a 号码/b 是/c {x} 吗/q ？/q"),
    ("please/a call/b me/c on {x}", "请/a 拨打/b {x} 找/b 我/c"),
    ("you/a can/b reach/c him/d on {x}", "你/a 可以/b 拨打/c {x} 找/c 他/d"),
    ("whose/a number/b is/c {x} ?/q", "{x} 是/c 谁的/a 号码/b ？/q"),
    ("the number/b of/a the {p} is/c {x}", "{p} 的/a 号码/b 是/c {x}"),
)
_PLACES = (
    word("hotel", "酒店"),
    word("bank", "银行"),
    word("school", "学校"),
    word("hospital", "医院"),
    word("restaurant", "餐厅"),
)


def telephone(digits: str) -> Phrase:
    """A number digit by digit; two like digits in a row, taken from the left, are read "double".

    "double" is linked to the first of the two characters, the digit's name to both.
    """
    spoken = word("", "")
    place = 0
    while place < len(digits):
        value = int(digits[place])
        if digits[place : place + 2] == digits[place] * 2:
            said = (f"double {SMALL[value]}").split()
            spoken += Phrase(tuple(said), tuple(DIGITS[value] * 2), frozenset({(0, 0), (1, 0), (1, 1)}))
            place += 2
        else:
            spoken += digit(value)
            place += 1
    return spoken


def draw(rng: random.Random) -> Draft:
    """A sentence with a telephone number; its value is the number."""
    digits = _draw_digits(rng)
    english, chinese = pick(rng, _FRAMES)
    slots = {"x": telephone(digits)}
    if "{p}" in english:
        slots["p"] = pick(rng, _PLACES)
    return Draft((digits,), aligned(english, chinese, **slots))


def _draw_digits(rng: random.Random) -> str:
    """Six digits, the first from 2 to 9, with like digits in a row at most once."""
    while True:
        digits = str(between(rng, 2, 9)) + "".join(str(between(rng, 0, 9)) for _ in range(5))
        if sum(first == second for first, second in pairwise(digits)) <= 1:
            return digits
