"""A fit that was interrupted, and went on, ends with the model of one that was not: bit for bit."""

import numpy as np
import pytest
import torch
from torch import nn

import brenier
from brenier import AEOT, checkpoint, data, manifold, storage, transport
from brenier.checkpoint import Checkpoint, Stage, fingerprint
from brenier.measures import Discrete, Gaussian
from brenier.solution import Estimate, Status


class Interrupted(BaseException):
    """As Ctrl-C: no part of the library may catch it."""


class Memory:
    """A keeper that takes every state, through the disk's form, and interrupts after `last` of them."""

    def __init__(self, path, last=None):
        self.stage, self.last, self.taken = Stage(path), last, 0

    def recall(self):
        known = self.stage.load()
        return known and known["state"]

    def keep(self, state):
        self.stage.save({"done": False, "state": state()})
        self.taken += 1
        if self.taken == self.last:
            raise Interrupted


@pytest.fixture
def eager(monkeypatch):
    """Every chance to save is taken; `stop.after` saves the process is interrupted."""
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    monkeypatch.setattr(checkpoint, "FIRST", 0.0)

    class Stop:
        after, saves = None, 0

    original = Stage.save

    def save(stage, record):
        original(stage, record)
        Stop.saves += 1
        if Stop.saves == Stop.after:
            Stop.after = None
            raise Interrupted

    monkeypatch.setattr(Stage, "save", save)
    return Stop


def timeless(value):
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if key not in ("seconds", "checksums")}
    return [timeless(each) for each in value] if isinstance(value, list | tuple) else value


def same(one, other):
    (config, tensors), (others, their) = (storage.pack(model) for model in (one, other))
    assert timeless(config) == timeless(others)
    assert tensors.keys() == their.keys()
    for name in tensors:
        np.testing.assert_array_equal(tensors[name].numpy(), their[name].numpy(), err_msg=name)


def digits():
    return data.load("digits", limit=200)


def swiss():
    return data.swiss_roll(300, generator=torch.Generator().manual_seed(0)).values


