"""What machines write and read: logs, source code, and configuration in JSON and YAML."""

from __future__ import annotations

import json
import random

from benchmarks.kinds.material import Draft, KindQuestion
from benchmarks.kinds.vocabulary import near_codes, people

__all__ = ["json_configuration", "log", "source_code", "yaml_configuration"]

_EVENTS = (
    (
        "ERROR",
        "disk /dev/{d} of {h} is full, {n} jobs wait",
        "How many jobs waited when the disk of {h} was full?",
        "{n}",
    ),
    ("WARN", "certificate of {h} expires in {n} days", "How long is the certificate of {h} still valid?", "{n} days"),
    ("ERROR", "backup of {h} failed with code {e}", "With which code did the backup of {h} fail?", "{e}"),
    ("INFO", "{h} restarted by {u} after update {e}", "Who restarted {h}?", "{u}"),
)
_NOISE = ("heartbeat ok", "cache hit ratio 0.{n}", "rotated access log", "lease renewed for {n} s", "queue length {n}")


def log(source: random.Random) -> Draft:
    """Make log files: events of hosts between lines that say nothing."""
    hosts = near_codes(source, "node", 48, digits=3)
    numbers, errors = source.sample(range(11, 99), 48), near_codes(source, "ERR", 48)
    users = [name.split()[0].lower() for name in people(source, 12)]
    files: dict[str, str] = {}
    questions = []
    for part in range(2):
        name = f"cluster-{part + 1}.log"
        lines = []
        second = source.randrange(60)
        for i in range(part * 24, part * 24 + 24):
            level, event, question, short = _EVENTS[i % 4]
            values = {"h": hosts[i], "n": numbers[i], "e": errors[i], "u": users[i % 12], "d": f"sd{'abcd'[i % 4]}"}
            entries = [("INFO", source.choice(_NOISE).format(n=source.randrange(100, 999))) for _ in range(2)]
            for label, message in [*entries, (level, event.format(**values))]:
                second += source.randrange(3, 40)
                stamp = f"2024-03-{part + 5:02} {second // 3600:02}:{second % 3600 // 60:02}:{second % 60:02}"
                lines.append(f"{stamp} {label} {message}\n")
            line = lines[-1].strip()
            if i % 6 == 5:
                text, answer = f"At what time on {line[:10]} was this logged: {line.split(maxsplit=3)[3]}?", line[11:19]
            else:
                text, answer = question.format(**values), short.format(**values)
            questions.append(KindQuestion(text, answer, (line,), (name,)))
        files[name] = "".join(lines)
    return files, questions


_NOUNS = "invoice shipment coupon tenant sensor ticket payout driver menu lease grant badge".split()
_CODE = '''

def fetch_{s}({s}_id: str, *, timeout: float = {n}.0) -> dict:
    """Load one {s} from the server."""
    response = client.get(f"/{s}s/{{{s}_id}}", timeout=timeout)
    return response.json()


def store_{s}({s}: dict) -> None:
    """Write a {s} to the archive."""
    if len({s}) > {m}:
        raise ArchiveError("{s} too large", code="{e}")
    archive.put("{s}", {s})


class {c}Queue:
    """Holds each {s} until it is sent."""

    MAX_LENGTH = {k}

    def __init__(self) -> None:
        self._items: deque[dict] = deque(maxlen=self.MAX_LENGTH)

    def push(self, {s}: dict) -> None:
        """Add a {s}; {p} asked for the lock."""
        with self._lock:
            self._items.append({s})
'''


