import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.errors import ConfigurationError
from leanrag.evidence.protection import PROTECTED_KINDS, Protection
from leanrag.spans import merge_spans

MARKS = "`~\"'“”‘’„«»「」()#@/\\.:-_$ \t\n%5aA年一IVX"
WORDS = ["```", "\n\n", "http://", "C:\\", "5 km", "a_b", "don't", "May 5", "www.", "# ", "two ", "第", "::"]
FRAGMENTS = st.lists(st.sampled_from([*MARKS, *WORDS]), max_size=60).map("".join)


def found(text, *kinds):
    """What each of `kinds` alone protects of `text`."""
    return [text[start:end] for kind in kinds for start, end in Protection([kind]).spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Run `pip install x` or ``a ` b`` now.", ["`pip install x`", "``a ` b``"]),
        ("One ` backtick; `two\nlines` of it.", ["` backtick; `"]),
        ("A ` here.\n\nAnd ` there.", []),
        ("x\n```py\nif a < b:\n\n    `c`\n```\ny `z`", ["```py\nif a < b:\n\n    `c`\n```", "`z`"]),
        ("~~~\na\n```\nb\n~~~~\nc", ["~~~\na\n```\nb\n~~~~"]),
        ("````\n```\nin it\n```\n````\nout", ["````\n```\nin it\n```\n````"]),
        ("text\n```\nnever closed\n\nto the end", ["```\nnever closed\n\nto the end"]),
        ("```inline``` code\nand prose", ["```inline```"]),
        ("```\r\ncode\r\n```\r\nprose", ["```\r\ncode\r\n```"]),
    ],
)
def test_code(text, expected):
    assert found(text, "code") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See https://a.example/b?c=d&e#f, and http://x.y.", ["https://a.example/b?c=d&e#f", "http://x.y"]),
        ("(https://en.wikipedia.org/wiki/A_(b))", ["https://en.wikipedia.org/wiki/A_(b)"]),
        ("[text](http://x.y/z) <ftp://h/p>", ["http://x.y/z", "ftp://h/p"]),
        ("s3://bucket/key git+ssh://g@h/r.git", ["s3://bucket/key", "git+ssh://g@h/r.git"]),
        ("www.x.org/a! mailto:a@b.co; doi:10.1000/182.", ["www.x.org/a", "mailto:a@b.co", "doi:10.1000/182"]),
        ("参照：https://例え.jp/道。次", ["https://例え.jp/道"]),
        ("a ://x b and note: this", []),
    ],
)
def test_urls(text, expected):
    assert found(text, "url") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mail a.b+c@example.co.uk, or o'x@y.z", ["a.b+c@example.co.uk", "o'x@y.z"]),
        ("用户@例子.公司 now", ["用户@例子.公司"]),
        ("meet @ noon, @handle, x@localhost", []),
    ],
)
def test_emails(text, expected):
    assert found(text, "email") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("in /usr/lib/x.so.1, ~/a, ./b.", ["/usr/lib/x.so.1", "~/a", "./b"]),
        ("../c/d and ~root/e", ["../c/d", "~root/e"]),
        (r"C:\Program Files (x86)\App\x.exe is", [r"C:\Program Files (x86)\App\x.exe"]),
        (
            r"D:/data/x.csv \\srv\share\f ..\up\g foo\bar.txt",
            [r"D:/data/x.csv", r"\\srv\share\f", r"..\up\g", r"foo\bar.txt"],
        ),
        ("edit src/foo/bar.py or a/b/c/d", ["src/foo/bar.py", "a/b/c/d"]),
        ("and/or he/she km/h 1/2/2003 i.e./e.g. either / or", []),
    ],
)
def test_paths(text, expected):
    assert found(text, "path") == expected


