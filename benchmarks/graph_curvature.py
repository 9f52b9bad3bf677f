"""Ollivier curvature of graphs beside GraphRicciCurvature: agreement, and CPU seconds side by side.

    python benchmarks/graph_curvature.py
    python benchmarks/graph_curvature.py --repeats 1 --graphs karate regular

Idleness 1/2, every edge of length 1. GraphRicciCurvature: its exact method ("OTD") with one worker, whose CPU seconds
count. Compilation, once on a machine, is left out of ours.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
from GraphRicciCurvature.OllivierRicci import OllivierRicci
from machine import about, median

from brenier.manifold.graph_curvature import graph_curvature

GRAPHS = {
    "karate": nx.karate_club_graph,
    "regular": lambda: nx.random_regular_graph(8, 2500, seed=0),
    "small-world": lambda: nx.watts_strogatz_graph(2000, 10, 0.1, seed=0),
    "scale-free": lambda: nx.barabasi_albert_graph(2000, 5, seed=0),
}


def theirs(graph: nx.Graph) -> Any:
    """All edges by GraphRicciCurvature."""
    plain = nx.Graph()
    plain.add_edges_from(graph.edges())
    solver = OllivierRicci(plain, alpha=0.5, method="OTD", proc=1, verbose="ERROR")
    solver.compute_ricci_curvature()
    return solver


def counted(call: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What a call gave, and its CPU seconds, those of its worker processes included."""
    before = sum(os.times()[:4])
    answer = call(*arguments)
    return answer, sum(os.times()[:4]) - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", nargs="+", default=tuple(GRAPHS), choices=GRAPHS)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print("## Ollivier curvature\n")
    print(about("numba", "networkx", "GraphRicciCurvature", "networkit", "POT", threads=1), end="\n\n")
    print("| graph | nodes | edges | greatest degree | runs | largest difference | brenier, CPU s | ", end="")
    print("GraphRicciCurvature, CPU s | ratio |\n|" + "---|" * 9, flush=True)
    graph_curvature(np.ones((3, 3)) - np.eye(3))
    for name in options.graphs:
        graph = nx.convert_node_labels_to_integers(GRAPHS[name]())
        matrix = nx.to_scipy_sparse_array(graph, weight=None, dtype=float)
        runs = [(counted(graph_curvature, matrix), counted(theirs, graph)) for _ in range(options.repeats)]
        (found, _), (solver, _) = runs[-1]
        truth = np.array([solver.G[a][b]["ricciCurvature"] for a, b in found.edges])
        apart = np.abs(found.values - truth).max()
        a, b = (np.array([run[side][1] for run in runs]) for side in (0, 1))
        degree = max(dict(graph.degree).values())
        print(f"| {name} | {len(graph):,} | {len(truth):,} | {degree} | {len(runs)} | {apart:.1e} | ", end="")
        print(f"{median(a)} | {median(b)} | {median(b / np.maximum(a, 0.01), '.0f')} |", flush=True)


if __name__ == "__main__":
    main()
