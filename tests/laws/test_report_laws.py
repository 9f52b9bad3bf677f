"""What must not change the numbers, and what must come out the same twice."""

import json

import matplotlib
import numpy as np
import pytest
import torch

from brenier.report import Features, baselines, c2st, frechet, nn_ratio, precision_recall_density_coverage

SAMPLERS = [baselines.copies, baselines.gaussian, baselines.gmm, baselines.kde, baselines.smote]


@pytest.fixture
def pair():
    rng = np.random.default_rng(1)
    return rng.normal(size=(300, 4)), 0.8 * rng.normal(size=(300, 4)) + 0.3


def turned(x, scale):
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))[0]
    return scale * x @ rotation + 7.0 * scale


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_numbers_do_not_change_under_motions_and_scale(pair, scale):
    a, b = pair
    moved = [turned(x, scale) for x in pair]
    np.testing.assert_allclose(frechet(*moved), np.multiply(frechet(a, b), scale**2), rtol=1e-8)
    new, test, train = moved[0][:50], moved[0][50:99], moved[1]
    np.testing.assert_allclose(nn_ratio(new, test, train), nn_ratio(a[:50], a[50:99], b), rtol=1e-8)
    for name, value in precision_recall_density_coverage(a, b).items():
        assert precision_recall_density_coverage(*moved)[name] == pytest.approx(value), name


def test_frechet_is_symmetric_and_the_order_of_rows_is_free(pair):
    a, b = pair
    assert frechet(a, b).mean == pytest.approx(frechet(b, a[::-1]).mean, rel=1e-10)


def test_c2st_does_not_change_when_columns_are_rescaled(pair):
    a, b = pair
    units = np.array([1e-3, 1.0, 1e3, 8.0])
    assert c2st(a * units + 5, b * units + 5) == pytest.approx(c2st(a, b), abs=0.01)


def test_seeds_decide_and_the_global_generator_stays(pair, monkeypatch):
    monkeypatch.setattr("brenier.report.features.STEPS", 20)
    a, b = pair
    before = torch.random.get_rng_state()
    assert c2st(a, b, 3) == c2st(a, b, 3) != c2st(a, b, 4)
    assert frechet(a, b, torch.Generator().manual_seed(5)) == frechet(a, b, torch.Generator().manual_seed(5))
    labels = (a[:, 0] > 0).astype(int)
    first, second = (Features.fit(a, labels, seed=6).features(b) for _ in range(2))
    assert torch.equal(first, second)
    for sampler in SAMPLERS:
        np.testing.assert_array_equal(sampler(a, 50, 7), sampler(a, 50, 7))
        assert not np.array_equal(sampler(a, 50, 7), sampler(a, 50, 8))
    assert torch.equal(before, torch.random.get_rng_state())


def test_tensors_and_arrays_give_the_same_numbers(pair):
    tensors = [torch.from_numpy(x) for x in pair]
    assert frechet(*tensors) == frechet(*pair)
    assert nn_ratio(tensors[0][:99], tensors[0][99:], tensors[1]) == nn_ratio(pair[0][:99], pair[0][99:], pair[1])


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_samplers_work_on_few_rows_and_keep_type_and_shape(sampler, rows):
    codes = torch.rand(rows, 6, generator=torch.Generator().manual_seed(0))
    drawn = sampler(codes, 11, 0)
    assert drawn.shape == (11, 6)
    assert drawn.dtype == torch.float32
    assert torch.isfinite(drawn).all()
    assert sampler(codes.double().numpy(), 3, 0).dtype == np.float64


def test_features_are_rebuilt_from_json_and_state(monkeypatch):
    monkeypatch.setattr("brenier.report.features.STEPS", 20)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(60, 2, 9, 12, generator=generator).numpy()
    images.flags.writeable = False
    for labels in (None, ["a", "b", "c"] * 20):
        made = Features.fit(images, labels)
        rebuilt = Features(json.loads(json.dumps(made.spec)))
        rebuilt.load_state_dict(made.state_dict())
        assert torch.equal(rebuilt.features(images), made.features(images))
        assert (rebuilt.kind, rebuilt.accuracy) == (made.kind, made.accuracy)


def test_features_convert_their_rows_chunk_by_chunk():
    raw = np.random.default_rng(0).integers(0, 256, size=(3000, 8, 8), dtype=np.uint8)
    sizes = []

    def convert(rows):
        sizes.append(len(rows))
        return torch.from_numpy(rows).float()[:, None] / 255

    features = Features.fit(raw, convert=convert)
    assert features.features(raw, convert).shape == (3000, 64)
    assert max(sizes) < 3000


def test_figures_leave_the_settings_of_matplotlib_alone():
    from brenier.report import figures

    before = dict(matplotlib.rcParams)
    figures.novelty(np.arange(5.0), np.arange(5.0)).canvas.draw()
    assert dict(matplotlib.rcParams) == before
