"""Schedules of cron in words, and verdicts about them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.grounding.schedules import begins_with_schedule, spell_out_schedules
from tests.grounding.judging import is_supported


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 3 * * 1 run-it", "runs at 3:00 on Monday Mondays every week: run-it"),
        ("*/5 8-18 * * * poll", "runs every 5 minutes from 8 to 18: poll"),
        ("0 */6 * * * pull", "runs every 6 hours at minute 0: pull"),
        ("15 * * * * tick", "runs hourly every hour at minute 15: tick"),
        ("5 0 * * * /opt/a/index", "runs at 0:05 daily every day - index: /opt/a/index"),
        ("0 8,20 * * * feed", "runs at 8:00 / 20:00 daily every day: feed"),
        ("0 12 25 dec * greet", "runs at 12:00 on 25 December: greet"),
        ("0 12 11,22 * * pay", "runs at 12:00 on the 11th on the 22nd of each month monthly every month: pay"),
        ("* * * * sun beat", "runs every minute on Sunday Sundays every week: beat"),
        ("5 * 3 * 2 = 30", "5 * 3 * 2 = 30"),
        ("* one\n* two", "* one\n* two"),
        ("1 2 3 4 5 six", "1 2 3 4 5 six"),
    ],
)
def test_spells_out_the_fields(text, expected):
    assert spell_out_schedules(text) == expected


@given(st.text(alphabet="0123456789*/,-abc \n", max_size=60))
def test_reads_any_fields(text):
    assert isinstance(spell_out_schedules(text), str)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 3 * * 1 sweep", True),
        ("@daily tidy", True),
        ("@mia where is it?", False),
        ("* one", False),
        ("3 cups", False),
    ],
)
def test_knows_the_line_of_a_schedule(line, expected):
    assert begins_with_schedule(line) is expected


LINES = "5 0 * * * index --full\n@reboot watch\n0 12 25 12 * greet\n0 9 * * 6,0 pull\n"
CRONTAB = (
    "# sweep the yard\n10 6 * * 2 /opt/bin/sweep\n# count the coins\n40 21 1 * * /opt/bin/count\n"
    "*/20 * * * * root /usr/bin/poll\n"
)


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [
        ("When is the yard swept?", "at 6:10 on Tuesdays", "at 6:10 on Mondays"),
        ("When is the yard swept?", "10 6 * * 2", "every day at 6:10"),
        ("When are the coins counted?", "on the 1st of each month at 21:40", "at 6:10"),
        ("When is watch started?", "at reboot", "at 0:05"),
        ("When does greet run?", "on 25 December at 12:00", "at 9:00 on Saturdays and Sundays"),
        ("How often does poll run?", "every 20 minutes", "every 20 hours"),
    ],
)
def test_judges_answers_about_a_crontab(question, right, wrong):
    assert is_supported(CRONTAB + LINES, question, right)
    assert not is_supported(CRONTAB + LINES, question, wrong)
