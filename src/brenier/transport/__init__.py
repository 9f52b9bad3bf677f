"""The convex core: semi-discrete optimal transport, its cells, its singular set, its extension to new codes."""

from brenier.transport.potential import BrenierPotential
from brenier.transport.solve import TransportSolution, solve

__all__ = ["BrenierPotential", "TransportSolution", "solve"]
