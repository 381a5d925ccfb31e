"""The values of `format`, as patterns.

A pattern matches fewer texts than its format has: those that every library reads.
"""

from __future__ import annotations

__all__ = ["FORMATS"]

_DAY = r"(0[1-9]|[12][0-9])"
_DATE = (  # the years 1000 to 2999; without 29 February, which depends on the year
    rf"[12][0-9]{{3}}-((0[13578]|1[02])-({_DAY}|3[01])|(0[469]|11)-({_DAY}|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
)
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_CLOCK}:[0-5][0-9](\.[0-9]{{1,6}})?(Z|[-+]{_CLOCK})"  # RFC 3339: with an offset
_LABEL = r"[a-z0-9]{1,15}(-[a-z0-9]{1,15})?"  # without two hyphens, which begin encoded names
_HOST = rf"({_LABEL}\.){{1,3}}[a-z]{{2,8}}"
_BYTE = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"


def _uuid(version: str = "[0-9a-fA-F]") -> str:
    variant = "[0-9a-fA-F]" if version.startswith("[") else "[89abAB]"
    return rf"[0-9a-fA-F]{{8}}-[0-9a-fA-F]{{4}}-{version}[0-9a-fA-F]{{3}}-{variant}[0-9a-fA-F]{{3}}-[0-9a-fA-F]{{12}}"


_WHOLE = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": r"P([0-9]{1,4}D|([0-9]{1,4}D)?T([0-9]{1,2}H)?([0-9]{1,2}M)?[0-9]{1,2}S)",
    "email": rf"[A-Za-z0-9]{{1,20}}([._+-][A-Za-z0-9]{{1,20}}){{0,2}}@{_HOST}",
    "hostname": _HOST,
    "ipv4": rf"({_BYTE}\.){{3}}{_BYTE}",
    "ipv6": r"([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}",
    "uri": rf"https?://{_HOST}(/[A-Za-z0-9_~-]{{1,30}}(\.[A-Za-z0-9_~-]{{1,10}})?){{0,6}}/?(\?[A-Za-z0-9=&_-]{{1,60}})?(#[A-Za-z0-9_-]{{1,30}})?",
    "uuid": _uuid(),
    **{f"uuid{version}": _uuid(str(version)) for version in (1, 3, 4, 5, 6, 7, 8)},
}
FORMATS = {name: f"^({pattern})$" for name, pattern in _WHOLE.items()} | dict.fromkeys(
    ["binary", "password", "path"], ""
)
