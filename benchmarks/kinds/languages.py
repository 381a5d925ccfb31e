"""Prose in other languages: real articles where the data sets hold them, and towns' museums described in the others."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kinds.material import Draft, KindQuestion, plain

__all__ = ["french", "japanese", "korean", "thai", "xquad"]

# Real articles

ARTICLES = 5  # of each language: 25 paragraphs, enough for 40 questions and for paragraphs that look alike


def xquad(data: Path, language: str, source: random.Random) -> Draft:
    """Read the articles of XQuAD in a language, a file an article; a few questions of each paragraph."""
    with gzip.open(data / f"xquad-{language}.json.gz", "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"][:ARTICLES]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    everything = plain("\n\n".join(paragraph["context"] for paragraph in paragraphs))
    files: dict[str, str] = {}
    questions = []
    for article in articles:
        name = f"{article['title']}.txt"
        files[name] = "\n\n".join(paragraph["context"] for paragraph in article["paragraphs"])
        for paragraph in article["paragraphs"]:
            for row in source.sample(paragraph["qas"], min(2, len(paragraph["qas"]))):
                answer = row["answers"][0]
                span = _only(paragraph["context"], answer["answer_start"], len(answer["text"]), everything)
                least = _sentences_around(paragraph["context"], span)
                questions.append(KindQuestion(row["question"], answer["text"], (span,), (name,), least=least))
    return files, questions


def _only(text: str, start: int, length: int, everything: str) -> str:
    """Return the shortest piece around `text[start:start + length]` that stands in `everything` once; words stay whole."""
    end = start + length
    while everything.count(plain(text[start:end])) > 1 and (start > 0 or end < len(text)):
        start, end = max(0, start - 1), min(len(text), end + 1)
    if " " in text[start:end]:
        start = text.rfind(" ", 0, start + 1) + 1
        following = text.find(" ", end - 1)
        end = len(text) if following < 0 else following
    return text[start:end].strip()


_SENTENCE_END = re.compile(r"[.!?؟।](?=\s)|[。！？]")


def _sentences_around(text: str, span: str) -> str:
    """Return the sentences of `text` that hold `span`."""
    start = text.index(span)
    ends = [found.end() for found in _SENTENCE_END.finditer(text)]
    first = max((end for end in ends if end <= start), default=0)
    last = min((end for end in ends if end >= start + len(span)), default=len(text))
    return text[first:last].strip()


# Museums


@dataclass(frozen=True, slots=True)
class _Language:
    """Sentences about a museum, each with its question and the shortest answer; and what they are filled with.

    Fields: `{c}` town, `{p}` founder, `{d}` director, `{y}` year, `{m}` and `{n}` numbers, `{h}` hour, `{q}` minutes.
    """

    facts: Sequence[tuple[str, str, str]]
    towns: Sequence[str]
    people: Sequence[str]
    filler: str
    joint: str
    title: str


def _museums(language: _Language, source: random.Random) -> Draft:
    towns = source.sample(language.towns, 10)
    people = source.sample(language.people, len(language.people))
    works, fees = source.sample(range(201, 999), 10), source.sample(range(11, 99), 10)
    times = source.sample([(hour, minute) for hour in (6, 7, 8, 9) for minute in (10, 15, 20, 40, 45)], 10)
    files: dict[str, str] = {}
    questions = []
    for i, town in enumerate(towns):
        name = language.title.format(i // 5 + 1)
        hour, minute = times[i]
        values = {
            "c": town,
            "p": people[i % 6],
            "d": people[6 + i % 6],
            "y": 1860 + 7 * i,
            "m": works[i],
            "n": fees[i],
            "h": hour,
            "q": minute,
        }
        sentences = [fact.format(**values) for fact, _, _ in language.facts]
        paragraph = language.joint.join([*sentences[:3], language.filler.format(**values), *sentences[3:]])
        files[name] = files.get(name, "") + paragraph + "\n\n"
        for sentence, (_, question, short) in zip(sentences, language.facts, strict=True):
            questions.append(
                KindQuestion(question.format(**values), short.format(**values), (sentence.rstrip(".。"),), (name,))
            )
    return files, questions


_FRENCH = _Language(
    facts=(
        ("Le musée de {c} a été fondé en {y} par {p}.", "À qui doit-on la création du musée de {c} ?", "{p}"),
        (
            "La collection du musée de {c} compte {m} tableaux.",
            "Combien de peintures le musée de {c} possède-t-il ?",
            "{m}",
        ),
        (
            "L'entrée au musée de {c} coûte {n} euros pour les adultes.",
            "Quel est le prix du billet au musée de {c} ?",
            "{n} euros",
        ),
        ("La direction du musée de {c} est confiée à {d}.", "Qui est aujourd'hui à la tête du musée de {c} ?", "{d}"),
        (
            "Le restaurant du musée de {c} ferme à {h} h {q} le soir.",
            "Jusqu'à quelle heure peut-on dîner au musée de {c} ?",
            "{h} h {q}",
        ),
    ),
    towns="Lille Nantes Rennes Grenoble Dijon Metz Tours Reims Toulon Bayonne Colmar Vannes".split(),
    people=(
        "Claire Fontaine|Hugo Lambert|Julie Mercier|Louis Girard|Camille Roussel|Antoine Chevalier|Manon Perrin|Paul Garnier|"
        "Sophie Marchand|Victor Leclerc|Alice Renaud|Jean Bonnet"
    ).split("|"),
    filler="Les visiteurs apprécient surtout le jardin et la lumière des salles.",
    joint=" ",
    title="musees-{}.txt",
)
_JAPANESE = _Language(
    facts=(
        ("{c}美術館は{y}年に{p}が設立した。", "{c}美術館を設立したのは誰ですか。", "{p}"),
        ("{c}美術館の所蔵品は{m}点である。", "{c}美術館の所蔵品はいくつありますか。", "{m}点"),
        ("{c}美術館の入館料は{n}0円である。", "{c}美術館に入るにはいくら払いますか。", "{n}0円"),
        ("{c}美術館の館長は{d}が務める。", "{c}美術館の館長は今、誰ですか。", "{d}"),
        (
            "{c}美術館の食堂は午後{h}時{q}分まで開いている。",
            "{c}美術館では何時まで食事ができますか。",
            "午後{h}時{q}分",
        ),
    ),
    towns="金沢 長崎 熊本 仙台 松本 高松 鳥取 秋田 奈良 倉敷 函館 宇都宮".split(),
    people="佐藤健一 鈴木花子 高橋誠 田中美咲 伊藤大輔 渡辺直子 山本翔 中村由美 小林浩 加藤恵 吉田修 松井玲子".split(),
    filler="庭の眺めがよく、週末は多くの人が訪れる。",
    joint="",
    title="美術館-{}.txt",
)
_KOREAN = _Language(
    facts=(
        ("{c} 미술관은 {y}년에 {p} 씨가 설립했다.", "{c} 미술관을 설립한 사람은 누구입니까?", "{p}"),
        ("{c} 미술관에는 작품 {m}점이 보관되어 있다.", "{c} 미술관이 소장한 작품은 몇 점입니까?", "{m}점"),
        ("{c} 미술관의 입장료는 {n}00원이다.", "{c} 미술관에 들어가려면 얼마를 내야 합니까?", "{n}00원"),
        ("{c} 미술관의 현재 관장은 {d} 씨이다.", "지금 {c} 미술관의 관장은 누구입니까?", "{d}"),
        (
            "{c} 미술관 식당은 저녁 {h}시 {q}분까지 문을 연다.",
            "{c} 미술관에서는 몇 시까지 식사할 수 있습니까?",
            "{h}시 {q}분",
        ),
    ),
    towns="부산 대구 광주 대전 전주 강릉 춘천 경주 제주 목포 여수 청주".split(),
    people="김민수 이서연 박지훈 최유진 정다은 강현우 조은지 윤성호 장미란 임태영 한소희 오준석".split(),
    filler="정원이 아름다워 주말마다 많은 사람이 찾아온다.",
    joint=" ",
    title="미술관-{}.txt",
)
_THAI = _Language(
    facts=(
        ("พิพิธภัณฑ์{c}ก่อตั้งขึ้นในปี {y} โดย{p}", "ใครเป็นผู้ก่อตั้งพิพิธภัณฑ์{c}", "{p}"),
        ("พิพิธภัณฑ์{c}มีภาพวาด {m} ภาพ", "พิพิธภัณฑ์{c}มีภาพวาดทั้งหมดกี่ภาพ", "{m}"),
        ("ค่าเข้าชมพิพิธภัณฑ์{c}คือ {n} บาท", "ต้องจ่ายเงินเท่าไรเพื่อเข้าพิพิธภัณฑ์{c}", "{n} บาท"),
        ("ผู้อำนวยการพิพิธภัณฑ์{c}คือ{d}", "ใครเป็นผู้อำนวยการพิพิธภัณฑ์{c}ในปัจจุบัน", "{d}"),
        ("ร้านอาหารของพิพิธภัณฑ์{c}ปิดเวลา {h}.{q} น.", "รับประทานอาหารที่พิพิธภัณฑ์{c}ได้ถึงกี่โมง", "{h}.{q}"),
    ),
    towns="เชียงใหม่ ขอนแก่น ภูเก็ต สงขลา ลำปาง น่าน ระยอง ตรัง ยะลา พะเยา สุโขทัย ชลบุรี".split(),
    people=(
        "สมชาย ใจดี|วิภา แสงทอง|ธนา ศรีสุข|มาลี พงษ์ไทย|ประเสริฐ วงศ์ดี|อรุณ รัตนกุล|กมล บุญมี|สุดา ทองคำ|วิชัย แก้วใส|"
        "นภา จันทร์งาม|พิชิต มั่นคง|รัชนี ชัยศรี"
    ).split("|"),
    filler="สวนของที่นี่ร่มรื่นและมีผู้คนมาเยี่ยมชมมากในวันหยุด",
    joint=" ",
    title="museum-th-{}.txt",
)


def french(source: random.Random) -> Draft:
    """Make French prose."""
    return _museums(_FRENCH, source)


def japanese(source: random.Random) -> Draft:
    """Make Japanese prose."""
    return _museums(_JAPANESE, source)


def korean(source: random.Random) -> Draft:
    """Make Korean prose."""
    return _museums(_KOREAN, source)


def thai(source: random.Random) -> Draft:
    """Make Thai prose."""
    return _museums(_THAI, source)
