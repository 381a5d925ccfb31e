"""Seeded documents that are not prose, to train on: tables, steps, questions and answers, chats, records and reference entries.

They share no generator and no form of words with `benchmarks.kinds`, which measures how well readers read such documents.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence

from leanrag.training.examples import Example
from leanrag.types import Document, DocumentKind

__all__ = ["make_kind_documents"]

Facts = Sequence[tuple[str, str]]
"""Questions with their answers."""

Generator = Callable[[random.Random], tuple[str, str, DocumentKind, Facts]]
"""Makes a title, a text, its kind, and questions about it."""

_FIRST = """Adele Bruno Carla Dmitri Elif Farid Gwen Hugo Ines Jamal Katya Lars Mina Nils Odette Pavel Quinn Rosa Sami Tessa Ulf
Vera Wanda Yusuf Zoe Anders Bianca Cyril Dolores Emil""".split()
_LAST = """Abbott Becker Castillo Duarte Eriksen Fontaine Gruber Haddad Ivanov Jansen Kowalski Lindqvist Moreau Novak Okafor Petrov
Quintero Rossi Schmidt Tanaka Ueda Vargas Weaver Xu Yilmaz Zimmer""".split()
_TOWNS = """Aalborg Bergamo Coimbra Dresden Esbjerg Ferrara Ghent Haarlem Izmir Jaffa Kiruna Leeds Malaga Nantes Oviedo Porto Quito
Riga Salerno Tromso Uppsala Valencia Warsaw Xanten York Zagreb""".split()
_THINGS = """anvil basket compass drill easel funnel gasket hammer inkwell jigsaw kayak ladder mixer nozzle oven pulley quilt rope
saddle tripod umbrella valve winch xylophone yoke zipper bracket chisel dimmer filter""".split()
_COLOURS = "amber beige copper crimson ivory jade lilac maroon navy ochre plum silver teal umber violet".split()
_MONTHS = "January February March April May June July August September October November December".split()
_TEAMS = "billing catering design export finance grants housing imports legal maintenance nursing orders payroll quality".split()


def _name(source: random.Random) -> str:
    return f"{source.choice(_FIRST)} {source.choice(_LAST)}"


def _date(source: random.Random) -> str:
    return f"{source.randrange(1, 29)} {source.choice(_MONTHS)} {source.randrange(1987, 2026)}"


def _time(source: random.Random) -> str:
    return f"{source.randrange(6, 22)}:{source.randrange(0, 60, 5):02}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _amount(source: random.Random) -> str:
    return source.choice((f"{source.randrange(2, 990)}", f"{source.randrange(1, 90)}.{source.randrange(10, 99)}"))


# Tables

_COLUMNS: Mapping[str, tuple[Callable[[random.Random], str], tuple[str, ...]]] = {
    "Price": (_amount, ("What is the price of the {s}?", "How much is the {s}?", "what do I pay for a {s}")),
    "Supplier": (_name, ("Who supplies the {s}?", "From whom do we buy the {s}?", "Which supplier makes the {s}?")),
    "Colour": (lambda r: r.choice(_COLOURS), ("What colour is the {s}?", "In which colour does the {s} come?")),
    "Stock": (
        lambda r: str(r.randrange(3, 900)),
        ("How many units of the {s} are in stock?", "How large is the stock of the {s}?"),
    ),
    "Warehouse": (lambda r: r.choice(_TOWNS), ("Where is the {s} stored?", "Which warehouse holds the {s}?")),
    "Checked": (_date, ("When was the {s} checked?", "On which date did somebody check the {s}?")),
    "Weight (kg)": (_amount, ("How heavy is the {s}?", "What does the {s} weigh in kg?")),
    "Code": (
        lambda r: f"{r.choice('KLMNPRT')}{r.choice('ABCDEF')}-{r.randrange(100, 999)}",
        ("Which code does the {s} have?", "What is the code of the {s}?"),
    ),
}


def _table(source: random.Random) -> tuple[str, str, DocumentKind, Facts]:
    names = source.sample(sorted(_COLUMNS), source.randrange(3, 6))
    subjects = source.sample(_THINGS, source.randrange(8, 18))
    rows = [[_COLUMNS[name][0](source) for name in names] for _ in subjects]
    facts = [
        (source.choice(_COLUMNS[name][1]).format(s=subject), cells[i])
        for subject, cells in zip(subjects, rows, strict=True)
        for i, name in enumerate(names)
    ]
    header = [source.choice(("Item", "Article", "Product", "Part")), *names]
    lines = [[subject, *cells] for subject, cells in zip(subjects, rows, strict=True)]
    form = source.choice(("markdown", "csv", "sentences", "semicolons"))
    title = f"{source.choice(('Inventory', 'Price list', 'Catalogue', 'Stores'))} {source.choice(_TOWNS)}"
    if form == "markdown":
        table = [header, ["---"] * len(header), *lines]
        return title, "\n".join(f"| {' | '.join(cells)} |" for cells in table), "markdown", facts
    if form == "csv":
        return title, "\n".join(",".join(cells) for cells in (header, *lines)), "text", facts
    if form == "semicolons":
        return title, "\n".join("; ".join(cells) for cells in (header, *lines)), "text", facts
    text = "\n".join(
        f"{subject}: " + ", ".join(f"{name.lower()} {cell}" for name, cell in zip(names, cells, strict=True))
        for subject, *cells in lines
    )
    return title, text, "text", facts


# Steps

_TASKS = (
    (
        "change the {s}",
        (
            ("switch off the main at the {v}", "What do you switch off the main at when you change the {s}?", "{v}"),
            ("wait {n} minutes until it is cold", "How long do you wait before you change the {s}?", "{n} minutes"),
            ("loosen the {c} screws with a {t}", "Which tool loosens the screws of the {s}?", "{t}"),
            ("put the new {s} in with the arrow to the {d}", "Which way does the arrow of the new {s} point?", "{d}"),
            ("write the date into the {b}", "Where do you write down that the {s} was changed?", "{b}"),
        ),
    ),
    (
        "order a {s}",
        (
            ("open the page {v}", "Which page do I open to order a {s}?", "{v}"),
            ("enter the number {n} of your group", "Which group number is entered when ordering a {s}?", "{n}"),
            ("choose the {c} form", "Which form is right for ordering a {s}?", "{c}"),
            ("send it to {p} for approval", "Who approves an order for a {s}?", "{p}"),
            ("expect the {s} within {m} days", "How many days does it take until the {s} arrives?", "{m}"),
        ),
    ),
    (
        "clean the {s}",
        (
            ("rinse it with {b}", "What is the {s} rinsed with?", "{b}"),
            ("leave it to dry for {n} hours", "How long must the {s} dry?", "{n} hours"),
            ("rub the {c} side with a {t}", "What do you rub the {c} side of the {s} with?", "{t}"),
            ("report scratches to {p}", "Who wants to know about scratches on the {s}?", "{p}"),
        ),
    ),
    (
        "set up the {s}",
        (
            ("place it at least {n} cm from the wall", "How far from the wall does the {s} stand?", "{n} cm"),
            ("connect the {c} cable to socket {m}", "To which socket does the {c} cable of the {s} go?", "{m}"),
            ("press {v} twice", "What is pressed twice when setting up the {s}?", "{v}"),
            ("turn the dial to the {d}", "In which direction is the dial of the {s} turned?", "{d}"),
            ("call {p} if the lamp stays off", "Who helps if the lamp of the {s} stays off?", "{p}"),
        ),
    ),
)


def _steps(source: random.Random) -> tuple[str, str, DocumentKind, Facts]:
    parts: list[str] = []
    facts: list[tuple[str, str]] = []
    marks = source.choice(("{i}. ", "- ", "Step {i}: ", "* "))
    subjects = source.sample(_THINGS, 4)
    for subject in subjects:
        task, steps = source.choice(_TASKS)
        values = {
            "s": subject,
            "v": source.choice(("fuse box", "Supplies", "START", "green panel", "Settings", "lower switch")),
            "n": source.randrange(3, 95),
            "m": source.randrange(2, 19),
            "c": source.choice(_COLOURS),
            "t": source.choice(("hex key", "soft brush", "torch", "flat file", "coin", "spanner")),
            "d": source.choice(("left", "right", "door", "window", "ceiling")),
            "b": source.choice(("log book", "warm water", "blue folder", "white spirit", "lemon juice")),
            "p": _name(source),
        }
        heading = task.format(**values)
        heading = source.choice((f"How to {heading}", _capital(heading), f"To {heading}"))
        lines = [marks.format(i=i) + _capital(step[0].format(**values)) + "." for i, step in enumerate(steps, start=1)]
        parts.append(f"## {heading}\n\n" + "\n".join(lines))
        facts += [(step[1].format(**values), step[2].format(**values)) for step in steps]
    return f"Handbook {source.choice(_TOWNS)}", "\n\n".join(parts), "markdown", facts


# Questions and answers

_ASKED = (
    (
        "May I bring a {s} to the {c} hall?",
        "Can visitors take a {s} into the {c} hall?",
        "{y}. {n} visitors did so last year.",
        "{y}",
    ),
    (
        "When does the {c} hall open?",
        "At what time can I get into the {c} hall?",
        "It opens at {h} and closes after dark.",
        "{h}",
    ),
    (
        "Who runs the {s} course?",
        "Which person leads the {s} course?",
        "The course is run by {p}, with two helpers.",
        "{p}",
    ),
    (
        "How much is the {s} course?",
        "What must I pay to take part in the {s} course?",
        "It costs {n} crowns, paid in advance.",
        "{n} crowns",
    ),
    (
        "Where is the {s} course held?",
        "In what town does the {s} course take place?",
        "We meet in {w}, behind the church.",
        "{w}",
    ),
    (
        "Is there a limit for the {s} course?",
        "How many people fit into the {s} course?",
        "We take {m} people; others wait.",
        "{m}",
    ),
    (
        "What happens if I lose my {s}?",
        "I lost my {s}, what now?",
        "You fill in the {c} card and get another one.",
        "fill in the {c} card",
    ),
    (
        "Why is the {c} hall closed?",
        "What is the reason that nobody may enter the {c} hall?",
        "Because {z}. We are sorry.",
        "{z}",
    ),
)


def _asked(source: random.Random) -> tuple[str, str, DocumentKind, Facts]:
    forms = (
        ("### {q}\n\n{a}\n", "markdown"),
        ("**{q}** {a}\n", "markdown"),
        ("Question: {q}\nAnswer: {a}\n", "text"),
        ("Q. {q}\nA. {a}\n", "text"),
        ("- {q}\n  {a}\n", "markdown"),
    )
    form, kind = source.choice(forms)
    entries: list[str] = []
    facts: list[tuple[str, str]] = []
    used: set[str] = set()
    while len(entries) < 14:
        heading, question, answer, short = source.choice(_ASKED)
        values = {
            "s": source.choice(_THINGS),
            "c": source.choice(_COLOURS),
            "y": source.choice(
                ("Yes, in a bag", "No, never", "Only on Sundays", "Yes, with a ticket", "Not in winter")
            ),
            "h": _time(source),
            "p": _name(source),
            "n": source.randrange(20, 400),
            "m": source.randrange(4, 60),
            "w": source.choice(_TOWNS),
            "z": source.choice(
                ("the roof leaks", "the floor is being painted", "a film is made there", "the heating failed")
            ),
        }
        heading = heading.format(**values)
        if heading in used:
            continue
        used.add(heading)
        entries.append(form.format(q=heading, a=answer.format(**values)))
        facts.append((source.choice((question, heading)).format(**values), short.format(**values)))
    return f"{source.choice(('FAQ', 'Help', 'Questions'))} {source.choice(_TOWNS)}", "\n".join(entries), kind, facts  # type: ignore[return-value]


# Chats

_TALK = (
    ("who left the {s} in the {c} room?", "that was {p}, sorry", "Who left the {s} in the {c} room?", "{p}"),
    ("when is the {s} picked up?", "they come at {h}", "At what time is the {s} picked up?", "{h}"),
    ("how many {s}s do we need for {w}?", "{n} should be enough", "What number of {s}s is needed for {w}?", "{n}"),
    (
        "where did we put the {s}?",
        "in the {c} cupboard, second shelf",
        "Where has the {s} been put?",
        "in the {c} cupboard",
    ),
    ("what is the login of the {s} page?", "try {k}", "Which login opens the {s} page?", "{k}"),
    (
        "did {p} answer about the {s}?",
        "yes: not before {d}",
        "Before which date will there be no {s}, as {p} says?",
        "{d}",
    ),
)


def _talk(source: random.Random) -> tuple[str, str, DocumentKind, Facts]:
    people = source.sample(_FIRST, 5)
    form = source.choice(("{t} {p}: {m}", "<{p}> {m}", "{p} ({t}): {m}", "{p}: {m}", "**{p}** {t}\n{m}\n"))
    facts, lines = [], []
    minute = source.randrange(480, 700)
    fillers = ("hm", "let me see", "thanks!", "same here", "I asked that yesterday", "one second", "ok")
    subjects = source.sample(_THINGS, 10)
    for subject in subjects:
        asked, reply, question, short = source.choice(_TALK)
        values = {
            "s": subject,
            "c": source.choice(_COLOURS),
            "w": source.choice(_TOWNS),
            "p": _name(source),
            "h": _time(source),
            "n": source.randrange(5, 80),
            "k": f"{source.choice(_THINGS)}{source.randrange(10, 99)}",
            "d": _date(source),
        }
        one, other, third = source.sample(people, 3)
        spoken = [(one, asked), (other, reply)]
        if source.random() < 0.4:
            spoken.insert(1, (third, source.choice(fillers)))
        if source.random() < 0.4:
            spoken.append((one, source.choice(fillers)))
        for person, words in spoken:
            minute += source.randrange(1, 9)
            clock = f"{minute // 60}:{minute % 60:02}"
            lines.append(form.format(t=clock, p=person, m=words.format(**values)))
        facts.append((question.format(**values), short.format(**values)))
    return f"Chat {source.choice(_TEAMS)}", "\n".join(lines), "text", facts


# Records

_FIELDS: Mapping[str, tuple[Callable[[random.Random], str], str]] = {
    "owner": (_name, "Who owns the {t} entry?"),
    "timeout_seconds": (lambda r: str(r.randrange(2, 900)), "What timeout in seconds does {t} have?"),
    "region": (lambda r: r.choice(_TOWNS).lower(), "In which region does {t} run?"),
    "port": (lambda r: str(r.randrange(1024, 9999)), "On which port does {t} listen?"),
    "theme": (lambda r: r.choice(_COLOURS), "Which theme is set for {t}?"),
    "retries": (lambda r: str(r.randrange(2, 40)), "How many retries are allowed for {t}?"),
    "reviewed": (_date, "When was {t} reviewed?"),
    "contact": (
        lambda r: f"{r.choice(_FIRST).lower()}@{r.choice(_TOWNS).lower()}.example",
        "What is the contact address of {t}?",
    ),
}


def _records(source: random.Random) -> tuple[str, str, DocumentKind, Facts]:
    teams = source.sample(_TEAMS, 7)
    fields = source.sample(sorted(_FIELDS), 4)
    values = {team: {field: _FIELDS[field][0](source) for field in fields} for team in teams}
    facts = [(_FIELDS[field][1].format(t=team), values[team][field]) for team in teams for field in fields]
    form = source.choice(("yaml", "json", "ini", "cards"))
    if form == "json":
        text = json.dumps(values, indent=2)
    elif form == "yaml":
        text = "\n".join(f"{t}:\n" + "\n".join(f"  {k}: {v}" for k, v in own.items()) for t, own in values.items())
    elif form == "ini":
        text = "\n\n".join(f"[{t}]\n" + "\n".join(f"{k} = {v}" for k, v in own.items()) for t, own in values.items())
    else:
        text = "\n\n".join(
            f"Team {t}\n" + "\n".join(f"{k.replace('_', ' ')}: {v}" for k, v in own.items())
            for t, own in values.items()
        )
    return f"{source.choice(('settings', 'services', 'registry'))}-{source.choice(_TOWNS).lower()}", text, "text", facts


# Reference entries

_DEEDS = (
    "copies {a} into {b}",
    "removes {a} from {b}",
    "sorts {a} by {b}",
    "counts {a} until {b} ends",
    "joins {a} with {b}",
    "stops the run if {a} is larger than {b}",
    "returns {a}, or {b} if that is empty",
    "waits for {a} before it touches {b}",
    "prints {a} beside {b}",
    "replaces {a} by {b}",
)
_OBJECTS = """the first row|the open file|a list of names|the current user|the buffer|each missing value|the last result|the log|all
empty lines|the other table|the time limit|a random number|the header|the old key|a copy of the text|the queue""".replace(
    "\n", " "
).split("|")
_CALLS = (
    "skim fold graft hoist latch mend nudge prune rivet stash tally weave yield_to zoom braid clamp dredge etch".split()
)


def _reference(source: random.Random) -> tuple[str, str, DocumentKind, Facts]:
    word = source.choice(("command", "function", "statement", "option", "keyword", "method"))
    entries, facts = [], []
    for call in source.sample(_CALLS, 8):
        a, b = source.sample(_OBJECTS, 2)
        deed = source.choice(_DEEDS).format(a=a, b=b)
        since, default = f"{source.randrange(1, 9)}.{source.randrange(0, 20)}", str(source.randrange(2, 99))
        sentence = source.choice((f"The {call} {word} {deed}.", f"`{call}` {deed}.", f"This {word} {deed}."))
        more = source.choice(
            (
                f"It was added in version {since}. Its default is {default}.",
                f"The default is {default}; before version {since} there was none.",
                f"Added in version {since}, with the default {default}.",
            )
        )
        entries.append(source.choice((f"## {call}\n\n{sentence} {more}", f"The {call} {word}\n\n{sentence} {more}")))
        facts += [
            (
                source.choice(
                    (f"What does the {call} {word} do?", f"What is the {call} {word} for?", f"What does {call} do?")
                ),
                deed,
            ),
            (f"In which version was {call} added?", since),
            (f"What is the default of {call}?", default),
        ]
    return f"{source.choice(_TOWNS)} {word}s", "\n\n".join(entries), "markdown", facts


# Notes: prose of an office

_NOTES = (
    (
        "The {t} team moves to {w} on {d}.",
        (("When does the {t} team move?", "{d}"), ("Where does the {t} team move to?", "{w}")),
    ),
    (
        "{p} takes over {t} from {q}.",
        (("Who takes over {t}?", "{p}"), ("Who was responsible for {t} before {p}?", "{q}")),
    ),
    (
        "In {t}, {n} requests are open, {m} of them for more than a month.",
        (("How many requests are open in {t}?", "{n}"), ("How many requests of {t} are older than a month?", "{m}")),
    ),
    (
        "The budget of {t} was cut by {n} thousand because {z}.",
        (("By how much was the budget of {t} cut?", "{n} thousand"), ("Why was the budget of {t} cut?", "{z}")),
    ),
    (
        "Keys for the {c} door are kept by {p}.",
        (("Who keeps the keys for the {c} door?", "{p}"), ("Which door does {p} keep the keys for?", "{c}")),
    ),
    (
        "From {h} on, the {s} may be used by everybody except trainees.",
        (("From when on may everybody use the {s}?", "{h}"), ("Who may not use the {s}?", "trainees")),
    ),
)


def _notes(source: random.Random) -> tuple[str, str, DocumentKind, Facts]:
    sentences: list[str] = []
    facts: list[tuple[str, str]] = []
    for _ in range(10):
        form, asked = source.choice(_NOTES)
        values = {
            "t": source.choice(_TEAMS),
            "w": source.choice(_TOWNS),
            "d": _date(source),
            "p": _name(source),
            "q": _name(source),
            "n": source.randrange(20, 900),
            "m": source.randrange(2, 20),
            "c": source.choice(_COLOURS),
            "s": source.choice(_THINGS),
            "h": _time(source),
            "z": source.choice(("sales fell", "the grant ended", "two posts are vacant", "rents rose")),
        }
        sentence = form.format(**values)
        new = [(question.format(**values), answer.format(**values)) for question, answer in asked]
        if {question for question, _ in new} & {question for question, _ in facts}:
            continue
        sentences.append(_capital(sentence))
        facts += new
    marks = source.choice((" ", "\n", "\n- ", "\n\n"))
    return f"Notes {source.choice(_TOWNS)}", marks.join(["", *sentences]).strip(), "text", facts


_GENERATORS: Mapping[str, Generator] = {
    "table": _table,
    "steps": _steps,
    "faq": _asked,
    "chat": _talk,
    "record": _records,
    "reference": _reference,
    "notes": _notes,
}


def make_kind_documents(per_kind: int, *, seed: int = 0) -> tuple[list[Document], list[Example]]:
    """Return documents of each kind, and questions about them; the same for the same arguments.

    A bundle has one document of each kind. Questions are about a bundle: other bundles answer the same questions differently.
    """
    documents, examples = [], []
    for name, generator in _GENERATORS.items():
        for number in range(per_kind):
            title, text, kind, facts = generator(random.Random(f"{seed} {name} {number}"))
            identity = f"{name}/{seed}/{number}"
            bundle = f"bundle {seed}/{number}"
            documents.append(Document(text, id=identity, title=title, kind=kind, metadata={"group": bundle}))
            examples += [Example(question, (answer,), identity, bundle, name) for question, answer in facts]
    return documents, examples
