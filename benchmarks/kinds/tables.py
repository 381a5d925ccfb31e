"""Tables in Markdown, HTML and CSV; a row means nothing without the header."""

from __future__ import annotations

import csv
import html
import io
import random
from collections.abc import Callable, Sequence

from benchmarks.kinds.material import Draft, KindQuestion
from benchmarks.kinds.vocabulary import CITIES, near_codes, people

__all__ = ["csv_table", "html_table", "markdown_table"]

Rows = list[tuple[str, ...]]


def markdown_table(source: random.Random) -> Draft:
    """Make a stock list and a list of branches."""
    stock, questions = _stock(source, "stock.md", "P")
    branches, more = _branches(source, "branches.md")
    files = {
        "stock.md": "# Stock\n\nCounted at the end of the quarter.\n\n" + _as_markdown(stock),
        "branches.md": "# Branches\n\n" + _as_markdown(branches),
    }
    return files, _interleaved(questions(" | "), more(" | "))


def html_table(source: random.Random) -> Draft:
    """Make a list of rooms and a price list of parts as pages."""
    rooms, questions = _rooms(source, "rooms.html")
    stock, more = _stock(source, "parts.html", "KX")
    files = {"rooms.html": _as_html("Rooms", rooms), "parts.html": _as_html("Spare parts", stock)}
    return files, _interleaved(questions(" | "), more(" | "))


def csv_table(source: random.Random) -> Draft:
    """Make exported orders and readings of sensors."""
    orders, questions = _orders(source, "orders.csv")
    readings, more = _readings(source, "sensors.csv")
    files = {"orders.csv": _as_csv(orders), "sensors.csv": _as_csv(readings)}
    return files, _interleaved(questions(","), more(","))


# What the tables hold: the rows, header first, and the questions about them once it is known how cells are joined

Questions = Callable[[str], list[KindQuestion]]


def _about(rows: Rows, file: str, asks: Sequence[tuple[str, int, int]]) -> Questions:
    """Return the questions of a table: of each row one of `asks`, which name the column of `{x}` and that of the answer."""

    def questions(joint: str) -> list[KindQuestion]:
        made = []
        for i, row in enumerate(rows[1:]):
            text, known, wanted = asks[i % len(asks)]
            spans = (joint.join(rows[0]), joint.join(row))
            made.append(KindQuestion(text.format(x=row[known]), row[wanted], spans, (file,)))
        return made

    return questions


def _stock(source: random.Random, file: str, prefix: str) -> tuple[Rows, Questions]:
    rows: Rows = [("Part", "Shelf", "Buying price", "Selling price", "Warehouse")]
    shelves = source.sample([f"{number}-{letter}" for number in range(1, 30) for letter in "ABCD"], 48)
    prices, sold = source.sample(range(100, 400), 48), source.sample(range(400, 900), 48)
    for code, shelf, price, sale in zip(near_codes(source, prefix, 48), shelves, prices, sold, strict=True):
        rows.append((code, shelf, f"{price}", f"{sale}", source.choice(CITIES)))
    asks = (
        ("What is the selling price of part {x}?", 0, 3),
        ("Which part lies on shelf {x}?", 1, 0),
        ("What did we pay for {x}?", 0, 2),
        ("On which shelf do I find {x}?", 0, 1),
    )
    return rows, _about(rows, file, asks)


def _branches(source: random.Random, file: str) -> tuple[Rows, Questions]:
    rows: Rows = [("City", "Opened", "Staff", "Manager", "Phone")]
    phones = source.sample(range(10000, 99999), 40)
    for city, manager, phone in zip(source.sample(CITIES, 40), people(source, 40), phones, strict=True):
        rows.append((city, str(source.randrange(1950, 2024)), str(source.randrange(5, 90)), manager, f"{phone}"))
    asks = (
        ("Who runs the branch in {x}?", 0, 3),
        ("In what year did the {x} office open?", 0, 1),
        ("Which number do I dial to reach {x}?", 0, 4),
        ("How many people work in {x}?", 0, 2),
    )
    return rows, _about(rows, file, asks)


def _rooms(source: random.Random, file: str) -> tuple[Rows, Questions]:
    rows: Rows = [("Room", "Seats", "Floor", "Key holder", "Equipment")]
    equipment = ("projector", "whiteboard", "video screen", "piano", "two monitors", "microphones")
    codes = near_codes(source, "R", 40, digits=3)
    for code, holder in zip(codes, people(source, 40), strict=True):
        rows.append((code, str(source.randrange(4, 80)), str(source.randrange(1, 9)), holder, source.choice(equipment)))
    asks = (
        ("How many people fit into room {x}?", 0, 1),
        ("Who keeps the key of {x}?", 0, 3),
        ("For which room does {x} hold the key?", 3, 0),
        ("What technology is there in room {x}?", 0, 4),
    )
    return rows, _about(rows, file, asks)


def _orders(source: random.Random, file: str) -> tuple[Rows, Questions]:
    rows: Rows = [("order_id", "customer", "item", "amount_eur", "shipped_on", "status")]
    items = ("desk", "office chair", "shelf", "reading lamp", "cabinet", "carpet", "mirror", "stool")
    states = ("delivered", "returned", "in transit", "cancelled")
    codes, amounts = near_codes(source, "ORD", 48, digits=5), source.sample(range(50, 999), 48)
    for i, (code, amount) in enumerate(zip(codes, amounts, strict=True)):
        customer = people(source, 1)[0]
        day = f"2024-{source.randrange(1, 13):02}-{source.randrange(1, 29):02}"
        rows.append((code, customer, items[i % len(items)], f"{amount}.{i:02}", day, source.choice(states)))
    asks = (
        ("Who placed order {x}?", 0, 1),
        ("On what date did {x} leave the warehouse?", 0, 4),
        ("How much was charged for {x}?", 0, 3),
        ("What has become of order {x}?", 0, 5),
    )
    return rows, _about(rows, file, asks)


def _readings(source: random.Random, file: str) -> tuple[Rows, Questions]:
    rows: Rows = [("sensor", "site", "model", "battery_percent", "last_calibration")]
    sites = [f"{place} {number}" for number in (1, 2, 3, 4) for place in "boiler pump silo chimney dock vault".split()]
    codes, days = near_codes(source, "SN", 24), source.sample(range(1, 29), 24)
    for code, site, day in zip(codes, source.sample(sites, 24), days, strict=True):
        rows.append(
            (code, site, f"M{source.randrange(10, 99)}", str(source.randrange(5, 100)), f"2023-1{day % 3}-{day:02}")
        )
    asks = (
        ("How full is the battery of sensor {x}?", 0, 3),
        ("Where is {x} mounted?", 0, 1),
        ("When was the sensor at {x} calibrated?", 1, 4),
    )
    return rows, _about(rows, file, asks)


# How they are written


def _as_markdown(rows: Rows) -> str:
    lines = [rows[0], tuple("---" for _ in rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def _as_html(title: str, rows: Rows) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows[1:])
    return (
        f"<!doctype html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1>\n"
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></body></html>\n"
    )


def _as_csv(rows: Rows) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _interleaved(first: list[KindQuestion], second: list[KindQuestion]) -> list[KindQuestion]:
    """Return both lists, a question of one after a question of the other as far as they go."""
    shorter = min(len(first), len(second))
    pairs = [question for pair in zip(first, second, strict=False) for question in pair]
    return [*pairs, *first[shorter:], *second[shorter:]]
