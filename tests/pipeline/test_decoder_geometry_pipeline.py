"""Every verb of the geometry of the library's own decoders: fitted to images, vectors and tables, and not fitted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from brenier import AEOT, data, geometry
from brenier.manifold.networks import convolutional, mlp


def images():
    return data.load("digits").values[:120]


def vectors():
    t = np.random.default_rng(0).uniform(0, 3, (120, 2))
    columns = [t[:, 0], t[:, 1], np.sin(t[:, 0]), np.cos(t[:, 1]), t[:, 0] * t[:, 1]]
    return np.stack(columns, 1).astype(np.float32)


def table():
    t = np.random.default_rng(0).uniform(0, 1, (120, 2))
    kind = np.where(t[:, 0] < 0.5, "red", "blue")
    return data.load(pd.DataFrame({"a": t[:, 0], "b": t[:, 1] ** 2, "c": kind, "d": t.sum(1)}))


def fitted(values):
    return AEOT(latent_dim=2, epochs=3, tol=0.5).fit(values)


def by_values(decode, z, h=1e-3):
    """The scalar curvature by differences of order 4 of the decoder's values, and the Gauss equation."""

    def first(f, e):
        return lambda y: (8 * (f(y + h * e) - f(y - h * e)) - f(y + 2 * h * e) + f(y - 2 * h * e)) / (12 * h)

    flat = lambda y: decode(y).flatten(1)  # noqa: E731
    eye = torch.eye(2, dtype=z.dtype)
    with torch.no_grad():
        slopes = [first(flat, e) for e in eye]
        j = torch.stack([slope(z) for slope in slopes], 1)
        bend = torch.stack([torch.stack([first(slope, e)(z) for e in eye], 1) for slope in slopes], 1)
    g = j @ j.mT
    normal = bend - torch.einsum("mijk,mkx->mijx", torch.einsum("mijx,mlx,mlk->mijk", bend, j, torch.linalg.inv(g)), j)
    gauss = (normal[:, 0, 0] * normal[:, 1, 1]).sum(1) - normal[:, 0, 1].square().sum(1)
    return 2 * gauss / torch.linalg.det(g)


def every_verb(decoder, z):
    """All of them, as users call them: parameters want gradients, no mode is set."""
    metric, x, v = geometry.pullback(decoder), z[:2], (z[2:4] - z[:2]) / 4
    y = x + v
    assert geometry.christoffel(metric, x).isfinite().all()
    assert geometry.volume_density(metric, x).isfinite().all()
    assert geometry.covariant_derivative(metric, torch.tanh, x, v).isfinite().all()
    riemann, ricci, scalar = (f(metric, x) for f in (geometry.riemann, geometry.ricci, geometry.scalar_curvature))
    torch.testing.assert_close(ricci, torch.einsum("mik,mijkl->mjl", torch.linalg.inv(metric.tensor(x)), riemann))
    sectional = geometry.sectional_curvature(metric, x, v, v.flip(1) * torch.tensor([1.0, -1.0]).to(v))
    torch.testing.assert_close(2 * sectional, scalar)
    torch.testing.assert_close(scalar, by_values(decoder, x), rtol=1e-5, atol=1e-6)
    found = geometry.geodesic(metric, x, y, n=9)
    assert found.converged
    torch.testing.assert_close(geometry.exp(metric, x, found.velocity), y, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(geometry.log(metric, x, y, tol=1e-6), found.velocity)
    torch.testing.assert_close(geometry.distance(metric, y, x), found.length)
    carried = geometry.parallel_transport(metric, found.path, v)
    before, after = (torch.einsum("mi,mij,mj->m", u, metric.tensor(p), u) for p, u in ((x, v), (y, carried[:, -1])))
    torch.testing.assert_close(before, after)
    assert geometry.frechet_mean(metric, torch.stack([x, y], 1)).converged


@pytest.mark.parametrize("values", [images, vectors, table])
def test_a_fitted_decoder(values):
    model = fitted(values())
    decoder = model.chart_.decoder.double()
    every_verb(decoder, torch.as_tensor(model.codes_[:4]).double())
    assert geometry.scalar_curvature(geometry.pullback(decoder.float()), model.codes_[:5]).shape == (5,)


@pytest.mark.parametrize("decoder", [mlp(10, 2)[1], convolutional((1, 8, 8), 2)[1]], ids=["mlp", "convolutional"])
def test_a_decoder_as_it_is_made(decoder):
    z = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    assert geometry.scalar_curvature(geometry.pullback(decoder.eval()), z).isfinite().all()
    every_verb(decoder.double().eval(), z.double())
