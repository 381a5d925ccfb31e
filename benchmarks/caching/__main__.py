"""What do the answer caches find, what do they find wrongly, and what do they cost?

"gptcache" repeats GPTCache's own benchmark: its 999 sentences are stored, and the 999 others searched. "pairs" are questions that
differ in one thing, all of which a cache must tell apart. "qqp" orders the pairs of Quora by the score of the library, fitted to
every other pair, and by cosine similarity alone; then it draws streams of questions, asks for an error bound, and counts the
streams that exceed it (an answer is wrong if Quora's users called the questions different; those labels are noisy). "stale" edits a
fifth of the documents and asks everything again. "keys" changes one part of a question at a time. "speed" times hits among many
answers, from one process and from eight. "zipf" draws questions as often as people do. "ledger" times `ask` with and without one.

    python -m benchmarks.caching --data DIR --json FILE [--quick] [--only SECTION] [--write]
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.caching import traffic
from benchmarks.caching.pairs import minimal_pairs
from benchmarks.caching.streams import share_exceeding
from benchmarks.common import finish, parse_arguments
from leanrag.caching.guards import difference
from leanrag.caching.match import FEATURES, MatchModel, match_features
from leanrag.caching.similar import SimilarQuestions
from leanrag.llama import LlamaCppEmbedder
from leanrag.pipeline.copies import find_embedder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

EMBEDDER = "all-minilm-l6-v2"
SECTIONS = ("gptcache", "pairs", "qqp", "stale", "keys", "speed", "zipf", "ledger")
FLAGS = {"write": "write the weights of the score, fitted to all pairs, to leanrag/caching/match.json"}
MATCH = Path(__file__).parents[2] / "leanrag" / "caching" / "match.json"
LONGEST = 600  # characters of a sentence that are embedded

Figures = dict[str, float | int | None]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of questions: row `i` of `cosines` is the similarity of the two, `labels` whether they ask for the same."""

    left: list[str]
    right: list[str]
    labels: NDArray[np.bool_]
    vectors: tuple[Matrix, Matrix]

    @property
    def cosines(self) -> Matrix:
        """Return `(n,)`, the similarity of each pair."""
        cosines: Matrix = (self.vectors[0] * self.vectors[1]).sum(1)
        return cosines


def main() -> None:
    arguments = parse_arguments(__doc__, sections=SECTIONS, flags=FLAGS)
    figures: Figures = {"n": 999}
    chosen = [name for name in SECTIONS if arguments.only in (None, name)]
    with LlamaCppEmbedder(find_embedder(EMBEDDER)) as embedder:
        if "gptcache" in chosen:
            figures |= gptcache(arguments.data, embedder, n=200 if arguments.is_quick else 999)
        if "pairs" in chosen:
            figures |= pairs()
        if "qqp" in chosen or "write" in arguments.flags:
            data = read_qqp(arguments.data, embedder, n=1000 if arguments.is_quick else 8000)
            if "write" in arguments.flags:
                write_model(data)
            figures |= qqp(data, streams=20 if arguments.is_quick else 200)
        if "stale" in chosen:
            figures |= traffic.stale(embedder, n=100 if arguments.is_quick else 1000)
    if "keys" in chosen:
        figures |= traffic.keys()
    if "speed" in chosen:
        figures |= traffic.speed(entries=2000 if arguments.is_quick else 100_000, processes=8)
    if "zipf" in chosen:
        figures |= traffic.zipf(
            asked=1000 if arguments.is_quick else 10_000, different=100 if arguments.is_quick else 1000
        )
    if "ledger" in chosen:
        figures |= traffic.ledger(asked=50 if arguments.is_quick else 500)
    models = {EMBEDDER: find_embedder(EMBEDDER)}
    finish(figures, arguments.json_path, models=models, is_quick=arguments.is_quick, only=arguments.only)


# GPTCache's own benchmark


def gptcache(data: Path, embedder: LlamaCppEmbedder, n: int) -> Figures:
    """Return precision and hit rate of cosine alone, of cosine with a margin, and of all gates without evidence."""
    with gzip.open(data / "gptcache-mock.json.gz", "rt", encoding="utf-8") as file:
        rows = json.load(file)[:n]
    origins = list(dict.fromkeys(row["origin"] for row in rows))
    stored = embedder.embed_documents([text[:LONGEST] for text in origins])
    asked = embedder.embed_queries([row["similar"][:LONGEST] for row in rows])
    cosines = asked @ stored.T
    policy = SimilarQuestions()
    print("threshold, margin: hit rate and precision of cosine, with a margin, with the guards too", flush=True)
    figures: Figures = {"gptcache_n": len(rows)}
    best = 0.0
    for threshold in (0.95, 0.9, 0.85, 0.8, 0.7):
        outcomes = [
            _nearest(row, origins, similar, threshold, policy.margin)
            for row, similar in zip(rows, cosines, strict=True)
        ]
        cells = []
        for name, gates in (
            ("cosine", ("cosine",)),
            ("margin", ("cosine", "margin")),
            ("guards", ("cosine", "margin", "guards")),
        ):
            hits = [outcome["right"] for outcome in outcomes if all(outcome[gate] for gate in gates)]
            rate, precision = len(hits) / len(rows), float(np.mean(hits)) if hits else 1.0
            figures |= {f"gptcache_{name}_hits@{threshold}": rate, f"gptcache_{name}_precision@{threshold}": precision}
            cells.append(f"{rate:.3f} {precision:.4f}")
            if name == "margin" and rate >= 0.84:
                best = max(best, precision)
        print(f"{threshold:.2f}: " + " | ".join(cells), flush=True)
    return {**figures, "gptcache_precision@85": best}