@pytest.mark.parametrize(
    "quantity",
    [
        *(
            "5",
            "3.5 kg",
            "1,000,000",
            "1.234,56 €",
            "US$ 5",
            "$3.5 million",
            "-3 °C",
            "±0.5 mm",
            "≈ 7",
            "EUR 12,50",
            "₹500",
            ".5",
        ),
        *(
            "1 000 000 km²",
            "5\u00a0%",
            "12\u202f345\u202fm",
            "20\u2009°C",
            "1'000'000",
            "5–10 km/h",
            "16:9",
            "1/2",
            "½",
            "4×6",
        ),
        *(
            "6.02 × 10^23",
            "1.5e-3",
            "10⁻³",
            "3rd",
            "90s",
            "100m",
            "5 p.m.",
            "44 BC",
            "3 million US dollars",
            "5 square miles",
        ),
        *("five hundred years", "Twenty-five", "one-third", "two", "XIV", "No. 5", "#5", "§ 3", "5-inch"),
        *("３００円", "三百人", "十年", "三分之一", "3万5千円", "第3章", "二〇二四年", "3.5％", "5000억원"),
        *("٣٥٠", "٥٠٪", "١٬٢٣٤٫٥", "१२३", "۱۲۳"),
    ],
)
@pytest.mark.parametrize("around", ["{}", "so ({}), it", "words {}\nwords"])
def test_quantities(quantity, around):
    assert found(around.format(quantity), "quantity") == [quantity]


def test_a_number_in_text_without_spaces_does_not_take_the_sentence():
    assert found("会议共有300人参加，费用为5万元。", "quantity", "identifier") == ["300人", "5万元"]


def test_words_after_a_number_that_are_no_units_stay_free():
    assert found("In 1990 a man met 3 kings at 5 in Paris; I am one of us VX IIIX.", "quantity") == ["1990", "3", "5"]


@pytest.mark.parametrize(
    "date",
    [
        *(
            "2024-01-05",
            "2024-01-05T12:30:00Z",
            "2024-01-05 12:30:15.123+02:00",
            "2024/1/5",
            "05/01/2024",
            "5.1.24",
            "31-12-1999",
        ),
        *(
            "5 January 2024",
            "5th of May",
            "January 5th, 2024",
            "Jan. 5, 2024",
            "Sept 2020",
            "5–7 June 1990",
            "July 4",
            "June, 1999",
        ),
        *(
            "5. Januar 2024",
            "1er janvier 2020",
            "5 de enero de 2024",
            "3 marzo 1950",
            "7 мая 1945",
            "12 października 2001",
        ),
        *(
            "12:30",
            "12:30:15",
            "12:30 pm",
            "5 a.m.",
            "9:00 UTC",
            "1990s",
            "19th century",
            "Q3 2024",
            "FY 2023",
            "Thursday",
        ),
        *("2024年1月5日", "2024 年 1 月", "1月5日"),
    ],
)
@pytest.mark.parametrize("around", ["{}", "so ({}), it", "since {}\nwords"])
def test_dates(date, around):
    assert found(around.format(date), "date") == [date]


def test_words_that_look_like_months_are_none():
    assert found("Marble 5 and Decent 1999 may 5, Mayor 2000, a march 3", "date") == []


@pytest.mark.parametrize(
    "identifier",
    [
        *(
            "snake_case",
            "MAX_LEN",
            "__init__",
            "camelCase",
            "PascalCase",
            "iPhone",
            "std::vector",
            "foo()",
            "obj.method()",
            "os.path",
        ),
        *(
            "example.org",
            "file.txt",
            "v1.2.3",
            "1.2.3",
            "1.2.3-rc1",
            "0x1F",
            "192.168.0.1",
            "fe80::1",
            "2001:db8::ff00:42:8329",
        ),
        *(
            "123e4567-e89b-12d3-a456-426614174000",
            "aa:bb:cc:dd:ee:ff",
            "978-3-16-148410-0",
            "AB-1234",
            "COVID-19",
            "H2O",
            "X.25",
        ),
        *(
            "C++",
            "C#",
            "--flag-name",
            "@handle",
            "#tag",
            "+1 (555) 123-4567",
            "(555) 123-4567",
            "d41d8cd98f00b204e9800998ecf8427e",
        ),
        *("größe_max", "версия2"),
    ],
)
@pytest.mark.parametrize("around", ["{}", "so [{}], it", "words {}\nwords"])
def test_identifiers(identifier, around):
    assert found(around.format(identifier), "identifier") == [identifier]


