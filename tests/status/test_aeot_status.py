import json

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

import brenier
from brenier import AEOT, data

RING = data.ring(200, generator=torch.Generator().manual_seed(0)).values


@pytest.fixture(scope="module")
def model():
    return AEOT(chart="identity").fit(RING, np.arange(200) % 8)


def bad(row, value):
    x = RING.copy()
    x[row, 0] = value
    return x


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (bad(7, np.nan), None, ValueError, "row 7"),
        (bad(3, np.inf), None, ValueError, "row 3"),
        (RING.astype(complex), None, TypeError, "complex"),
        (RING.astype(str), None, TypeError, "strings"),
        (RING.astype(object), None, TypeError, "object"),
        (np.float64(3.0), None, ValueError, "0-d|shape"),
        (np.empty((0, 2)), None, ValueError, "empty|at least"),
        (RING[:1], None, ValueError, "1"),
        (np.ones((30, 4)), None, ValueError, "equal"),
        (RING, np.arange(5), ValueError, "got 5 for 200"),
        (np.zeros((5, 4, 4), np.uint8) + np.arange(5, dtype=np.uint8)[:, None, None], None, ValueError, "8x8"),
    ],
)
def test_bad_data_gets_one_sentence(x, y, error, message):
    with pytest.raises(error, match=message) as raised:
        AEOT(chart="identity").fit(x, y)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"latent_dim": 300}, "latent_dim must be less than the number of samples, got 300 for 200"),
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        ({"chart": "linear"}, "chart must be"),
        ({"device": "cuda:7"}, "device 'cuda:7' can't be used here"),
        ({"device": "abacus"}, "device 'abacus' can't be used here"),
        ({"chart": "identity", "extension": "cubic"}, "extension must be one of local, barycentric, got 'cubic'"),
        ({"chart": "identity", "tol": -1.0}, "tol must be positive, got -1.0"),
        ({"validation": 1.5}, "validation must be a share from 0 up to 1, got 1.5"),
    ],
)
def test_bad_parameters_get_one_sentence(parameters, message):
    with pytest.raises(ValueError, match=message):
        AEOT(**parameters).fit(RING)


def test_codes_need_vectors():
    with pytest.raises(ValueError, match="takes vectors as codes"):
        AEOT(chart="identity").fit(np.random.default_rng(0).random((20, 8, 8)))


def test_an_unfitted_model_says_so():
    with pytest.raises(NotFittedError):
        AEOT().sample(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"n": 2, "mode": 99}, "mode must be one of the model's 8"),
        ({"n": 2, "label": 12}, "label must be one of 0, 1"),
        ({"n": 2, "batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_bad_sampling_gets_one_sentence(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.sample(**arguments)


def test_other_bad_input(model):
    with pytest.raises(ValueError, match=r"codes must have shape \(m, 2\), got \(3, 5\)"):
        model.decode(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="one entry per point"):
        model.reweight(np.full(10, 0.1))
    with pytest.raises(ValueError, match="sum to 1"):
        model.reweight(np.full(200, 0.1))
    with pytest.raises(ValueError, match="as many samples"):
        model.interpolate(RING[:2], RING[:3])
    with pytest.raises(ValueError, match="must have shape"):
        model.encode(np.zeros((3, 5)))


def test_a_transport_that_runs_out_is_a_status():
    model = AEOT(chart="identity", max_samples=2000).fit(RING)
    assert not model.transport_.converged
    assert "raise max_samples" in str(model.transport_)
    assert model.sample(3).shape == (3, 2)


def test_a_damaged_folder_is_refused_by_name(model, tmp_path):
    folder = model.save(tmp_path / "model")
    config, weights = folder / "config.json", folder / "model.safetensors"
    record, raw = config.read_text(), weights.read_bytes()

    with pytest.raises(FileNotFoundError, match="nowhere is missing"):
        brenier.load(tmp_path / "nowhere")
    config.write_text(record.replace('"band": 0.1', '"band": 0.9'))
    with pytest.raises(ValueError, match=r"config\.json was changed"):
        brenier.load(folder)
    config.write_text(record[: len(record) // 2])
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        brenier.load(folder)
    config.write_text(json.dumps({**json.loads(record), "format": 99}))
    with pytest.raises(ValueError, match="has format 99"):
        brenier.load(folder)
    config.write_text(record)
    weights.write_bytes(raw[:-10])
    with pytest.raises(ValueError, match=r"model\.safetensors was changed or cut"):
        brenier.load(folder)
    weights.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"model\.safetensors was changed or cut"):
        brenier.load(folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors is missing"):
        brenier.load(folder)


def test_save_replaces_a_model_and_spares_other_folders(model, tmp_path):
    folder = model.save(tmp_path / "model")
    assert model.save(folder) == folder
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    other = tmp_path / "photos"
    other.mkdir()
    (other / "a.txt").write_text("mine")
    with pytest.raises(ValueError, match="is no model folder"):
        model.save(other)
    assert (other / "a.txt").read_text() == "mine"
