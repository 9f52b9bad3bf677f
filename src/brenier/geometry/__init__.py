"""Metrics and what follows: connection, curvature, geodesics, transport. A metric is a function x (d,) -> G (d, d)."""

from brenier.geometry import spaces
from brenier.geometry.connection import christoffel, covariant_derivative, volume_density
from brenier.geometry.crease import crease_curvature
from brenier.geometry.curvature import ricci, riemann, scalar_curvature, sectional_curvature
from brenier.geometry.exponential import exp
from brenier.geometry.fisher import fisher_metric
from brenier.geometry.geodesic import Geodesic, distance, geodesic, log
from brenier.geometry.mean import Mean, frechet_mean
from brenier.geometry.pullback import pullback
from brenier.geometry.transport import parallel_transport
from brenier.geometry.uncertainty import rbf_deviation

__all__ = [
    "Geodesic",
    "Mean",
    "christoffel",
    "covariant_derivative",
    "crease_curvature",
    "distance",
    "exp",
    "fisher_metric",
    "frechet_mean",
    "geodesic",
    "log",
    "parallel_transport",
    "pullback",
    "rbf_deviation",
    "ricci",
    "riemann",
    "scalar_curvature",
    "sectional_curvature",
    "spaces",
    "volume_density",
]
