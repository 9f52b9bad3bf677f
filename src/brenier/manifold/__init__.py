"""The chart: an autoencoder learns the data manifold; how many dimensions the manifold has."""

from brenier.manifold.chart import Chart, as_network
from brenier.manifold.dimension import intrinsic_dimension
from brenier.manifold.fit import fit
from brenier.manifold.networks import build, convolutional, mlp

__all__ = ["Chart", "as_network", "build", "convolutional", "fit", "intrinsic_dimension", "mlp"]
