"""The data manifold: charts by autoencoders, dimension, neighbour graphs, nets and atlases; the cells of networks."""

from brenier.manifold.activation import activation_codes, affine_maps
from brenier.manifold.atlas import atlas
from brenier.manifold.cells import relu_cells, surface_cells
from brenier.manifold.chart import Chart, as_network
from brenier.manifold.counting import cells_bound, count_cells
from brenier.manifold.crossings import cells_between, crossings, local_complexity
from brenier.manifold.dimension import intrinsic_dimension, local_dimension
from brenier.manifold.embedding import continuity, embed, geodesic_stress, trustworthiness
from brenier.manifold.fit import OPTIMIZERS, PRECISIONS, ChartSolution, Fold, Verdict, fit
from brenier.manifold.graph import geodesic_distances, graph_geodesics, neighbour_graph
from brenier.manifold.graph_curvature import graph_curvature
from brenier.manifold.homeomorphism import homeomorphism
from brenier.manifold.isomap import isomap
from brenier.manifold.layers import Layer, Layers, layers
from brenier.manifold.mesh import read_obj, topology
from brenier.manifold.nets import epsilon_net
from brenier.manifold.networks import build, convolutional, mlp
from brenier.manifold.planar import reconstruct, tutte
from brenier.manifold.separation import class_separation, linear_probe
from brenier.manifold.singular_points import singular_points
from brenier.manifold.surface import surface_convergence, surface_errors
from brenier.manifold.training import Trained
from brenier.manifold.true_surfaces import lantern, true_paraboloid, true_sphere, true_torus

__all__ = [
    "OPTIMIZERS",
    "PRECISIONS",
    "Chart",
    "ChartSolution",
    "Fold",
    "Layer",
    "Layers",
    "Trained",
    "Verdict",
    "activation_codes",
    "affine_maps",
    "as_network",
    "atlas",
    "build",
    "cells_between",
    "cells_bound",
    "class_separation",
    "continuity",
    "convolutional",
    "count_cells",
    "crossings",
    "embed",
    "epsilon_net",
    "fit",
    "geodesic_distances",
    "geodesic_stress",
    "graph_curvature",
    "graph_geodesics",
    "homeomorphism",
    "intrinsic_dimension",
    "isomap",
    "lantern",
    "layers",
    "linear_probe",
    "local_complexity",
    "local_dimension",
    "mlp",
    "neighbour_graph",
    "read_obj",
    "reconstruct",
    "relu_cells",
    "singular_points",
    "surface_cells",
    "surface_convergence",
    "surface_errors",
    "topology",
    "true_paraboloid",
    "true_sphere",
    "true_torus",
    "trustworthiness",
    "tutte",
]
