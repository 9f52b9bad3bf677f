"""Held-out error of charts over that of principal components: the default chart of `AEOT`, and scikit-learn's PCA.

    python benchmarks/charts.py --data-dir ../shared/data
    python benchmarks/charts.py --sets digits wine --codes 4 8 --seeds 1

Mean squared error per entry on test rows, in the form that networks read (images 0..1, tables as their columns are
coded), of the chart that `AEOT(latent_dim=d)` builds and `manifold.fit` trains, over that of `PCA(d)` fitted on the
same training rows, all of them. Splits, training and PCA by the seed; mean ± spread over the seeds, and in brackets how
many seeds kept a network. Below 1 the chart is better; 1 is principal components. Besides the sets of `sets.py`: 2,000
training images of MNIST (mnist.npz in the data folder) and Fashion-MNIST, with their 10,000 test images.
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import about
from sets import NAMES, load
from sklearn.decomposition import PCA
from torch import Tensor

from brenier import data, manifold

IMAGES = {"mnist-2000": "mnist", "fashion-2000": "fashion-mnist"}
FEW = 2_000  # training images of these


def rows(name: str, seed: int, data_dir: Path) -> tuple[Any, Any]:
    """Training and test samples of a set, split or drawn by the seed."""
    if name not in IMAGES:
        split = load(name, seed, data_dir)
        return split.x_train, split.x_test
    source = IMAGES[name]
    path = data_dir / "mnist.npz" if source == "mnist" else source
    train, test = (data.load(str(path), split=part).values for part in ("train", "test"))
    return train[np.random.default_rng(seed).permutation(len(train))[:FEW]], test


def compared(train: Any, test: Any, codes: int, seed: int) -> tuple[float, bool, float] | None:
    """Error of the chart over that of PCA, whether a network was kept, and seconds; None where PCA has no error."""
    samples = data.load(train)
    layout, values = samples.layout, samples.values
    judged = layout.to_network(layout.values(test) if isinstance(layout, data.TableLayout) else data.check(test))
    shape = layout.network_shape
    if codes >= min(len(values), math.prod(shape)):
        return None
    kind = {"kind": "mlp", "dim": shape[0]} if len(shape) == 1 else {"kind": "convolutional", "shape": list(shape)}
    chart = manifold.build({**kind, "latent_dim": codes}, generator=seed)
    training = manifold.fit(chart, values, generator=seed, to_network=layout.to_network)
    flat = layout.to_network(values).flatten(1).double().numpy()
    pca = PCA(codes, svd_solver="full", random_state=seed).fit(flat)
    x = judged.flatten(1).double()
    linear = error(torch.from_numpy(pca.inverse_transform(pca.transform(x.numpy()))), x)
    own = error(chart.decode(chart.encode(judged)), judged)
    return (own / linear, training.epochs > 0, training.seconds) if linear > 1e-12 else None


def error(a: Tensor, b: Tensor) -> float:
    """Mean squared difference per entry."""
    return float((a.double() - b.double()).square().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=[*NAMES, *IMAGES])
    parser.add_argument("--codes", nargs="+", type=int, default=[4, 8, 16, 32, 64])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("## Charts beside principal components\n")
    print(about("torch", "scikit-learn", threads=options.threads))
    print(f"\n| set | rows × entries | {' | '.join(f'{d} codes' for d in options.codes)} | s a fit |")
    print("|" + "---|" * (len(options.codes) + 3), flush=True)
    for name in options.sets:
        cells, times = [], []
        splits = [rows(name, seed, options.data_dir) for seed in range(options.seeds)]
        for codes in options.codes:
            found = [compared(*split, codes, seed) for seed, split in enumerate(splits)]
            known = [each for each in found if each is not None]
            times += [each[2] for each in known]
            ratios = [each[0] for each in known]
            spread = f" ± {statistics.stdev(ratios):.3f}" if len(ratios) > 1 else ""
            kept = sum(each[1] for each in known)
            cells.append(f"{statistics.mean(ratios):.3f}{spread} ({kept})" if known else "")
        size = f"{len(splits[0][0]):,} × {int(np.prod(np.shape(splits[0][0])[1:])):,}"
        print(f"| {name} | {size} | {' | '.join(cells)} | {statistics.median(times or [0]):.1f} |", flush=True)


if __name__ == "__main__":
    main()