CASES = {
    "images": (digits, lambda: AEOT(latent_dim=5, epochs=4, tol=0.4, seed=2)),
    "vectors of an unknown dimension": (swiss, lambda: AEOT(epochs=8, tol=0.4)),
    "natural gradient, constrained, onto a sphere": (
        swiss,
        lambda: AEOT(latent_dim=3, latent="sphere", optimizer="natural", constraints="stiefel", epochs=3, tol=0.5),
    ),
    "codes": (swiss, lambda: AEOT(chart="identity", extension="barycentric", tol=0.4)),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_wherever_it_is_interrupted_it_ends_the_same(case, eager, tmp_path):
    samples, unfitted = CASES[case]
    x = samples()
    whole = unfitted().fit(x)
    watched = unfitted().fit(x, checkpoint=tmp_path / "watched")
    same(whole, watched)
    total = eager.saves
    assert total > 5
    for after in sorted({2, total // 2, total - 2}):
        eager.saves, eager.after = 0, after
        with pytest.raises(Interrupted):
            unfitted().fit(x, checkpoint=tmp_path / str(after))
        same(whole, unfitted().fit(x, checkpoint=tmp_path / str(after)))


def test_it_may_be_interrupted_again_and_again(eager, tmp_path):
    x, times = swiss(), 0
    while True:
        eager.saves, eager.after = 0, 3
        try:
            model = AEOT(latent_dim=2, epochs=10, tol=0.5).fit(x, checkpoint=tmp_path)
            break
        except Interrupted:
            times += 1
    assert times > 4
    eager.after = None
    same(AEOT(latent_dim=2, epochs=10, tol=0.5).fit(x), model)
    again = AEOT(latent_dim=2, epochs=10, tol=0.5).fit(x, checkpoint=tmp_path)  # all is there
    same(model, again)
    assert again.seconds_ == model.seconds_
    assert again.sample(3).shape == (3, 3)


def test_a_chart_of_the_users_own_goes_on_in_new_modules(eager, tmp_path):
    def unfitted():
        torch.manual_seed(0)
        return AEOT(chart=(nn.Linear(3, 2), nn.Linear(2, 3)), epochs=6, tol=0.5)

    whole = unfitted().fit(swiss())
    for after in (2, 4, 9):
        eager.saves, eager.after = 0, after
        with pytest.raises(Interrupted):
            unfitted().fit(swiss(), checkpoint=tmp_path / str(after))
        same(whole, unfitted().fit(swiss(), checkpoint=tmp_path / str(after)))


def flat():
    return torch.randn(200, 6, generator=torch.Generator().manual_seed(0))


def curved():
    x = flat()
    return torch.cat([3 * x[:, :2], x[:, :1].square().repeat(1, 4)], 1)


def own_chart():
    torch.manual_seed(0)
    return manifold.Chart(
        nn.Sequential(nn.Linear(6, 16), nn.SiLU(), nn.Linear(16, 2)),
        nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 6)),
    )


def library_chart():
    return manifold.build({"kind": "mlp", "dim": 6, "latent_dim": 2, "width": 16}, generator=1)


TRAININGS = {
    "every epoch": (own_chart, flat, 40, 40, Status.EPOCHS_DONE),
    "stopped early": (own_chart, flat, 40, 3, Status.STOPPED_EARLY),
    "principal components": (library_chart, flat, 4, 10, Status.PRINCIPAL),
    "a network, judged five times, then of all rows": (library_chart, curved, 8, 10, Status.EPOCHS_DONE),
}


@pytest.mark.parametrize("case", TRAININGS)
def test_a_training_goes_on_with_its_moments_rate_and_best_weights(case, tmp_path):
    chart, samples, epochs, patience, status = TRAININGS[case]
    x, settings = samples(), {"epochs": epochs, "lr": 0.02, "patience": patience, "generator": 0}
    whole = chart()
    solution = manifold.fit(whole, x, **settings)
    assert solution.status is status
    counting = Memory(tmp_path / "all.safetensors")
    manifold.fit(chart(), x, keeper=counting, **settings)
    for after in (1, counting.taken // 2, counting.taken):
        memory = Memory(tmp_path / f"{after}.safetensors", after)
        with pytest.raises(Interrupted):
            manifold.fit(chart(), x, keeper=memory, **settings)
        resumed = chart()
        again = manifold.fit(resumed, x, keeper=Memory(tmp_path / f"{after}.safetensors"), **settings)
        assert timeless(again.history) == timeless(solution.history)
        assert (again.status, again.verdict, again.epochs, again.rows) == (
            *(solution.status, solution.verdict),
            *(solution.epochs, solution.rows),
        )
        assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


@pytest.mark.parametrize(("n", "d", "method"), [(60, 2, "auto"), (300, 5, "auto"), (300, 3, "multiscale")])
def test_a_solve_goes_on_in_the_midst_of_a_pass(n, d, method, tmp_path):
    target = Discrete(torch.randn(n, d, generator=torch.Generator().manual_seed(0)))

    def solve(keeper=None):
        generator = torch.Generator().manual_seed(3)
        answer = transport.solve(Gaussian(d), target, method, tol=0.15, generator=generator, keeper=keeper)
        return answer, generator.get_state()

    whole, state = solve()
    counting = Memory(tmp_path / "all.safetensors")
    solve(counting)
    for after in (1, counting.taken):
        with pytest.raises(Interrupted):
            solve(Memory(tmp_path / f"{after}.safetensors", after))
        again, at_the_end = solve(Memory(tmp_path / f"{after}.safetensors"))
        assert torch.equal(again.potential.heights, whole.potential.heights)
        assert (again.relrms, again.cost, again.lower, again.samples) == (
            whole.relrms,
            whole.cost,
            whole.lower,
            whole.samples,
        )
        assert timeless(again.history) == timeless(whole.history)
        assert torch.equal(state, at_the_end)


def test_time_that_was_spent_before_counts(tmp_path):
    target = Discrete(torch.randn(2000, 6, generator=torch.Generator().manual_seed(0)))
    stage = Stage(tmp_path / "s.safetensors")

    class Late(Memory):
        def recall(self):
            left = super().recall()
            return left and left | {"seconds": 1e6}

    with pytest.raises(Interrupted):
        transport.solve(Gaussian(6), target, tol=0.02, generator=torch.Generator(), keeper=Memory(stage.path, 2))
    answer = transport.solve(
        Gaussian(6), target, tol=0.02, max_seconds=1e5, generator=torch.Generator(), keeper=Late(stage.path)
    )
    assert answer.status is Status.OUT_OF_TIME
    assert answer.seconds > 1e6


def test_what_a_stage_keeps_comes_back_as_it_was(tmp_path):
    stage = Stage(tmp_path / "x.safetensors")
    wide = torch.arange(24, dtype=torch.float64).reshape(2, 3, 4).transpose(0, 2)
    state = {
        "numbers": [1, 2.5, -0.0, float("inf"), 2**60, None, True, "words"],
        "pair": (Estimate(1.0, 0.1), Status.CONVERGED),
        "tensors": {"wide": wide, "none": torch.zeros(0, 2), "bytes": torch.Generator().get_state()},
        "bfloat": torch.ones(3, dtype=torch.bfloat16),
        "array": np.eye(3)[:, ::2],
        ("a", 1): {3: 0.1},
    }
    stage.save(state)
    back = stage.load()
    assert list(back) == list(state)
    assert back["numbers"] == state["numbers"]
    assert back["pair"] == state["pair"]
    assert isinstance(back["pair"][0], Estimate)
    assert back["a", 1] == {3: 0.1}
    assert torch.equal(back["bfloat"], state["bfloat"])
    assert all(torch.equal(back["tensors"][name], value) for name, value in state["tensors"].items())
    np.testing.assert_array_equal(back["array"], state["array"])


def test_saving_takes_its_share_of_the_time_and_no_more(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: now[0])
    stage = Stage(tmp_path / "x.safetensors")
    monkeypatch.setattr(Stage, "save", lambda self, record: now.__setitem__(0, now[0] + 0.3))  # each takes 0.3 s
    saved = 0.0
    for _ in range(100_000):
        now[0] += 0.01
        before = now[0]
        stage.keep(dict)
        saved += now[0] - before
    assert 0.015 < saved / (now[0] - 100) <= checkpoint.SHARE


def test_a_fingerprint_is_of_values_shape_and_dtype():
    x = np.arange(12.0).reshape(3, 4)
    assert fingerprint(x) == fingerprint(np.asfortranarray(x)) == fingerprint(x.copy())
    other = [x.reshape(4, 3), x.astype(np.float32), x + 1e-12, x[::-1]]
    assert len({fingerprint(x), *(fingerprint(y) for y in other), fingerprint(x, None), fingerprint(x, x)}) == 7


def test_a_checkpoint_stays_until_it_is_removed_and_a_copy_of_the_model_owes_it_nothing(tmp_path):
    model = AEOT(chart="identity", tol=0.5).fit(swiss(), checkpoint=tmp_path / "kept")
    names = ["cells", "dimension", "extension", "manifold", "singular-set", "transport"]
    assert sorted(file.name for file in (tmp_path / "kept").glob("*.safetensors")) == [
        f"{n}.safetensors" for n in names
    ]
    assert model._checkpoint is None
    assert brenier.load(model.save(tmp_path / "model")).sample(2).shape == (2, 3)
    with Checkpoint(tmp_path / "kept", model._settings(data.load(swiss()))):
        pass  # nobody holds it any more
