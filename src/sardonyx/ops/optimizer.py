"""One step of gradient descent: the optimizers of domain ai.onnx.preview.training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from sardonyx.dtypes import DOUBLE, FLOAT, INT64
from sardonyx.errors import ExecutionError, InferenceError, ModelError, quote
from sardonyx.ops.fact import Fact
from sardonyx.ops.numeric import single
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import Input, Output
from sardonyx.ops.symbolic import unify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import Shape

    Step: TypeAlias = tuple[Array, ...]

_T = (FLOAT, DOUBLE)


class _Optimizer(Operator):
    """An update of tensors X from their gradients G and one or two running states of X's shape.

    `inputs` are every X, then every G, then the states kind by kind; the outputs are every new
    X, then the new states. A gradient may broadcast to the shape of its X. The subclass gives
    `states`, the number of states, and `step`. Floating-point exceptions give what IEEE 754 says.
    """

    R, T = Input("T1"), Input("T2")
    inputs = Input("T3", variadic=True, homogeneous=False)
    outputs = Output("T3", variadic=True, homogeneous=False)
    T1, T2, T3 = _T, (INT64,), _T
    states: ClassVar[int]

    def step(self, R: Array, T: Array, X: Array, G: Array, *states: Array) -> Step:
        """The new X and states; R and T are scalars, T in double precision."""
        raise NotImplementedError

    def infer(self, R: Fact, T: Fact, *inputs: Fact) -> tuple[Fact, ...]:
        X, _, *states = self._groups(inputs)
        for name, fact in (("R", R), ("T", T)):
            if fact.shape is not None and any(
                isinstance(dim, int) and dim != 1 for dim in fact.shape
            ):
                raise InferenceError(f"{self.op_type} requires a scalar {name}, got {fact}")
        shapes = list(zip(*([fact.shape for fact in group] for group in (X, *states)), strict=True))
        known = [self._common(tensor) for tensor in shapes]
        return tuple(
            Fact.tensor(fact.dtype, shape)
            for group in (X, *states)
            for fact, shape in zip(group, known, strict=True)
        )

    def reference(self, R: Array, T: Array, *inputs: Array) -> tuple[Array, ...]:
        if R.size != 1 or T.size != 1:
            raise ExecutionError(
                f"{self.op_type} requires scalar R and T, got shapes {list(R.shape)} and "
                f"{list(T.shape)}"
            )
        results = []
        for X, G, *states in zip(*self._groups(inputs), strict=True):
            self._check_shapes(X, G, states)
            with np.errstate(all="ignore"):
                new = self.step(R.reshape(()), T.reshape(()).astype(np.float64), X, G, *states)
                results.append(
                    [np.asarray(y, old.dtype) for y, old in zip(new, (X, *states), strict=True)]
                )
        return tuple(array for group in zip(*results, strict=True) for array in group)

    def _groups(self, inputs: Sequence[Any]) -> list[Sequence[Any]]:
        """`inputs` as all X, all G, and all of each state."""
        kinds = 2 + self.states
        count, rest = divmod(len(inputs), kinds)
        if rest or not count:
            raise InferenceError(
                f"{self.op_type} takes {kinds} inputs for each tensor after R and T, "
                f"got {len(inputs)}"
            )
        if self.n_outputs > count * (1 + self.states):
            raise InferenceError(
                f"{self.op_type} of {count} tensors has {count * (1 + self.states)} outputs, "
                f"the node names {self.n_outputs}"
            )
        return [inputs[start : start + count] for start in range(0, len(inputs), count)]

    def _common(self, shapes: Sequence[Shape | None]) -> Shape | None:
        """The shape of a tensor and its states, from what is known of each."""
        known = [shape for shape in shapes if shape is not None]
        if not known:
            return None
        common = known[0]
        for shape in known[1:]:
            if len(shape) != len(common):
                raise InferenceError(
                    f"{self.op_type} requires states of the rank of their tensor, got ranks "
                    f"{len(common)} and {len(shape)}"
                )
            common = tuple(unify(a, b) for a, b in zip(common, shape, strict=True))
        return common

    def _check_shapes(self, X: Array, G: Array, states: Sequence[Array]) -> None:
        fits = len(G.shape) <= X.ndim and all(
            given in {1, dim} for given, dim in zip(G.shape[::-1], X.shape[::-1], strict=False)
        )
        if not fits or any(state.shape != X.shape for state in states):
            listed = ", ".join(str(list(each.shape)) for each in (X, G, *states))
            raise ExecutionError(
                f"{self.op_type} requires a gradient and states of the shape of their tensor, "
                f"got {listed}"
            )


class Adagrad(_Optimizer, since=1, domain="ai.onnx.preview.training"):
    """A step R / (1 + T * `decay_factor`) along G over the root of the sum of its squares.

    Source: Duchi, Hazan and Singer, "Adaptive Subgradient Methods", JMLR 12 (2011).
    """

    states = 1
    decay_factor: float = 0.0
    epsilon: float = single(1e-6)
    norm_coefficient: float = 0.0

    def step(self, R: Array, T: Array, X: Array, G: Array, *states: Array) -> Step:
        (H,) = states
        gradient = self.norm_coefficient * X + G
        H_new = H + gradient * gradient
        rate = (R / (1 + T * self.decay_factor)).astype(R.dtype)
        return X - rate * gradient / (np.sqrt(H_new) + self.epsilon), H_new


class Adam(_Optimizer, since=1, domain="ai.onnx.preview.training"):
    """A step along the running mean V of G over the root of H, that of its squares.

    `alpha` and `beta` are the decay of V and H; where T > 0 the rate makes up for means that
    started from zero. `norm_coefficient_post` shrinks the new X.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
    """

    states = 2
    alpha: float = single(0.9)
    beta: float = single(0.999)
    epsilon: float = single(1e-6)
    norm_coefficient: float = 0.0
    norm_coefficient_post: float = 0.0

    def step(self, R: Array, T: Array, X: Array, G: Array, *states: Array) -> Step:
        V, H = states
        gradient = self.norm_coefficient * X + G
        V_new = self.alpha * V + (1 - self.alpha) * gradient
        H_new = self.beta * H + (1 - self.beta) * gradient * gradient
        rate = R
        if T > 0:
            scale = np.sqrt(1 - np.power(self.beta, T)) / (1 - np.power(self.alpha, T))
            rate = np.asarray(R * scale, R.dtype)
        X_new = X - rate * V_new / (np.sqrt(H_new) + self.epsilon)
        return (1 - self.norm_coefficient_post) * X_new, V_new, H_new


class Momentum(_Optimizer, since=1, domain="ai.onnx.preview.training"):
    """A step along V, `alpha` times its last value plus `beta` times G (1 times where T is 0).

    With `mode` "nesterov" the step is along G + `alpha` * V instead, as if V were a step ahead.
    """

    states = 1
    alpha: float
    beta: float
    mode: str
    norm_coefficient: float

    def infer(self, R: Fact, T: Fact, *inputs: Fact) -> tuple[Fact, ...]:
        self._check_mode()
        return super().infer(R, T, *inputs)

    def step(self, R: Array, T: Array, X: Array, G: Array, *states: Array) -> Step:
        self._check_mode()
        (V,) = states
        gradient = self.norm_coefficient * X + G
        V_new = self.alpha * V + (self.beta if T > 0 else 1) * gradient
        direction = gradient + self.alpha * V_new if self.mode == "nesterov" else V_new
        return X - R * direction, V_new

    def _check_mode(self) -> None:
        if self.mode not in {"nesterov", "standard"}:
            raise ModelError(
                f"Momentum mode {quote(self.mode)}", hint='it is "nesterov" or "standard"'
            )
