"""Measures: what is carried (`Gaussian`, `UniformCube`, `UniformBall`) and where to (`Discrete`).

A source is anything with `dim` and `sample(m, generator) -> (m, dim)`; there is no base class to inherit from.
"""

from brenier.measures.discrete import Discrete
from brenier.measures.source import Gaussian, Source, UniformBall, UniformCube, moments

__all__ = ["Discrete", "Gaussian", "Source", "UniformBall", "UniformCube", "moments"]
