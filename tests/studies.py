"""Studies that commands leave behind, opened to look at them."""

from __future__ import annotations

from pathlib import Path

import optuna


def open_study_file(folder: Path | str = ".", name: str = "tiny") -> optuna.Study:
    """The study ``name`` in the ``runs`` folder of ``folder``.

    Checking the tables, as opening by URL does, loads Alembic's scripts: 45 CPU-ms, which a test that waits for a
    study to come to some point would spend many times over.
    """
    url = f"sqlite:///{Path(folder) / 'runs' / 'optuna.db'}"
    storage = optuna.storages.RDBStorage(url, skip_compatibility_check=True, skip_table_creation=True)
    return optuna.load_study(study_name=name, storage=storage)