def _nearest(
    row: dict[str, str], origins: list[str], cosines: Matrix, threshold: float, margin: float
) -> dict[str, bool]:
    first, second = np.argsort(-cosines)[:2].tolist()
    return {
        "right": origins[first] == row["origin"],
        "cosine": bool(cosines[first] >= threshold),
        "margin": bool(cosines[first] - cosines[second] >= margin),
        "guards": difference(row["similar"], origins[first]) is None,
    }


# Pairs that differ in one thing


def pairs() -> Figures:
    """Return how many of 500 pairs the guards do not tell apart."""
    made = minimal_pairs(500)
    hits = [(kind, left, right) for kind, left, right in made if difference(left, right) is None]
    for kind, left, right in hits:
        print(f"not told apart ({kind}): {left!r} {right!r}")
    return {"minimal_pairs_n": len(made), "minimal_pair_hits": len(hits)}


# Quora


def read_qqp(data: Path, embedder: LlamaCppEmbedder, n: int) -> Pairs:
    """Return the first `n` pairs of Quora."""
    with gzip.open(data / "qqp-pairs.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:n]
    left, right = [row["text_a"] for row in rows], [row["text_b"] for row in rows]
    vectors = [embedder.embed_queries([text[:LONGEST] for text in texts]) for texts in (left, right)]
    return Pairs(left, right, np.array([row["label"] == 1 for row in rows]), (vectors[0], vectors[1]))


def write_model(data: Pairs) -> None:
    """Fit the score to all pairs, and write it where the library reads it."""
    model = MatchModel.fit(_rows(data), data.labels.tolist())
    fields = {
        "source": f"{len(data.labels)} pairs of Quora Question Pairs, embedded by {EMBEDDER}",
        "weights": dict(zip(FEATURES, (round(weight, 5) for weight in model.weights), strict=True)),
    }
    MATCH.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")


def _rows(data: Pairs) -> list[list[float]]:
    return [
        match_features(left, right, float(cosine))
        for left, right, cosine in zip(data.left, data.right, data.cosines, strict=True)
    ]


def qqp(data: Pairs, streams: int) -> Figures:
    """Return precision at hit rates, of each half with the score fitted to the other, and the streams that exceed their bound."""
    rows = np.asarray(_rows(data))
    scores = np.empty(len(rows))
    even = np.arange(len(rows)) % 2 == 0
    for half in (even, ~even):
        weights = np.asarray(MatchModel.fit(rows[half].tolist(), data.labels[half].tolist()).weights)
        scores[~half] = 1 / (1 + np.exp(-rows[~half] @ weights))
    figures: Figures = {"qqp_n": len(rows)}
    better = []
    rates = [round(0.05 * i, 2) for i in range(1, 13)]
    print("hit rate: precision by cosine, by the score", flush=True)
    for rate in rates:
        precisions = [_precision(values, data.labels, rate) for values in (data.cosines, scores)]
        figures |= {f"qqp_cosine_precision@{rate}": precisions[0], f"qqp_score_precision@{rate}": precisions[1]}
        print(f"{rate:.2f}: {precisions[0]:.3f} {precisions[1]:.3f}", flush=True)
        if rate >= 0.2:
            better.append(precisions[1] > precisions[0])
    figures["qqp_better_share"] = float(np.mean(better))
    violations = []
    for error in (0.01, 0.02, 0.05):
        outcome = share_exceeding(data.labels, scores, error=error, streams=streams)
        print(f"error {error:.0%}: {outcome}", flush=True)
        violations.append(outcome.exceeding)
        figures |= {
            f"bound_violations@{error}": outcome.exceeding, f"stream_hits@{error}": outcome.hits,
            f"stream_wrong@{error}": outcome.wrong, f"vcache_hits@{error}": outcome.vcache_hits,
            f"vcache_wrong@{error}": outcome.vcache_wrong, f"vcache_violations@{error}": outcome.vcache_exceeding,
        }  # fmt: skip
    return {**figures, "bound_violations": max(violations)}


def _precision(values: NDArray[np.floating[Any]], labels: NDArray[np.bool_], rate: float) -> float:
    order = np.argsort(-values, kind="stable")[: round(rate * len(labels))]
    return float(labels[order].mean())


if __name__ == "__main__":
    main()
