"""Brenier: the geometry of deep learning. Manifolds by autoencoders, distributions by convex optimal transport."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brenier import data, generate, geometry, information, manifold, measures, report, riemannian, transport
    from brenier.aeot import AEOT, load
    from brenier.solution import Estimate, Solution, Status

__version__ = "0.1.0"

__all__ = [
    "AEOT",
    "Estimate",
    "Solution",
    "Status",
    "data",
    "generate",
    "geometry",
    "information",
    "load",
    "manifold",
    "measures",
    "report",
    "riemannian",
    "transport",
]

_HOMES = {"AEOT": "aeot", "load": "aeot", "Estimate": "solution", "Solution": "solution", "Status": "solution"}


def __getattr__(name: str) -> Any:
    """Import a part when it is first asked for: the command's help must not wait for all of them."""
    if name not in __all__:
        raise AttributeError(f"module 'brenier' has no attribute {name!r}")
    home = import_module(f"brenier.{_HOMES.get(name, name)}")
    value = getattr(home, name) if name in _HOMES else home
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