def test_words_are_no_identifiers():
    text = "Well-known Jean-Luc of the U.S. said, e.g. in 1999: note this.It is_ _fine_ -- NASA did 5 (five) of it..."
    assert found(text, "identifier") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('He said "yes, and\nno" to "it".', ['"yes, and\nno"', '"it"']),
        ("a “b” „c“ „d” «e» « f » »g« ‹h› ‚i‘", ["“b”", "„c“", "„d”", "«e»", "« f »", "»g«", "‹h›", "‚i‘"]),
        ('他说“你好”，「『内』外」，《書》，〈名〉他说"好"了', ["“你好”", "「『内』外」", "《書》", "〈名〉", '"好"']),
        ("قال «مرحبا» له", ["«مرحبا»"]),
        ("‘I don’t know’ he said, the players’ way; ‘odd’", ["‘I don’t know’", "‘odd’"]),
        ("'tis the dogs' day, the '90s, Rock 'n' roll", ["'n'"]),
        ("don't we can't won't it's", []),
        ("don’t we can’t the dogs’ it’s", []),
        ('a 5" pipe and a 6" pipe', []),
        ('an open "quote\n\nand another" one', []),
        ('"""Do it."""', ['"Do it."']),
        ('"' + "x" * 400 + '"', []),
    ],
)
def test_quotations(text, expected):
    assert found(text, "quotation") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No, it did NOT; we can't, he doesn’t, CAN'T", ["No", "NOT", "can't", "doesn’t", "CAN'T"]),
        ("At least two, more than all; up to 5, at noon or more", ["At least", "more than", "all", "up to"]),
        ("nobody knows the notary of Norway", ["nobody"]),
        ("Das ist nicht kein Fehler, jamais sans lui", ["nicht", "kein", "jamais", "sans"]),
        ("这不是，没有；知らない", ["不", "没", "ない"]),
        ("هذا ليس هنا", ["ليس"]),
    ],
)
def test_negations_and_quantifiers(text, expected):
    assert found(text, "negation") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# One\ntext # no\n  ### Two #\n#no\n####### no", ["# One", "  ### Two #"]),
        ("Title\n=====\ntext\n\nSub\r\n---\r\ntext", ["Title\n=====", "Sub\r\n---"]),
        ("text\n\n---\n\ntext\n= = =\na\n==-==", []),
    ],
)
def test_headings(text, expected):
    assert found(text, "heading") == expected


def test_prose_stays_free():
    text = (
        "The tower stands in the west of the town and was built by a guild of masons. Visitors' tickets are sold at the gate; "
        "its keeper's son, who'd rather paint, sells them. (Some say it leans.) The town's council voted on it - twice a year."
    )
    assert [text[start:end] for start, end in Protection().spans(text)] == ["twice"]


@given(FRAGMENTS, st.sets(st.sampled_from(PROTECTED_KINDS)))
def test_spans_are_disjoint_in_order_and_hold_those_of_every_kind(text, kinds):
    spans = Protection(tuple(kinds)).spans(text)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(spans))
    covered = {i for start, end in spans for i in range(start, end)}
    alone = {i for kind in kinds for start, end in Protection([kind]).spans(text) for i in range(start, end)}
    assert covered == alone


@given(st.text(max_size=80))
def test_any_text_has_spans(text):
    everywhere = Protection(everywhere=True)
    assert everywhere.required(text) == everywhere.spans(text) == Protection().spans(text)
    assert Protection().required(text) == []


@given(FRAGMENTS, st.data())
def test_what_is_asked_for_is_required(text, data):
    keep = [] if not text else data.draw(st.lists(st.integers(0, len(text) - 1).map(lambda i: (i, i + 1)), max_size=5))
    protection = Protection(patterns=["a+", re.compile("5 ?")])
    asked = merge_spans([*keep, *(match.span() for match in re.finditer("a+|5 ?", text))])
    assert protection.required(text, keep) == asked
    assert set(range(len(text))) >= {i for start, end in asked for i in range(start, end)}
    assert merge_spans([*protection.spans(text, keep), *asked]) == protection.spans(text, keep)


