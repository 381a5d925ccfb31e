"""Does `RemoteModel` read what the servers of all vendors send, and does it endure servers that misbehave?

Each response of `shapes` is replayed by a local server and read by `RemoteModel` and by the client of OpenAI. Each server of
`misbehaviours` is asked with a key, with all logs switched on. Where llama-server of llama.cpp is on the PATH, or
LEANRAG_LLAMA_SERVER names it, it runs small models, and `RemoteModel`, `RemoteEmbedder` and `RemoteReranker` ask it.

    python -m benchmarks.servers --data DIR --json FILE [--only SECTION]
"""

from __future__ import annotations

import statistics

from benchmarks.common import finish, parse_arguments
from benchmarks.servers.llama_server import CHECKS, ask_llama_server, find_llama_server
from benchmarks.servers.misbehaviours import MISBEHAVIOURS
from benchmarks.servers.outcomes import face_all
from benchmarks.servers.replay import ReplayServer, read_with_openai, read_with_remote_model, replay
from benchmarks.servers.shapes import SHAPES
from leanrag.errors import LeanRAGError

Figures = dict[str, float | int | None]


def read_shapes() -> Figures:
    """Read all shapes with both clients."""
    read = openai_read = 0
    with ReplayServer(*map(replay, SHAPES)) as server:
        for i, shape in enumerate(SHAPES):
            openai_read += read_with_openai(shape, server.url(i)) == (shape.content or shape.text)
            try:
                generation = read_with_remote_model(shape, server.url(i))
                found: tuple[str, str | None, str] = (generation.text, generation.thoughts, generation.finish_reason)
            except LeanRAGError as error:
                found = (str(error), None, "")
            if found == (shape.text, shape.thoughts, shape.finish_reason):
                read += 1
            else:
                print(f"{shape.vendor}, {shape.name}: {found}")
    return {"shapes_tried": len(SHAPES), "shapes_read": read, "shapes_read_by_openai": openai_read}


def face_misbehaviours() -> Figures:
    """Ask all servers that misbehave."""
    outcomes = face_all(MISBEHAVIOURS)
    wrong = 0
    for misbehaviour, outcome in zip(MISBEHAVIOURS, outcomes, strict=True):
        is_wrong = outcome.answer != misbehaviour.answer
        wrong += is_wrong
        if is_wrong or outcome.is_untyped or outcome.shows_key or outcome.has_hung:
            print(f"{misbehaviour.name}: {outcome.answer!r:.80} {outcome.error!r:.200} {outcome.seconds:.1f} s")
    return {
        "misbehaviours_tried": len(outcomes),
        "misbehaviours_untyped": sum(outcome.is_untyped for outcome in outcomes),
        "misbehaviours_wrong": wrong,
        "misbehaviours_hung": sum(outcome.has_hung for outcome in outcomes),
        "keys_seen": sum(outcome.shows_key for outcome in outcomes),
        "misbehaviour_seconds": statistics.median(outcome.seconds for outcome in outcomes),
    }


def check_llama_server() -> Figures:
    """Ask llama-server, if it is here."""
    program = find_llama_server()
    if program is None:
        print("llama-server: not measured. Set LEANRAG_LLAMA_SERVER to the program")
        return dict.fromkeys(("llama_server_tried", "llama_server_right"))
    outcomes = []
    for kind, checks in CHECKS.items():
        with ask_llama_server(program, kind) as server:
            for check in checks:
                outcomes.append(check(server))
                if not outcomes[-1]:
                    print(f"llama-server with a small {kind}: {check.__name__} failed")
    return {"llama_server_tried": len(outcomes), "llama_server_right": sum(outcomes)}


SECTIONS = {"shapes": read_shapes, "misbehaviours": face_misbehaviours, "llama-server": check_llama_server}


def main() -> None:
    arguments = parse_arguments(__doc__, sections=tuple(SECTIONS))
    figures: Figures = {}
    for name, measure in SECTIONS.items():
        if arguments.only in (None, name):
            figures |= measure()
    figures["n"] = len(SHAPES) + len(MISBEHAVIOURS)
    finish(figures, arguments.json_path, is_quick=arguments.is_quick, only=arguments.only)


if __name__ == "__main__":
    main()
