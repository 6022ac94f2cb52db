"""Idioms and set phrases, for the training part only.

Where a saying is translated as a whole, only the words that do translate each other are linked, often none.
"""

from regard.data.example.phrase import Phrase, aligned

IDIOMS: tuple[Phrase, ...] = (
    aligned("never/a say/b never/c", "永不/a 言/b 弃/c"),
    aligned("practice makes perfect", "熟能生巧"),
    aligned("time/a is/b money/c", "时间/a 就是/b 金钱/c"),
    aligned("knowledge/a is/b power/c", "知识/a 就是/b 力量/c"),
    aligned("all/a roads/b lead/c to/c Rome/d", "条条/a 大路/b 通/c 罗马/d"),
    aligned("blood/a is thicker/b than/c water/d", "血/a 浓/b 于/c 水/d"),
    aligned("seeing/a is/b believing", "眼见/a 为/b 实"),
    aligned("actions/a speak louder/b than/c words/d", "事实/a 胜/b 于/c 雄辩/d"),
    aligned("no/a pain/b no/c gain/d", "不/a 劳/b 无/c 获/d"),
    aligned("haste/a makes waste/b", "欲速/a 则不达/b"),
    aligned("better safe than sorry", "有备无患"),
    aligned("kill two/b birds with one/a stone", "一/a 举 两/b 得"),
    aligned("look before/a you leap/b", "三思 而后/a 行/b"),
    aligned("like father/a like son/b", "有其 父/a 必有其 子/b"),
    aligned("easier/c said/a than done/b", "说/a 起来 容易/c 做/b 起来难"),
    aligned("out of sight/a out of mind/b", "眼/a 不见 心/b 不烦"),
)
