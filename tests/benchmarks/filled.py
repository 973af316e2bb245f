"""Studies of thousands of synthetic trials, to time what a study costs."""

from __future__ import annotations

import random
from collections.abc import Iterator

import optuna
import sqlalchemy
from optuna.trial import FrozenTrial

from nas.methods.search.samplers import SAMPLERS, make_sampler
from nas.methods.search.settings import SamplerSettings
from nas.study.candidates import Space
from nas.study.trial_attributes import distributions

POPULATION = SamplerSettings().population


def finished_trials(count: int, space: Space, sampler: str, like: FrozenTrial) -> Iterator[FrozenTrial]:
    """Trials of different networks with all that ``like`` has; genetic samplers note generations in theirs."""
    rng, choices, generation = random.Random(0), distributions(space.parameters), _generation_key(sampler)
    for index in range(count):
        accuracy, latency_ms = rng.random(), rng.uniform(0, like.user_attrs["latency_ms"])
        noted = {generation: index // POPULATION} if generation else {}
        facts = {"arch_id": f"{rng.getrandbits(48):012x}", "latency_ms": latency_ms, "accuracy": accuracy}
        yield optuna.trial.create_trial(
            params=dict(space.sample(rng)),
            distributions=choices,
            user_attrs={**like.user_attrs, **facts},
            system_attrs={**like.system_attrs, **noted},
            intermediate_values={1: accuracy},
            values=[accuracy, latency_ms],
        )


def fill(study: optuna.Study, count: int, space: Space, sampler: str, like: FrozenTrial) -> None:
    """Let Optuna write finished trials until ``study`` has ``count``."""
    missing = count - len(study.get_trials(deepcopy=False))
    trials = finished_trials(missing, space, sampler, like)
    ids = [study._storage.create_new_trial(study._study_id, trial) for trial in trials]
    if key := _generation_key(sampler):
        for start in range(0, missing - POPULATION, POPULATION):
            name = key.replace(":generation", f":parent:{start // POPULATION + 1}")
            study._storage.set_study_system_attr(study._study_id, name, ids[start : start + POPULATION])


def multiply(url: str, have: int, count: int) -> None:
    """Copy the ``have`` trials of the only study in a database until there are ``count``: minutes less than Optuna."""
    engine, tables = sqlalchemy.create_engine(url), sqlalchemy.MetaData()
    tables.reflect(engine)
    with engine.begin() as connection:
        while have < count:
            copied = min(have, count - have)
            for name in ("trials", *sorted(name for name in tables.tables if name.startswith("trial_"))):
                connection.execute(_copies(tables.tables[name], copied, have))
            have += copied
        if engine.dialect.name == "postgresql":
            said = "SELECT setval(pg_get_serial_sequence('trials', 'trial_id'), (SELECT max(trial_id) FROM trials))"
            connection.execute(sqlalchemy.text(said))
    engine.dispose()


def _copies(table: sqlalchemy.Table, copied: int, shift: int) -> sqlalchemy.Insert:
    """Copy what belongs to the first ``copied`` trials to those ``shift`` numbers on."""
    moved = {"trial_id", "number"}
    own = {column.name for column in table.primary_key} - moved
    columns = [column for column in table.columns if column.name not in own]
    values = [column + shift if column.name in moved else column for column in columns]
    rows = sqlalchemy.select(*values).where(table.c.trial_id <= copied)
    return sqlalchemy.insert(table).from_select([column.name for column in columns], rows)


def _generation_key(sampler: str) -> str:
    if sampler not in SAMPLERS:
        return ""
    made = make_sampler(SamplerSettings(name=sampler), seed=0, trial=0)
    return made._get_generation_key() if hasattr(made, "_get_generation_key") else ""
