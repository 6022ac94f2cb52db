"""Times of day: "quarter to seven in the evening" is 晚上差一刻七点, the part of the day in front."""

import random

from regard.data.example.numbers import DIGITS, SMALL, count, english_below_hundred, number
from regard.data.example.phrase import Draft, Phrase, aligned, between, pick, word

QUARTER = word("quarter", "一刻")
MINUTE = word("", "分")

PARTS = (
    (1, 12, "plain", "", Phrase((), (), frozenset())),
    (6, 11, "short", "上午", word("am", "上午")),
    (1, 6, "short", "下午", word("pm", "下午")),
    (6, 11, "long", "上午", aligned("in the morning/a", "上午/a")),
    (1, 5, "long", "下午", aligned("in the afternoon/a", "下午/a")),
    (6, 10, "long", "晚上", aligned("in the evening/a", "晚上/a")),
)
"""(first hour, last hour, kind, name, phrase) of the parts of the day; a part is said only of its own hours."""


def hour_name(hour: int) -> Phrase:
    """The hour, 1 to 12, alone: "six", 六点."""
    return word(SMALL[hour], "".join(count(hour).chinese) + "点")


def clock(hour: int, minute: int) -> Phrase:
    """The time as it is spoken, hour 1 to 12, minute a multiple of 5: "half past six", "ten to seven", "six"."""
    following = hour_name(hour % 12 + 1)
    current = hour_name(hour)
    if minute == 0:
        return current
    if minute == 15:
        return aligned("{q} past {h}", "{h} {q}", q=QUARTER, h=current)
    if minute == 30:
        return aligned("half/a past {h}", "{h} 半/a", h=current)
    if minute == 45:
        return aligned("{q} to/a {h}", "差/a {q} {h}", q=QUARTER, h=following)
    if minute < 30:
        return aligned("{m} past {h}", "{h} {m}", m=_minutes(minute), h=current)
    remaining = word(english_below_hundred(60 - minute), "".join(number(60 - minute).chinese) + "分")
    return aligned("{m} to/a {h}", "差/a {m} {h}", m=remaining, h=following)


def o_clock(hour: int) -> Phrase:
    """The full hour with "o'clock", which is what 点 says: "six o'clock", 六点."""
    return count(hour) + word("o'clock", "点")


def digital(hour: int, minute: int) -> Phrase:
    """The time as a digital clock shows it: "six thirty" is 六点三十分, "six oh five" 六点零五分, "six" 六点."""
    if minute == 0:
        return hour_name(hour)
    if minute < 10:
        return hour_name(hour) + word("oh", "零") + word(SMALL[minute], DIGITS[minute] + "分")
    return hour_name(hour) + _minutes(minute)


def _minutes(minute: int) -> Phrase:
    """Minutes after the hour in one word, 分 included; below ten Chinese says 零 first."""
    zero = "零" if minute < 10 else ""
    return word(english_below_hundred(minute), zero + "".join(number(minute).chinese) + "分")


def draw_time(rng: random.Random) -> Draft:
    """A time of day, with a part of the day in two of three; value (hour, minute, part of the day)."""
    first, last, kind, name, part = pick(rng, PARTS)
    hour = between(rng, first, last)
    spoken = kind == "long" or (kind == "plain" and rng.random() < 0.5)
    minute = 5 * between(rng, 0, 11) if spoken else between(rng, 0, 59)
    if spoken:
        time = o_clock(hour) if minute == 0 and rng.random() < 0.5 else clock(hour, minute)
    else:
        time = digital(hour, minute)
    return Draft((hour, minute, name), aligned("{t} {p}", "{p} {t}", t=time, p=part))


def draw_round_time(rng: random.Random, first: int, last: int) -> Draft:
    """A full hour from `first` to `last`, or quarter or half past it, no part of the day; value (hour, minute)."""
    hour, minute = between(rng, first, last), pick(rng, (0, 0, 15, 30))
    return Draft((hour, minute), clock(hour, minute))


PLACES = tuple(
    word(english, chinese)
    for english, chinese in (
        ("shop", "商店"),
        ("bank", "银行"),
        ("bookshop", "书店"),
        ("cafe", "咖啡馆"),
        ("restaurant", "餐厅"),
        ("supermarket", "超市"),
    )
)
_VEHICLES = (word("train", "火车"), word("bus", "公交车"), word("plane", "飞机"))
_SHOWS = (word("film", "电影"), word("lesson", "课程"), word("meeting", "会议"), word("match", "比赛"))

_TOPICS = (
    (
        PLACES,
        (
            ("the {s} opens/a at {t}", "{s} {t} 开门/a"),
            ("the {s} closes/a at {t}", "{s} {t} 关门/a"),
            ("does the {s} open/a at {t} ?/q", "{s} {t} 开门/a 吗/q ？/q"),
            ("does the {s} close/a at {t} ?/q", "{s} {t} 关门/a 吗/q ？/q"),
        ),
    ),
    (
        _VEHICLES,
        (
            ("the {s} leaves/a at {t}", "{s} {t} 出发/a"),
            ("the {s} arrives/a at {t}", "{s} {t} 到达/a"),
            ("does the {s} arrive/a at {t} ?/q", "{s} {t} 到达/a 吗/q ？/q"),
        ),
    ),
    (
        _SHOWS,
        (
            ("the {s} starts/a at {t}", "{s} {t} 开始/a"),
            ("the {s} ends/a at {t}", "{s} {t} 结束/a"),
            ("does the {s} start/a at {t} ?/q", "{s} {t} 开始/a 吗/q ？/q"),
        ),
    ),
)
_EVERYDAY = (
    ("it", "it/a is/b {t}", "现在/a 是/b {t}"),
    ("leave", "I/a am leaving/b at {t}", "我/a {t} 走/b"),
    ("meet", "we/a meet/b at {t}", "我们/a {t} 见面/b"),
    ("arrive", "they/a will/b arrive/c at/d {t}", "他们/a 会/b 在/d {t} 到达/c"),
    ("call", "please/a call/b me/c at {t}", "请/a {t} 给/b 我/c 打电话/b"),
    ("wake", "please/a wake/b me/c up/b at {t}", "请/a {t} 叫醒/b 我/c"),
)
"""(subject of the value, English, Chinese)"""
_RANGES = (
    ("the {s} is open/a from/b {t} to/c {u}", "{s} 从/b {t} 到/c {u} 营业/a"),
    ("is the {s} open/a from/b {t} to/c {u} ?/q", "{s} 从/b {t} 到/c {u} 营业/a 吗/q ？/q"),
)


def draw(rng: random.Random) -> Draft:
    """A sentence about a time of day.

    Its value is (hour, minute, part of the day, subject), or both times and the subject where there are two.
    """
    kind = rng.random()
    if kind < 0.2:
        start, end, subject = draw_round_time(rng, 6, 11), draw_round_time(rng, 1, 5), pick(rng, PLACES)
        sentence = aligned(*pick(rng, _RANGES), s=subject, t=start.phrase, u=end.phrase)
        return Draft((*start.value, *end.value, subject.source), sentence)
    time = draw_time(rng)
    if kind < 0.4:
        name, english, chinese = pick(rng, _EVERYDAY)
        return Draft((*time.value, name), aligned(english, chinese, t=time.phrase))
    subjects, frames = pick(rng, _TOPICS)
    subject = pick(rng, subjects)
    return Draft((*time.value, subject.source), aligned(*pick(rng, frames), s=subject, t=time.phrase))
