"""What counts as the same word: each pair is looked up in a real store."""

import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from leanrag.retrieval.store import Store
from leanrag.retrieval.terms import indexed_columns, normalize, parse_query
from leanrag.types import Chunk, Document
from tests.examples import max_examples

MARK = "\ue000"


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path) as store:
        store.bind("embedder", 1, "whole")
        yield store


def put(store: Store, *texts: str, title: str = "") -> None:
    for text in texts:
        document = Document(text, id=text, title=title)
        store.put(document, [Chunk(text, 0, len(text), text, title)], np.ones((1, 1), np.float32))


def found(store: Store, question: str) -> list[str]:
    return [chunk.text for chunk in store.get_chunks(store.search_terms(question, 9)[1].tolist())]


def decided(store: Store, question: str, most: int = 50) -> list[str]:
    return [chunk.text for chunk in store.get_chunks(store.match_identifiers(question, most)[1].tolist())]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Le résumé est prêt.", unicodedata.normalize("NFD", "résumé")),
        (unicodedata.normalize("NFD", "Impôts à payer"), "impôts"),
        ("Der Donau\u00addampf\u00adschiff\u00adkapitän kommt.", "Donaudampfschiffkapitän"),
        ("The pass\u200bword is reset weekly.", "password"),
        ("The \ufeffpassword", "pass\u2060word"),
        ("Toplantı İstanbul'da yapılacak.", "İstanbul"),
        ("Toplantı İSTANBUL’da yapılacak.", "istanbul"),
        ("The ﬁnal ofﬁce", "final office"),
        ("Ｆｕｌｌ ｗｉｄｔｈ １２", "full width 12"),
        ("Die Straße", "STRASSE"),
        ("Øre og Łódź", "ore lodz"),
        ("ЁЛКА", "елка"),
        ("the dog’s bone", "dog's"),
        ("l‘été", "L'ETE"),
        ("a well‑known fact", "well-known"),
        ("It has 1,500 seats", "1500"),
        ("It has 1500 seats", "1,500"),
        ("سنة ٢٠٢٤", "2024"),
        ("in 2024", "۲۰۲۴"),
        ("H₂O", "h2o"),
        ("हिन्दी में लिखा", "हिन्दी"),
        ("తెలుగు భాష", "తెలుగు"),
        ("ქართული ენა", "ქართული"),
        ("the 🚀 starts", "🚀"),
    ],
)
def test_one_word_has_one_form(store, text, word):
    put(store, text, "The cat sat.", "It may rain.", "हिमालय", "తెల్ల", "🍕")
    assert found(store, word) == [text]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("我住在北京市", "北京"),
        ("我住在北京市", "市"),
        ("東京タワーへ行く", "タワー"),
        ("เมืองหลวงของไทยคือกรุงเทพ", "กรุงเทพ"),
        ("ເມືອງຫຼວງຂອງລາວແມ່ນວຽງຈັນ", "ວຽງຈັນ"),
        ("រាជធានីភ្នំពេញ", "ភ្នំពេញ"),
        ("မြို့တော်နေပြည်တော်", "နေပြည်တော်"),
        ("서울은 대한민국의 수도이다", "서울"),
        ("새 집에서 산다", "집"),
        ("المكتبة مفتوحة", "مكتبة"),
        ("ذهب إلى مكتبة", "المكتبة"),
        ("المُعَلِّمُون هنا", "معلم"),
        ("Die Krankenversicherung zahlt das nicht.", "Versicherung"),
        ("De ziekenhuisopname van gisteren", "opname"),
        ("הספרייה פתוחה", "ספרייה"),
        ("הוא גר בירושלים", "ירושלים"),
    ],
)
def test_words_are_found_without_spaces_particles_and_prefixes(store, text, word):
    put(store, text, "The cat sat.", "我们", "ข้าว", "나무", "شمس", "שלום")
    assert found(store, word)[0] == text


def test_look_alikes_without_spaces_come_behind(store):
    put(store, "京北", "北京")
    assert found(store, "北京") == ["北京"]
    put(store, "ช้างเป็นสัตว์ประจำชาติ", "อาหารไทยมีรสเผ็ด")
    assert found(store, "สัตว์ประจำชาติคืออะไร")[0] == "ช้างเป็นสัตว์ประจำชาติ"


def test_an_exponent_is_no_part_of_its_number(store):
    put(store, "about 10⁶ cells", "about 106 cells")
    assert found(store, "106") == ["about 106 cells"]


