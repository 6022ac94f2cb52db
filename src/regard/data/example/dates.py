"""Dates: "Tuesday the fourth of March" is 三月四日星期二, largest unit first, and a time of day comes after it."""

import random

from regard.data.example.clock import clock, hour_name
from regard.data.example.numbers import chinese_below_hundred, year
from regard.data.example.phrase import Draft, Phrase, aligned, between, listed, pick, word

MONTHS = listed("January February March April May June July August September October November December")
MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
WEEKDAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
ORDINALS = listed(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth twenty-first twenty-second twenty-third twenty-fourth "
    "twenty-fifth twenty-sixth twenty-seventh twenty-eighth twenty-ninth thirtieth thirty-first"
)
YEARS = (1970, 1999)
"""First and last year of the dates that have one."""


def month_and_day(month: int, day: int) -> Phrase:
    """A day of the year (both from 1): "the fourth of March", 三月四日."""
    return aligned(
        "the {d} of {m}",
        "{m} {d}",
        d=word(ORDINALS[day - 1], chinese_below_hundred(day) + "日"),
        m=word(MONTHS[month - 1], chinese_below_hundred(month) + "月"),
    )


def weekday(day: int) -> Phrase:
    """A day of the week, 0 being Monday: "Tuesday", 星期二."""
    return word(WEEKDAYS[day], "星期" + "一二三四五六日"[day])


def full_date(month: int, day: int, week_day: int) -> Phrase:
    """A day of the year with its day of the week: "Tuesday the fourth of March", 三月四日星期二."""
    return aligned("{w} {d}", "{d} {w}", w=weekday(week_day), d=month_and_day(month, day))


def timed_date(time: Phrase, date: Phrase) -> Phrase:
    """A time on a date: "half past six on Tuesday the fourth of March", 三月四日星期二六点半."""
    return aligned("{t} on {d}", "{d} {t}", t=time, d=date)


def dated_year(date: Phrase, number: int) -> Phrase:
    """A date with its year, 1970 to 1999: "the fourth of March nineteen eighty-five", 一九八五年三月四日."""
    said = year(number) + word("", "年")
    # 年 is a unit that English leaves unsaid: it belongs to the last word of the year
    said = Phrase(said.english, said.chinese, said.links | {(1, 4)})
    return aligned("{d} {y}", "{y} {d}", d=date, y=said)


_EVENTS = (
    word("meeting", "会议"),
    word("exam", "考试"),
    word("concert", "音乐会"),
    word("match", "比赛"),
    word("interview", "面试"),
    word("wedding", "婚礼"),
)
_EVENT_FRAMES = (
    ("the {e} is/b on/a {x}", "{e} 在/a {x} 举行/b"),
    ("is/b the {e} on/a {x} ?/q", "{e} 是/b 在/a {x} 吗/q ？/q"),
)
_DAY_FRAMES = (
    ("today/a is/b {x}", "今天/a 是/b {x}"),
    ("see/b you on {x}", "{x} 见/b"),
    ("we/a leave/b on {x}", "我们/a {x} 出发/b"),
    ("the shop/a is closed/b on {x}", "商店/a {x} 不营业/b"),
    ("can/a you/b come/c on {x} ?/q", "你/b {x} 能/a 来/c 吗/q ？/q"),
)
_TIME_FRAMES = (
    ("{x}", "{x}"),
    ("the train/a leaves/b at {x}", "火车/a {x} 出发/b"),
    ("the lesson/a starts/b at {x}", "课程/a {x} 开始/b"),
    ("let/c us/a meet/b at {x}", "我们/a {x} 见面/b 吧/c"),
    ("can/c we/a meet/b at {x} ?/q", "我们/a {x} 能/c 见面/b 吗/q ？/q"),
)
_YEAR_FRAMES = (
    ("I/a was born/b on/c {x}", "我/a 出生/b 于/c {x}"),
    ("she/a was born/b on/c {x}", "她/a 出生/b 于/c {x}"),
    ("was he/a born/b on/c {x} ?/q", "他/a 出生/b 于/c {x} 吗/q ？/q"),
    ("they/a got married/b on {x}", "他们/a {x} 结婚/b"),
    ("this/a letter/b was written/c on/d {x}", "这/a 封信/b 写/c 于/d {x}"),
    ("the company/a was founded/b on/c {x}", "公司/a 成立/b 于/c {x}"),
)


def draw(rng: random.Random) -> Draft:
    """A sentence about a date.

    Its value is the day: (month, day, weekday) or (year, month, day); a time of day that is said with it does not
    make it another. Day of the week and date are drawn apart: no year is said, so any pair may be right.
    """
    kind = rng.random()
    month = between(rng, 1, 12)
    day = between(rng, 1, MONTH_DAYS[month - 1])
    if kind < 0.3:
        number = between(rng, *YEARS)
        day = min(day, 28) if month == 2 else day  # 29 February is only in some years
        date = dated_year(month_and_day(month, day), number)
        return Draft((number, month, day), aligned(*pick(rng, _YEAR_FRAMES), x=date))
    week_day = between(rng, 0, 6)
    date = full_date(month, day, week_day)
    if kind < 0.5:
        sentence = aligned(*pick(rng, _EVENT_FRAMES), x=date, e=pick(rng, _EVENTS))
        return Draft((month, day, WEEKDAYS[week_day]), sentence)
    if kind < 0.7:
        return Draft((month, day, WEEKDAYS[week_day]), aligned(*pick(rng, _DAY_FRAMES), x=date))
    hour, minute = between(rng, 1, 12), 15 * between(rng, 0, 3)
    time = clock(hour, minute) if minute else hour_name(hour)
    sentence = aligned(*pick(rng, _TIME_FRAMES), x=timed_date(time, date))
    return Draft((month, day, WEEKDAYS[week_day]), sentence)
