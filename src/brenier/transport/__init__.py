"""The convex core: semi-discrete optimal transport, its cells, its singular set, its extension to new codes."""

from brenier.transport.cells import Cells, cells
from brenier.transport.extend import KINDS, Extension, extend
from brenier.transport.local import LocalGaussians
from brenier.transport.modes import ModeTree, mode_tree
from brenier.transport.plans import wasserstein2
from brenier.transport.potential import BrenierPotential
from brenier.transport.singular import SingularSet, singular_set
from brenier.transport.solve import TransportSolution, solve

__all__ = [
    "KINDS",
    "BrenierPotential",
    "Cells",
    "Extension",
    "LocalGaussians",
    "ModeTree",
    "SingularSet",
    "TransportSolution",
    "cells",
    "extend",
    "mode_tree",
    "singular_set",
    "solve",
    "wasserstein2",
]
