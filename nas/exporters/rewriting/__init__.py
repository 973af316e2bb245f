"""Exact rewrites of a network's inference graph, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.exporters.rewriting.block import InferencePart
    from nas.exporters.rewriting.candidates import Candidate
    from nas.exporters.rewriting.forms import PLAIN, BlockForm, FormChoice, Forms
    from nas.exporters.rewriting.kernels import cropped
    from nas.exporters.rewriting.named import named_forms
    from nas.exporters.rewriting.network import plain_path, rewritten_ops, rewritten_parts
    from nas.exporters.rewriting.segments import Derivation, RewrittenSegment
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "block": ["InferencePart"],
            "segments": ["Derivation", "RewrittenSegment"],
            "candidates": ["Candidate"],
            "forms": ["PLAIN", "BlockForm", "FormChoice", "Forms"],
            "kernels": ["cropped"],
            "named": ["named_forms"],
            "network": ["plain_path", "rewritten_ops", "rewritten_parts"],
        },
    )

__all__ = [
    "BlockForm",
    "Candidate",
    "Derivation",
    "FormChoice",
    "Forms",
    "InferencePart",
    "PLAIN",
    "RewrittenSegment",
    "cropped",
    "named_forms",
    "plain_path",
    "rewritten_ops",
    "rewritten_parts",
]
