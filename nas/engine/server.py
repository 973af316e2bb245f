"""Imported by the process alone that workers are forked from: it ends with the run that started it, come what may.

Workers are its children and end with it. Without it a worker that is held for a measurement would outlive a run that is
killed: it could not end itself, and what it holds in the storage would stay locked.
"""

from __future__ import annotations

from nas.engine.parent_death import die_with_parent

die_with_parent()
