import re

import pytest

from regard.data.example.clock import clock, digital, o_clock
from regard.data.example.dates import dated_year, full_date, month_and_day, timed_date
from regard.data.example.goods import ITEMS, counted, yuan
from regard.data.example.idioms import IDIOMS
from regard.data.example.numbers import LARGEST, count, number, year
from regard.data.example.phrase import Phrase, aligned, listed, word
from regard.data.example.telephone import telephone

ITEM = {item.name.source: item for item in ITEMS}


def read_chinese(text: str) -> int:
    """The number a Chinese numeral says, by scanning its units; knows nothing of the writer."""
    total = section = 0
    digit = None
    for character in text:
        if character in "零一二三四五六七八九":
            digit = "零一二三四五六七八九".index(character)
        elif character == "两":
            digit = 2
        elif character == "万":
            total, section, digit = (total + section + (digit or 0)) * 10_000, 0, None
        else:
            section += {"十": 10, "百": 100, "千": 1000}[character] * (1 if digit is None else digit)
            digit = None
    return total + section + (digit or 0)


ENGLISH = {
    name: value
    for value, name in enumerate(
        listed(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen eighteen nineteen"
        )
    )
} | {name: 10 * i for i, name in enumerate(listed("twenty thirty forty fifty sixty seventy eighty ninety"), 2)}


def read_english(text: str) -> int:
    total = part = 0
    for name in text.replace("-", " ").split():
        if name == "hundred":
            part *= 100
        elif name == "thousand":
            total, part = part * 1000, 0
        elif name != "and":
            part += ENGLISH[name]
    return total + part


def test_numbers_are_read_back() -> None:
    for n in range(10_000):
        said = number(n)
        assert read_chinese(said.target) == n, said.target
        assert read_english(said.source) == n, said.source
        assert read_chinese(count(n).target) == n
    for n in range(10_000, LARGEST + 1, 37):
        assert read_chinese(number(n).target) == n
        assert read_english(number(n).source) == n


def test_chinese_numbers_are_well_formed() -> None:
    texts = [number(n).target for n in range(10_000)]
    assert len(set(texts)) == len(texts)
    for n, text in enumerate(texts[1:], 1):
        assert "零零" not in text and not text.endswith("零") and not text.startswith("零")
        assert not re.search(r"(?<![一二三四五六七八九两])[百千]", text), text
        # one 零 exactly where an empty place lies between two that are not
        assert text.count("零") == len(re.findall(r"(?<=[1-9])0+(?=[1-9])", str(n))), (n, text)
        # 十 without a digit opens a number, and nothing else
        assert not re.search(r".(?<![一二三四五六七八九])十", text), text


@pytest.mark.parametrize(
    ("n", "english", "chinese"),
    [
        (0, "zero", "零"),
        (2, "two", "二"),
        (10, "ten", "十"),
        (12, "twelve", "十二"),
        (20, "twenty", "二十"),
        (100, "one hundred", "一百"),
        (115, "one hundred and fifteen", "一百一十五"),
        (202, "two hundred and two", "二百零二"),
        (1010, "one thousand and ten", "一千零一十"),
        (2222, "two thousand two hundred and twenty-two", "两千二百二十二"),
        (3005, "three thousand and five", "三千零五"),
        (3500, "three thousand five hundred", "三千五百"),
        (4030, "four thousand and thirty", "四千零三十"),
        (5608, "five thousand six hundred and eight", "五千六百零八"),
        (15_000, "fifteen thousand", "一万五千"),
        (20_000, "twenty thousand", "两万"),
        (20_300, "twenty thousand three hundred", "两万零三百"),
        (32_000, "thirty-two thousand", "三万二千"),
        (40_007, "forty thousand and seven", "四万零七"),
    ],
)
def test_numbers_by_hand(n: int, english: str, chinese: str) -> None:
    assert (number(n).source, number(n).target) == (english, chinese)


def test_two_before_a_measure_word() -> None:
    assert [counted(n, ITEM["car"]).target for n in (1, 2, 12, 22, 200)] == [
        "一辆汽车",
        "两辆汽车",
        "十二辆汽车",
        "二十二辆汽车",
        "二百辆汽车",
    ]
    assert counted(3, ITEM["book"]).target == "三本书"
    assert counted(1, ITEM["book"]).source == "one book"


