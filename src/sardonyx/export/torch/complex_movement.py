"""Complex tensors: creation, movement, selection and linear reductions.

What moves whole elements along axes named from the front is done on the packed form; the rest on
each part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sardonyx import dtypes
from sardonyx.errors import ExportError
from sardonyx.export.torch.complex import is_nonzero
from sardonyx.export.torch.pairs import (
    Complex,
    as_complex,
    complex_translation,
    part_dtype,
    real_results,
)
from sardonyx.export.torch.registry import TRANSLATIONS, TorchBuilder, positive
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sardonyx.dims import DimLike

__all__: list[str] = []

_PARTWISE: Final = (
    "aten.gather.default", "aten.scatter.src", "aten.scatter.value", "aten.scatter_add.default",
    "aten.triu.default", "aten.tril.default", "aten.diagonal.default", "aten.diag_embed.default",
    "aten.constant_pad_nd.default", "aten.pad.default", "aten.cumsum.default",
    "aten.unfold.default",
    "aten.where.self", "aten.where.ScalarSelf", "aten.where.ScalarOther", "aten.where.Scalar",
    "aten.masked_fill.Scalar", "aten.masked_fill.Tensor", "aten.index_put.default",
    "aten.select_scatter.default", "aten.slice_scatter.default", "aten.mean.default",
    "aten.sum.default", "aten.roll.default", "aten.repeat_interleave.self_int",
    "aten.diagonal_copy.default", "aten.index.Tensor", "aten.repeat.default", "aten.trace.default",
    "aten._unsafe_index_put.default", "aten.as_strided.default", "aten.squeeze.default",
    "aten.numpy_T.default", "aten.mT.default", "aten.t.default", "aten.stack.default",
    "aten.index_add.default", "aten.index_copy.default", "aten.diagonal_scatter.default",
    "aten._unsafe_index.Tensor", "aten.index_fill.int_Scalar", "aten.flip.default",
    "aten.masked_select.default", "aten.masked_scatter.default", "aten.take.default",
    "aten.take_along_dim.default", "aten.put.default", "aten.as_strided_scatter.default",
)  # fmt: skip
_CREATION: Final = (
    "aten.full.default", "aten.full_like.default", "aten.zeros.default", "aten.zeros_like.default",
    "aten.ones.default", "aten.ones_like.default", "aten.eye.default", "aten.eye.m",
    "aten.empty.memory_format", "aten.empty_like.default", "aten.new_zeros.default",
    "aten.new_ones.default", "aten.new_full.default", "aten.scalar_tensor.default",
    "aten.new_empty.default", "aten.empty_permuted.default", "aten.arange.start_step",
    "aten.linspace.default",
)  # fmt: skip
_SAME: Final = (
    "aten.alias.default", "aten.clone.default", "aten.contiguous.default", "aten.detach.default",
    "aten.detach_.default", "aten.lift_fresh_copy.default", "aten.lift_fresh.default",
    "aten.positive.default", "aten.resolve_conj.default", "aten.resolve_neg.default",
)  # fmt: skip


def _call(op: TorchBuilder, target: str, shapes: Sequence[Sequence[DimLike | None]],
          args: Sequence[Any], kwargs: Any) -> Any:  # fmt: skip
    """The real translation of `target`, for results of `shapes`."""
    with real_results(op, shapes):
        return TRANSLATIONS[target](op, *args, **kwargs)


def _on_packed(op: TorchBuilder, target: str, *args: Any, **kwargs: Any) -> Any:
    shapes = op.result_shapes
    dtype = part_dtype(op.result())
    made = _call(op, target, [[*shape, 2] for shape in shapes], args, kwargs)

    def wrapped(value: Value, shape: Sequence[DimLike | None]) -> Complex:
        if value.producer is not None:
            op.typed(value, dtype, [*shape, 2])
        return Complex(dtype, shape, packed=value, graph=op.bodies[-1])

    if isinstance(made, (tuple, list)):
        return tuple(map(wrapped, made, shapes))
    return wrapped(made, shapes[0])


def _on_parts(op: TorchBuilder, target: str, args: Sequence[Any], kwargs: Any) -> Any:
    dtype, shapes = part_dtype(op.result()), op.result_shapes

    def part(arg: Any, index: int) -> Any:
        if isinstance(arg, Complex):
            return as_complex(op, arg, dtype).parts(op)[index]
        if isinstance(arg, complex):
            return arg.imag if index else arg.real
        if isinstance(arg, (list, tuple)):
            return [part(each, index) for each in arg]
        return arg

    given = {index: [part(arg, index) for arg in args] for index in (0, 1)}
    _clear_imaginary(op, target, args, given[1])
    named = {index: {key: part(arg, index) for key, arg in kwargs.items()} for index in (0, 1)}
    real, imag = (_call(op, target, shapes, given[index], named[index]) for index in (0, 1))
    pairs = zip(
        real if isinstance(real, (tuple, list)) else [real],
        imag if isinstance(imag, (tuple, list)) else [imag],
        shapes,
        strict=True,
    )
    made = tuple(
        Complex(
            dtype,
            shape,
            parts=(op.typed(a, dtype, shape), op.typed(b, dtype, shape)),
            graph=op.bodies[-1],
        )
        for a, b, shape in pairs
    )
    return made if isinstance(real, (tuple, list)) else made[0]


_NUMBERS: Final = {
    "aten.where.self": (1, 2), "aten.where.ScalarSelf": (1, 2), "aten.where.ScalarOther": (1, 2),
    "aten.where.Scalar": (1, 2), "aten.masked_fill.Scalar": (2,), "aten.masked_fill.Tensor": (2,),
    "aten.scatter.value": (3,), "aten.constant_pad_nd.default": (2,), "aten.pad.default": (3,),
    "aten.index_put.default": (2,), "aten.scatter.src": (3,), "aten.index_fill.int_Scalar": (3,),
}  # fmt: skip


def _clear_imaginary(
    op: TorchBuilder, target: str, args: Sequence[Any], imaginary: list[Any]
) -> None:
    """Real operands in a complex one's place have an imaginary part of zero."""
    for place in _NUMBERS.get(target, ()):
        if place < len(args) and not isinstance(args[place], (Complex, complex)):
            arg = args[place]
            if isinstance(arg, Value):
                imaginary[place] = op.Mul(arg, op.constant(0, op.dtype_of(arg)))
            elif arg is not None:
                imaginary[place] = 0


