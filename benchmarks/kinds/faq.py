"""Frequently asked questions in four forms: under headings, as `Q:` and `A:`, in bold, and as HTML details."""

from __future__ import annotations

import random
from dataclasses import dataclass

from benchmarks.kinds.material import Draft, KindQuestion
from benchmarks.kinds.vocabulary import people

__all__ = ["faq_bold", "faq_details", "faq_headings", "faq_pairs"]


@dataclass(frozen=True, slots=True)
class _Aspect:
    """What is asked about every subject: as it is written, as a user asks it, the answer, and its shortest form.

    Fields: `{s}` subject, `{n}` number, `{m}` another number, `{p}` person, `{c}` one of `choices`.
    """

    heading: str
    question: str
    answer: str
    short: str
    choices: tuple[str, ...] = ("",)


_MEMBERSHIP = (
    _Aspect(
        "What does the {s} plan cost?",
        "How much do I pay for the {s} plan?",
        "You pay {n} euros a month. The first invoice comes by mail.",
        "{n} euros",
    ),
    _Aspect(
        "Can I cancel the {s} plan early?",
        "How long before leaving the {s} plan must I tell you?",
        "Yes, at any time. Send us a letter {n} days before the end of the month.",
        "{n} days",
    ),
    _Aspect(
        "Does the {s} plan include parking?",
        "Is there parking for someone on the {s} plan?",
        "{c}",
        "{c}",
        (
            "Yes, on weekdays after six.",
            "No, a space must be rented.",
            "Only in the north garage.",
            "Yes, but not in July.",
        ),
    ),
    _Aspect(
        "Who looks after the {s} plan?",
        "Which colleague is responsible for the {s} plan?",
        "{p} does. The desk is on the second floor.",
        "{p}",
    ),
    _Aspect(
        "How many guests may come along on the {s} plan?",
        "With the {s} plan, what is the most visitors that I can bring?",
        "Up to {m} guests a year. They sign the book at the entrance.",
        "{m}",
    ),
    _Aspect(
        "Is the pool open to the {s} plan?",
        "May people with the {s} plan go swimming?",
        "{c}",
        "{c}",
        ("Every morning until nine.", "On Sundays only.", "No, the pool costs extra.", "In the winter months."),
    ),
)
_PLANS = "Basic Family Student Senior Weekend Corporate Trial Gold Night Couple Junior Remote".split()

_DEVICES = (
    _Aspect(
        "How do I reset the {s}?",
        "What must I hold to bring the {s} back to factory settings?",
        "Hold the button on the back for {n} seconds. The light turns off.",
        "{n} seconds",
    ),
    _Aspect(
        "What does a red light on the {s} mean?",
        "The {s} shows a red light, what is wrong with it?",
        "{c}",
        "{c}",
        (
            "The filter is full.",
            "The battery is empty.",
            "It has lost the network.",
            "The door is open.",
            "It is too warm.",
        ),
    ),
    _Aspect(
        "How long does the battery of the {s} last?",
        "After how many hours must I charge the {s}?",
        "About {n} hours of use. In the cold it is less.",
        "{n} hours",
    ),
    _Aspect(
        "Can the {s} stand outside?",
        "Is it fine to leave the {s} out in the garden?",
        "{c}",
        "{c}",
        ("Yes, under a roof.", "No, it is not made for rain.", "In summer, yes.", "Only in its case."),
    ),
    _Aspect(
        "Which cleaner is safe for the {s}?",
        "What do I clean the {s} with?",
        "Use {c} and a soft cloth. Unplug it first.",
        "{c}",
        ("white vinegar", "warm water", "citric acid", "mild soap", "glass cleaner", "pure alcohol"),
    ),
    _Aspect(
        "Where do I find the serial number of the {s}?",
        "On which side of the {s} is its serial number printed?",
        "It is printed {c}. Have it ready when you call.",
        "{c}",
        ("under the lid", "inside the battery bay", "below the handle", "on the left foot", "behind the filter"),
    ),
)
_MACHINES = "kettle doorbell router scale projector heater camera vacuum printer thermostat lamp speaker".split()

_LIBRARY = (
    _Aspect(
        "How long may I keep {s}?",
        "After how many days must {s} come back to the library?",
        "The loan period is {n} days. It can be extended once.",
        "{n} days",
    ),
    _Aspect(
        "What is the fine for late {s}?",
        "What do I owe per day if I return {s} too late?",
        "We charge {n} cents a day. Children pay nothing.",
        "{n} cents",
    ),
    _Aspect(
        "Can I reserve {s}?",
        "Is it possible to put a hold on {s}?",
        "{c}",
        "{c}",
        ("Yes, at the counter.", "Yes, for a fee.", "No, first come, first served.", "Only by telephone."),
    ),
    _Aspect(
        "On which floor are {s}?",
        "Where in the building do I look for {s}?",
        "You find them {c}. Follow the blue line.",
        "{c}",
        ("in the cellar", "on the first floor", "next to the lifts", "behind the cafe", "in the reading room"),
    ),
    _Aspect(
        "Who helps me to find {s}?",
        "Whom can I ask when I am looking for {s}?",
        "Ask {p} at the desk. Weekday mornings are best.",
        "{p}",
    ),
    _Aspect(
        "How many {s} can I borrow at once?",
        "What is the largest number of {s} on one card?",
        "At most {m} on one card. Schools have other rules.",
        "{m}",
    ),
)
_MEDIA = "atlases newspapers films records games scores comics novels maps magazines telescopes audiobooks".split()

