"""Optimisation under manifold constraints: manifolds, minimisers, constrained layers, means."""

from geoopt import ManifoldParameter
from geoopt.optim import RiemannianAdam, RiemannianSGD

from brenier.riemannian.clusters import geodesic_kmeans, principal_geodesics
from brenier.riemannian.composed import Euclidean, Product
from brenier.riemannian.constrain import constrain, constrain_layers, constraint_error
from brenier.riemannian.latent import latent_heads
from brenier.riemannian.matrices import Grassmann, Stiefel
from brenier.riemannian.mean import frechet_mean
from brenier.riemannian.minimise import minimize
from brenier.riemannian.positive import SPD
from brenier.riemannian.problem import Optimum
from brenier.riemannian.svrg import svrg
from brenier.riemannian.vectors import PoincareBall, Sphere

RAdam, RSGD = RiemannianAdam, RiemannianSGD

__all__ = [
    "RSGD",
    "SPD",
    "Euclidean",
    "Grassmann",
    "ManifoldParameter",
    "Optimum",
    "PoincareBall",
    "Product",
    "RAdam",
    "RiemannianAdam",
    "RiemannianSGD",
    "Sphere",
    "Stiefel",
    "constrain",
    "constrain_layers",
    "constraint_error",
    "frechet_mean",
    "geodesic_kmeans",
    "latent_heads",
    "minimize",
    "principal_geodesics",
    "svrg",
]
