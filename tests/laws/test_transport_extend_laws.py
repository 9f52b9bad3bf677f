"""The extension is a function of the noise, keeps off the gaps, keeps masses and moments."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from brenier import data
from brenier.measures import Discrete, Gaussian, UniformCube
from brenier.transport import BrenierPotential, cells, extend, singular_set, solve
from brenier.transport.local import NEW, STRENGTHS, choose, local_gaussians, novelty
from brenier.transport.smoothing import blended, smoothings

SETS = {"ring": (data.ring, 400), "grid": (data.grid, 1000), "spiral": (data.spiral, 3000)}
KINDS = ["local", "barycentric"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@functools.cache
def solved(name):
    make, n = SETS[name]
    samples = make(n, generator=seeded(1))
    y = torch.as_tensor(samples.values)
    u = solve(Gaussian(2), Discrete(y), tol=0.2, max_samples=100_000, generator=seeded()).potential
    found = cells(u, Gaussian(2), 100_000, seeded(2))
    return samples, u, found, singular_set(u, Gaussian(2), found, seeded(3))


@functools.cache
def extension(name, kind):
    _, u, found, singular = solved(name)
    return extend(u, Gaussian(2), kind, found=found, singular=singular, generator=seeded(4))


@functools.cache
def smooth(kind, d=2, dtype=torch.float64):
    """One Gaussian mode: no gap anywhere."""
    y = torch.randn(400, d, dtype=torch.float64, generator=seeded(1)).to(dtype)
    u = solve(Gaussian(d), Discrete(y), tol=0.2, max_samples=40_000 if d > 2 else 200_000, generator=seeded()).potential
    found = cells(u, Gaussian(d), 40_000, seeded(3))
    return y, extend(u, Gaussian(d), kind, found=found, generator=seeded(2))


def noise(m, d=2, dtype=torch.float64, seed=9):
    return torch.randn(m, d, dtype=dtype, generator=seeded(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("d", "dtype"), [(2, torch.float64), (9, torch.float32)])
def test_no_batch_size_shows_bit_for_bit(kind, d, dtype):
    _, t = smooth(kind, d, dtype)
    x = noise(400, d, dtype)
    codes, accepted = t(x)
    assert codes.dtype == dtype
    assert codes.shape == (400, d)
    assert accepted.dtype == torch.bool
    for size in (1, 7, 256):
        parts = [t(rows) for rows in x[:257].split(size)]
        assert torch.equal(torch.cat([p[0] for p in parts]), codes[:257])
        assert torch.equal(torch.cat([p[1] for p in parts]), accepted[:257])
    order = torch.randperm(400, generator=seeded())
    assert torch.equal(t(x[order])[0], codes[order])


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_generator_gives_the_same_map(kind):
    _, u, found, _ = solved("ring")
    x, before = noise(200), torch.random.get_rng_state()
    a, b = (extend(u, Gaussian(2), kind, found=found, generator=seeded(4))(x) for _ in range(2))
    assert torch.allclose(a[0], b[0], rtol=0, atol=1e-12)
    assert torch.equal(a[1], b[1])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_source_without_moments_draws_from_the_generator_alone():
    class Plain:
        dim = 2

        def sample(self, m, generator=None):
            return torch.randn(m, 2, generator=generator)

    _, u, found, singular = solved("ring")
    before = torch.random.get_rng_state()
    a, b = (extend(u, Plain(), found=found, singular=singular, generator=seeded(4))(noise(100))[0] for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_numpy_in_numpy_out(kind):
    t = extension("ring", kind)
    codes, accepted = t(noise(5).numpy())
    assert isinstance(codes, np.ndarray)
    assert isinstance(accepted, np.ndarray)
    assert np.array_equal(codes, t(noise(5))[0].numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_no_noise_no_codes(kind):
    codes, accepted = extension("ring", kind)(torch.zeros(0, 2))
    assert codes.shape == (0, 2)
    assert accepted.shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["ring", "grid"])
def test_acceptance_is_high_and_predicted(name, kind):
    """At least 0.9; 1 − acceptance is the mass of the singular set."""
    accepted = extension(name, kind)(noise(8000))[1].double().mean().item()
    mass = solved(name)[3].mass
    assert accepted >= 0.9
    assert abs(1 - accepted - mass.mean) <= 4 * (mass.sem + (mass.mean / 8000) ** 0.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["ring", "grid"])
def test_no_accepted_code_lies_between_modes(name, kind):
    """At most 0.5 % beyond 4 sigma of every mode (a 2-D Gaussian itself has 0.03 %), and every mode is hit fairly."""
    truth = solved(name)[0].truth
    x = noise(8000)
    codes, accepted = extension(name, kind)(x)
    distance = torch.cdist(codes[accepted], torch.as_tensor(truth["centres"]))
    nearest, mode = distance.min(1)
    assert (nearest > 4 * truth["stds"][0]).double().mean() <= 0.005
    assert nearest.amax() <= 10 * truth["stds"][0]
    labels = torch.as_tensor(solved(name)[0].labels)
    owners = labels[solved(name)[1].cell(x)]
    assert (mode == owners[accepted]).double().mean() >= 0.995
    assert torch.allclose(
        torch.bincount(mode).double() / accepted.sum(), torch.bincount(owners).double() / 8000, rtol=0.2
    )


@pytest.mark.parametrize("kind", KINDS)
def test_no_accepted_code_lies_between_the_arms_of_a_spiral(kind):
    samples = solved("spiral")[0]
    t = torch.linspace(np.pi, 7 * np.pi, 5000, dtype=torch.float64)
    curve = torch.stack([t * t.cos(), t * t.sin()], 1) / (2 * np.pi)
    assert torch.cdist(torch.as_tensor(samples.values), curve).amin(1).amax() <= 0.12  # 4 standard deviations
    codes, accepted = extension("spiral", kind)(noise(4000))
    away = torch.cdist(codes[accepted], curve).amin(1)
    assert (away > 0.25).double().mean() <= 0.005
    assert accepted.double().mean() >= 0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(SETS))
def test_accepted_blends_join_no_singular_pair(name, kind):
    t = extension(name, kind)
    x = noise(3000)
    weights, indices = t.weights(x)
    accepted = t(x)[1]
    assert torch.allclose(weights.sum(1), torch.ones(3000, dtype=torch.float64))
    assert (weights >= 0).all()
    singular = {tuple(sorted(pair)) for pair in solved(name)[3].facets.tolist()}
    for row in accepted.nonzero()[:, 0].tolist():
        used = sorted(indices[row][weights[row] > 0].tolist())
        assert not any((i, j) in singular for i in used for j in used if i < j)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(SETS))
def test_no_target_loses_its_mass(name, kind):
    """Of the noise in each cell a good part is accepted, whatever its neighbours."""
    u = solved(name)[1]
    x = noise(40_000)
    accepted, cell = extension(name, kind)(x)[1].double(), u.cell(x)
    n = len(u.points)
    drawn = torch.bincount(cell, minlength=n).double()
    kept = torch.zeros(n, dtype=torch.float64).index_add_(0, cell, accepted)
    seen = drawn >= 10
    assert seen.double().mean() >= 0.5
    assert (kept[seen] / drawn[seen]).amin() >= 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_a_smooth_target_accepts_nearly_all(kind):
    _, t = smooth(kind)
    assert t(noise(5000))[1].double().mean() >= 0.97


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["ring", "smooth"])
def test_the_map_is_continuous_but_for_its_cuts(name, kind):
    """Along a fine path the code jumps nowhere that both ends are accepted and blend no singular pair between them."""
    t = smooth(kind)[1] if name == "smooth" else extension(name, kind)
    spread = t.u.points.std(0).norm().item()
    ends = noise(2, seed=3)
    jumps = []
    for m in (1001, 10_001):
        codes, accepted = t(ends[0] + torch.linspace(0, 0.3, m, dtype=torch.float64)[:, None] * (ends[1] - ends[0]))
        jump = (codes[1:] - codes[:-1]).norm(dim=1) / spread
        jumps.append(jump[accepted[1:] & accepted[:-1]].amax().item())
    assert jumps[1] <= 0.02
    assert jumps[1] <= 0.3 * jumps[0] + 1e-6


def test_the_local_map_keeps_the_first_two_moments():
    """Mean within 5 % and standard deviations within 10 % of the targets' own, blends and solver's error included."""
    y, t = smooth("local")
    codes, accepted = t(noise(16_000))
    codes = codes[accepted]
    assert ((codes.mean(0) - y.mean(0)).abs() <= 0.05).all()
    ratio = torch.linalg.eigvals(torch.linalg.solve(torch.cov(y.T, correction=0), torch.cov(codes.T))).real
    assert ((ratio.sqrt() - 1).abs() <= 0.1).all()


def test_the_local_map_keeps_each_modes_mean():
    samples, *_ = solved("ring")
    codes, accepted = extension("ring", "local")(noise(16_000))
    mode = torch.cdist(codes, torch.as_tensor(samples.truth["centres"])).argmin(1)
    for k in range(8):
        mine = codes[accepted & (mode == k)]
        theirs = torch.as_tensor(samples.values[samples.labels == k])
        assert torch.allclose(mine.mean(0), theirs.mean(0), atol=0.01)
        assert mine.std(0).norm().item() == pytest.approx(theirs.std(0).norm().item(), rel=0.35)


def test_barycentric_codes_at_centroids_are_targets():
    """T(c_i) = y_i for the centroids that the extension uses, where they lie inside their cells."""
    y, t = smooth("barycentric")
    inside = t.u.cell(t.centroids) == torch.arange(len(y))
    codes = t(t.centroids)[0]
    assert inside.double().mean() >= 0.3  # centroids of few samples are pulled to their regression on the targets
    assert torch.allclose(codes[inside], y[inside], atol=1e-6)


def test_barycentric_codes_are_convex_combinations_of_targets():
    y, t = smooth("barycentric")
    codes = t(10 * noise(2000))[0]
    assert (codes <= y.amax(0) + 1e-9).all()
    assert (codes >= y.amin(0) - 1e-9).all()


def test_strength_zero_gives_targets_inside_their_cells():
    y, t = smooth("local")
    bare = extend(t.u, Gaussian(2), strength=0, generator=seeded())
    x = noise(2000)
    weights, indices = bare.weights(x)
    alone = (weights > 0).sum(1) == 1
    assert alone.double().mean() >= 0.2
    assert torch.equal(bare(x)[0][alone], y[indices[alone, 0]])


@pytest.mark.parametrize("scale", [1000.0])
@pytest.mark.parametrize("kind", KINDS)
def test_units_change_nothing_but_the_unit(scale, kind):
    _, u, _, _ = solved("ring")
    x = noise(3000)
    scaled = BrenierPotential(scale * u.points, scale * u.heights)
    one, other = (
        extend(v, Gaussian(2), kind, found=cells(v, Gaussian(2), 40_000, seeded(3)), generator=seeded(4))
        for v in (u, scaled)
    )
    same = one(x)[1] == other(x)[1]
    assert same.double().mean() >= 0.999
    assert torch.allclose(scale * one(x)[0][same], other(x)[0][same], rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_zero_is_never_used_and_duplicates_are(kind):
    y = torch.randn(300, 2, dtype=torch.float64, generator=seeded(1))
    every = torch.cat([y, y[:50], y[:50] + 10])
    weights = torch.cat([torch.full((350,), 1 / 350), torch.zeros(50)]).double()
    u = solve(UniformCube(2), Discrete(every, weights), max_samples=100_000, generator=seeded()).potential
    t = extend(u, UniformCube(2), kind, generator=seeded(2))
    x = torch.rand(5000, 2, dtype=torch.float64, generator=seeded(3))
    codes, accepted = t(x)
    assert codes.isfinite().all()
    assert accepted.double().mean() >= 0.9
    used = t.weights(x)[1][t.weights(x)[0] > 0]
    assert (used < 350).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_few_targets_extend(n, kind):
    y = torch.randn(n, 3, dtype=torch.float64, generator=seeded(n))
    u = solve(Gaussian(3), Discrete(y), max_samples=20_000, generator=seeded()).potential
    codes, accepted = extend(u, Gaussian(3), kind, generator=seeded())(noise(50, 3))
    assert codes.isfinite().all()
    assert accepted.all()
    if n == 1:
        assert torch.allclose(codes, y.expand(50, 3))


def test_the_strength_is_the_least_that_makes_new_points_and_the_size_the_likeliest():
    y, nu = noise(2000, 6), torch.full((2000,), 1 / 2000, dtype=torch.float64)
    parts, judges = torch.zeros(2000, dtype=torch.long), torch.arange(0, 2000, 10)
    local, strength = choose(y, nu, parts, None, judges)
    assert [size for size, _ in local.scores] == [16, 32, 64, 128]
    new = {one: score for one, score in local.scores.items() if score[0] >= NEW}
    assert strength == max(new, key=lambda one: new[one][1])[1]
    kept = torch.ones(2000, dtype=torch.bool).index_fill(0, judges, False)
    every = torch.arange(int(kept.sum()))
    tried = 0
    for k, least in local.scores:
        (p,) = smoothings(y[kept], nu[kept], parts[kept], [k])
        if STRENGTHS[0] < least < 1:
            weaker = novelty(local_gaussians(y[kept], blended(p, least - 0.05), every, every), y[judges])
            assert weaker < NEW <= local.scores[k, least][0]
            tried += 1
    assert tried >= 1


def test_few_targets_take_more_neighbours_until_points_are_new():
    """A hundred points in ten dimensions: sixteen neighbours, a quarter of them at most, are not enough."""
    y = torch.randn(100, 10, dtype=torch.float64, generator=seeded(3))
    local, _ = choose(y, torch.full((100,), 0.01), torch.zeros(100, dtype=torch.long), 0.5, None)
    sizes = [size for size, _ in local.scores]
    assert sizes[0] == 16
    assert all(new < NEW for (size, _), (new, _) in local.scores.items() if size < sizes[-1])
