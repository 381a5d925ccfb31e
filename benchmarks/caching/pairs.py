"""Pairs of questions that differ in one thing, so that the answer to one is wrong for the other."""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["minimal_pairs"]

PEOPLE = "Ada Park|Olu Mensah|Ines Duarte|Tom Reyes|Mei Tanaka|Lars Holm|Priya Nair|Omar Haddad".split("|")
CITIES = "Oslo|Lisbon|Austin|Kyoto|Nairobi|Lima|Hamburg|Cork|Perth|Quito".split("|")
THINGS = "laptop|invoice|contract|parcel|badge|server|license|meeting room|printer|company car".split("|")
LOWER = "nickel|cobalt|ethanol|methanol|copper|zinc|barley|wheat|trout|salmon|granite|marble".split("|")
PRODUCTS = "HX-20|HX-30|Orion 5|Orion 7|Lumen Pro|Lumen Air|ZR-9|ZR-11".split("|")
UNITS = (
    ("grams", "ounces"),
    ("kilometres", "miles"),
    ("euros", "dollars"),
    ("hours", "days"),
    ("celsius", "fahrenheit"),
)
DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday".split("|")
MONTHS = "January|February|March|April|June|July|August|September|October|November|December".split("|")
OPPOSITES = (
    ("cheapest", "most expensive"), ("before", "after"), ("maximum", "minimum"), ("enable", "disable"),
    ("buy", "sell"), ("increase", "decrease"), ("first", "last"), ("longest", "shortest"), ("add", "remove"),
)  # fmt: skip


def minimal_pairs(n: int, seed: int = 0) -> list[tuple[str, str, str]]:
    """Return `n` triples (kind, question, other question), the kinds in turn."""
    draw = random.Random(seed)
    makers = [_number, _negation, _entity, _order, _unit, _date, _opposite, _lower]
    kinds = "number negation entity order unit date opposite entity".split()
    return [(kinds[i % len(makers)], *next(makers[i % len(makers)](draw))) for i in range(n)]


def _two(draw: random.Random, values: list[str]) -> tuple[str, str]:
    left, right = draw.sample(values, 2)
    return left, right


def _number(draw: random.Random) -> Iterator[tuple[str, str]]:
    left, right = (str(n) for n in draw.sample(range(2, 400), 2))
    form = draw.choice(
        [
            "What does a {thing} for {n} people cost?", "Is a {thing} free after {n} days?",
            "How many {thing}s may {n} employees order?", "What changed in version 1.{n}.2?",
            "What happens when more than {n} users share one {thing}?",
        ]
    )  # fmt: skip
    thing = draw.choice(THINGS)
    yield form.format(n=left, thing=thing), form.format(n=right, thing=thing)


def _negation(draw: random.Random) -> Iterator[tuple[str, str]]:
    plain, negated = draw.choice(
        [
            ("Can I return the {t}?", "Can I not return the {t}?"),
            ("Which {t}s are covered by the warranty?", "Which {t}s are not covered by the warranty?"),
            ("Why is the {t} allowed on board?", "Why isn't the {t} allowed on board?"),
            ("Who may use the {t} with a permit?", "Who may use the {t} without a permit?"),
            ("What happens if the {t} is insured?", "What happens if the {t} is uninsured?"),
            ("When must the {t} be locked?", "When must the {t} never be locked?"),
        ]
    )
    thing = draw.choice(THINGS)
    yield plain.format(t=thing), negated.format(t=thing)


def _entity(draw: random.Random) -> Iterator[tuple[str, str]]:
    form, values = draw.choice(
        [
            ("When did {x} join the board?", PEOPLE), ("What is the phone number of the office in {x}?", CITIES),
            ("How do I reset the {x}?", PRODUCTS), ("Who replaces {x} during the holidays?", PEOPLE),
            ("Is there a train from the airport to {x}?", CITIES), ("What is the weight of the {x}?", PRODUCTS),
        ]
    )  # fmt: skip
    left, right = _two(draw, values)
    yield form.format(x=left), form.format(x=right)


def _lower(draw: random.Random) -> Iterator[tuple[str, str]]:
    left, right = _two(draw, draw.choice([LOWER, THINGS]))
    form = draw.choice(["What is the price of {x} this year?", "Where is {x} stored?", "How do we order {x}?"])
    yield form.format(x=left), form.format(x=right)


def _order(draw: random.Random) -> Iterator[tuple[str, str]]:
    form, values = draw.choice(
        [
            ("How long is the flight from {a} to {b}?", CITIES), ("Is {a} older than {b}?", PEOPLE),
            ("Did {a} hire {b}?", PEOPLE), ("Does the {a} cost more than the {b}?", PRODUCTS),
            ("Was {a} founded before {b}?", CITIES),
        ]
    )  # fmt: skip
    left, right = _two(draw, values)
    yield form.format(a=left, b=right), form.format(a=right, b=left)


def _unit(draw: random.Random) -> Iterator[tuple[str, str]]:
    left, right = draw.choice(UNITS)
    form = draw.choice(
        ["How many {u} does the {t} take?", "What is the limit in {u} for a {t}?", "Is a {t} of 40 {u} allowed?"]
    )
    thing = draw.choice(THINGS)
    yield form.format(u=left, t=thing), form.format(u=right, t=thing)


def _date(draw: random.Random) -> Iterator[tuple[str, str]]:
    kind = draw.randrange(3)
    if kind == 0:
        left, right = _two(draw, DAYS)
        form = "Is the canteen in {c} open on {d}?"
    elif kind == 1:
        left, right = _two(draw, MONTHS)
        form = "What was the revenue of {c} in {d}?"
    else:
        left, right = (str(n) for n in draw.sample(range(1990, 2026), 2))
        form = "How many people worked in {c} in {d}?"
    city = draw.choice(CITIES)
    yield form.format(c=city, d=left), form.format(c=city, d=right)


def _opposite(draw: random.Random) -> Iterator[tuple[str, str]]:
    left, right = draw.choice(OPPOSITES)
    form = {
        "before": "What must be signed {w} the {t} is delivered?", "enable": "How do I {w} alerts for the {t}?",
        "buy": "Where can I {w} a used {t}?", "increase": "Who may {w} the limit of the {t}?",
        "add": "How do I {w} a {t} in the portal?",
    }.get(left, "What is the {w} {t} that we rented?")  # fmt: skip
    thing = draw.choice(THINGS)
    yield form.format(w=left, t=thing), form.format(w=right, t=thing)