def source_code(source: random.Random) -> Draft:
    """Make Python modules whose functions look alike."""
    timeouts, limits = source.sample(range(11, 99), 12), source.sample(range(100, 499), 12)
    lengths, codes, names = source.sample(range(500, 999), 12), near_codes(source, "ERR", 12), people(source, 12)
    files: dict[str, str] = {}
    questions = []
    for i, noun in enumerate(_NOUNS):
        name = f"service_{i // 4 + 1}.py"
        values = {
            "s": noun,
            "c": noun.title(),
            "n": timeouts[i],
            "m": limits[i],
            "k": lengths[i],
            "e": codes[i],
            "p": names[i],
        }
        files.setdefault(name, '"""Access to the service."""\n\nfrom collections import deque\n')
        files[name] += _CODE.format(**values)
        define, store = f"def fetch_{noun}({noun}_id: str, *, timeout: float = {timeouts[i]}.0)", f"def store_{noun}("
        asked = (
            (f"After how many seconds does loading a {noun} time out by default?", f"{timeouts[i]}", (define,)),
            (
                f"Which error code comes when an oversized {noun} is archived?",
                codes[i],
                (store, f'raise ArchiveError("{noun} too large", code="{codes[i]}")'),
            ),
            (
                f"How many entries fit into the queue of {noun}s?",
                str(lengths[i]),
                (f"class {noun.title()}Queue:", f"MAX_LENGTH = {lengths[i]}"),
            ),
            (
                f"Who wanted a lock around adding a {noun}?",
                names[i],
                (f"Add a {noun}; {names[i]} asked for the lock.",),
            ),
        )
        questions += [KindQuestion(text, answer, spans, (name,)) for text, answer, spans in asked]
    return files, questions


_SERVICES = "billing catalog gateway identity ledger mailer orders pricing reports search session shipping".split()


def json_configuration(source: random.Random) -> Draft:
    """Make configuration files in JSON, a record a service."""
    owners, ports = people(source, 12), source.sample(range(7000, 9999), 12)
    limits, retries = source.sample(range(100, 999), 12), source.sample(range(11, 60), 12)
    files: dict[str, str] = {}
    questions = []
    for part in range(2):
        name = f"services-{part + 1}.json"
        records = []
        for i in range(part * 6, part * 6 + 6):
            service = _SERVICES[i]
            records.append(
                {
                    "name": service,
                    "host": f"{service}.internal",
                    "port": ports[i],
                    "owner": owners[i],
                    "limits": {"memory_mb": limits[i], "retries": retries[i]},
                    "features": {"tracing": i % 2 == 0, "cache": i % 3 == 0},
                }
            )
            head = f'"name": "{service}"'
            asked = (
                (f"On which port does the {service} service listen?", str(ports[i]), f'"port": {ports[i]}'),
                (f"Who is in charge of {service}?", owners[i], f'"owner": "{owners[i]}"'),
                (f"How much memory may {service} use, in megabytes?", str(limits[i]), f'"memory_mb": {limits[i]}'),
                (f"How often does {service} try again after a failure?", str(retries[i]), f'"retries": {retries[i]}'),
            )
            questions += [KindQuestion(text, answer, (head, span), (name,)) for text, answer, span in asked]
        files[name] = json.dumps({"version": part + 3, "services": records}, indent=2) + "\n"
    return files, questions


_YAML = """
  {s}:
    image: registry.local/{s}:{v}
    replicas: {r}
    environment:
      LOG_LEVEL: {l}
      POOL_SIZE: "{p}"
    healthcheck:
      interval: {n}s
"""


def yaml_configuration(source: random.Random) -> Draft:
    """Make deployment files in YAML, a block a service."""
    pools, intervals, replicas = (
        source.sample(range(100, 999), 12),
        source.sample(range(11, 99), 12),
        source.sample(range(100, 199), 12),
    )
    versions = [f"{major}.{minor}.{patch}" for major in (1, 2) for minor in (1, 2, 3) for patch in (2, 1)]
    levels = ("debug", "info", "warning")
    files: dict[str, str] = {}
    questions = []
    for i, service in enumerate(_SERVICES):
        name = f"deployment-{i // 6 + 1}.yaml"
        values = {
            "s": service,
            "v": versions[i],
            "r": replicas[i],
            "l": levels[i % 3],
            "p": pools[i],
            "n": intervals[i],
        }
        files.setdefault(name, "# Made by hand, see the runbook\nservices:")
        files[name] += _YAML.format(**values)
        image = f"image: registry.local/{service}:{versions[i]}"
        asked = (
            (f"Which version of {service} is deployed?", versions[i], (image,)),
            (f"How many copies of {service} run?", str(replicas[i]), (image, f"replicas: {replicas[i]}")),
            (
                f"How large is the connection pool of {service}?",
                str(pools[i]),
                (f"{service}:", f'POOL_SIZE: "{pools[i]}"'),
            ),
            (
                f"How often is {service} checked for its health?",
                f"{intervals[i]}s",
                (f"{service}:", f"interval: {intervals[i]}s"),
            ),
        )
        questions += [KindQuestion(text, answer, spans, (name,)) for text, answer, spans in asked]
    return files, questions