def test_every_link_of_a_number_is_between_a_word_and_its_digits() -> None:
    said = number(3005)
    assert sorted(said.links) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert sorted(number(215).links) == [(0, 0), (1, 1), (3, 2), (3, 3), (3, 4)]  # "and" has no counterpart
    assert sorted(number(15_000).links) == [(0, 0), (0, 2), (1, 1), (1, 3)]


def test_numbers_out_of_range_are_refused() -> None:
    for n in (-1, LARGEST + 1):
        with pytest.raises(ValueError, match=str(n)):
            number(n)
    with pytest.raises(ValueError, match="1905"):
        year(1905)


@pytest.mark.parametrize(
    ("phrase", "english", "chinese"),
    [
        (clock(6, 30), "half past six", "六点半"),
        (clock(6, 15), "quarter past six", "六点一刻"),
        (clock(6, 45), "quarter to seven", "差一刻七点"),
        (clock(12, 50), "ten to one", "差十分一点"),
        (clock(2, 5), "five past two", "两点零五分"),
        (clock(2, 20), "twenty past two", "两点二十分"),
        (clock(11, 35), "twenty-five to twelve", "差二十五分十二点"),
        (o_clock(12), "twelve o'clock", "十二点"),
        (digital(6, 0), "six", "六点"),
        (digital(6, 5), "six oh five", "六点零五分"),
        (digital(6, 42), "six forty-two", "六点四十二分"),
        (month_and_day(12, 31), "the thirty-first of December", "十二月三十一日"),
        (full_date(3, 4, 1), "Tuesday the fourth of March", "三月四日星期二"),
        (full_date(10, 20, 6), "Sunday the twentieth of October", "十月二十日星期日"),
        (
            timed_date(clock(6, 30), full_date(3, 4, 1)),
            "half past six on Tuesday the fourth of March",
            "三月四日星期二六点半",
        ),
        (
            dated_year(month_and_day(3, 4), 1985),
            "the fourth of March nineteen eighty-five",
            "一九八五年三月四日",
        ),
        (yuan(2), "two yuan", "两元"),
        (yuan(112, 5), "one hundred and twelve yuan and five jiao", "一百一十二元五角"),
        (telephone("3515520"), "three five one double five two zero", "三五一五五二零"),
        (telephone("5550055"), "double five five double zero double five", "五五五零零五五"),
    ],
)
def test_phrases_by_hand(phrase: Phrase, english: str, chinese: str) -> None:
    assert (phrase.source, phrase.target) == (english, chinese)


def test_links_of_a_date_with_time() -> None:
    # half past six on Tuesday the fourth of March / 三 月 四 日 星 期 二 六 点 半
    assert sorted(timed_date(clock(6, 30), full_date(3, 4, 1)).links) == [
        (0, 9),
        (2, 7),
        (2, 8),
        (4, 4),
        (4, 5),
        (4, 6),
        (6, 2),
        (6, 3),
        (8, 0),
        (8, 1),
    ]


def test_patterns_place_slots_and_labels() -> None:
    phrase = aligned("the {s} opens/a at {t} ?/q", "{s} {t} 开门/a 吗/q ？/q", s=word("shop", "商店"), t=clock(9, 0))
    assert (phrase.source, phrase.target) == ("the shop opens at nine?", "商店九点开门吗？")
    assert sorted(phrase.links) == [(1, 0), (1, 1), (2, 4), (2, 5), (4, 2), (4, 3), (5, 6), (5, 7)]


@pytest.mark.parametrize(
    ("english", "chinese"), [("{x} now", "现在"), ("{x} now/a", "{x} 现在"), ("now", "现在"), ("{x} {y}", "{x} {y}")]
)
def test_patterns_that_do_not_agree_are_refused(english: str, chinese: str) -> None:
    with pytest.raises(ValueError, match="do not agree"):
        aligned(english, chinese, x=word("one", "一"))


def test_idioms() -> None:
    texts = {idiom.source: idiom.target for idiom in IDIOMS}
    assert texts["never say never"] == "永不言弃"
    assert 10 <= len(texts) == len(IDIOMS) <= 20
