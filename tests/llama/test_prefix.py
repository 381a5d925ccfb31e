"""What prompts share is found exactly; cells are counted exactly; what is kept comes back whole or not at all."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.llama.prefix import CellTable, PrefixTree, StateCache, shared_length

keys = st.lists(st.integers(0, 2), max_size=8).map(lambda tokens: np.array(tokens, np.int32))


def tokens(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


@given(st.lists(st.tuples(keys, st.integers(0, 20), st.booleans()), max_size=25), keys)
def test_the_tree_finds_what_a_scan_finds(steps, query):
    tree, held = PrefixTree(), []
    for key, value, remove in steps:
        if remove and held:
            at = value % len(held)
            tree.remove(*held.pop(at))
        elif not any(value == other for _, other in held):
            tree.add(key, value)
            held.append((key, value))
        lengths = [shared_length(key, query) for key, _ in held]
        best = max(lengths, default=0)
        length, values = tree.match(query)
        assert length == best
        assert sorted(values) == sorted(v for (_, v), n in zip(held, lengths, strict=True) if n == best)


@given(st.lists(keys, max_size=15), keys)
def test_the_tree_finds_all_beginnings(held, query):
    tree = PrefixTree()
    for i, key in enumerate(held):
        tree.add(key, i)
    expected = [(len(key), i) for i, key in enumerate(held) if shared_length(key, query) == len(key)]
    found = list(tree.beginnings(query))
    assert sorted(found) == sorted(expected)
    assert [length for length, _ in found] == sorted(length for length, _ in expected)


def test_the_tree_forgets_what_is_removed():
    tree = PrefixTree()
    tree.add(tokens(1, 2, 3), "a")
    tree.add(tokens(1, 2, 4), "b")
    tree.remove(tokens(1, 2, 3), "a")
    assert tree.match(tokens(1, 2, 3)) == (2, ["b"])
    tree.remove(tokens(1, 2, 4), "b")
    assert tree.match(tokens(1, 2, 3)) == (0, [])


@given(st.lists(st.tuples(st.sampled_from(["take", "share", "release"]), st.integers(0, 8)), max_size=40))
def test_cells_are_free_when_nobody_uses_them(steps):
    table, held = CellTable(20), []
    for action, n in steps:
        if action == "take" and n <= table.free:
            free = sorted(set(range(20)) - {int(cell) for cells in held for cell in cells})
            held.append(table.take(n))
            assert held[-1].tolist() == free[:n]  # as llama.cpp takes them
        elif action == "share" and held:
            table.share(held[n % len(held)])
            held.append(held[n % len(held)])
        elif action == "release" and held:
            table.release(held.pop(n % len(held)))
        used = {int(cell) for cells in held for cell in cells}
        assert table.free == 20 - len(used)
        assert table.used_length == max(used, default=-1) + 1


# States


def test_a_state_comes_back_by_what_it_begins_with():
    cache = StateCache(100)
    cache.put(tokens(1, 2, 3, 4), b"long")
    cache.put(tokens(1, 2, 9), b"other")
    shared, name = cache.match(tokens(1, 2, 3, 7))
    assert shared == 3
    key, data = cache.get(name)
    assert (key.tolist(), data) == ([1, 2, 3, 4], b"long")
    assert cache.match(tokens(5))[0] == 0


def test_the_longest_state_that_is_a_beginning_is_found():
    cache = StateCache(100)
    for key in ((1, 2), (1, 2, 3), (1, 2, 3, 4), (1, 5)):
        cache.put(tokens(*key), str(key).encode())
    length, name = cache.longest_beginning(tokens(1, 2, 3, 7))
    assert (length, cache.get(name)[1]) == (3, b"(1, 2, 3)")
    assert cache.longest_beginning(tokens(1, 9)) == (0, None)


def test_the_least_recently_used_state_goes_first():
    cache = StateCache(10)
    cache.put(tokens(1), b"aaaa")
    cache.put(tokens(2), b"bbbb")
    cache.get(cache.match(tokens(1))[1])
    cache.put(tokens(3), b"cccc")
    assert [cache.match(tokens(n))[0] for n in (1, 2, 3)] == [1, 0, 1]
    assert cache.held_bytes == 8
    cache.put(tokens(4), b"x" * 11)  # larger than the cache: not kept, and nothing makes room for it
    assert [cache.match(tokens(n))[0] for n in (1, 3, 4)] == [1, 1, 0]


def test_states_on_disk_survive_and_foreign_ones_are_passed_over(tmp_path):
    StateCache(1000, tmp_path, "model A").put(tokens(1, 2, 3), b"state")
    assert len(StateCache(100, tmp_path, "model B")) == 0
    cache = StateCache(1000, tmp_path, "model A")
    assert len(cache) == 1
    shared, name = cache.match(tokens(1, 2))
    assert (shared, cache.get(name)[1]) == (2, b"state")


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "header", "tokens", "folder"])
def test_a_torn_file_is_never_used(tmp_path, damage):
    StateCache(1000, tmp_path, "m").put(tokens(1, 2, 3), b"state" * 20)
    (path,) = tmp_path.glob("*.state")
    content = path.read_bytes()
    end = content.index(b"\n") + 1
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        header = json.loads(content[:end])
        path.write_bytes(
            {
                "cut": content[:-1],
                "flip": content[:-1] + bytes([content[-1] ^ 1]),
                "empty": b"",
                "header": b"{" + content,
                "tokens": json.dumps(header | {"tokens": 2}).encode() + b"\n" + content[end:],
            }[damage]
        )
    cache = StateCache(1000, tmp_path, "m")
    _, name = cache.match(tokens(1, 2, 3))
    assert name is None or cache.get(name) is None
    assert len(cache) == 0


@given(st.binary(max_size=200))
def test_any_bytes_may_lie_in_the_folder(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("states")
    (folder / "0123456789abcdef0123456789abcdef.state").write_bytes(content)
    assert len(StateCache(100, folder, "m")) == 0


def test_the_folder_keeps_to_its_size(tmp_path):
    cache = StateCache(1500, tmp_path, "m")
    for n in range(8):
        cache.put(tokens(n, 1), bytes([n]) * 300)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1500
    again = StateCache(1500, tmp_path, "m")
    assert again.match(tokens(7, 1))[0] == 2


def test_models_that_share_a_folder_keep_their_own_states_of_the_same_tokens(tmp_path):
    caches = {name: StateCache(1000, tmp_path, name) for name in ("base", "base with adapter A", "base with adapter B")}
    for name, cache in caches.items():
        cache.put(tokens(1, 2, 3), name.encode())
    assert len(list(tmp_path.glob("*.state"))) == 3
    for name in caches:
        again = StateCache(1000, tmp_path, name)
        assert len(again) == 1
        assert again.get(again.match(tokens(1, 2, 3))[1])[1] == name.encode()


def test_all_models_together_keep_the_folder_to_its_size(tmp_path):
    for number in range(8):
        StateCache(1500, tmp_path, f"model {number}").put(tokens(1), bytes([number]) * 300)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1500
    assert len(StateCache(1500, tmp_path, "model 7")) == 1
    assert len(StateCache(1500, tmp_path, "model 0")) == 0


def test_a_folder_that_cannot_be_written_costs_only_the_files(tmp_path):
    (tmp_path / "file").write_text("")
    cache = StateCache(100, tmp_path / "file" / "states", "m")
    cache.put(tokens(1), b"state")
    assert cache.get(cache.match(tokens(1))[1])[1] == b"state"
    assert len(StateCache(100, tmp_path / "file" / "states", "m")) == 0
