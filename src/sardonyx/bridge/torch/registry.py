"""Which function of PyTorch's tensors computes which operator.

An implementation takes an operator's inputs in order, in the newest form of the operator, and its
attributes as keywords. `implementation` registers one:

    @implementation("Reshape", host=("shape",))
    def reshape(data, shape, *, allowzero=0): ...

Parameters named in `host` get Python numbers, or tuples of them, where a value is known without
computing tensors: a constant, or arithmetic on sizes; they get a tensor where it is not, which
`sardonyx.bridge.torch.sizes.ints` reads. A few keywords are not attributes: `version` is the schema
version in force, `n_outputs` the number of outputs of the node, `device` where new tensors belong,
`dtype` the type of the first output.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sardonyx.dtypes import DType
    from sardonyx.ops.operator import Operator

    Attributes: TypeAlias = Callable[
        [Operator, list[DType | None], list[DType | None]], Mapping[str, Any]
    ]

__all__ = ["IMPLEMENTATIONS", "Implementation", "find", "implementation"]

_F = TypeVar("_F", bound="Callable[..., Any]")

_FAMILIES: Final = (
    "activation",
    "arithmetic",
    "attention",
    "classical",
    "convolution",
    "generation",
    "indexing",
    "logic",
    "movement",
    "normalization",
    "optimization",
    "pooling",
    "products",
    "quantization",
    "random",
    "recurrent",
    "reduction",
    "resizing",
    "sequences",
    "shapes",
    "signals",
    "sorting",
    "vision",
)


@dataclass(frozen=True, slots=True)
class Implementation:
    """A function for an operator, for the versions before `before` where that is given.

    `host` are the parameters that take numbers, `several` says that the result is always a tuple
    of the outputs, `attributes` overrides how attributes become keywords, and `ignored` are the
    attributes that need none.
    """

    function: Callable[..., Any]
    before: int | None
    host: frozenset[str]
    several: bool
    attributes: Attributes | None
    ignored: frozenset[str]
    parameters: tuple[str, ...] = field(init=False)
    variadic: str | None = field(init=False)
    keywords: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        positional, keywords, variadic = [], {}, None
        for name, parameter in inspect.signature(self.function).parameters.items():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                keywords[name] = parameter.default
            elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                variadic = name
            else:
                positional.append(name)
        object.__setattr__(self, "parameters", tuple(positional))
        object.__setattr__(self, "variadic", variadic)
        object.__setattr__(self, "keywords", keywords)

    def parameter(self, index: int) -> str:
        """The name of the parameter that takes input `index`."""
        if index < len(self.parameters):
            return self.parameters[index]
        return self.variadic or ""


IMPLEMENTATIONS: Final[dict[tuple[str, str], list[Implementation]]] = {}
"""By domain and operator; those for older versions first."""


def implementation(
    *names: str,
    domain: str = "",
    before: int | None = None,
    host: Iterable[str] = (),
    several: bool = False,
    attributes: Attributes | None = None,
    ignored: Iterable[str] = (),
) -> Callable[[_F], _F]:
    """Make the function that follows the implementation of the operators `names`."""

    def register(function: _F) -> _F:
        made = Implementation(
            function, before, frozenset(host), several, attributes, frozenset(ignored)
        )
        for name in names:
            known = IMPLEMENTATIONS.setdefault((domain, name), [])
            known.append(made)
            known.sort(key=lambda each: each.before or 1 << 30)
        return function

    return register


@cache
def _load() -> None:
    for family in _FAMILIES:
        import_module(f"sardonyx.bridge.torch.{family}")


def find(domain: str, op_type: str, version: int) -> Implementation | None:
    """The implementation of an operator in the schema version in force, or None."""
    _load()
    for made in IMPLEMENTATIONS.get((domain, op_type), ()):
        if made.before is None or version < made.before:
            return made
    return None
