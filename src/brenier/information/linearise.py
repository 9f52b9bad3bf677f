"""A network at one batch as a function of its parameters: outputs, Jacobian products, columns of Jᵀ."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from torch.utils import checkpoint

Values = dict[str, Tensor]
APART = ContextVar("apart", default=False)  # whether a forward pass is one of ours, for hooks on the model
COLUMN_FLOATS = 2**25
NO_CHECKPOINT = (
    "the model runs layers without their graph, as torch.utils.checkpoint does, which this curvature can't look into: "
    "switch checkpoints off for this network, or take structure='cg' with use_reentrant=False"
)


class Linearised:
    """f(θ) = model(*args, **kwargs) around its present parameters `names`, and J = Df.

    The model itself is left as it is: buffers are copies, random numbers are those of `rng` (by default of now) and are
    given back, half-precision inputs and autocast are lifted to the parameters' precision.
    """

    def __init__(
        self,
        model: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        names: list[str],
        rng: list[Tensor] | None = None,
    ) -> None:
        known = dict(model.named_parameters())
        self.model, self.names = model, names
        self.parameters: Values = {name: known[name].detach() for name in names}
        self.like = next(iter(self.parameters.values()))
        self.args, self.kwargs = (mapped(self._lifted, value) for value in (args, kwargs))
        self.rng = random_state(self.like.device) if rng is None else rng
        self._forward_mode = True
        self._recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
        self._padding = {
            name: module.padding_idx
            for name in names
            if isinstance(module := model.get_submodule(name.rpartition(".")[0]), nn.Embedding)
            and module.padding_idx is not None
        }

    def _lifted(self, x: Tensor) -> Tensor:
        coarse = x.is_floating_point() and torch.finfo(x.dtype).bits < torch.finfo(self.like.dtype).bits
        return x.detach().to(self.like.dtype) if coarse else x.detach()

    def _call(self, parameters: Values, args: Any, kwargs: Any) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        try:
            outputs = functional_call(self.model, {**buffers, **parameters}, args, kwargs)
        except RuntimeError as error:
            if _by_checkpoint(error):
                raise RuntimeError(NO_CHECKPOINT) from error
            raise
        if not isinstance(outputs, Tensor):
            raise TypeError(f"the model must return one tensor, got {type(outputs).__name__}")
        return outputs

    def __call__(self, parameters: Values) -> Tensor:
        """f at other parameters, without gradients."""
        with self._apart(), torch.no_grad():
            return self._call(parameters, self.args, self.kwargs)

    @contextlib.contextmanager
    def _apart(self) -> Iterator[None]:
        device = self.like.device
        fast, cudnn = torch.backends.mha.get_fastpath_enabled(), torch.backends.cudnn.enabled
        on_gpu = [device] if device.type == "cuda" else []
        with (
            torch.enable_grad(),
            torch.autocast(device.type, enabled=False),
            torch.random.fork_rng(devices=on_gpu),
            sdpa_kernel(SDPBackend.MATH),
        ):
            torch.set_rng_state(self.rng[0])
            if on_gpu:
                torch.cuda.set_rng_state(self.rng[1], device)
            torch.backends.mha.set_fastpath_enabled(False)
            torch.backends.cudnn.enabled = cudnn and not self._recurrent  # its LSTM has no second derivative
            token = APART.set(True)
            try:
                yield
            finally:
                APART.reset(token)
                torch.backends.mha.set_fastpath_enabled(fast)
                torch.backends.cudnn.enabled = cudnn

    @cached_property
    def _graph(self) -> tuple[list[Tensor], Tensor]:
        leaves = {name: value.clone().requires_grad_() for name, value in self.parameters.items()}
        with self._apart():
            return list(leaves.values()), self._call(leaves, self.args, self.kwargs)

    @cached_property
    def outputs(self) -> Tensor:
        """f(θ), without gradients."""
        return self._graph[1].detach()

    def vjp(self, u: Tensor, create_graph: bool = False) -> Values:
        """Jᵀ u, zero for parameters that the outputs don't depend on."""
        leaves, outputs = self._graph
        with self._apart():
            found = torch.autograd.grad(
                outputs, leaves, u, retain_graph=True, create_graph=create_graph, materialize_grads=True
            )
        return dict(zip(self.names, found, strict=True))

    def jvp(self, v: Values) -> Tensor:
        """J v: forward mode, or reverse mode twice for a model with functions that have no forward mode.

        The padding of an embedding counts as fixed, as it does in reverse mode.
        """
        v = self._unpadded(v)
        if self._forward_mode:
            try:
                with self._apart():
                    outputs, image = self._dual(v)
                self.__dict__.setdefault("outputs", outputs.detach())
                return image.detach()
            except NotImplementedError:
                self._forward_mode = False
        u = torch.zeros_like(self.outputs, requires_grad=True)
        with torch.enable_grad():
            pulled = self.vjp(u, create_graph=True)
            paired = sum((pulled[name] * v[name]).sum() for name in self.names)
            assert isinstance(paired, Tensor)
            return torch.autograd.grad(paired, u)[0]

    def jvps(self, several: list[Values]) -> list[Tensor]:
        """J v of several v: the network itself runs once for two of them, wherever `vmap` has a rule for its layers."""
        found: list[Tensor] = []
        for i in range(0, len(several), 2):
            pair = several[i : i + 2]
            found += self._both(pair) or [self.jvp(v) for v in pair]
        return found

    def _both(self, pair: list[Values]) -> list[Tensor] | None:
        if len(pair) < 2 or self._recurrent or not self._forward_mode:
            return None
        pair = [self._unpadded(v) for v in pair]
        stacked = {name: torch.stack([v[name] for v in pair]) for name in self.names}
        try:
            with self._apart():
                outputs, images = torch.vmap(self._dual, out_dims=(None, 0), randomness="same")(stacked)  # type: ignore[arg-type]
        except NotImplementedError:
            self._forward_mode = False
            return None
        except (RuntimeError, ValueError):  # no rule of `vmap`; any other fault comes again, alone
            return None
        self.__dict__.setdefault("outputs", outputs.detach())
        return list(images.detach())

    def _dual(self, v: Values) -> tuple[Tensor, Tensor]:
        """f(θ) and J v in forward mode."""
        call = lambda parameters: self._call(parameters, self.args, self.kwargs)  # noqa: E731
        outputs, image = torch.func.jvp(call, (self.parameters,), (v,))[:2]
        return outputs, image

    def _unpadded(self, v: Values) -> Values:
        if self._padding:
            v = {name: value.clone() if name in self._padding else value for name, value in v.items()}
            for name, row in self._padding.items():
                v[name][row] = 0
        return v

    def part(self, rows: slice) -> Linearised:
        """The same network at some of the samples: arguments as long as the outputs are cut."""
        m = len(self.outputs)
        cut = lambda x: x[rows] if x.ndim and len(x) == m else x  # noqa: E731
        args, kwargs = mapped(cut, self.args), mapped(cut, self.kwargs)
        return Linearised(self.model, args, kwargs, self.names, self.rng)

    def divisible(self) -> bool:
        """Whether the model takes half of the samples, that is, whether they are no nodes of one graph."""
        half = (len(self.outputs) + 1) // 2
        try:
            return len(self.part(slice(0, half)).outputs) == half
        except (RuntimeError, ValueError, IndexError):
            return False

    @cached_property
    def coupled(self) -> bool:
        """Whether a sample's outputs depend on the other samples: BatchNorm in training mode, nodes of a graph."""
        m = len(self.outputs)
        if any(_takes_statistics(module) for module in self.model.modules()):
            return m > 1
        half = (m + 1) // 2
        if m < 2 or not self.divisible():
            return m > 1
        alone, together = self.part(slice(0, half)).outputs, self.outputs[:half]
        slack = torch.finfo(together.dtype).eps ** 0.5 * float(together.abs().max())
        return not bool(((alone - together).abs() <= slack).all())

    def columns(self, fields: list[Tensor], names: list[str] | None = None) -> Iterator[Tensor]:
        """Blocks (p, k) of the columns J_iᵀ s_i for every sample i and field s (m, ...), over the parameters `names`.

        One sample at a time under `vmap`; for coupled samples and recurrent layers one backward pass a column.
        """
        names = self.names if names is None else names
        if not self.coupled and not self._recurrent:
            yield from self._batched_columns(fields, names)
            return
        for i in range(len(self.outputs)):
            for field in fields:
                one = torch.zeros_like(field)
                one[i] = field[i]
                pulled = self.vjp(one)
                yield torch.cat([pulled[name].reshape(-1, 1) for name in names])

    def _batched_columns(self, fields: list[Tensor], names: list[str]) -> Iterator[Tensor]:
        m = len(self.outputs)
        moving: list[Tensor] = []

        def register(x: Tensor) -> Any:
            if not x.ndim or len(x) != m:
                return x
            moving.append(x)
            return _Slot(len(moving) - 1)

        args, kwargs = mapped(register, self.args), mapped(register, self.kwargs)
        chosen = {name: self.parameters[name] for name in names}

        def of_sample(seeds: Tensor, *samples: Tensor) -> Values:
            here = [_filled(value, samples) for value in (args, kwargs)]
            pull = torch.func.vjp(lambda p: self._call({**self.parameters, **p}, *here), chosen)[1]
            return torch.vmap(lambda seed: pull(seed[None])[0])(seeds)

        p = sum(value.numel() for value in chosen.values())
        chunk = max(1, COLUMN_FLOATS // (p * len(fields)))
        stacked = torch.stack(fields, 1)
        for start in range(0, m, chunk):
            rows = slice(start, start + chunk)
            with self._apart():
                pulled = torch.vmap(of_sample, randomness="different")(stacked[rows], *(x[rows] for x in moving))
            yield torch.cat([pulled[name].detach().flatten(2).flatten(0, 1).T for name in names])

    def layers(self, modules: list[nn.Module]) -> tuple[list[list[Tensor]], Callable[[Tensor, list[str]], Pulled]]:
        """What goes into each module, call by call, and a function of a field s.

        The function gives Jᵀ s at the outputs of each module, call by call, and at the parameters that it is told.
        """
        caught: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {module: [] for module in modules}

        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            caught[module].append((args[0].detach(), output))
            return output.clone()  # so that a function in place, next in line, leaves this one alone

        handles = [module.register_forward_hook(hook) for module in modules]
        leaves = {name: value.clone().requires_grad_() for name, value in self.parameters.items()}
        try:
            with self._apart():
                outputs = self._call(leaves, self.args, self.kwargs)
        finally:
            for handle in handles:
                handle.remove()
        flat = [output for module in modules for _, output in caught[module]]
        if not all(output.requires_grad for output in flat):
            raise RuntimeError(NO_CHECKPOINT)

        def pull(field: Tensor, names: list[str]) -> Pulled:
            wanted = flat + [leaves[name] for name in names]
            with self._apart():
                found = list(torch.autograd.grad(outputs, wanted, field, retain_graph=True, materialize_grads=True))
            after = iter(found)
            return [[next(after) for _ in caught[module]] for module in modules], dict(zip(names, after, strict=True))

        self.__dict__.setdefault("outputs", outputs.detach())
        return [[a for a, _ in caught[module]] for module in modules], pull


Pulled = tuple[list[list[Tensor]], Values]


def _by_checkpoint(error: BaseException) -> bool:
    """Whether an error came from within torch's checkpoint."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.filename == checkpoint.__file__ for frame in frames)


class _Slot(int):
    """The place of an argument that is given sample by sample."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The module under the wrappers of torch: `DistributedDataParallel`, `DataParallel`, `torch.compile`."""
    wrapped = isinstance(model, (DistributedDataParallel, nn.DataParallel))
    inner = model.module if wrapped else getattr(model, "_orig_mod", None)
    return unwrapped(inner) if isinstance(inner, nn.Module) else model


def random_state(device: torch.device) -> list[Tensor]:
    """The state of torch's own random numbers on the CPU and on the device."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def mapped(f: Callable[[Tensor], Any], x: Any) -> Any:
    """f of every tensor in nested tuples, lists and dicts."""
    if isinstance(x, Tensor):
        return f(x)
    if isinstance(x, (tuple, list)):
        return type(x)(mapped(f, value) for value in x)
    return {key: mapped(f, value) for key, value in x.items()} if isinstance(x, dict) else x


def _filled(x: Any, samples: tuple[Tensor, ...]) -> Any:
    if isinstance(x, _Slot):
        return samples[x][None]
    if isinstance(x, (tuple, list)):
        return type(x)(_filled(value, samples) for value in x)
    return {key: _filled(value, samples) for key, value in x.items()} if isinstance(x, dict) else x


def _takes_statistics(module: nn.Module) -> bool:
    """BatchNorm with the statistics of the batch; running statistics are None where none are tracked."""
    norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
    return norm and (module.training or module.running_mean is None)


def tensors(x: Any) -> list[Tensor]:
    """Every tensor in nested tuples, lists and dicts."""
    found: list[Tensor] = []
    mapped(found.append, x)
    return found
