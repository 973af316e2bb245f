"""Header of a supernet's file: what it was trained for, read without torch."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nas.arch.ops import BOX_VALUES
from nas.core.errors import NasError
from nas.core.parsing import parse_json

IDENTITY_KEY: Final = "nas.supernet"  # of the metadata
_BOX_BIAS: Final = "box_heads.0.conv.bias"  # of a detector, as many as there are default boxes times their values
_METADATA: Final = "__metadata__"
_MAX_HEADER_BYTES: Final = 10_000_000
_FIELDS: Final[Mapping[str, type]] = {"space": str, "data": list, "settings": dict, "seed": int, "versions": list}


@dataclass(frozen=True, slots=True, kw_only=True)
class SupernetFile:
    """Header of a trained supernet's file of ``size_bytes``.

    ``identity``: what it was trained for, by words that a message can name. ``shapes``: of its tensors, by slot.
    """

    path: Path
    size_bytes: int
    identity: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def params(self) -> int:
        """Number of shared weights."""
        return sum(map(math.prod, self.shapes.values()))

    @property
    def classes(self) -> int | None:
        """Classes that its networks tell apart, without a detector's background.

        None where it has no classifier.
        """
        for slot, (values, *_) in self.shapes.items():
            if slot.endswith(_BOX_BIAS) and (scores := self.shapes.get(slot.replace("box_heads", "class_heads"))):
                return scores[0] * BOX_VALUES // values - 1
        return next((shape[0] for slot, shape in self.shapes.items() if slot.endswith("classifier.bias")), None)


def read_supernet_file(path: Path) -> SupernetFile:
    """Read the header of a supernet's file, in safetensors' format.

    The format is 8 bytes with the header's length (little endian), then JSON: metadata, and shape and place of each
    tensor. Raises: NasError if there is no such file, or it is none of a supernet.
    """
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(_MAX_HEADER_BYTES, size_bytes):
                raise _unreadable(path, "header")
            header = parse_json(stream.read(length).decode())
        identity = parse_json(header.pop(_METADATA)[IDENTITY_KEY])
        shapes = {slot: tuple(map(int, facts["shape"])) for slot, facts in header.items()}
        wrong = [name for name, kind in _FIELDS.items() if not isinstance(identity[name], kind)]
    except FileNotFoundError:
        raise NasError(f"supernet {str(path)!r}: there is no such file; nas.supernet trains one.") from None
    except OSError as error:
        raise NasError(f"supernet {str(path)!r}: cannot be read: {error.strerror}.") from None
    except (ArithmeticError, AttributeError, LookupError, NasError, TypeError, ValueError, struct.error):
        raise _unreadable(path, "header") from None
    if wrong:
        raise _unreadable(path, wrong[0])
    return SupernetFile(path=path, size_bytes=size_bytes, identity=identity, shapes=shapes)


def _unreadable(path: Path, what: str) -> NasError:
    return NasError(f"supernet {str(path)!r}: is not a readable file of a supernet ({what}); delete it.")
