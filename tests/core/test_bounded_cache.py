"""Tests of the bounded cache: its bound, and that copies are empty."""

from __future__ import annotations

import copy
import pickle

from nas.core.bounded_cache import BoundedCache


def test_a_full_cache_is_emptied_before_the_next_entry() -> None:
    cache: BoundedCache[int, str] = BoundedCache(2)
    assert [cache.keep(number, str(number)) for number in (1, 2)] == ["1", "2"]
    assert cache == {1: "1", 2: "2"}
    assert cache.keep(3, "3") == "3"
    assert cache == {3: "3"}


def test_copies_and_pickles_are_empty_and_have_the_same_bound() -> None:
    cache: BoundedCache[int, str] = BoundedCache(2)
    cache.keep(1, "1")
    for other in (pickle.loads(pickle.dumps(cache)), copy.deepcopy(cache), copy.copy(cache)):
        assert (type(other), dict(other), other.most) == (BoundedCache, {}, 2)
    assert cache == {1: "1"}
