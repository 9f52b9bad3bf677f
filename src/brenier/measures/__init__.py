"""Measures: what is carried, a source, and where to, a `Discrete` target.

`Gaussian`, `UniformCube`, `UniformBall`, `UniformPolytope` and `GridDensity` are sources, and so is anything with `dim`
and `sample(m, generator) -> (m, dim)`: there is no base class to inherit from.
"""

from brenier.measures.discrete import Discrete
from brenier.measures.region import GridDensity, UniformPolytope
from brenier.measures.source import Gaussian, Source, UniformBall, UniformCube, moments

__all__ = ["Discrete", "Gaussian", "GridDensity", "Source", "UniformBall", "UniformCube", "UniformPolytope", "moments"]
