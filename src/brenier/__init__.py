"""Brenier: the geometry of deep learning. Manifolds by autoencoders, distributions by convex optimal transport."""

from brenier import data, generate, manifold, measures, report, transport
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
    "load",
    "manifold",
    "measures",
    "report",
    "transport",
]