def _register_partwise(target: str) -> None:
    @complex_translation(target)
    def partwise(op: TorchBuilder, *args: Any, **kwargs: Any) -> Any:
        return _on_parts(op, target, args, kwargs)


def _register_creation(target: str) -> None:
    @complex_translation(target)
    def created(op: TorchBuilder, *args: Any, **kwargs: Any) -> Any:
        if op.result() not in {dtypes.COMPLEX64, dtypes.COMPLEX128}:
            plain = [arg.real(op) if isinstance(arg, Complex) else arg for arg in args]
            return TRANSLATIONS[target](op, *plain, **kwargs)
        kept = {key: value for key, value in kwargs.items() if key != "dtype"}
        made = _on_parts(op, target, args, kept)
        if any(isinstance(arg, complex) for arg in args):
            return made
        zeros = _call(op, "aten.full.default", op.result_shapes, [list(op.result_shape), 0], {})
        op.typed(zeros, made.dtype, made.shape)
        return Complex(made.dtype, made.shape, parts=(made.real(op), zeros), graph=op.bodies[-1])


def _same(op: TorchBuilder, x: Any, *_: Any, **__: Any) -> Any:
    return x


for _target in _PARTWISE:
    _register_partwise(_target)
for _target in _CREATION:
    _register_creation(_target)
complex_translation(*_SAME)(_same)


def _register_packed(
    *targets: str, rewrite: Callable[[Complex, list[Any]], list[Any]] | None = None
) -> None:
    """`rewrite` counts axes from the front."""
    for target in targets:

        def moved(op: TorchBuilder, x: Any, *args: Any, _target: str = target,
                  **kwargs: Any) -> Any:  # fmt: skip
            if x.has_parts(op) or not x.rank:
                return _on_parts(op, _target, [x, *args], kwargs)
            if "dim" in kwargs and not args:
                args = (kwargs.pop("dim"),)
            listed = rewrite(x, list(args)) if rewrite is not None else list(args)
            return _on_packed(op, _target, x.packed(op), *listed, **kwargs)

        complex_translation(target)(moved)


def _first_axis(x: Complex, args: list[Any]) -> list[Any]:
    return [(args[0] if args else 0) % x.rank, *args[1:]]


def _new_axis(x: Complex, args: list[Any]) -> list[Any]:
    return [args[0] % (x.rank + 1)]


def _second_axis(x: Complex, args: list[Any]) -> list[Any]:
    return [args[0], (args[1] if len(args) > 1 else 0) % x.rank, *args[2:]]


def _two_axes(x: Complex, args: list[Any]) -> list[Any]:
    return [axis % x.rank for axis in args]


def _axes(x: Complex, args: list[Any]) -> list[Any]:
    return [positive(args[0] if args and args[0] != [] else None, x.rank), *args[1:]]


def _order(x: Complex, args: list[Any]) -> list[Any]:
    return [[*(axis % x.rank for axis in args[0]), x.rank]]


