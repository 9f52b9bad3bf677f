"""Data: samples in (`load`), how they look (`Samples`, `Layout`), and sets with known truth (`ring`, `torus`, ...)."""

from brenier.data.load import load
from brenier.data.samples import Layout, Samples, check, check_labels
from brenier.data.synthetic import (
    blobs,
    eleven_blobs,
    grid,
    ring,
    s_curve,
    sphere,
    spiral,
    swiss_roll,
    three_clusters_in_disk,
    torus,
)
from brenier.data.tables import TableLayout

__all__ = [
    "Layout",
    "Samples",
    "TableLayout",
    "blobs",
    "check",
    "check_labels",
    "eleven_blobs",
    "grid",
    "load",
    "ring",
    "s_curve",
    "sphere",
    "spiral",
    "swiss_roll",
    "three_clusters_in_disk",
    "torus",
]
