"""What a user has typed after `prixfixe train`: SETTING=VALUE, made what Hydra takes, or refused with what to type."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from types import NoneType
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from prixfixe.common.errors import InputError
from prixfixe.common.overrides import override as typed
from prixfixe.common.overrides import quoted
from prixfixe.common.text import printable

KEY = re.compile(r"[+~]*[\w$@:./-]+")
NAMES_OF_COLUMNS = ("dataset.sequence", "dataset.expression")  # which are text, also where they look like numbers
GROUPS = ("recipe", "first", "core", "final", "optim", "dataset", "logger")  # whose values are names of YAMLs
FILES = (
    "dataset.path",
    "dataset.validation",
    "dataset.test",
    "first.train.weights",
    "core.train.weights",
    "final.train.weights",
)
COLUMN = re.compile(r"dataset\.columns\.\w+")
OLD_RATE = re.compile(r"\+{0,2}(first|core|final)\.max_lr")  # as version 0.1 had it


def as_hydra_takes_it(word: str) -> str:
    """One word of the command line as Hydra takes it: `~` is the user's home folder, and a column's name is text.

    Raises InputError, with the setting and the quoted form to type, for what Hydra's parser does not read.
    """
    key, equals, value = word.partition("=")
    if equals and (old := OLD_RATE.fullmatch(key)):
        key = f"{old[1]}.train.max_lr"
        word = f"{key}={value}"
    setting = key.lstrip("+")
    if equals and key == setting and COLUMN.fullmatch(key):
        key, word = f"++{key}", f"++{word}"  # a name of the user's own, which no YAML has
    if equals and re.match(r"~[\w.-]*(/|$)", value):
        word = f"{key}={quoted(os.path.expanduser(value))}"
    elif equals and setting in NAMES_OF_COLUMNS:
        word = f"{key}={_texts(value)}"
    try:
        parsed = _parsed(word)
        if setting in GROUPS and isinstance(parsed.value(), (NoneType, int, float)):
            raise InputError(
                f"{printable(word, 200)}: no choice has that name; choose {setting}=NAME, as conf/{setting}/ has them"
            )
    except HydraException as error:
        if not equals or not KEY.fullmatch(key):
            example = "a setting is SETTING=VALUE, such as training.epochs=10"
            raise InputError(f"{printable(word, 200)}: {example}") from error
        raise InputError(
            f"{printable(word, 200)}: the value of {printable(setting, 200)} has signs that must be quoted; type it as "
            f"{printable(typed(key, value), 400)}, or a list as {key}='[a,b]'"
        ) from error
    return word


def refuse_accidental_sweeps(overrides: Sequence[str], *, sweeps: bool) -> None:
    """Raises InputError where a comma makes several values of what is one: in a single run always, in a sweep where a
    file has that very name."""
    for word in overrides:
        key, _, value = word.partition("=")
        if not _parsed(word).is_sweep_override():
            continue
        file = key.lstrip("+") in FILES and os.path.exists(value)
        if file or not sweeps:
            what = "and there is a file of that name" if file else "and only a sweep (-m) has several"
            raise InputError(
                f"{printable(word, 200)}: the comma makes several values of it, {what}; where it is one, type it as "
                f"{printable(typed(key, value), 400)}"
            )


def _parsed(word: str) -> Override:
    try:
        return OverridesParser.create().parse_override(word)
    except ValueError as error:  # of a number of thousands of digits
        raise InputError(f"{printable(word, 200)}: the number in it has too many digits") from error


def _texts(value: str) -> str:
    """Names of columns (one, several with commas, or a list), quoted where Hydra would take them for other values."""
    if re.search(r"""["'\\(){}$]""", value):
        return value  # quoted already, or for the parser to judge
    if value.startswith("[") and value.endswith("]") and "[" not in value[1:]:
        return f"[{_texts(value[1:-1])}]"
    return ",".join(_text(name.strip()) for name in value.split(","))


def _text(name: str) -> str:
    try:
        value: Any = _parsed(f"key={name}").value()
    except HydraException:
        return name
    return quoted(name) if isinstance(value, (bool, int, float)) else name
