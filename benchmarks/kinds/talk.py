"""What people write to each other: chat, mail, tickets, subtitles and minutes."""

from __future__ import annotations

import random

from benchmarks.kinds.material import Draft, KindQuestion
from benchmarks.kinds.vocabulary import CITIES, near_codes, people

__all__ = ["chat", "mail", "minutes", "subtitles", "tickets"]

_ROOMS = "Amber Birch Cedar Dune Ember Fjord Grove Harbor Iris Juniper Kelp Lagoon Maple Nectar Onyx Pebble".split()
_CHAT = (
    ("does anyone know the door code of {r}?", "it is {n} since Monday", "Which code opens the door of {r}?", "{n}"),
    (
        "who has the spare key for {r}?",
        "{p} took it home, ask there (ext {n})",
        "With whom is the second key to {r}?",
        "{p}",
    ),
    (
        "what time can we get into {r} tomorrow?",
        "from {h}:{q} on, the cleaners are in before that",
        "How early may people enter {r} the next day?",
        "{h}:{q}",
    ),
)
_CHATTER = (
    "one moment, I look it up",
    "good question",
    "not me",
    "let me check the list",
    "anybody?",
    "asking for the visitors",
)


def chat(source: random.Random) -> Draft:
    """Make an exported chat; an answer says "it" and follows its question, sometimes with a line between."""
    names = [name.split()[0] for name in people(source, 8)]
    keepers = people(source, 16)
    codes = source.sample(range(1000, 9999), 48)
    files: dict[str, str] = {}
    questions = []
    for part in range(2):
        name = f"facilities-chat-{part + 1}.txt"
        lines = []
        minute = 0
        for i in range(part * 24, part * 24 + 24):
            ask, reply, question, short = _CHAT[i % 3]
            values = {
                "r": _ROOMS[i // 3],
                "n": codes[i],
                "p": keepers[i // 3],
                "h": 6 + i % 5,
                "q": f"{(7 * i) % 60:02}",
            }
            ask, reply = ask.format(**values), reply.format(**values)
            asker, helper, other = source.sample(names, 3)
            spoken = [(asker, ask), (helper, reply)]
            if i % 2:
                spoken.insert(1, (other, source.choice(_CHATTER)))
            for speaker, words in spoken:
                minute += source.randrange(1, 6)
                lines.append(f"[2024-05-{13 + part} {8 + minute // 60:02}:{minute % 60:02}] {speaker}: {words}\n")
            text = question.format(**values)
            questions.append(
                KindQuestion(text, short.format(**values), (f"{asker}: {ask}", f"{helper}: {reply}"), (name,))
            )
        files[name] = "".join(lines)
    return files, questions


_MAILS = (
    (
        "Venue for the {c} workshop",
        "The hall in {c} is booked for {n} people. Please send the menu by Friday.",
        "For how many participants did {f} reserve the hall in {c}?",
        "{n}",
    ),
    (
        "Delay of the {c} delivery",
        "The truck to {c} is {n} hours late because of snow. The customer knows.",
        "By how many hours does the lorry to {c} arrive late?",
        "{n} hours",
    ),
    (
        "Contract with the {c} office",
        "Our lawyer wants {m} thousand euros less in {c}. I would accept that.",
        "What reduction does the lawyer ask for in {c}?",
        "{m} thousand",
    ),
    (
        "Visit to {c}",
        "In {c} you will be met by {p} at the station. Take the early train.",
        "Who picks us up at the station of {c}?",
        "{p}",
    ),
)


def mail(source: random.Random) -> Draft:
    """Make mail threads: header fields, a body, and the mail before it as a quotation."""
    cities, names = source.sample(CITIES, 48), people(source, 48)
    numbers, sums = source.sample(range(11, 99), 48), source.sample(range(101, 999), 48)
    files: dict[str, str] = {}
    questions = []
    for part in range(3):
        name = f"thread-{part + 1}.txt"
        text = quoted = ""
        for i in range(part * 16, part * 16 + 16):
            subject, body, question, short = _MAILS[i % 4]
            sender, receiver = names[i % 12], names[(i + 5) % 12]
            values = {"c": cities[i], "n": numbers[i], "m": sums[i], "p": names[47 - i % 30], "f": sender}
            fact, _, rest = body.format(**values).partition(". ")
            header = (
                f"From: {sender}\nTo: {receiver}\nDate: {i % 27 + 1} March 2024\nSubject: {subject.format(**values)}\n"
            )
            text += f"{header}\nHello {receiver.split()[0]},\n\n{fact}. {rest}\n\nBest regards\n{sender}\n\n{quoted}\n"
            quoted = f"> {rest}\n" if i % 2 else ""
            if i % 8 == 7:
                text_of, answer = f"Who wrote about {cities[i]}?", sender
                spans: tuple[str, ...] = (f"From: {sender}", f"{fact}.")
            else:
                text_of, answer, spans = question.format(**values), short.format(**values), (f"{fact}.",)
            questions.append(KindQuestion(text_of, answer, spans, (name,)))
        files[name] = text
    return files, questions


_TROUBLES = (
    ("Printer on floor {n} prints blank pages", "Replaced the drum with part {m}."),
    ("VPN drops after {n} minutes", "Raised the idle limit on gateway {m}."),
    ("Invoice total is wrong by {n} cents", "Fixed rounding in build {m}."),
    ("Login page is slow for {n} users", "Moved the session store to node {m}."),
    ("Badge reader {n} does not open", "Updated its firmware to release {m}."),
)
_STATES = ("open", "waiting", "resolved", "closed")


def tickets(source: random.Random) -> Draft:
    """Make exported tickets whose numbers are easily confused."""
    codes, names = near_codes(source, "INC", 48, digits=5), people(source, 30)
    numbers, builds = source.sample(range(11, 99), 48), source.sample(range(100, 999), 48)
    files: dict[str, str] = {}
    questions = []
    for part in range(2):
        name = f"tickets-{part + 1}.txt"
        text = ""
        for i in range(part * 24, part * 24 + 24):
            trouble, cure = _TROUBLES[i % len(_TROUBLES)]
            values = {"n": numbers[i], "m": builds[i]}
            cure = cure.format(**values)
            owner, reporter = names[i % 30], names[(i + 11) % 30]
            text += (
                f"Ticket: {codes[i]}\nSummary: {trouble.format(**values)}\nReporter: {reporter}\nAssignee: {owner}\n"
                f"Status: {_STATES[i % 4]}\nPriority: P{i % 3 + 1}\nResolution: {cure}\n\n"
            )
            head = f"Ticket: {codes[i]}"
            asked = (
                (f"What was done to solve {codes[i]}?", str(builds[i]), (head, f"Resolution: {cure}")),
                (
                    f"Who works on ticket {codes[i]}?",
                    owner,
                    (f"{head} Summary: {trouble.format(**values)}", f"Assignee: {owner}"),
                ),
                (
                    f"In which ticket was {cure[0].lower() + cure[1:-1]} the cure?",
                    codes[i],
                    (head, f"Resolution: {cure}"),
                ),
            )[i % 3]
            questions.append(KindQuestion(*asked, (name,), key=head))
        files[name] = text
    return files, questions


_SCENES = (
    (
        "When we reached {c} the bridge had been",
        "closed for {n} days already.",
        "How long had the bridge of {c} been shut?",
        "{n} days",
    ),
    (
        "My grandmother left {c} with nothing but",
        "{n} silver spoons in her coat.",
        "What did the grandmother take with her from {c}?",
        "{n} silver spoons",
    ),
    ("The orchestra of {c} was conducted by", "{p} for one single season.", "Who led the orchestra of {c}?", "{p}"),
    (
        "In the winter the road to {c} is kept open by",
        "{n} ploughs and a stubborn mayor.",
        "How many snow ploughs work on the way to {c}?",
        "{n} ploughs",
    ),
)


def subtitles(source: random.Random) -> Draft:
    """Make subtitles of films; a sentence begins in one cue and ends in the next."""
    cities, names = source.sample(CITIES, 48), people(source, 48)
    numbers = source.sample(range(11, 99), 48)
    files: dict[str, str] = {}
    questions = []
    for part in range(3):
        name = f"film-{part + 1}.srt"
        cues: list[str] = []
        for i in range(part * 16, part * 16 + 16):
            begin, end, question, short = _SCENES[i % 4]
            values = {"c": cities[i], "n": numbers[i], "p": names[i]}
            begin, end = begin.format(**values), end.format(**values)
            cues += [begin, end]
            if i % 3 == 0:
                cues.append(source.choice(("(Wind)", "Nobody believed us.", "(A door closes)", "And then it rained.")))
            questions.append(KindQuestion(question.format(**values), short.format(**values), (begin, end), (name,)))
        text = ""
        for j, cue in enumerate(cues):
            text += f"{j + 1}\n{_clock(4 * j)},000 --> {_clock(4 * j + 3)},500\n{cue}\n\n"
        files[name] = text
    return files, questions


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds % 3600 // 60:02}:{seconds % 60:02}"


_AGENDA = (
    (
        "Roof of the {c} depot",
        "Decision: repair it for {m} thousand euros.",
        "What may the repair of the roof in {c} cost?",
        "{m} thousand",
    ),
    ("Bicycles for {c}", "Action: {p} orders {n} bicycles by June.", "Who must order the bicycles for {c}?", "{p}"),
    (
        "Noise at the {c} works",
        "Decision: no work after {h} in the evening.",
        "Until what hour is work allowed in {c}?",
        "{h}",
    ),
    (
        "Training in {c}",
        "Action: {p} finds a teacher within {n} days.",
        "How many days are there to find a teacher for {c}?",
        "{n} days",
    ),
)


def minutes(source: random.Random) -> Draft:
    """Make minutes of meetings: items of an agenda, each with a discussion and a decision or an action."""
    cities, names = source.sample(CITIES, 48), people(source, 48)
    numbers, sums = source.sample(range(11, 99), 48), source.sample(range(101, 999), 48)
    files: dict[str, str] = {}
    questions = []
    for part in range(4):
        name = f"minutes-{part + 1}.md"
        text = f"# Minutes, meeting {part + 1}\n\nPresent: {', '.join(source.sample(names, 4))}\n\n"
        for i in range(part * 12, part * 12 + 12):
            item, result, question, short = _AGENDA[i % 4]
            values = {"c": cities[i], "n": numbers[i], "m": sums[i], "p": names[i], "h": 17 + i // 4 % 6}
            item, result = item.format(**values), result.format(**values)
            number = i % 12 + 1
            text += (
                f"## {number}. {item}\n\nThe matter was discussed at length. Two members were against.\n{result}\n\n"
            )
            questions.append(
                KindQuestion(question.format(**values), short.format(**values), (item, result), (name,), key=item)
            )
        files[name] = text
    return files, questions
