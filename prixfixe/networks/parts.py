"""From a node of the configuration to an object: the one place where a name becomes code.

A node's `_target_` names a class and its other keys are the constructor's keyword arguments. A name is judged before
anything is imported (`judged`), every module of it is found before it is executed and must not lie in a folder that
holds a run, and only classes of the expected kind are built. So a configuration that came from elsewhere cannot call
anything else.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import json
import keyword
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, TypeVar

from annotated_types import Ge, Gt, Le, Lt
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from prixfixe.common.errors import ContractError, InputError
from prixfixe.common.moved import MOVED, current_name
from prixfixe.common.paths import FRAMEWORK, current_folder_importable, holds_run, own_conf, packages_named, run_around
from prixfixe.common.text import printable

T = TypeVar("T")
LONGEST_NAME = 300
LARGEST_NUMBER = 1 << 53  # beyond it a whole number is no float's
BOUNDS: dict[type, tuple[str, str]] = {  # in words, and the attribute that holds it
    Ge: ("at least", "ge"),
    Gt: ("above", "gt"),
    Le: ("at most", "le"),
    Lt: ("below", "lt"),
}


@dataclass(frozen=True)
class Origin:
    """Where a configuration came from, which decides what its names may stand for.

    loaded: it was read from a run folder, which may have come from elsewhere: its names are those of `prixfixe`,
    `blocks`, torch's optimisers, of packages that the user's own conf folder names, and of modules that the program
    has imported already.
    run: that run folder. conf: the user's own conf folder, where it is not `conf/` in the current folder.
    """

    loaded: bool = True
    run: Path | None = None
    conf: Path | None = None

    def allows(self, target: str) -> bool:
        """Whether a name is one of those."""
        package = target.partition(".")[0]
        if not self.loaded or package in ("prixfixe", "blocks") or target.startswith("torch.optim."):
            return True
        imported = target.rpartition(".")[0] in sys.modules
        return package != "torch" and (imported or package in packages_named(self.own_conf()))

    def own_conf(self) -> Path | None:
        conf = own_conf(self.conf)
        beside = conf is not None and self.run is not None and _same(conf.resolve().parent, self.run.resolve().parent)
        return None if beside and self.conf is None else conf

    def why_not(self, file: str, depth: int) -> str | None:
        """Why the file of a module, `depth` names deep, must not be executed; None where it may.

        It lies in a folder that holds a run, or in a package that has runs in it, or beside the run that names it.
        """
        for place in dict.fromkeys((Path(os.path.abspath(file)), Path(os.path.realpath(file)))):
            root = place.parents[depth - 1]
            folder = run_around(place.parent)
            if folder and not (root == FRAMEWORK and FRAMEWORK.is_relative_to(folder)):  # which runs already
                return f"it lies in {folder}, which holds a run"
            packages = list(place.parents)[: depth - 1]
            if package := next((package for package in packages if _has_runs(package)), None):
                return f"{package}, its package, has runs in it"
            if self.run is not None and _inside(place, self.run):
                return f"it lies in {self.run}, the run's own folder"
            if self.run is not None and root != FRAMEWORK and _same(root, self.run.resolve().parent):
                return f"it came beside {self.run}; keep runs in a folder of their own, such as runs/"
        return None


OWN = Origin(loaded=False)  # typed, or in a conf folder: any class of the expected kind
LOADED = Origin()


def judged(target: Any, origin: Origin, where: str = "_target_") -> str:
    """A dotted name that may stand for a class; InputError where it may not. Nothing is imported, nothing is sought."""
    shown = printable(target, 200)
    names = target.split(".") if isinstance(target, str) and len(target) <= LONGEST_NAME else []
    if len(names) < 2 or not all(map(_is_plain, names)):
        raise InputError(f"{where}: {shown} is no class's name, which is such as blocks.core.bilstm.BiLSTM")
    if names[0] in sys.stdlib_module_names:
        raise InputError(f"{where}: {shown} is of Python's own library, which has no parts")
    if not origin.allows(target):
        raise InputError(
            f"{where}: {shown} is not imported: of a run folder only names in prixfixe, blocks and torch.optim are, "
            f"and those in packages that a conf folder of yours names; if you trust {names[0]}, name it in a YAML in "
            "conf/ of the current folder, or of the folder that --config-dir names"
        )
    return target


def judge_all(config: Mapping[str, Any], origin: Origin) -> None:
    """Judges every `_target_` of a configuration, also of parts that will not be built."""
    for where, target in _targets(config):
        judged(target, origin, where)


def find_class(target: str, kind: type[T], origin: Origin = LOADED) -> type[T]:
    """The class that a dotted name stands for; InputError where it may not be imported, where there is none, or it is
    not of this kind."""
    module_name, _, name = current_name(judged(target, origin)).rpartition(".")
    try:
        if _may_be_own(module_name):
            current_folder_importable()
        found = getattr(_module(module_name, target, origin), name)
    except InputError:
        raise
    except (ImportError, AttributeError, ValueError) as error:
        if isinstance(error, ImportError) and error.name in MOVED:
            raise InputError(
                f"_target_: {target} imports from {error.name}, a module of version 0.1: change its import lines to "
                f"`from prixfixe.contract import ...` ({error.name} is {MOVED[error.name]} now)"
            ) from error
        here = run_around(os.getcwd())
        aside = (
            f"nothing in the current folder is imported, since {here} holds a run"
            if here
            else "is its folder the current one or installed?"
        )
        raise InputError(f"_target_: {target} cannot be imported ({printable(error)}); {aside}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a module of the user's own raises, SystemExit too
        raise InputError(
            f"_target_: {target} cannot be imported: {type(error).__name__}: {printable(error)}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise ContractError(f"_target_: {target} is no subclass of {kind.__module__}.{kind.__qualname__}")
    if missing := ", ".join(sorted(getattr(found, "__abstractmethods__", ()))):
        raise ContractError(f"_target_: {target} cannot be built, since it has no {missing} of its own")
    return found


def _may_be_own(module: str) -> bool:
    """Whether a module may lie in the current folder, which is searched for nothing else: Python and packages import
    much that may be missing."""
    package = module.partition(".")[0]
    if package == "blocks":
        return not FRAMEWORK.joinpath(*module.split(".")).with_suffix(".py").is_file()
    return package not in sys.modules and importlib.util.find_spec(package) is None


def _module(name: str, target: str, origin: Origin) -> types.ModuleType:
    """Imports a module, its packages first. Each is found, and its file judged, before anything of it is executed."""
    names = name.split(".")
    for depth in range(1, len(names) + 1):
        part = ".".join(names[:depth])
        known = sys.modules.get(part)
        spec = known.__spec__ if known else importlib.util.find_spec(part)  # whose parent is imported
        if known is None and spec is None:
            raise ModuleNotFoundError(f"No module named {part!r}")
        file = spec.origin if spec and spec.has_location else None
        if names[0] == "blocks" and file and _hides(part, spec):
            raise InputError(
                f"{printable(file)} hides the framework's {part}: remove or rename it; a blocks folder of your own has "
                "no __init__.py, so that the framework's blocks and yours are one package"
            )
        if file and known is None and (reason := origin.why_not(file, depth + _is_package(spec))):
            raise InputError(f"_target_: {target} is not imported: {printable(file)}: {reason}")
        importlib.import_module(part)
    return sys.modules[name]


def _hides(part: str, spec: ModuleSpec | None) -> bool:
    """Whether a module takes the place of a folder of the framework's blocks."""
    return (part == "blocks" or _is_package(spec)) and FRAMEWORK.joinpath(*part.split(".")).is_dir()


