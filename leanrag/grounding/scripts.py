"""Text of scripts without spaces: whether two such texts contradict each other."""

from __future__ import annotations

import re
from collections.abc import Sequence

from leanrag.grounding.measures import SCRIPT_NUMERALS
from leanrag.grounding.reading import Token
from leanrag.grounding.values import LOWER_BOUNDS, UPPER_BOUNDS

__all__ = ["answers_beside", "differs_in_script"]

_NEGATIONS = tuple("不 没 沒 未 无 無 非 别 勿 ない なかっ ません なく ずに ぬ ไม่ ห้าม ไร้ มิได้ ບໍ່ មិន គ្មាន".split())
_HARMLESS = tuple(
    """不但 不仅 不僅 不断 不斷 不过 不過 不同 不久 不少 不管 不论 未来 未來 无论 無論 非常 特别 特別 别的 区别
    分别 级别 差别 性别 別人 南无
    なくて だけでなく ไม่เพียง ไม่ช้า 少なくとも 無料 无线 無線 没收 非洲""".split()
)
"""Words that hold the letters of a negation and are none."""

_OPPOSITES = tuple(
    tuple(pair.split("/"))
    for pair in """增加/减少 增加/減少 上升/下降 增长/下降 提高/降低 上涨/下跌 以上/以下 以前/以后 之前/之后 大于/小于
    高于/低于 多于/少于 早于/晚于 最大/最小 最高/最低
    最多/最少 至少/至多 开放/关闭 打开/关闭 开始/结束 允许/禁止 可以/禁止 可以/不得 全部/部分 所有/部分
    所有/有些 买/卖 左/右 东/西 南/北 前/后 早上/晚上 上午/下午
    冷/热 大/小 长/短 快/慢 超过/不足 必须/可以 入口/出口 收入/支出 进口/出口
    増加/減少 上昇/下降 上昇/低下 以前/以降 開始/終了 開く/閉まる 開店/閉店 許可/禁止 可能/不可能 午前/午後
    最大/最小 最高/最低 左/右 前/後 高い/低い 大きい/小さい
    早い/遅い 多い/少ない
    เพิ่ม/ลด ก่อน/หลัง มากกว่า/น้อยกว่า เปิด/ปิด ซ้าย/ขวา
    สูง/ต่ำ อนุญาต/ห้าม ทั้งหมด/บางส่วน ใหญ่/เล็ก เช้า/เย็น อย่างน้อย/ไม่เกิน""".split()
)
_BOUNDS: tuple[tuple[str, str], ...] = (
    ("至少", "atleast"),
    ("以上", "atleast"),
    ("至多", "atmost"),
    ("最多", "atmost"),
    ("以下", "atmost"),
    ("超过", "morethan"),
    ("超過", "morethan"),
    ("不足", "lessthan"),
    ("少于", "lessthan"),
    ("多于", "morethan"),
    ("未満", "lessthan"),
)


def _script_text(tokens: Sequence[Token]) -> str:
    """The tokens as one text; numbers in Han numerals are in its words already."""
    pieces = ["，" if token.kind == "pause" else token.text for token in tokens if not _is_han_number(token)]
    return "".join(pieces) if any(token.kind == "script" for token in tokens) else ""


def _is_han_number(token: Token) -> bool:
    return token.kind == "quantity" and not any(character.isascii() for character in token.text)


_COUNTED = re.compile(rf"([{''.join(SCRIPT_NUMERALS)}]+|\d+)(\D)")


def differs_in_script(claim: Sequence[Token], passage: Sequence[Token], *, is_fragment: bool) -> bool:
    """In a script without spaces: another polarity, an opposite, or another bound."""
    mine = _script_text(claim)
    there = _script_text(passage)
    if not mine or not there:
        return False
    part = max(re.split("，", there), key=lambda piece: len(_pairs(piece) & _pairs(mine)), default=there)
    if _counts_otherwise(mine, there):
        return True
    if is_fragment and len(mine) <= 4 and not _script_negations(mine):
        return False
    if bool(_script_negations(mine)) != bool(_script_negations(part)):
        return True
    for left, right in _OPPOSITES:
        for a, b in ((left, right), (right, left)):
            if a in mine and b not in mine and b in part and a not in part and mine.replace(a, b) in there:
                return True
            if len(a) > 1 and a in mine and b not in mine and b in there and a not in there:
                return True
    bounds = {kind for word, kind in _BOUNDS if word in mine}
    found = {kind for word, kind in _BOUNDS if word in there}
    return bool((bounds & LOWER_BOUNDS and found & UPPER_BOUNDS) or (bounds & UPPER_BOUNDS and found & LOWER_BOUNDS))


def _counts_otherwise(claim: str, text: str) -> bool:
    """Whether a text counts something only with another number."""
    counts = _COUNTED.findall(text)
    return any(
        (number, counted) not in counts and any(other == counted for _, other in counts)
        for number, counted in _COUNTED.findall(claim)
    )


def answers_beside(answer: Sequence[Token], question: Sequence[Token], passage: Sequence[Token]) -> bool:
    """Whether a short answer stands in a part of a text that lacks the last word of the question.

    Another part has that word, and more of the question.
    """
    mine, asked = _script_text(answer), _script_text(question)
    words = [word for word in _LAST_WORD.findall(asked) if _FUNCTION.isdisjoint(word)]
    if not mine or not words:
        return False
    parts = re.split("[，。；、！]", _script_text(passage))
    with_answer = [part for part in parts if mine in part]
    if not with_answer or any(words[-1] in part for part in with_answer):
        return False
    most = max(len(_pairs(part) & _pairs(asked)) for part in with_answer)
    return any(words[-1] in part and len(_pairs(part) & _pairs(asked)) > most for part in parts)


_LAST_WORD = re.compile(r"[\u4e00-\u9fff]{2}(?=[^\u4e00-\u9fff]*\Z)")
_FUNCTION = frozenset("的了是在和吗嗎呢吧也都就有为為与與及于於之这這那一个個")


def _script_negations(text: str) -> int:
    for harmless in _HARMLESS:
        text = text.replace(harmless, "")
    return sum(text.count(negation) for negation in _NEGATIONS)


def _pairs(text: str) -> set[str]:
    return {text[i : i + 2] for i in range(len(text) - 1)}
