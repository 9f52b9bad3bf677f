"""AE-OT, the whole model: samples → chart → codes → Brenier potential → extension → new codes → new samples."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from brenier import data, device, manifold, measures, report, storage, transport
from brenier.checkpoint import Checkpoint, fingerprint
from brenier.checks import whole
from brenier.generate import Draw, TransportSampler
from brenier.ladder import Trials, climb
from brenier.solution import Estimate, Keeper, Solution

T = TypeVar("T")
Callback = Callable[[str, dict[str, Any]], None]
SAME = (  # to go on where a fit was interrupted
    *("latent_dim", "latent", "optimizer", "constraints", "precision", "extension"),
    *("tol", "epochs", "max_samples", "validation", "seed", "device"),
)


class AEOT(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A generative model: an autoencoder learns the data manifold, a convex transport the distribution on it.

    Args:
        latent_dim: dimension of the codes; None tries several from the intrinsic dimension of the data (TwoNN) upwards
            by short fits and takes the one that held-out samples like best, see `ladder.climb`.
        chart: None builds a network for the data, for a table where `latent_dim` is given; "identity" takes the samples
            themselves as codes, as None does for a table without `latent_dim`; "network" always builds one; a pair
            (encoder, decoder) of `nn.Module`s is trained as it is.
        latent: the shape of the latent space of the library's own networks: "euclidean", "sphere" or "hyperbolic".
        optimizer: of the networks: "adamw" or "natural", see `manifold.fit`.
        constraints: manifolds that weights of the networks stay on, by name, see `manifold.fit`.
        precision: of the products in training: "float32", or "bfloat16" where the device is quicker with it.
        extension: "local" or "barycentric", see `transport.extend`.
        tol: the relative error of the cells' masses to reach, relrms.
        epochs: of the autoencoder; None sets them by the size of the data.
        max_samples: noise samples for the transport; None sets them by size and tol.
        validation: the share of samples that only judge: when training stops, how strongly the extension moves.
        seed: of everything random in `fit`.
        device: where networks and transport run.
        progress: bars and lines in the terminal.

    Attributes, after `fit`:
        codes_ (n, d), one per training sample, the targets of the transport; labels_ (n,) or None; modes_ (n,), the
        significant mode of every training sample, see `modes`; chart_, transport_ (a Solution), cells_, singular_,
        extension_; training_ (a Solution or None); layout_, of the data; validation_ (k,) rows; seconds_, by stage.

    Source: An et al., AE-OT, ICLR 2020; Lei, Su, Cui, Yau, Gu, A geometric view of optimal transportation, 2019.

    Example:
        >>> x = data.ring(400, generator=torch.Generator().manual_seed(0)).values
        >>> model = AEOT(chart="identity").fit(x)
        >>> model.sample(3).shape, len(set(model.modes_))
        ((3, 2), 8)
    """

    _checkpoint: Checkpoint | None = None  # while `fit` runs
    _callback: Callback | None = None

    def __init__(
        self,
        latent_dim: int | None = None,
        chart: str | tuple[nn.Module, nn.Module] | None = None,
        latent: str = "euclidean",
        optimizer: str = "adamw",
        constraints: str | dict[str, str] | None = None,
        precision: str = "float32",
        extension: str = "local",
        tol: float = 0.2,
        epochs: int | None = None,
        max_samples: int | None = None,
        validation: float = 0.1,
        seed: int = 0,
        device: str | None = None,
        progress: bool = False,
    ) -> None:
        self.latent_dim = latent_dim
        self.chart = chart
        self.latent = latent
        self.optimizer = optimizer
        self.constraints = constraints
        self.precision = precision
        self.extension = extension
        self.tol = tol
        self.epochs = epochs
        self.max_samples = max_samples
        self.validation = validation
        self.seed = seed
        self.device = device
        self.progress = progress

    def fit(
        self, x: Any, y: Any = None, checkpoint: str | Path | None = None, callback: Callback | None = None
    ) -> Self:
        """Learn the manifold of samples x, then the distribution of their codes; labels y (m,) are optional.

        x is an array or tensor of images or vectors, a data frame (each column is then scaled or coded by what it
        holds), a torch Dataset or DataLoader, or what `data.load` gives. With `checkpoint`, a folder, the state is kept
        there: the same call goes on where the last one was interrupted, and ends with the same model. The folder stays
        until it is removed. `callback` is called with the name of a stage and a dict: each entry of the history of
        training and transport as it is made, and the seconds of each stage.

        Raises:
            ValueError, TypeError: x or y is not what it should be; an argument is out of range; the checkpoint is of
                other data or other settings.
            ArithmeticError: the training diverged.
            OSError: the checkpoint can't be written, or another process has it.
        """
        self._check_parameters()
        place = device.find(self.device)
        samples = data.load(x, labels=y)
        self.layout_ = data.Layout.of(x) if isinstance(x, np.ndarray | Tensor) else samples.layout
        self.labels_ = samples.labels
        self.n_features_in_ = math.prod(self.layout_.shape)
        self.seconds_: dict[str, float] = {}
        self._data: data.Samples | None = samples
        self._features: report.Features | None = None
        rows = torch.randperm(len(samples), generator=self._generator(1))
        self.validation_ = rows[: math.ceil(self.validation * len(samples))].sort().values

        with self._watched(samples, checkpoint, callback):
            # 1, 2: samples to codes, by a chart of the manifold they lie on; of how many dimensions, short fits say
            self.dimension_ = self._stage("dimension", lambda _: self._dimension(samples.values, place))
            learn = partial(self._learn, samples.values, place)
            self.chart_, self.training_, self.codes_ = self._stage("manifold", learn)

            # 3, 4: codes to a measure, and the convex transport that carries noise to it
            self._solve(measures.Discrete(self.codes_.to(place)))
        return self

    def reweight(self, weights: Any) -> Self:
        """Give the training samples new weights (n,) and solve again from where the transport stands: no retraining.

        Balance classes, favour a mode, or drop one (weight 0). The modes are found again, of the weighted samples.

        Raises:
            ValueError: weights of another length, negative, or with another sum than 1.
        """
        self._check()
        target = measures.Discrete(self.codes_.to(device.find(self.device)), weights)
        return self._solve(target, start=self._start, strength=self.extension_.strength)

    def _solve(
        self,
        target: measures.Discrete,
        start: transport.BrenierPotential | None = None,
        strength: float | None = None,
    ) -> Self:
        source, generator = measures.Gaussian(target.dim), self._generator(2, target.points.device)
        solve = partial(
            transport.solve,
            source,
            target,
            tol=self.tol,
            max_samples=self.max_samples,
            generator=generator,
            progress=self.progress,
            start=start,
            on_check=self._teller("transport"),
        )
        self.transport_ = self._stage("transport", lambda keeper: solve(keeper=keeper), generator)
        self._start = self.transport_.potential if start is None else start
        u = self.transport_.potential
        self.cells_ = self._stage("cells", lambda _: transport.cells(u, source, generator=generator), generator)
        split = partial(transport.singular_set, u, source, self.cells_, generator, target.weights)
        self.singular_ = self._stage("singular set", lambda _: split(), generator)
        # 5: from finitely many codes to new ones
        extend = partial(
            transport.extend,
            u,
            source,
            self.extension,
            strength=strength,
            judges=self.validation_.to(target.points.device),
            found=self.cells_,
            singular=self.singular_,
            generator=generator,
            weights=target.weights,
        )
        self.extension_ = self._stage("extension", lambda _: extend(), generator)
        self.weights_ = target.weights
        self.modes_ = self.singular_.modes.cpu().numpy()
        return self

    def modes(self, level: float | None = None) -> np.ndarray:
        """Return the mode (n,) of every training sample at a level of prominence: how far a mode's density rises above
        the highest pass to a denser one, in standard deviations of its estimate.

        None is the level at which modes are significant, as in `modes_`. A lower level splits finer, down to 0, where
        every local maximum of the density is a mode; a higher one merges, up to inf, where only gaps part modes.
        0 is the heaviest. See `singular_.tree`.

        Raises:
            ValueError: a level below 0, or none at all (NaN).
        """
        self._check()
        if level is not None and not level >= 0:
            raise ValueError(f"level must be None or at least 0, got {level}")
        return self.singular_.tree.modes(level).cpu().numpy()

    def sample(
        self, n: int, seed: int = 0, mode: int | None = None, label: Any = None, batch_size: int = 256
    ) -> np.ndarray | Tensor:
        """n new samples, in the layout and range of the data; of one `mode` of modes_ or one `label`, where given.

        Sample i depends on the seed and on i alone. Of a table it has all columns, that of the labels included.

        Raises:
            ValueError: n below 1, a mode or label that the model doesn't have.
        """
        return self.samples_of(self.draw(n, seed, mode, label, batch_size), batch_size)

    def samples_of(self, draw: Draw, batch_size: int = 256) -> Any:
        """The samples of drawn codes: decoded, in the layout of the data; a table with its labels."""
        x = self.chart_.decode(draw.codes, batch_size)
        if isinstance(self.layout_, data.TableLayout) and self.layout_.label is not None and self.labels_ is not None:
            return self.layout_.to_user(x, self.labels_[self.cells_of(draw)])
        return self.layout_.to_user(x)

    def cells_of(self, draw: Draw) -> np.ndarray:
        """The training sample (n,) in whose cell the noise of each drawn sample fell: its label and mode are theirs."""
        return self.extension_.u.cell(draw.noise).cpu().numpy()

    def draw(self, n: int, seed: int = 0, mode: int | None = None, label: Any = None, batch_size: int = 256) -> Draw:
        """What `sample` decodes: n new codes (n, d), their noise, and the share of noise accepted."""
        self._check()
        wanted = self._wanted(mode, label)
        sampler = TransportSampler(self.extension_, measures.Gaussian(self.codes_.shape[1]))
        return sampler.draw(n, seed, wanted, batch_size)

    def noise_to_code(self, noise: Any) -> tuple[Any, Any]:
        """Codes (m, d) of noise (m, d), and which are accepted (m,): the others lie where modes would mix."""
        self._check()
        return self.extension_(noise)

    def encode(self, x: Any) -> np.ndarray | Tensor:
        """Codes (m, d) of samples x."""
        self._check()
        codes = self._encode(x)
        return codes if isinstance(x, Tensor) else codes.numpy()

    def decode(self, z: Any) -> np.ndarray | Tensor:
        """Samples of codes z (m, d), in the layout and range of the data."""
        self._check()
        z = torch.as_tensor(z)
        if z.ndim != 2 or z.shape[1] != self.codes_.shape[1]:
            raise ValueError(f"codes must have shape (m, {self.codes_.shape[1]}), got {tuple(z.shape)}")
        return self.layout_.to_user(self.chart_.decode(z.to(self.codes_)))

    def transform(self, x: Any) -> np.ndarray | Tensor:
        """`encode`, by scikit-learn's name."""
        return self.encode(x)

    def inverse_transform(self, z: Any) -> np.ndarray | Tensor:
        """`decode`, by scikit-learn's name."""
        return self.decode(z)

    def interpolate(self, a: Any, b: Any, steps: int = 8) -> np.ndarray | Tensor:
        """Samples (m, steps, ...) on the way from samples a (m, ...) to b (m, ...): straight lines of codes.

        Of tables one with m steps rows, way by way.
        """
        start, end = self._encode(a), self._encode(b)
        if start.shape != end.shape:
            raise ValueError(f"a and b must hold as many samples, got {len(start)} and {len(end)}")
        t = torch.linspace(0, 1, steps, dtype=start.dtype)[:, None]
        line = (1 - t) * start[:, None] + t * end[:, None]
        samples = self.decode(line.flatten(0, 1))
        if self.layout_.kind == "table":
            return samples
        return samples.reshape(len(start), steps, *samples.shape[1:])

    def labels_of(self, x: Any) -> np.ndarray:
        """The label (m,) of each sample x: that of the nearest training code, or its mode where `fit` got no labels."""
        self._check()
        index = report.nearest(self._encode(x).numpy(), self.codes_.numpy())[1][:, 0]
        return (self.modes_ if self.labels_ is None else self.labels_)[index]

    def novelty(self, x: Any) -> np.ndarray:
        """Distance of each sample to the nearest training code (m,), over the mean of held-out samples.

        About 1 for samples like the data, 0 for training samples, large for outliers.
        """
        self._check()
        return report.nearest(self._encode(x).numpy(), self.codes_.numpy())[0][:, 0] / self._typical_distance()

    def evaluate(self, x_test: Any, seed: int = 0) -> dict[str, Estimate]:
        """The model against samples that it never saw, each number with its standard error.

        fid and fid_rec, Fréchet distance of new samples to test samples and to their reconstructions, in features of a
        classifier of the training labels (principal components without labels); c2st, accuracy of telling new codes
        from test codes (0.5 is perfect); nn, distance to the nearest training code over the same for test codes (1 new,
        0 copies); precision, recall, density, coverage of the codes; mse of the reconstructions, samples in 0..1;
        relrms of the transport; accepted, share of noise not drawn again; singular, the mass of the singular set.
        """
        x = self._network(x_test)
        drawn = self.draw(min(len(x), report.AT_MOST), seed)
        transport_numbers = {
            "relrms": self.transport_.relrms,
            "accepted": drawn.accepted,
            "singular": self.singular_.mass,
        }
        return self.judge(drawn.codes, x) | transport_numbers

    def score(self, x_test: Any, y: Any = None, seed: int = 0) -> float:
        """Minus the squared energy distance from new samples to samples x_test (m, ...) that the fit never saw.

        In the space of the data, so that models of other dimensions compare: a dimension too low blurs the samples, one
        too high makes their distribution harder to learn. As many new samples are drawn as x_test has, 10,000 at most.
        Larger is better, 0 or a little more is the best. y is ignored: it is there for scikit-learn.
        """
        x = self._network(x_test)
        x = x[torch.linspace(0, len(x) - 1, min(len(x), report.AT_MOST)).long()].flatten(1)
        new = self._from_codes(self.draw(len(x), seed).codes).flatten(1)
        return -report.energy(new, x).mean

    @property
    def _n_features_out(self) -> int:
        return self.codes_.shape[1]

    def judge(self, codes: Tensor, x_test: Tensor) -> dict[str, Estimate]:
        """The numbers of `evaluate` for any new codes (m, d), against test samples in network form."""
        return report.evaluate(
            codes,
            x_test,
            self.codes_,
            self._to_codes,
            self._from_codes,
            self.features(),
        )

    def features(self) -> report.Features:
        """The features of the Fréchet distances, trained when first asked for.

        On the training samples; after loading a model without features, on its decoded training codes.
        """
        self._check()
        if self._features is None:
            if self._data is None:
                fitted = report.Features.fit(self.chart_.decode(self.codes_), self.labels_, self.seed)
            else:
                convert = self.layout_.to_network
                fitted = report.Features.fit(self._data.values, self.labels_, self.seed, convert=convert)
            self._features = fitted
        return self._features

    def judge_in(self, features: report.Features) -> None:
        """Take another model's features for the Fréchet distances, so that both models' numbers compare."""
        self._features = features

    def report(self, path: str | Path, x_test: Any = None) -> report.Report:
        """Write one HTML page: findings, numbers beside those of other samplers, figures, settings, time.

        x_test are samples that the model never saw; None takes the held-out rows of the training data, which judged the
        training and are among the targets of the transport: judged without them there, yet less strict than a test.

        Raises:
            ValueError: no x_test, and the model holds none out or was loaded without its data.
        """
        self._check()
        values, known = None if self._data is None else self._data.values, np.ones(len(self.codes_), dtype=bool)
        if x_test is None:
            if values is None or not len(self.validation_):
                raise ValueError("x_test must be given, got None for a model that has no held-out samples at hand")
            known[self.validation_.numpy()] = False
            x = self.layout_.to_network(values[~known])
        else:
            x = self._network(x_test)
        x = x[torch.linspace(0, len(x) - 1, min(len(x), report.AT_MOST)).long()]
        drawn, encode, decode = self.draw(len(x)), self._to_codes, self._from_codes
        material = report.Material(
            name=getattr(x_test if self._data is None else self._data, "name", "data"),
            codes=self.codes_,
            test=encode(x),
            new=drawn.codes.cpu(),
            known=known,
            labels=self.labels_,
            modes=self.modes_,
            facets=self.singular_.facets,
            tree=self.singular_.tree,
            x_test=x,
            train=lambda rows: decode(self.codes_[rows]) if values is None else self.layout_.to_network(values[rows]),
            decoded=values is None,
            decode=decode,
            judge=lambda codes: report.evaluate(codes, x, self.codes_[known], encode, decode, self.features()),
            own={"relrms": self.transport_.relrms, "accepted": drawn.accepted, "singular": self.singular_.mass},
            transport=self.transport_,
            training=self.training_,
            tol=self.tol,
            settings={
                "samples": f"{self.layout_.kind} of {' × '.join(map(str, self.layout_.shape))}, {self.layout_.dtype}",
                **{k: v for k, v in self.get_params(deep=False).items() if v is not None and k != "progress"},
                "latent_dim": self.codes_.shape[1],
                **({"dimensions tried": str(self.dimension_)} if self.dimension_ and self.dimension_.scores else {}),
                "epochs": 0 if self.training_ is None else len(self.training_.history),
                "strength of the extension": f"{self.extension_.strength:.3g}",
            },
            seconds=self.seconds_,
            columns=self.layout_.shown if isinstance(self.layout_, data.TableLayout) else None,
        )
        return report.write_report(path, material)

    def save(self, folder: str | Path) -> Path:
        """Write the model to a folder: `config.json` and `model.safetensors`, with checksums, without pickle."""
        self._check()
        return storage.write(folder, *storage.pack(self))

    # --- what the verbs above are made of -----------------------------------------------------------------------------

    def _check(self) -> None:
        check_is_fitted(self, "extension_")

    def _check_parameters(self) -> None:
        """Before any work: a wrong number must not cost an hour of training."""
        if self.extension not in transport.KINDS:
            raise ValueError(f"extension must be one of {', '.join(transport.KINDS)}, got {self.extension!r}")
        if self.latent != "euclidean" and self.chart not in (None, "network"):
            raise ValueError(f"latent {self.latent!r} needs the library's own networks, got chart {self.chart!r}")
        if self.optimizer not in manifold.OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(manifold.OPTIMIZERS)}, got {self.optimizer!r}")
        if self.precision not in manifold.PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(manifold.PRECISIONS)}, got {self.precision!r}")
        for name in ("latent_dim", "epochs"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), 1)
        whole("seed", self.seed, 0)
        if not (isinstance(self.chart, tuple) or self.chart in (None, "identity", "network")):
            raise ValueError(
                f"chart must be None, 'identity', 'network' or a pair (encoder, decoder), got {self.chart!r}"
            )
        for name in ("tol", "max_samples", "validation"):
            value = getattr(self, name)
            if name == "max_samples" and value is None:
                continue
            if not isinstance(value, int | float | np.number):
                raise TypeError(f"{name} must be a number, got {value!r}")
            if name != "validation" and not float(value) > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation must be a share from 0 up to 1, got {self.validation}")

    def _generator(self, stage: int, device: torch.device | str = "cpu") -> torch.Generator:
        return torch.Generator(device=device).manual_seed(1000 * self.seed + stage)

    def _stage(self, name: str, work: Callable[[Keeper | None], T], generator: torch.Generator | None = None) -> T:
        """What `work` gives, its time kept; where there is a checkpoint, from there if it was done before."""
        if self._checkpoint is None:
            began = time.perf_counter()
            answer, seconds = work(None), time.perf_counter() - began
        else:
            answer, seconds = self._checkpoint.stage(name, work, generator)
        self.seconds_[name] = seconds
        if self._callback is not None:
            self._callback(name, {"seconds": seconds})
        return answer

    def _teller(self, stage: str) -> Callable[[dict[str, Any]], None] | None:
        return None if self._callback is None else partial(self._callback, stage)

    @contextmanager
    def _watched(
        self, samples: data.Samples, checkpoint: str | Path | None, callback: Callback | None
    ) -> Iterator[None]:
        """A fit with its checkpoint and its callback, which are gone with it."""
        own = self.chart if isinstance(self.chart, tuple) else None
        try:
            self._callback = callback
            if checkpoint is None:
                yield
            else:
                with Checkpoint(checkpoint, self._settings(samples), own) as self._checkpoint:
                    yield
        finally:
            self._checkpoint = self._callback = None

    def _settings(self, samples: data.Samples) -> dict[str, Any]:
        """What must be the same for a fit to go on where it was interrupted."""
        chart = [str(module) for module in self.chart] if isinstance(self.chart, tuple) else self.chart
        known = {name: getattr(self, name) for name in SAME}
        columns = np.frombuffer(repr(samples.table).encode(), np.uint8)
        return {**known, "chart": chart, "data": fingerprint(samples.values, samples.labels, columns)}

    def _learn(
        self, values: np.ndarray, place: torch.device, keeper: Keeper | None
    ) -> tuple[manifold.Chart, Solution | None, Tensor]:
        """The chart, trained, how that went, and the codes of all samples."""
        self.chart_ = self._chart(None if self.dimension_ is None else self.dimension_.chosen)
        training = self._train(values, place, keeper)
        return self.chart_, training, self.chart_.encode(values, to_network=self.layout_.to_network).cpu()

    def _dimension(self, values: np.ndarray, place: torch.device) -> Trials | None:
        """The latent dimensions that were tried and the one chosen; None where the samples are the codes or the chart
        is the user's own.
        """
        shape, n = self.layout_.network_shape, len(values)
        table = self.layout_.kind == "table" and self.latent_dim is None and self.latent == "euclidean"
        if self.chart == "identity" or (self.chart is None and table):
            if self.layout_.kind == "images":
                raise ValueError(
                    f"chart 'identity' takes vectors as codes, or tables, got images of shape {self.layout_.shape}"
                )
            return None
        if isinstance(self.chart, tuple):
            return None
        if self.latent_dim is not None:
            trials = Trials({}, self.latent_dim)
        else:
            flat = self.layout_.to_network(values).numpy() if self.layout_.kind == "table" else values.reshape(n, -1)
            estimate = manifold.intrinsic_dimension(flat, seed=self.seed)
            trials = Trials({}, min(max(round(estimate.mean), 1), math.prod(shape), n - 1))
            if self.latent == "euclidean":
                trials = climb(
                    values, self.validation_, trials.chosen, self._chart, self.layout_.to_network, place, self.seed
                )
        if trials.chosen >= n:
            raise ValueError(f"latent_dim must be less than the number of samples, got {trials.chosen} for {n} samples")
        return trials

    def _chart(self, dim: int | None) -> manifold.Chart:
        """The untrained chart for codes of `dim` numbers; None where the codes are given."""
        if isinstance(self.chart, tuple):
            return manifold.Chart(*self.chart)
        if dim is None:
            return manifold.Chart.identity()
        shape = self.layout_.network_shape
        kind = {"kind": "mlp", "dim": shape[0]} if len(shape) == 1 else {"kind": "convolutional", "shape": list(shape)}
        return manifold.build({**kind, "latent_dim": dim, "latent": self.latent}, generator=self._generator(3))

    def _train(self, values: np.ndarray, place: torch.device, keeper: Keeper | None) -> Solution | None:
        if next(self.chart_.parameters(), None) is None:
            if self.constraints is not None:
                raise ValueError(f"constraints need weights, got {self.constraints!r} for a chart without any")
            return None
        return manifold.fit(
            self.chart_,
            values,
            validation=self.validation_,
            epochs=self.epochs,
            generator=self._generator(4),
            device=place,
            progress=self.progress,
            to_network=self.layout_.to_network,
            optimizer=self.optimizer,
            constraints=self.constraints,
            precision=self.precision,
            keeper=keeper,
            on_epoch=self._teller("manifold"),
        )

    def _network(self, x: Any) -> Tensor:
        self._check()
        return self.layout_.to_network(self._values(x))

    def _to_codes(self, x: Tensor) -> Tensor:
        """Codes of samples in network form, on the CPU."""
        return self.chart_.encode(x).cpu()

    def _from_codes(self, z: Tensor) -> Tensor:
        """Samples in network form of codes, on the CPU."""
        return self.chart_.decode(z).cpu()

    def _encode(self, x: Any) -> Tensor:
        return self.chart_.encode(self._values(x), to_network=self.layout_.to_network).cpu()

    def _values(self, x: Any) -> np.ndarray:
        """Samples of any kind as an array that the layout knows."""
        if isinstance(x, data.Samples):
            x = x.values if x.table is None else x.table.frame(x.values)
        if isinstance(self.layout_, data.TableLayout):
            return self.layout_.values(x)
        return x if isinstance(x, np.ndarray) else data.check(x)

    def _wanted(self, mode: int | None, label: Any) -> Tensor | None:
        if mode is None and label is None:
            return None
        wanted = np.ones(len(self.modes_), dtype=bool)
        if mode is not None:
            if mode not in self.modes_:
                raise ValueError(f"mode must be one of the model's {self.modes_.max() + 1} (from 0), got {mode!r}")
            wanted &= self.modes_ == mode
        if label is not None:
            if self.labels_ is None:
                raise ValueError(f"the model was fitted without labels, got label {label!r}")
            if label not in self.labels_:
                raise ValueError(f"label must be one of {', '.join(map(str, np.unique(self.labels_)))}, got {label!r}")
            wanted &= self.labels_ == label
        if not wanted.any():
            raise ValueError(f"no training sample of label {label!r} lies in mode {mode}")
        return torch.from_numpy(wanted).to(self.weights_.device)

    def _typical_distance(self) -> float:
        """Mean distance of held-out codes to the nearest other training code."""
        rows = self.validation_ if len(self.validation_) else torch.arange(len(self.codes_))
        near = report.nearest(self.codes_[rows[:4096]].numpy(), self.codes_.numpy(), 2)[0][:, 1]
        return float(near.mean())


def load(folder: str | Path, chart: tuple[nn.Module, nn.Module] | None = None) -> AEOT:
    """The model that `save` wrote; `chart` gives the modules of a chart that was the user's own, to be filled.

    Raises:
        FileNotFoundError: the folder or a file is missing.
        ValueError: a file is damaged or was changed, or the chart is missing.
    """
    config, tensors = storage.read(folder)
    return storage.restore(AEOT(**config["parameters"]), config, tensors, chart)
