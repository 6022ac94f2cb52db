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
}
_EVENTS = (
    word("meeting", "会议"),
    word("concert", "音乐会"),
    word("match", "比赛"),
    word("party", "聚会"),
    word("wedding", "婚礼"),
)
"""Events, all of which take the article "a"."""
_PEOPLE = (
    (word("I", "我"), False),
    (word("we", "我们"), False),
    (word("they", "他们"), False),
    (word("he", "他"), True),
    (word("she", "她"), True),
)
"""Who, and whether the verb takes the form of the third person."""
_OTHERS = _PEOPLE[1:]
"""Those that one asks about: nobody asks what they do themselves."""
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
    ("the {e} is/a {x}", "{e} 在/a {x}"),
    ("there is/a a {e} {x}", "{x} 有/a {e}"),
    ("is/a there a {e} {x} ?/q", "{x} 有/a {e} 吗/q ？/q"),
)
"""Frames of an event to come."""
_PAST = (
    ("the {e} was/a {x}", "{e} 在/a {x}"),
    ("there was/a a {e} {x}", "{x} 有/a {e}"),
    ("was/a there a {e} {x} ?/q", "{x} 有/a {e} 吗/q ？/q"),
)
_PLAN = ("{p} will/a {v} {x}", "{p} {x} 要/a {v}")
_PLAN_ASKED = ("will/a {p} {v} {x} ?/q", "{p} {x} 要/a {v} 吗/q ？/q")
_OPENING = (
    ("the {s} is open/a from/c {d} to/b {e}", "{s} 从/c {d} 到/b {e} 营业/a"),
    ("the {s} is closed/a from/c {d} to/b {e}", "{s} 从/c {d} 到/b {e} 不营业/a"),
    ("is the {s} open/a from/c {d} to/b {e} ?/q", "{s} 从/c {d} 到/b {e} 营业/a 吗/q ？/q"),
)


def draw(rng: random.Random) -> Draft:
    """A sentence about days of the week.

    Its value is (week, weekday, part of the day, who or what), the week being "on", "this", "next", "last" or
    "every"; or (first weekday, last weekday, place) for a stretch of days.
    """
    kind = rng.random()
    if kind < 0.35:
        return _draw_event(rng)
    if kind < 0.6:
        return _draw_plan(rng)
    if kind < 0.9:
        return _draw_habit(rng)
    first = between(rng, 0, 6)
    last = (first + between(rng, 1, 4)) % 7
    place = pick(rng, PLACES)
    sentence = aligned(*pick(rng, _OPENING), s=place, d=weekday(first), e=weekday(last))
    return Draft((WEEKDAYS[first], WEEKDAYS[last], place.source), sentence)


def _draw_event(rng: random.Random) -> Draft:
    """An event of one day: "there is a concert next Tuesday evening"."""
    week, event = pick(rng, ("on", "this", "next", "last")), pick(rng, _EVENTS)
    value, when = _draw_when(rng, week)
    frames = _PAST if week == "last" else _COMING
    return Draft((*value, event.source), aligned(*pick(rng, frames), e=event, x=when))


def _draw_plan(rng: random.Random) -> Draft:
    """What someone is going to do: "he will work this Friday"."""
    value, when = _draw_when(rng, pick(rng, ("on", "this", "next")))
    asked, (plain, _) = rng.random() < 0.5, pick(rng, _ACTIONS)
    who, _ = pick(rng, _OTHERS if asked else _PEOPLE)
    sentence = aligned(*(_PLAN_ASKED if asked else _PLAN), p=who, v=plain, x=when)
    return Draft((*value, who.source, plain.source), sentence)


def _draw_habit(rng: random.Random) -> Draft:
    """What someone does every week: "he goes swimming every Tuesday evening"; every is 每个 … 都."""
    day, part = between(rng, 0, 6), pick(rng, _PARTS)
    asked, (plain, inflected) = rng.random() < 0.5, pick(rng, _ACTIONS)
    who, third = pick(rng, _OTHERS if asked else _PEOPLE)
    when = weekday(day) + part
    if not asked:
        verb = inflected if third else plain
        sentence = aligned("{p} {v} every/a {x}", "{p} 每个/a {x} 都/a {v}", p=who, v=verb, x=when)
    else:
        english = f"{'does' if third else 'do'} {{p}} {{v}} every/a {{x}} ?/q"
        sentence = aligned(english, "{p} 每个/a {x} 都/a {v} 吗/q ？/q", p=who, v=plain, x=when)
    return Draft(("every", WEEKDAYS[day], part.source, who.source, plain.source), sentence)


def _draw_when(rng: random.Random, week: str) -> tuple[tuple[int | str, ...], Phrase]:
    """A day of the week, with a part of the day or without: "next Tuesday morning"; and its value."""
    day, part = between(rng, 0, 6), pick(rng, _PARTS)
    return (week, WEEKDAYS[day], part.source), _WEEKS[week] + weekday(day) + part
