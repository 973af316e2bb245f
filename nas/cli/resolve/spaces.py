"""Resolution of ``space=``: instantiation of a space's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nas.core.errors import NasError, quoted

_INTERFACE: Final = ("parameters", "decode", "encode", "sample")


def make_space(config: Mapping[str, Any]) -> Any:
    """Instantiate the space that ``_target_`` names.

    Its constructor checks the choices. A configuration may be that of a study from elsewhere: nothing but the class of
    a space is called. Raises: NasError.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import get_class, instantiate

    if "_target_" not in config:
        raise NasError("space._target_: missing; a space names its class, such as search_spaces.mixnet.MixNetSpace.")
    target = config["_target_"]
    try:
        if not all(hasattr(get_class(target), name) for name in _INTERFACE):
            raise NasError(
                f"space._target_ {quoted(target)}: must be a class of search_spaces, or one with its methods."
            )
    except (ImportError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, NasError):
            raise
        raise NasError(f"space._target_ {quoted(target)}: cannot be loaded ({str(error).splitlines()[0]}).") from None
    try:
        return instantiate({**config, "_convert_": "all", "_recursive_": False, "_partial_": False})
    except InstantiationException as error:
        cause = error.__cause__ or error
        raise NasError(str(cause) if isinstance(cause, NasError) else f"space: {str(cause).splitlines()[0]}") from None
