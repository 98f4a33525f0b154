"""What all HTML pages share: their template, and how they write figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emonet.evaluation import Estimate

INDEX = "index.html"


def render(template: str, **fields: Any) -> str:
    """A page out of a template beside this file; what is filled in is escaped.

    Args:
        template: name of the file; it extends `page.html`.
        fields: what it uses. One that is missing raises.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("experiments", "."), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(template).render(estimate=bracketed, **fields)


def bracketed(estimate: Estimate, *, signed: bool = False) -> str:
    """`0.412 [0.380, 0.447]`, or a dash where it is undefined.

    Args:
        estimate: to be shown.
        signed: with signs, as differences are.
    """
    if estimate.value is None:
        return "–"
    value = f"{estimate.value:{'+.3f' if signed else '.3f'}}"
    return value if estimate.low is None or estimate.high is None else f"{value} {between(estimate, signed)}"


def between(estimate: Estimate, signed: bool = False) -> str:
    """`[0.380, 0.447]`, the interval alone; it must be there."""
    form = "+.3f" if signed else ".3f"
    return f"[{estimate.low:{form}}, {estimate.high:{form}}]"