_register_packed(
    "aten.view.default", "aten.reshape.default", "aten._unsafe_view.default",
    "aten.flatten.using_ints", "aten.unflatten.int", "aten.view_copy.default",
    "aten.expand.default", "aten.broadcast_to.default",
)  # fmt: skip
_register_packed("aten.permute.default", "aten.permute_copy.default", rewrite=_order)
_register_packed("aten.transpose.int", rewrite=_two_axes)
_register_packed("aten.unsqueeze.default", rewrite=_new_axis)
_register_packed("aten.squeeze.dim", "aten.squeeze.dims", rewrite=_axes)
_register_packed(
    "aten.slice.Tensor", "aten.slice_copy.Tensor", "aten.select.int", "aten.select_copy.int",
    "aten.index_select.default", "aten.narrow.default", "aten.unbind.int", "aten.unbind_copy.int",
    rewrite=_first_axis,
)  # fmt: skip
_register_packed(
    "aten.split.Tensor", "aten.split_with_sizes.default", "aten.chunk.default",
    "aten.split_with_sizes_copy.default", "aten.split.sizes", "aten.tensor_split.sections",
    "aten.split_copy.Tensor", rewrite=_second_axis,
)  # fmt: skip
_register_packed("aten.sum.dim_IntList", "aten.mean.dim", rewrite=_axes)


@complex_translation("aten.cat.default", "aten.concat.default")
def cat(op: TorchBuilder, tensors: Sequence[Any], dim: int = 0) -> Any:
    dtype = part_dtype(op.result())
    pairs = [as_complex(op, each, dtype) for each in tensors if each.shape != (0,)]
    if not pairs:
        raise ExportError("a join of empty complex tensors")
    if any(each.has_parts(op) and not each.is_packed(op) for each in pairs):
        return _on_parts(op, "aten.cat.default", [pairs, dim], {})
    packed = [each.packed(op) for each in pairs]
    return _on_packed(op, "aten.cat.default", packed, dim % pairs[0].rank)


@complex_translation("aten.expand_as.default", "aten.expand_copy.default")
def expand(op: TorchBuilder, z: Complex, *_: Any, **__: Any) -> Any:
    return copy(op, z, z)


@complex_translation("aten.fill.Scalar", "aten.fill.Tensor")
def fill(op: TorchBuilder, x: Any, value: Any) -> Any:
    return copy(op, x, value)


@complex_translation("aten.any.default", "aten.any.dim", "aten.any.dims")
def any_(op: TorchBuilder, z: Complex, *args: Any, **kwargs: Any) -> Any:
    return TRANSLATIONS["aten.any.dim"](op, is_nonzero(op, z), *args, **kwargs)


@complex_translation("aten.all.default", "aten.all.dim", "aten.all.dims")
def all_(op: TorchBuilder, z: Complex, *args: Any, **kwargs: Any) -> Any:
    return TRANSLATIONS["aten.all.dim"](op, is_nonzero(op, z), *args, **kwargs)


@complex_translation("aten.nonzero.default")
def nonzero(op: TorchBuilder, z: Complex) -> Any:
    return TRANSLATIONS["aten.nonzero.default"](op, is_nonzero(op, z))


def _register_logic(word: str, name: str) -> None:
    @complex_translation(f"aten.logical_{word}.default")
    def logical(op: TorchBuilder, a: Any, b: Any) -> Any:
        sides = [
            is_nonzero(op, x) if isinstance(x, Complex) else op.cast(x, dtypes.BOOL) for x in (a, b)
        ]
        return op.apply(name, sides)


for _word, _name in (("and", "And"), ("or", "Or"), ("xor", "Xor")):
    _register_logic(_word, _name)


@complex_translation("aten.copy.default")
def copy(op: TorchBuilder, x: Any, source: Any, _non_blocking: bool = False) -> Any:
    made = as_complex(op, source, part_dtype(op.result()))
    if made.shape == op.result_shape:
        return made
    return _on_parts(op, "aten.expand.default", [made, list(op.result_shape)], {})


@complex_translation("aten.prod.default", "aten.prod.dim_int")
def prod(op: TorchBuilder, z: Complex, dim: int | None = None, keepdim: bool = False,
         **_: Any) -> Any:  # fmt: skip
    # one factor after another
    dtype = part_dtype(op.result())
    z = as_complex(op, z, dtype)
    parts = z.parts(op)
    if not z.rank:
        return z
    axis = 0 if dim is None else dim % z.rank
    if dim is None:
        parts = (op.Reshape(parts[0], op.ints([-1])), op.Reshape(parts[1], op.ints([-1])))
        size: Any = 1
        for each in z.shape:
            size = size * each
    else:
        size = z.shape[axis]
    if not isinstance(size, int):
        raise ExportError("a product of a dynamic number of complex numbers")
    real, imag = op.constant(1, dtype), op.constant(0, dtype)
    for index in range(size):
        place = op.constant(index, dtypes.INT64)
        a, b = (op.Gather(part, place, axis=axis) for part in parts)
        real, imag = (
            op.Sub(op.Mul(real, a), op.Mul(imag, b)),
            op.Add(op.Mul(real, b), op.Mul(imag, a)),
        )
    if not size:
        shape = op.sizes([each or 0 for each in op.result_shape])
        real, imag = op.Expand(real, shape), op.Expand(imag, shape)
    elif keepdim:
        real, imag = op.unsqueeze(real, [axis]), op.unsqueeze(imag, [axis])
    return Complex(
        dtype,
        op.result_shape,
        parts=(op.typed(real, dtype, op.result_shape), op.typed(imag, dtype, op.result_shape)),
        graph=op.bodies[-1],
    )