def _is_package(spec: ModuleSpec | None) -> bool:
    return spec is not None and spec.submodule_search_locations is not None


def _is_plain(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("__")


def _targets(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every `_target_` below a node, with its place."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        place = f"{where}.{key}" if where else str(key)
        if key == "_target_":
            yield place, value
        else:
            yield from _targets(value, place)


def _has_runs(folder: Path) -> bool:
    """Whether runs lie in a folder itself, as in runs/single."""
    try:
        with os.scandir(folder) as entries:
            return any(entry.is_dir() and holds_run(Path(entry.path)) for entry in entries)
    except OSError:
        return False


def _inside(place: Path, folder: Path | None) -> bool:
    return folder is not None and (
        place.is_relative_to(os.path.abspath(folder)) or place.is_relative_to(os.path.realpath(folder))
    )


def _same(one: Path, other: Path) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def values_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """A part's node as its constructor takes it: without a recipe's published optimiser and without how it is trained
    (`train`; `max_lr` in version 0.1)."""
    return {key: value for key, value in node.items() if key not in ("published", "max_lr", "train")}


def training_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """How a part is trained: its `train`, with None for what it does not say, and version 0.1's `max_lr` as its own."""
    names = ("max_lr", "weight_decay", "frozen", "weights", "lora", "sha256")
    train = dict.fromkeys(names) | (node.get("train") or {})
    return train if train["max_lr"] is not None else train | {"max_lr": node.get("max_lr")}


def networks_in(node: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The whole networks that a part holds, by the names of its values: nodes with a `train`, whose `weights` name the
    run. A run's own configuration has its parts beside it."""
    values = values_of(node).items()
    return {name: value for name, value in values if isinstance(value, Mapping) and "train" in value}


def is_kept(train: Mapping[str, Any]) -> bool:
    """Whether a part's weights stay as they are, frozen or below an adapter."""
    return bool(train["frozen"]) or has_adapter(train)


def has_adapter(train: Mapping[str, Any]) -> bool:
    return bool((train["lora"] or {}).get("rank"))


def factory(
    node: Mapping[str, Any], kind: type[T], *, where: str, given: int = 0, origin: Origin = LOADED
) -> Callable[..., T]:
    """A partial of the class that `node` names, its hyperparameters bound and checked against the constructor.

    node: plain values, with `_target_`. where: the node's place in the configuration, for messages.
    given: how many positional arguments the caller will add, which are none of the configuration's business.
    origin: where the node came from. Unknown, missing and wrongly typed hyperparameters raise InputError and name the
    choices; so do numbers that are not finite, and those outside the bounds that an annotation such as
    `Annotated[float, Gt(0)]` gives.
    """
    if not isinstance(node, Mapping):
        raise InputError(f"{where}={printable(node, 200)}: a class and its values, as {where}=NAME chooses them")
    values = {str(key): value for key, value in node.items() if key != "_target_"}
    if "_target_" not in node:
        raise InputError(f"{where}: no _target_; name the class, as in `_target_: blocks.core.bilstm.BiLSTM`")
    target = find_class(node["_target_"], kind, origin)
    parameters, hints = _constructor(target, given)
    if unknown := sorted(set(values) - set(parameters)):
        raise InputError(
            f"{where}.{printable(unknown[0], 200)}: {target.__name__} takes no such value; "
            f"it takes {', '.join(parameters) or 'none'}"
        )
    if missing := [n for n, p in parameters.items() if p.default is p.empty and n not in values]:
        raise InputError(f"{where}.{missing[0]}: {target.__name__} needs this value and the configuration has none")
    for name, value in values.items():
        if wrong := _unusable(value):
            raise InputError(f"{where}.{name}={printable(repr(value), 200)}: {wrong}")
        if name in hints and not _fits(value, hints[name]):
            wanted = _type_in_words(hints[name])
            raise InputError(f"{where}.{name}={printable(repr(value), 200)}: {target.__name__} takes {wanted} here")
    return functools.partial(target, **values)


def _constructor(target: type[Any], given: int) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    """The named parameters of a class's constructor after the `given` first ones, and the types of all, as far as they
    can be read. *args and **kwargs have no names."""
    try:
        parameters = list(inspect.signature(target).parameters.items())[given:]
    except (ValueError, TypeError) as error:
        raise ContractError(f"_target_: {target.__qualname__} does not say which values it takes") from error
    try:
        hints = typing.get_type_hints(target.__init__, include_extras=True)
    except Exception:  # of names that are there for a type checker alone: the class itself judges its values
        hints = {}
    return {n: p for n, p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}, hints


def _unusable(value: Any) -> str | None:
    """What is wrong with a value whatever takes it: a number that is not finite, or of too many digits."""
    if isinstance(value, Mapping):
        return next(filter(None, map(_unusable, value.values())), None)
    if isinstance(value, (list, tuple)):
        return next(filter(None, map(_unusable, value)), None)
    if isinstance(value, float) and not math.isfinite(value):
        return "a number must be finite"
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        return f"a whole number of at most {LARGEST_NUMBER:,}"
    return None


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain YAML value is of an annotated type, as pydantic has it for JSON: a list may stand for a tuple and
    a whole number for any, and neither true nor false is a number. What pydantic does not know the block judges."""
    adapter = _adapter(hint)
    if adapter is None:
        return True
    try:
        adapter.validate_json(json.dumps(value), strict=True)
    except (ValidationError, TypeError):
        return False
    return True


@functools.cache
def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(hint)
    except PydanticSchemaGenerationError:
        return None


def _type_in_words(hint: Any) -> str:
    """A type as a message names it, with its bounds."""
    if typing.get_origin(hint) is typing.Annotated:
        kind, *bounds = typing.get_args(hint)
        words = [f"{BOUNDS[type(b)][0]} {getattr(b, BOUNDS[type(b)][1]):,}" for b in bounds if type(b) in BOUNDS]
        return ", ".join([_type_in_words(kind), *words])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " | ".join(map(_type_in_words, typing.get_args(hint)))
    if typing.get_origin(hint) is list:
        return f"list[{', '.join(map(_type_in_words, typing.get_args(hint)))}]"
    if hint is type(None):
        return "null"
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
