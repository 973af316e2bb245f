"""Hydra's composition of configuration files, without Hydra's own settings.

Hydra adds some ten configurations of its own (job logging, launchers, sweepers, help texts) to each composition, which
take half of its time, and which no command here uses. Hydra's private names are used here and in ``completion`` alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.structured_config_source import StructuredConfigSource
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

_VERSION_BASE: Final = "1.3"
_MAX_PARSED: Final = 300
_parsed: Final[dict[tuple[str, str, str], ConfigResult | None]] = {}  # by folder, name and text


class ConfigLoader(ConfigLoaderImpl):
    """Composes configurations of ``folders``, of which the last is the project's.

    A choice of a group is taken from the first folder that has it; a command's own file, such as ``search.yaml``, is
    the project's.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        version.setbase(_VERSION_BASE)
        self.repository = _FileRepository(folders)

    def _load_configuration_impl(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """As Hydra's, except for its ``hydra`` node."""
        given, repository = self._parse_overrides_and_create_caching_repo(config_name, overrides)
        if validate_sweep_overrides:
            self.validate_sweep_overrides_legal(overrides=given, run_mode=run_mode, from_shell=from_shell)
        chosen = create_defaults_list(
            repo=repository,
            config_name=config_name,
            overrides_list=given,
            prepend_hydra=False,
            skip_missing=run_mode == RunMode.MULTIRUN,
        )
        config = self._compose_config_from_defaults_list(defaults=chosen.defaults, repo=repository)
        OmegaConf.set_struct(config, True)
        self._apply_overrides_to_config(chosen.config_overrides, config)
        return config


class _FileRepository(ConfigRepository):
    """Configuration files, of which each text is parsed once per process."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._files = [FileConfigSource("main", f"file://{folder}") for folder in folders]
        self.sources = [*self._files, StructuredConfigSource("schema", "structured://")]

    def __deepcopy__(self, memo: object) -> _FileRepository:
        return self  # Hydra copies it before each composition; it never changes

    def load_config(self, config_path: str) -> ConfigResult | None:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if not isinstance(source, FileConfigSource):
            return super().load_config(config_path)
        text = (Path(source.path) / source._normalize_file_name(config_path)).read_text(encoding="utf-8")
        key = (source.path, config_path, text)
        if key not in _parsed:
            if len(_parsed) >= _MAX_PARSED:
                _parsed.clear()
            _parsed[key] = super().load_config(config_path)
        return copy.deepcopy(_parsed[key])  # compositions change what they are given

    def _find_object_source(self, config_path: str, object_type: ObjectType | None) -> ConfigSource | None:
        project = self._files[-1]
        if object_type == ObjectType.CONFIG and "/" not in config_path and project.is_config(config_path):
            return project
        return super()._find_object_source(config_path, object_type)
