"""From a node of the configuration to an object: the one place where a name becomes code.

A node's `_target_` names a class and its other keys are the constructor's keyword arguments. Only classes of the
expected kind are built, so a configuration file that came from elsewhere cannot call anything else.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from prixfixe.errors import ContractError, InputError

T = TypeVar("T")


def find_class(target: str, kind: type[T]) -> type[T]:
    """The class that a dotted name stands for; InputError where there is none, or it is not of this kind."""
    module_name, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"_target_: {target} cannot be imported ({error}); is its folder the current one or installed?"
        ) from error
    except Exception as error:  # whatever a module of the user's own raises
        raise InputError(f"_target_: {target} cannot be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise ContractError(f"_target_: {target} is no subclass of {kind.__module__}.{kind.__qualname__}")
    return found


def factory(node: Mapping[str, Any], kind: type[T], *, where: str, given: int = 0) -> Callable[..., T]:
    """A partial of the class that `node` names, its hyperparameters bound and checked against the constructor.

    node: plain values, with `_target_`. where: the node's place in the configuration, for messages.
    given: how many positional arguments the caller will add, which are none of the configuration's business.
    Unknown, missing and wrongly typed hyperparameters raise InputError and name the choices.
    """
    values = {str(key): value for key, value in node.items() if key != "_target_"}
    if "_target_" not in node:
        raise InputError(f"{where}: no _target_; name the class, as in `_target_: blocks.core.bilstm.BiLSTM`")
    target = find_class(node["_target_"], kind)
    parameters = dict(list(inspect.signature(target).parameters.items())[given:])
    if unknown := sorted(set(values) - set(parameters)):
        raise InputError(
            f"{where}.{unknown[0]}: {target.__name__} takes no such value; it takes {', '.join(parameters) or 'none'}"
        )
    if missing := [n for n, p in parameters.items() if p.default is p.empty and n not in values]:
        raise InputError(f"{where}.{missing[0]}: {target.__name__} needs this value and the configuration has none")
    hints = typing.get_type_hints(target.__init__)
    for name, value in values.items():
        if name in hints and not _fits(value, hints[name]):
            expected = (
                getattr(hints[name], "__name__", str(hints[name]))
                if not typing.get_args(hints[name])
                else str(hints[name])
            )
            raise InputError(f"{where}.{name}={value!r}: {target.__name__} takes {expected} here")
    return functools.partial(target, **values)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain YAML value is of an annotated type: int, float, bool, str, list, dict, literals and unions of
    these."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is typing.Literal:
        return value in arguments
    if origin in (list, tuple):
        return isinstance(value, (list, tuple)) and all(_fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, arguments[1]) for item in value.values())
    if arguments:  # a union
        return any(_fits(value, option) for option in arguments)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return value is None if hint in (None, type(None)) else isinstance(value, hint)