def test_matches_of_nothing_are_no_spans():
    assert Protection(kinds=(), patterns=["x*"]).spans("aaxxa") == [(2, 4)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kinds": ["colour"]}, "'colour'"),
        ({"kinds": "code"}, "sequence .* got 'code'"),
        ({"patterns": ["("]}, r"'\(' is not a regular expression"),
        ({"patterns": "abc"}, r"Write \['abc'\]"),
        ({"patterns": [b"abc"]}, "bytes"),
        ({"patterns": [5]}, "5 is not a regular expression"),
    ],
)
def test_what_cannot_work_is_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Protection(**arguments)


@pytest.mark.parametrize("span", [(-1, 2), (2, 2), (3, 2), (0, 6)])
def test_spans_outside_the_text_are_refused(span):
    with pytest.raises(ConfigurationError, match="5 characters"):
        Protection().spans("abcde", [span])


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))))
def test_merged_spans_cover_what_the_spans_cover(spans):
    merged = merge_spans(spans)
    assert {i for a, b in merged for i in range(a, b)} == {i for a, b in spans for i in range(a, b)}
    assert all(before[1] < after[0] for before, after in itertools.pairwise(merged))


HOSTILE = [
    *"(\"`'~-=#@/\\:._$%7aAé一年不٣“„«»‘‚「〈\t\n\r ",
    *(
        '"""',
        "a_",
        "a.",
        "a-",
        "a:",
        "a/",
        "a\\",
        "a@",
        "a@a.",
        "/a",
        "/.",
        "~/",
        "./",
        "../",
        "C:\\",
        "C:\\a b",
        "\\a",
        "://",
    ),
    *(
        "a ://",
        "http://)",
        "www.",
        "mailto:",
        "::",
        "a::",
        "1:",
        "fe:",
        "1.",
        "5e",
        "n't",
        "aA",
        " #a",
        " --a",
        "e.g. ",
        "-5",
    ),
    *(
        '" ',
        ' "',
        '"a ',
        '"a\n',
        "“a ",
        "‘a’a",
        "»a ",
        " 'a",
        "` ",
        "~~~\n",
        "```\n",
        "# ",
        "a\n-",
        "a\n=",
        "1 234 ",
        "12 ",
        "5 ",
    ),
    *(
        "$ ",
        '5"',
        "5 km/",
        "5 × 10",
        "+1 22 333",
        "(555) ",
        "2024-01-",
        "5 May",
        "May ",
        "three ",
        "two-",
        "IV ",
        "half and ",
    ),
    *("三分之", "300人參加", "1年", "no more ", "at least "),
]


def hostile(unit, size):
    """Texts that try to begin a span everywhere and to end none, with and without an end."""
    return [unit * (size // len(unit)), "x" + unit * (size // len(unit)) + "x\n"]


def falls(size):
    """Runs of marks, each shorter than the one before: none closes another."""
    lengths = range(int((2 * size) ** 0.5), 2, -1)
    return ["\n".join(mark * n for n in lengths) for mark in "`~"] + [" ".join("`" * n for n in lengths)]


# Quadratic time would show on texts of these sizes: the first version of the patterns needed 12 s for 80,000 hyphens.
@pytest.mark.slow
@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_text_takes_linear_time(unit):
    for text in hostile(unit, 100_000):
        assert all(0 <= start < end <= len(text) for start, end in Protection().spans(text))


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_text_has_spans(unit):
    for text in hostile(unit, 500):
        assert all(0 <= start < end <= len(text) for start, end in Protection().spans(text))


@pytest.mark.parametrize("unit", ["(", '"""', "a_", "7", "-", "a/", "aGVsbG8gd29ybGQ+/", "`", "1.", "a-", "@", "5 "])
@pytest.mark.slow
def test_a_hundred_thousand_characters_of_hostile_text(unit):
    text = unit * (100_000 // len(unit))
    assert all(0 <= start < end <= len(text) for start, end in Protection().spans(text))


def test_marks_without_a_partner_take_linear_time():
    for text in [*falls(60_000), "1.1" * 20_000 + "x", "http://" + ")" * 60_000, "#" + " " * 60_000 + "\n"]:
        assert all(0 <= start < end <= len(text) for start, end in Protection().spans(text))
