"""Losses written for any precision, made into such as compute in float32."""

import functools
import inspect

import torch

ONLY, INSIDE, OUTSIDE = "takes only float32", "float32 inside", "float32 inside, float64 outside"
PRECISIONS = ("float64", ONLY, INSIDE, OUTSIDE)


def computed_in(function, precision):
    """The function, class or module with the same signature, computing in this precision (one of `PRECISIONS`).

    One that takes only float32 raises on float64, as torch does where the two meet in a product of matrices.
    """
    if precision == "float64":
        return function
    if inspect.isclass(function):
        return type(function.__name__, (function,), {"forward": _in_float32(function.forward, precision)})
    if isinstance(function, torch.nn.Module):
        function.__class__ = computed_in(type(function), precision)
        return function
    return _in_float32(function, precision)


def _in_float32(function, precision):
    @functools.wraps(function)
    def narrow(*args, **kwargs):
        if precision == ONLY:
            if any(_is_double(value) for value in (*args, *kwargs.values())):
                raise RuntimeError("expected m1 and m2 to have the same dtype, but got: double != float")
            return function(*args, **kwargs)
        found = function(*map(_single, args), **{name: _single(value) for name, value in kwargs.items()})
        return _double(found) if precision == OUTSIDE else found

    return narrow


def _is_double(value):
    return isinstance(value, torch.Tensor) and value.dtype == torch.float64


def _single(value):
    return value.float() if _is_double(value) else value


def _double(value):
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(map(_double, value))
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