# Identifiers


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Release 1.2.3 is out.", "What changed in 1.2.3?"),
        ("Release v1.2.3 is out.", "What changed in 1.2.3?"),
        ("Release 1.2.3 is out.", "What changed in V1.2.3?"),
        ("See release-1.2.3.md for more.", "What changed in 1.2.3?"),
        ("lib==1.2.3", "Which lib needs 1.2.3?"),
        ("Release 1.2.3-rc1 is out.", "Is 1.2.3-RC1 out?"),
        ("On 2024-03-05 a pump failed.", "What happened on 2024-03-05?"),
        ("On 2024-03-05 a pump failed.", "What happened on 2024/03/05?"),
        ("On 2024-03-05 a pump failed.", "What happened on March 5, 2024?"),
        ("On 5 March 2024 a pump failed.", "What happened on 2024-03-05?"),
        ("On Mar. 5th 2024 a pump failed.", "What happened on 5.3.2024?"),
        ("Am 5. März 2024 fiel sie aus.", "Was geschah am 05.03.2024?"),
        ("Le 5 mars 2024, la pompe", "Que s'est-il passé le 2024-3-5 ?"),
        ("El 5 de marzo de 2024", "2024-03-05"),
        ("2024-03-05T10:22:33Z pump failed", "What failed at 10:22:33Z?"),
        ("2024-03-05T10:22:33Z pump failed", "What failed on 2024-03-05?"),
        ("在2024-03-05发生故障", "2024-03-05发生了什么"),
        ("Host 10.0.0.1 is down.", "Is 10.0.0.1 down?"),
        ("Host 10.0.0.1:8080 is down.", "Is 10.0.0.1 down?"),
        ("Host 2001:db8::1 is down.", "Is 2001:DB8::1 down?"),
        ("Filter HX-20B fits.", "Which filter is HX20B?"),
        ("Filter HX20B fits.", "Which filter is HX-20B?"),
        ("Filter hx_20_b fits.", "Which filter is HX-20B?"),
        ("Code ERR_4021 means full.", "What does err-4021 mean?"),
        ("It is fixed in CVE-2021-3344.", "How is CVE-2021-3344 fixed?"),
        ("| P-017 | brass | 4 |", "What is P-017 made of?"),
        ("Order 48213 was sent.", "Where is order 48213?"),
        ("Call +1-555-0100 now.", "Who has 1-555-0100?"),
        ("Error 403 means that you may not.", "What does error 403 mean?"),
        ("Gate A-7 is closed.", "Why is gate a-7 closed?"),
        ("See section 4.2.1 for more.", "What is in section 4.2.1?"),
        ("Ｆｉｌｔｅｒ ＨＸ－２０Ｂ", "HX-20B?"),
    ],
)
@pytest.mark.slow
def test_an_identifier_finds_its_text_and_no_look_alike(store, text, question):
    others = ["1.3.2 and 3.2.1", "2024-05-03", "10.0.1.0", "2001:db8::2", "HX-200B", "HX-2OB", "XH-20B", "ERR_4022"]
    others += ["CVE-2021-4433", "P-071", "48231", "1-555-0010", "123", "1.2.34", "11.2.3", "1.2.3.4", "20240305"]
    others += ["error 404", "gate A-8", "4.2.10"]
    put(store, text, *others)
    assert decided(store, question) == [text]
    assert text in found(store, question)


@pytest.mark.parametrize(
    "question",
    [
        "in 1999",
        "WW1",
        "CO2",
        "the 20th century",
        "the 1980s",
        "3 cats",
        "a well-known iPhone",
        "and/or",
        "get_user",
        "",
        "?",
    ],
)
def test_common_numbers_and_words_do_not_decide(question):
    assert parse_query(question).identifiers == ()


def test_what_many_chunks_share_does_not_decide(store):
    put(store, "HX-20B a", "HX-20B b", "HX-20B c")
    assert len(decided(store, "HX20B", most=3)) == 3
    assert decided(store, "HX20B", most=2) == []


