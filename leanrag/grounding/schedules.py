"""Schedules in the five fields of cron ("0 3 * * 1"), in words."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["begins_with_schedule", "spell_out_schedules"]

_FIELD = r"(?:\*(?:/\d{1,2})?|\d{1,2}(?:-\d{1,2})?(?:/\d{1,2})?|[a-z]{3}(?:-[a-z]{3})?)"
_LIST = rf"{_FIELD}(?:,{_FIELD})*"
_SCHEDULE = re.compile(
    rf"(?:\A|(?<=[\n\"'`:] )|(?<=[\n\"'`]))[ \t]*({_LIST}(?:[ \t]+{_LIST}){{4}})(?=[ \t]+[^\s\d=<>]|[\"'`.]|\s*\Z)"
    r"(?P<command>(?:[ \t]+[\w=./-]+){0,2}?[ \t]+/(?:[\w.-]+/)+(?P<program>[a-z][\w-]+))?",
    re.IGNORECASE,
)
_NAMED = re.compile(r"@(?:reboot|yearly|annually|monthly|weekly|daily|midnight|hourly)\s")
_MONTHS = "January February March April May June July August September October November December".split()
_DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_MOST_TIMES = 12  # that are listed one by one


def begins_with_schedule(text: str) -> bool:
    """Return whether a line begins with a schedule of cron, or with a name of one such as @daily."""
    return _NAMED.match(text) is not None or ("*" in text and _SCHEDULE.match(text) is not None)


def spell_out_schedules(text: str) -> str:
    """Return `text` with each schedule of cron in English words.

    Example:
        >>> spell_out_schedules("30 4 * * 1 /usr/bin/clean")
        'runs at 4:30 on Monday Mondays every week - clean: /usr/bin/clean'
    """
    if "* " not in text and " *" not in text:
        return text
    return _SCHEDULE.sub(_spell_out, text)


def _spell_out(found: re.Match[str]) -> str:
    minute, hour, day, month, weekday = found[1].lower().split()
    if "*" not in found[1]:
        return found[0]
    phrases = ["runs", _times(minute, hour), *_dates(day, month), *_weekdays(weekday)]
    if minute[0] != "*" and hour[0] != "*" and (day, weekday) == ("*", "*"):
        phrases.append("daily every day")
    program = f" - {found['program']}" if found["program"] else ""
    return f"{' '.join(filter(None, phrases))}{program}:{found['command'] or ''}"


def _times(minute: str, hour: str) -> str:
    if minute == "*" or "/" in minute:
        every = "every minute" if minute == "*" else f"every {minute.rpartition('/')[2]} minutes"
        return f"{every} {_hours(hour)}".rstrip()
    if hour == "*":
        return f"hourly every hour at minute {minute.replace(',', ' and ')}"
    if "/" in hour:
        return f"every {hour.rpartition('/')[2]} hours at minute {minute}"
    times = [f"{h}:{int(m):02d}" for h in _numbers(hour) for m in _numbers(minute)]
    return f"at {' / '.join(times)}" if len(times) <= _MOST_TIMES else ""


def _hours(hour: str) -> str:
    if hour == "*":
        return ""
    ranges = [part.partition("/")[0].partition("-") for part in hour.split(",")]
    return " and ".join(f"from {first} to {last}" if last else f"at {first}:00" for first, _, last in ranges)


def _dates(day: str, month: str) -> Sequence[str]:
    months = [_MONTHS[n - 1] for n in _numbers(month, _MONTHS, first=1) if 0 < n <= 12]
    if day[0] == "*":
        return [f"in {' and '.join(months)}"] if months else []
    days = _numbers(day)
    if months:
        return [f"on {n} {name}" for n in days for name in months]
    return [f"on the {n}{_ending(n)}" for n in days] + ["of each month monthly every month"]


def _ending(n: int) -> str:
    return "th" if n in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")


def _weekdays(weekday: str) -> Sequence[str]:
    days = [_DAYS[n] for n in _numbers(weekday, _DAYS, first=0) if n < len(_DAYS)]
    if not days:
        return []
    groups = {"1-5": ["weekdays working days"], "0,6": ["weekends"], "6,0": ["weekends"]}.get(weekday, [])
    return ["on", *(f"{day} {day}s" for day in days), *groups, "every week"]


def _numbers(field: str, names: Sequence[str] = (), *, first: int = 0) -> list[int]:
    """The numbers of a list of numbers, ranges and names; empty for any."""
    found: list[int] = []
    for part in field.split(","):
        low, _, high = part.partition("/")[0].partition("-")
        start, end = _number(low, names, first), _number(high or low, names, first)
        if start is not None and end is not None:
            found += range(start, end + 1)
    return found


def _number(word: str, names: Sequence[str], first: int) -> int | None:
    if word.isdecimal():
        return int(word)
    return next((i + first for i, name in enumerate(names) if name[:3].lower() == word), None)
