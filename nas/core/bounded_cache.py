"""Bounded cache of results that can be computed again."""

from __future__ import annotations

from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedCache(dict[K, V]):
    """A dictionary of computed results that is emptied when it is full.

    ``most``: entries that it holds at most. Copies and pickles of it are empty: a worker process computes its own.

        cache = BoundedCache(1000)
        value = cache.get(key)
        if value is None:
            value = cache.keep(key, compute(key))
    """

    __slots__ = ("most",)

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def keep(self, key: K, value: V) -> V:
        """Store ``value`` under ``key``, and return it."""
        if len(self) >= self.most:
            self.clear()
        self[key] = value
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return BoundedCache, (self.most,)
