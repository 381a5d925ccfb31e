"""What docs/design.md says of the rooms is true."""

import re
from pathlib import Path

import leanrag
from tests.test_layering import FLOORS

ROOT = Path(leanrag.__file__).parent
PAGE = (ROOT.parent / "docs" / "design.md").read_text(encoding="utf-8")


def section(title):
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_room_is_described():
    described = {name.removesuffix(".py").rstrip("/") for name in re.findall(r"`([\w/]+(?:\.py|/))`", section("Rooms"))}
    rooms = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert rooms - {"__init__", "__main__"} <= described


def test_the_floors_are_those_of_the_layering_test():
    drawn = next(block for block in re.findall(r"(?:^    .+\n)+", section("Rooms"), re.MULTILINE))
    floors = [set(re.findall(r"\w+", re.sub(r"\(.*?\)", "", floor))) for floor in drawn.split("<")]
    rooms = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    there = [{"leanrag" if room == "__init__" else room for room in floor if room in rooms} for floor in FLOORS]
    assert floors == [floor - {"__main__"} for floor in there if floor - {"__main__"}]


def test_the_glossary_is_short_and_sorted():
    words = re.findall(r"^\| ([\w ]+) \|", section("Glossary"), re.MULTILINE)[1:]
    assert 20 <= len(words) <= 30
    assert words == sorted(words)
