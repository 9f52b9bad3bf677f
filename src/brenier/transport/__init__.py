"""The convex core: semi-discrete optimal transport, its cells, its singular set, its extension to new codes."""

from brenier.transport.cells import Cells, cells
from brenier.transport.extend import KINDS, Extension, extend
from brenier.transport.local import LocalGaussians
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
    "SingularSet",
    "TransportSolution",
    "cells",
    "extend",
    "singular_set",
    "solve",
    "wasserstein2",
]
