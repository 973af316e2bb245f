"""Preloaded by multiprocessing's fork server alone.

It makes the server end with the run that started it, even if that is killed.

Workers are children of the fork server and end with it. Otherwise a worker that is stopped for a measurement would
outlive a run that is killed: it could not end itself, and its locks in the storage would stay.
"""

from __future__ import annotations

from nas.training import die_with_parent

die_with_parent()
