"""The names of torch's operations and of their arguments, as the recorder writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor

from modula.lift.nested import tensors_in

_CONVOLUTION = "input weight bias stride padding dilation groups"
_TRANSPOSED = "input weight bias stride padding output_padding groups dilation"
_CELL = "input hx w_ih w_hh b_ih b_hh"

_ARGUMENTS = {
    "linear": "input weight bias",
    "bilinear": "input1 input2 weight bias",
    "addmm": "input mat1 mat2",
    "baddbmm": "input mat1 mat2",
    "addmv": "input mat vec",
    "embedding": "input weight",
    "embedding_bag": "input weight",
    "layer_norm": "input normalized_shape weight bias eps",
    "rms_norm": "input normalized_shape weight eps",
    "group_norm": "input num_groups weight bias eps",
    "batch_norm": "input running_mean running_var weight bias",
    "instance_norm": "input running_mean running_var weight bias",
    "prelu": "input weight",
    "matmul": "input other",
    "add": "input other",
    "sub": "input other",
    "mul": "input other",
    "div": "input other",
    "rdiv": "other input",
    "scaled_dot_product_attention": "query key value attn_mask dropout_p is_causal scale",
    **{f"conv{n}d": _CONVOLUTION for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _TRANSPOSED for n in (1, 2, 3)},
    **{f"{cell}_cell": _CELL for cell in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
}

_ONE_NAME = {
    "mm": "matmul",
    "bmm": "matmul",
    "mv": "matmul",
    "multiply": "mul",
    "subtract": "sub",
    "divide": "div",
    "true_divide": "div",
    "truediv": "div",
    "concat": "cat",
    "concatenate": "cat",
    "pack": "stack",
}

_REFLECTED = {"radd": "add", "rmul": "mul", "rsub": "sub", "rtruediv": "rdiv", "rmatmul": "matmul"}

_IN_PLACE = {"iadd": "add", "imul": "mul", "isub": "sub", "itruediv": "div"}


def operation_name(function: Callable[..., object]) -> str:
    """Return the name of an operation, the same for functions, methods and operators.

    Example:
        >>> import torch
        >>> from modula.lift.signatures import operation_name
        >>> [operation_name(f) for f in (torch.add, torch.Tensor.add_, torch.Tensor.__radd__)]
        ['add', 'add', 'add']
    """
    name: str = getattr(function, "__name__", type(function).__name__)
    if name in ("__get__", "__set__"):
        name = getattr(getattr(function, "__self__", None), "__name__", name)
    if name.startswith("__") and name.endswith("__"):
        name = name.strip("_")
        name = _REFLECTED.get(name, _IN_PLACE.get(name, name))
    elif name.endswith("_"):
        name = name.rstrip("_")
    name = name.removeprefix("linalg_")
    return _ONE_NAME.get(name, name)


def arguments(
    operation: str, args: Sequence[object], kwargs: Mapping[str, object]
) -> Iterator[tuple[str, object]]:
    """Yield the arguments of a call with their names, or positions where no name is known."""
    names = _ARGUMENTS.get(operation, "").split()
    for i, value in enumerate(args):
        yield (names[i] if i < len(names) else str(i)), value
    yield from kwargs.items()


def slots(
    operation: str, args: Sequence[object], kwargs: Mapping[str, object]
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors among the arguments of a call, with their names."""
    for name, value in arguments(operation, args, kwargs):
        yield from tensors_in(value, name)