_HOSTING = (
    _Aspect(
        "How often is the {s} service backed up?",
        "What is the interval between two backups of the {s} service?",
        "A copy is made every {n} hours. Copies are kept in another city.",
        "{n} hours",
    ),
    _Aspect(
        "Can I move my {s} service to another region?",
        "Is a change of region allowed for the {s} service?",
        "{c}",
        "{c}",
        (
            "Yes, once a year.",
            "No, it is bound to its region.",
            "Yes, with an hour of downtime.",
            "Only through support.",
        ),
    ),
    _Aspect(
        "Which port does the {s} service use?",
        "What port must the firewall open for the {s} service?",
        "It listens on port {n}{m}. Encryption is always on.",
        "{n}{m}",
    ),
    _Aspect(
        "How do I turn on logging for the {s} service?",
        "Where is the logging switch of the {s} service?",
        "Open {c} and choose Verbose. Restart it afterwards.",
        "{c}",
        ("the console", "Settings", "the status page", "Diagnostics", "the project menu"),
    ),
    _Aspect(
        "Is the {s} service free?",
        "Do I have to pay for the {s} service?",
        "{c}",
        "{c}",
        ("Yes, for schools.", "No, it is billed by the hour.", "For the first month.", "Yes, below a gigabyte."),
    ),
    _Aspect(
        "Who is on call for the {s} service?",
        "Which engineer gets the alarm of the {s} service at night?",
        "{p} this quarter. The pager number is in the wiki.",
        "{p}",
    ),
)
_SERVICES = "queue mail search cache billing image metrics login backup webhook archive translation".split()


@dataclass(frozen=True, slots=True)
class _Entry:
    subject: str
    heading: str
    question: str
    answer: str
    short: str


def _entries(source: random.Random, aspects: tuple[_Aspect, ...], subjects: list[str]) -> list[_Entry]:
    """Return an entry for each subject and aspect; entries of one aspect differ in their subject and in what is answered."""
    entries = []
    numbers = source.sample(range(11, 99), len(subjects))
    smaller = source.sample(range(100, 999), len(subjects))
    names = people(source, len(subjects))
    for i, subject in enumerate(subjects):
        for j, aspect in enumerate(aspects):
            values = {
                "s": subject,
                "n": str(numbers[(i + 5 * j) % len(subjects)]),
                "m": str(smaller[(i + 3 * j) % len(subjects)]),
                "p": names[i],
                "c": aspect.choices[(i + j) % len(aspect.choices)],
            }
            parts = (aspect.heading, aspect.question, aspect.answer, aspect.short)
            heading, question, answer, short = (part.format(**values) for part in parts)
            entries.append(_Entry(subject, heading, question, answer, short.rstrip(".")))
    return entries


def _draft(entries: list[_Entry], title: str, suffix: str, form: str, opening: str, closing: str = "") -> Draft:
    """Return two files of entries and a question for each; `form` has the fields `{q}` and `{a}`."""
    files: dict[str, str] = {}
    questions = []
    half = len(entries) // 2
    for part, entries_of_file in enumerate((entries[:half], entries[half:]), start=1):
        name = f"{title.lower().replace(' ', '-')}-{part}{suffix}"
        body = "".join(form.format(q=entry.heading, a=entry.answer) for entry in entries_of_file)
        files[name] = opening.format(title=f"{title}, part {part}") + body + closing
        for entry in entries_of_file:
            first = entry.answer.partition(". ")[0].rstrip(".")
            marker = "A: " if "A: {a}" in form else ""
            pair = f"{entry.heading} {marker}{first}"
            last = entry.answer[len(first) + 2 :]
            spans = (pair,) if entry.short in first else (entry.heading, last)
            questions.append(KindQuestion(entry.question, entry.short, spans, (name,), key=pair))
    return files, questions


def faq_headings(source: random.Random) -> Draft:
    """Make a club's questions, each a heading."""
    entries = _entries(source, _MEMBERSHIP, source.sample(_PLANS, 10))
    return _draft(entries, "Club questions", ".md", "### {q}\n\n{a}\n\n", "# {title}\n\n")


def faq_pairs(source: random.Random) -> Draft:
    """Make a library's questions as `Q:` and `A:` lines of a text file."""
    entries = _entries(source, _LIBRARY, source.sample(_MEDIA, 10))
    return _draft(entries, "Library help", ".txt", "Q: {q}\nA: {a}\n\n", "{title}\n\n")


def faq_bold(source: random.Random) -> Draft:
    """Make a shop's questions in bold, the answer on the line below."""
    entries = _entries(source, _DEVICES, source.sample(_MACHINES, 10))
    return _draft(entries, "Device support", ".md", "**{q}**\n{a}\n\n", "# {title}\n\n")


def faq_details(source: random.Random) -> Draft:
    """Make a provider's questions as HTML details."""
    entries = _entries(source, _HOSTING, source.sample(_SERVICES, 10))
    opening = "<!doctype html>\n<html><head><title>{title}</title></head><body>\n<h1>{title}</h1>\n"
    form = "<details><summary>{q}</summary>\n<p>{a}</p></details>\n"
    return _draft(entries, "Service questions", ".html", form, opening, "</body></html>\n")
