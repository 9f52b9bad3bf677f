"""Numbers with error bars, samplers to compare with, figures, and one self-contained page; arrays of any origin in."""

from brenier.report import baselines, figures, maps
from brenier.report.arrays import nearest
from brenier.report.comparison import compare
from brenier.report.evaluation import AT_MOST, evaluate
from brenier.report.features import Features
from brenier.report.findings import MEANING, Material, Report, peak_memory, write_report
from brenier.report.inspection import Inspection, inspect
from brenier.report.numbers import c2st, energy, exact_copies, frechet, nn_ratio, precision_recall_density_coverage
from brenier.report.page import Finding, Picture, Table, write_page
from brenier.report.watching import tensorboard

__all__ = [
    "AT_MOST",
    "MEANING",
    "Features",
    "Finding",
    "Inspection",
    "Material",
    "Picture",
    "Report",
    "Table",
    "baselines",
    "c2st",
    "compare",
    "energy",
    "evaluate",
    "exact_copies",
    "figures",
    "frechet",
    "inspect",
    "maps",
    "nearest",
    "nn_ratio",
    "peak_memory",
    "precision_recall_density_coverage",
    "tensorboard",
    "write_page",
    "write_report",
]
