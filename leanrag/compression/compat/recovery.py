"""The words of an answer to a compressed prompt, as the original prompt has them."""

from __future__ import annotations

import bisect
import re
from collections import defaultdict
from typing import Any

from leanrag.compression.lingua.driver import encode

__all__ = ["recover"]

_MOST_BETWEEN = 10  # tokens of the original between two tokens of the answer; as in the package


def recover(tokenizer: Any, original: str, compressed: str, response: str) -> str:
    """Return `response` with its words that stand in the compressed prompt as the original has them.

    LongLLMLingua, section 4.3: the longest runs of words that stand in the compressed prompt are replaced by the shortest
    span of the original that holds their tokens in order. White space of the response stays.
    """
    encoded = encode(tokenizer, [original])
    places: defaultdict[int, list[int]] = defaultdict(list)
    for at, token in enumerate(encoded.ids.tolist()):
        places[token].append(at)
    words = list(re.finditer(r"\S+", response))
    pieces: list[str] = []
    end = i = 0
    while i < len(words):
        pieces.append(response[end : words[i].start()])
        last = i
        while last < len(words) and " ".join(word[0] for word in words[i : last + 1]) in compressed:
            last += 1
        if last == i:
            pieces.append(words[i][0])
            i += 1
        else:
            run = response[words[i].start() : words[last - 1].end()]
            # A word that begins a text has other tokens than the same word behind a space.
            tokens = (encode(tokenizer, [text]).ids.tolist() for text in (run, f" {run}"))
            found = max(filter(None, (_shortest(own, places) for own in tokens)), default=None)
            if found is None:
                pieces.append(run)
            else:
                first, last_token = -found[2], -found[2] - found[1]
                pieces.append(original[encoded.spans[first, 0] : encoded.spans[last_token, 1]].strip())
            i = last
        end = words[i - 1].end()
    return "".join([*pieces, response[end:]])


def _shortest(tokens: list[int], places: defaultdict[int, list[int]]) -> tuple[int, int, int] | None:
    """Return the shortest stretch of the original with most of `tokens` in order; None for fewer than two of them.

    Returns:
        The number of tokens found, minus the distance from the first to the last of them, and minus the index of the first.
    """
    best: tuple[int, int, int] | None = None
    for first in places.get(tokens[0], ()) if tokens else ():
        at, found = first, 1
        for token in tokens[1:]:
            own = places.get(token, [])
            following = bisect.bisect_right(own, at)
            if following < len(own) and own[following] - at <= _MOST_BETWEEN:
                at, found = own[following], found + 1
        if found > 1 and (best is None or (found, first - at) > best[:2]):
            best = found, first - at, -first
    return best
