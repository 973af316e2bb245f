"""Base page of all reports: one self-contained HTML file.

Style and script are inside; it fetches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nas.core.formatting import decimal, megabytes, millions, ms, percent

if TYPE_CHECKING:
    from jinja2 import Template


def template(package: str, name: str, filters: Mapping[str, Callable[..., Any]]) -> Template:
    """Load the template ``name`` of ``package`` with ``filters`` and unit filters.

    The template may extend ``page.html``.

    ``page.html`` needs ``data`` (title, command, facts: pairs of name and value) and ``summary``; a button in a table's
    header sorts by that column. jinja2 is imported here so that commands do not wait for it.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loader = ChoiceLoader([PackageLoader(package), PackageLoader("nas.reporting")])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "ms": ms, "percent": percent, "decimal": decimal, "millions": millions, "megabytes": megabytes, **filters,
    }  # fmt: skip
    return environment.get_template(name)
