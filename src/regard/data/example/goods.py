"""Prices and quantities: "three books" is 三本书, each thing counted with its own measure word."""

import random
from dataclasses import dataclass

from regard.data.example.numbers import count
from regard.data.example.phrase import Draft, Phrase, aligned, between, pick, word


@dataclass(frozen=True)
class Item:
    """Something that is counted and sold.

    Attributes:
        name: the English singular, with the plain Chinese noun.
        one: the singular with the measure word, 本书.
        many: the plural with the measure word.
        bulk: whether hundreds and thousands of it are talked about.
        dearest: a likely highest price in yuan, 0 if it is not sold in the sentences.
    """

    name: Phrase
    one: Phrase
    many: Phrase
    bulk: bool
    dearest: int


def _item(singular: str, plural: str, measure: str, noun: str, bulk: bool, dearest: int) -> Item:
    counted = measure + noun
    return Item(word(singular, noun), word(singular, counted), word(plural, counted), bulk, dearest)


ITEMS = (
    _item("book", "books", "本", "书", True, 200),
    _item("ticket", "tickets", "张", "票", True, 399),
    _item("chair", "chairs", "把", "椅子", True, 399),
    _item("table", "tables", "张", "桌子", False, 399),
    _item("car", "cars", "辆", "汽车", True, 0),
    _item("umbrella", "umbrellas", "把", "雨伞", False, 200),
    _item("pen", "pens", "支", "笔", True, 100),
    _item("coat", "coats", "件", "大衣", False, 399),
    _item("shirt", "shirts", "件", "衬衫", True, 300),
    _item("hat", "hats", "顶", "帽子", False, 200),
    _item("cat", "cats", "只", "猫", True, 0),
    _item("student", "students", "名", "学生", True, 0),
    _item("tree", "trees", "棵", "树", True, 0),
    _item("apple", "apples", "个", "苹果", True, 20),
    _item("lamp", "lamps", "盏", "灯", False, 300),
    _item("watch", "watches", "块", "手表", False, 399),
)
_SOLD = tuple(item for item in ITEMS if item.dearest)
_BULK = tuple(item for item in ITEMS if item.bulk)

_FOREIGN = (word("dollars", "美元"), word("euros", "欧元"), word("pounds", "英镑"))

_PRICE_FRAMES = (
    ("this/a {i} costs/b {x}", "这/a {i} 要/b {x}"),
    ("does this/a {i} cost/b {x} ?/q", "这/a {i} 要/b {x} 吗/q ？/q"),
    ("I/a paid/b {x} for/c this/d {i}", "我/a 花了/b {x} 买/c 这/d {i}"),
)
_LABEL_FRAMES = (
    ("the price/a of/b the {i} is/c {x}", "{i} 的/b 价格/a 是/c {x}"),
    ("is/c the price/a of/b the {i} {x} ?/q", "{i} 的/b 价格/a 是/c {x} 吗/q ？/q"),
)
_TOTAL_FRAMES = (
    ("{n} cost/a {x}", "{n} 要/a {x}"),
    ("do {n} cost/a {x} ?/q", "{n} 要/a {x} 吗/q ？/q"),
)
_ASKING = ("how/a much/a are {n} ?/q", "{n} 多少钱/a ？/q")

_SMALL_FRAMES = (
    ("I/a would/b like/b {x}", "我/a 想要/b {x}"),
    ("we/a need/b {x}", "我们/a 需要/b {x}"),
    ("she/a bought/b {x}", "她/a 买了/b {x}"),
    ("do you/a have/b {x} ?/q", "你们/a 有/b {x} 吗/q ？/q"),
    ("does he/a need/b {x} ?/q", "他/a 需要/b {x} 吗/q ？/q"),
    ("please/a give/b me/c {x}", "请/a 给/b 我/c {x}"),
)
_BULK_FRAMES = (
    ("there are/b {x} here/a", "这里/a 有/b {x}"),
    ("are/b there {x} here/a ?/q", "这里/a 有/b {x} 吗/q ？/q"),
    ("they/a have/b {x}", "他们/a 有/b {x}"),
    ("we/a saw/b {x}", "我们/a 看到了/b {x}"),
)
_AND = ("{x} and/a {y}", "{x} 和/a {y}")


