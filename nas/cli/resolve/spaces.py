"""Resolution of ``space=``: instantiation of a space's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.core.errors import NasError


def make_space(config: Mapping[str, Any]) -> Any:
    """Instantiate the space that ``_target_`` names.

    Its constructor checks the choices. Raises: NasError.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if "_target_" not in config:
        raise NasError("space._target_: missing; a space names its class, such as search_spaces.mixnet.MixNetSpace.")
    try:
        return instantiate({**config, "_convert_": "all"})
    except InstantiationException as error:
        cause = error.__cause__ or error
        raise NasError(str(cause) if isinstance(cause, NasError) else f"space: {str(cause).splitlines()[0]}") from None
