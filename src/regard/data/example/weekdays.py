"""Days of the week: "he goes swimming every Tuesday evening" is 他每个星期二晚上都去游泳."""

import random

from regard.data.example.clock import PLACES
from regard.data.example.dates import WEEKDAYS, weekday
from regard.data.example.phrase import Draft, Phrase, aligned, between, pick, word

_NOTHING = word("", "")
_PARTS = (
    _NOTHING,
    word("morning", "上午"),
    word("afternoon", "下午"),
    word("evening", "晚上"),
)
_WEEKS = {
    "on": word("on", ""),
    "this": word("this", "这个"),
    "next": word("next", "下个"),
    "last": word("last", "上个"),
    "every": word("every", "每个"),
}
_EVENTS = (
    word("meeting", "会议"),
    word("exam", "考试"),
    word("concert", "音乐会"),
    word("match", "比赛"),
    word("interview", "面试"),
)
_PEOPLE = (
    (word("I", "我"), 0),
    (word("we", "我们"), 0),
    (word("they", "他们"), 0),
    (word("he", "他"), 1),
    (word("she", "她"), 1),
)
"""Who, and whether the verb takes the form of the third person."""
_ACTIONS = (
    (aligned("go/a swimming/b", "去/a 游泳/b"), aligned("goes/a swimming/b", "去/a 游泳/b")),
    (aligned("play/a football/b", "踢/a 足球/b"), aligned("plays/a football/b", "踢/a 足球/b")),
    (aligned("play/a tennis/b", "打/a 网球/b"), aligned("plays/a tennis/b", "打/a 网球/b")),
    (word("work", "上班"), word("works", "上班")),
    (word("cook", "做饭"), word("cooks", "做饭")),
    (aligned("learn/a Chinese/b", "学/a 中文/b"), aligned("learns/a Chinese/b", "学/a 中文/b")),
)
"""What, in the plain form and in that of the third person."""

_COMING = (
    ("the {e} is {x}", "{e} 在 {x}"),
    ("there is/a a {e} {x}", "{x} 有/a {e}"),
    ("is there/a a {e} {x} ?/q", "{x} 有/a {e} 吗/q ？/q"),
)
"""Frames of an event to come, or of one that recurs."""
_PAST = (
    ("the {e} was {x}", "{e} 在 {x}"),
    ("there was/a a {e} {x}", "{x} 有/a {e}"),
    ("was there/a a {e} {x} ?/q", "{x} 有/a {e} 吗/q ？/q"),
)
_OPEN = (
    ("the {s} is open/a from {d} to/b {e}", "{s} {d} 到/b {e} 开门/a"),
    ("the {s} is closed/a from {d} to/b {e}", "{s} {d} 到/b {e} 关门/a"),
    ("is the {s} open/a from {d} to/b {e} ?/q", "{s} {d} 到/b {e} 开门/a 吗/q ？/q"),
)


def _when(week: str, day: int, part: int) -> Phrase:
    """A day of the week seen from today, with a part of the day or without: "next Tuesday morning"."""
    return _WEEKS[week] + weekday(day) + _PARTS[part]


def _draw_event(rng: random.Random) -> Draft:
    """An event on a day: value (event, week, weekday, part of the day)."""
    week, day, part = pick(rng, ("on", "this", "next", "last")), between(rng, 0, 6), between(rng, 0, 3)
    event = pick(rng, _EVENTS)
    frames = _PAST if week == "last" else _COMING
    sentence = aligned(*pick(rng, frames), e=event, x=_when(week, day, part))
    return Draft((event.source, week, WEEKDAYS[day], part), sentence)