def counted(n: int, item: Item) -> Phrase:
    """n of a thing with its measure word: "two cars", 两辆汽车."""
    return count(n) + (item.one if n == 1 else item.many)


def yuan(amount: int, jiao: int = 0) -> Phrase:
    """A price in yuan and, unless 0, tenths of one: "twelve yuan and five jiao", 十二元五角."""
    price = count(amount) + word("yuan", "元")
    return price + word("and", "") + count(jiao) + word("jiao", "角") if jiao else price


def draw_price(rng: random.Random) -> Draft:
    """A sentence about what something costs.

    Its value is (thing, amount, jiao, currency), with the number of things in front where there are several; or
    (number, thing) where the price is asked for.
    """
    item = pick(rng, _SOLD)
    kind = rng.random()
    if kind < 0.15:
        n = between(rng, 2, 50)
        return Draft((n, item.name.source), aligned(*_ASKING, n=counted(n, item)))
    amount, price = _draw_amount(rng, item.dearest)
    if kind < 0.35:
        n = between(rng, 2, 20)
        sentence = aligned(*pick(rng, _TOTAL_FRAMES), n=counted(n, item), x=price)
        return Draft((n, item.name.source, *amount), sentence)
    if kind < 0.65:
        sentence = aligned(*pick(rng, _LABEL_FRAMES), i=item.name, x=price)
    else:
        sentence = aligned(*pick(rng, _PRICE_FRAMES), i=item.one, x=price)
    return Draft((item.name.source, *amount), sentence)


def draw_quantity(rng: random.Random) -> Draft:
    """A sentence about how many of something there are; its value is (number, thing), once or for two things."""
    kind = rng.random()
    if kind < 0.5:
        n, item = _draw_bulk(rng), pick(rng, _BULK)
        return Draft((n, item.name.source), aligned(*pick(rng, _BULK_FRAMES), x=counted(n, item)))
    n, item = between(rng, 1, 99), pick(rng, _SOLD)
    if kind < 0.75:
        return Draft((n, item.name.source), aligned(*pick(rng, _SMALL_FRAMES), x=counted(n, item)))
    m, other = between(rng, 1, 12), pick(rng, tuple(thing for thing in _SOLD if thing is not item))
    n = between(rng, 1, 12)
    both = aligned(*_AND, x=counted(n, item), y=counted(m, other))
    value = (n, item.name.source, m, other.name.source)
    return Draft(value, aligned(*pick(rng, _SMALL_FRAMES), x=both))


def _draw_amount(rng: random.Random, dearest: int) -> tuple[tuple[int | str, ...], Phrase]:
    """An amount of money, at most `dearest` of its unit: yuan, yuan and jiao, or whole foreign money; and its value."""
    amount = between(rng, 2, dearest)
    kind = rng.random()
    if kind < 0.75:
        jiao = between(rng, 1, 9) if kind < 0.4 else 0
        return (amount, jiao, "yuan"), yuan(amount, jiao)
    currency = pick(rng, _FOREIGN)
    return (amount, 0, currency.source), count(amount) + currency


def _draw_bulk(rng: random.Random) -> int:
    """A number from 100 to 90,000, those with empty places as frequent as those without."""
    kind = rng.random()
    if kind < 0.3:
        return between(rng, 100, 999)
    if kind < 0.4:
        return 100 * between(rng, 1, 9) + between(rng, 0, 9)
    if kind < 0.6:
        return between(rng, 1000, 9999)
    if kind < 0.75:
        return 1000 * between(rng, 1, 9) + between(rng, 0, 99)
    if kind < 0.85:
        return 1000 * between(rng, 1, 9) + 100 * between(rng, 1, 9)
    if kind < 0.92:
        return 1000 * between(rng, 1, 9)
    return 1000 * pick(rng, (10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 30, 40, 50, 60, 70, 80, 90))