def test_a_piece_decides_only_where_the_whole_is_unknown(store):
    put(store, "version 1.2.3", "1.2.3-rc1")
    assert decided(store, "is 1.2.3-rc1 out?") == ["1.2.3-rc1"]
    assert decided(store, "pkg@1.2.3?") == ["version 1.2.3", "1.2.3-rc1"]


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("§ 3 Abs. 2", "Was sagt § 3 Abs. 2?"),
        ("Art. 3 Abs. 2 Satz 1", "Was steht in Art. 3 Abs. 2 Satz 1?"),
        ("Section 3 (2)", "What does section 3 (2) say?"),
        ("chapter 3 verse 2", "Read chapter 3, verse 2"),
        ("Release v2.0.0", "What is new in v2.0.0?"),
        ("Release 2.0.0", "What is new in v2.0.0?"),
        ("release-2.0.0.md", "What is new in 2.0.0?"),
        ("v2.0.0-rc.1", "What is new in v2.0.0-rc.1?"),
        ("bolt M8x20", "Which bolt is M8 x 20?"),
        ("bolt M8 × 20", "Which bolt is M8x20?"),
        ("pump DE-100-200", "Which pump is DE100200?"),
        ("pump DE100200", "Which pump is DE-100-200?"),
        ("ISBN 978-3-16-148410-0", "9783161484100"),
        ("ISBN 9783161484100", "978-3-16-148410-0"),
        ("IBAN DE89 3704 0044 0532 0130 00", "DE89370400440532013000"),
        ("IBAN DE89370400440532013000", "DE89 3704 0044 0532 0130 00"),
    ],
)
def test_numbers_in_parts_keep_their_order_and_their_end(store, text, question):
    others = [
        "§ 2 Abs. 3",
        "Art. 2 Abs. 3 Satz 1",
        "Section 2 (3)",
        "chapter 2 verse 3",
        "v2.0.0-beta.1",
        "v2.0.0-rc.2",
    ]
    others += [
        "bolt M20x8",
        "bolt M8x30",
        "pump DE-200-100",
        "ISBN 978-3-16-148401-0",
        "IBAN DE89 3704 0044 0532 0130 01",
    ]
    put(store, text, *others)
    counts, ids = store.match_identifiers(question, 50)
    assert store.get_chunks(ids[counts == counts.max()].tolist())[0].text == text
    assert (counts == counts.max()).sum() == 1


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("-q, --quiet  Say nothing.", "What does --quiet do?"),
        ("-q, --quiet  Say nothing.", "What does -q do?"),
        ("`--depth=<n>` cuts the history.", "Which history does --depth=3 give?"),
        ("--keep-index, -k", "Is there --keep-index?"),
    ],
)
def test_options_of_commands_decide(store, text, question):
    put(
        store,
        text,
        "It is quiet. Is the depth right?",
        "Keep the index - k of n.",
        "a well-quiet q-axis",
        "--quieter, -Q1",
    )
    assert decided(store, question) == [text]


def test_a_pre_release_is_found_where_the_release_is_unknown(store):
    put(store, "v2.0.0-rc.1", "v2.0.1")
    assert decided(store, "What is new in 2.0.0?") == ["v2.0.0-rc.1"]


def test_dates_and_short_numbers_are_not_joined():
    assert "20240305" not in parse_query("on 2024-03-05").terms
    assert "123456" not in parse_query("12 34 56").terms


def test_of_many_words_the_rarest_count(store):
    common = [f"word{letter * n}" for n in range(1, 100) for letter in "abcd"]
    put(store, " ".join(common), " ".join([*common, "more"]), "rare")
    unknown = " ".join(f"unknown{letter * n}" for n in range(1, 100) for letter in "abcd")
    assert "rare" in found(store, f"{unknown} {' '.join(common)} rare")
    assert found(store, unknown) == []
    assert len(parse_query(" ".join(f"HX-{n}B" for n in range(10_000, 12_000))).identifiers) == 100


def test_chunks_with_more_identifiers_are_counted(store):
    put(store, "HX-20B", "ERR_4021", "HX-20B ERR_4021")
    counts, ids = store.match_identifiers("HX20B shows ERR_4021", 50)
    assert (counts.tolist(), ids.tolist()) == ([1, 1, 2], [1, 2, 3])
    counts, ids = store.match_identifiers("HX20B shows ERR_4021", 50, allowed=np.array([2, 9]))
    assert (counts.tolist(), ids.tolist()) == ([1], [2])


def test_the_title_counts(store):
    put(store, "All that changed.", title="release-1.2.3.md")
    assert decided(store, "1.2.3") == ["All that changed."]


@pytest.mark.parametrize("question", ["getUserById", "get_user_by_id", "get user by id", "GetUserByID"])
def test_names_of_code_are_found_in_any_style(store, question):
    put(store, "call getUserById(4)", "def get_user_by_id(x):", "other")
    assert set(found(store, question)) == {"call getUserById(4)", "def get_user_by_id(x):"}


def test_forms_by_hand():
    assert parse_query("v1.2.3-rc1").terms == ("v1", "2", "3", "rc1", f"1{MARK}2{MARK}3rc1", f"1{MARK}2{MARK}3")
    assert parse_query("What does ERR_4021 mean?").identifiers == (("err4021",),)
    assert parse_query("who is it").terms == ("who", "is", "it")
    assert indexed_columns("T", "H", "500mg") == ("t", "h", "500mg", "500mg 500 mg")


# Any text


@max_examples(300)
@given(st.text(st.characters(), max_size=40))
def test_normalising_twice_changes_nothing_more(text):
    assert normalize(normalize(text)) == normalize(text)
    normalize(text).encode()


@max_examples(150)
@given(st.text(st.characters(), max_size=40))
def test_canonical_equivalents_are_the_same(text):
    assert normalize(unicodedata.normalize("NFD", text)) == normalize(unicodedata.normalize("NFC", text))


@max_examples(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_a_text_is_found_by_itself(store, text):
    store.put(Document(text, id="a"), [Chunk("a", 0, len(text), text)], np.ones((1, 1), np.float32))
    assert found(store, text) == ([text] if parse_query(text).terms else [])
