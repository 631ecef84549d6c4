"""What a zipline algorithm is called, and what it is run with."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from fillpath.instrumentation.kept_parameters import kept

_UNNAMED: Final = "algorithm"
_FUNCTIONS: Final = ("_initialize", "_handle_data", "_before_trading_start")


def name_of(function: Any) -> str:
    """Name a function of the user's, as ``Class.method``."""
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).rpartition("<locals>.")[2]


def handler_of(algorithm: Any, callback: Any) -> str:
    """Name what one of an algorithm's events calls."""
    base: Any = _engine_class(algorithm)
    if callback is vars(base).get("handle_data") and algorithm._handle_data is not None:
        callback = algorithm._handle_data
    return name_of(callback)


def has_own(algorithm: Any, name: str) -> bool:
    """Tell whether a method of an algorithm runs code of the user's."""
    inherited = getattr(type(algorithm), name) is vars(_engine_class(algorithm)).get(name)
    return not inherited or getattr(algorithm, f"_{name}", None) is not None


def strategy_of(algorithm: Any) -> str:
    """Name an algorithm: by its class, else by the file that its functions are from."""
    if type(algorithm) is not _engine_class(algorithm):
        return type(algorithm).__qualname__.rpartition("<locals>.")[2]
    for function in _functions(algorithm):
        file = Path(function.__code__.co_filename)
        # A notebook's cell, or a text that was given.
        if file.suffix == ".py" and not re.search(r"ipykernel|[<>]", str(file)):
            return file.stem
        if file.suffix and not str(file).startswith("<"):
            continue
    return _UNNAMED


def parameters_of(algorithm: Any) -> dict[str, Any]:
    """What tells this run from another one of the same code.

    That is what zipline was told, the keywords of the algorithm, and the plain values that its
    functions are bound to: by `functools.partial`, or as variables of the function around them.
    """
    simulated = algorithm.sim_params
    parameters: dict[str, Any] = {
        "start": str(simulated.start_session.date()),
        "end": str(simulated.end_session.date()),
        "capital_base": float(simulated.capital_base),
        "data_frequency": str(simulated.data_frequency),
    }
    for name in _FUNCTIONS:
        parameters.update(_bound(getattr(algorithm, name, None)))
    parameters.update(kept(algorithm.initialize_kwargs.items()))
    return parameters


def _engine_class(algorithm: Any) -> type:
    return next(c for c in type(algorithm).__mro__ if c.__module__ == "zipline.algorithm")


def _functions(algorithm: Any) -> Iterator[Any]:
    for name in ("_handle_data", "_initialize", "_before_trading_start"):
        function = getattr(algorithm, name, None)
        while isinstance(function, partial):
            function = function.func
        function = getattr(function, "__func__", function)
        if hasattr(function, "__code__") and not _is_engines(function):
            yield function


def _is_engines(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).startswith("zipline.")


def _bound(function: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while isinstance(function, partial):
        found = {**kept(function.keywords.items()), **found}
        function = function.func
    if inspect.isfunction(function) and function.__closure__ and not _is_engines(function):
        found = {**kept(inspect.getclosurevars(function).nonlocals.items()), **found}
    return found
