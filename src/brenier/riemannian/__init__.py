"""Optimisation under manifold constraints: manifolds, minimisers, constrained layers, means."""

from brenier.riemannian.matrices import SPD, Euclidean, Grassmann, Product, Stiefel
from brenier.riemannian.minimise import minimize
from brenier.riemannian.problem import Optimum
from brenier.riemannian.vectors import PoincareBall, Sphere
