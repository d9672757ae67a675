"""Where the configuration files are, the framework's and the user's own, and which folders hold a run."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

FRAMEWORK = Path(__file__).resolve().parents[2]  # what holds `prixfixe/` and `blocks/`, installed or in a checkout
TARGET = re.compile(r"""^[\s\-{]*["']?_target_["']?\s*:\s*["']?([^\W\d]\w*)\.""", re.MULTILINE)
LARGEST_YAML = 1 << 20


def conf_folder() -> Path:
    """The framework's `conf/`: inside the package where it is installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def holds_run(folder: Path) -> bool:
    """Whether a folder is that of a run (config.yaml beside status.json or weights.safetensors) or of a sweep
    (sweep.json)."""
    if os.path.lexists(folder / "sweep.json"):
        return True
    return os.path.lexists(folder / "config.yaml") and (
        os.path.lexists(folder / "status.json") or os.path.lexists(folder / "weights.safetensors")
    )


def run_around(path: str | os.PathLike[str]) -> Path | None:
    """The nearest folder that holds a run and that `path` is or lies in, by its name or by where its links lead; None
    where there is none."""
    for place in dict.fromkeys((Path(os.path.abspath(path)), Path(os.path.realpath(path)))):
        for folder in (place, *place.parents):
            if holds_run(folder):
                return folder
    return None


def current_folder_importable() -> None:
    """Makes classes in the current folder importable, behind all others; not where it is, or lies in, a folder that
    holds a run, which may have come from elsewhere."""
    here = os.getcwd()
    if here not in sys.path and run_around(here) is None:
        sys.path.append(here)


def own_conf(named: Path | None = None) -> Path | None:
    """The user's own conf folder: the one named, or `conf/` in the current folder, unless it is the framework's or lies
    in a folder that holds a run."""
    own = named or Path("conf")
    return own if own.is_dir() and own.resolve() != conf_folder() and run_around(own) is None else None


def packages_named(conf: Path | None) -> frozenset[str]:
    """The top-level packages of the classes that the YAMLs below a conf folder name."""
    found: set[str] = set()
    for file in [] if conf is None else yaml_files(conf):
        if file.stat().st_size <= LARGEST_YAML:
            found |= set(TARGET.findall(file.read_text(encoding="utf-8", errors="replace")))
    return frozenset(found)


def yaml_files(conf: Path) -> Iterator[Path]:
    """The regular YAML files below a folder, in order."""
    return (file for file in sorted(conf.rglob("*.yaml")) if file.is_file())


def hidden_by_framework(conf: Path | None) -> list[str]:
    """The files of the user's own that are not used, since the framework has one of the same name and other content:
    YAMLs in `conf`, and modules in `blocks/` of the current folder."""
    pairs = [] if conf is None else [(file, conf_folder() / file.relative_to(conf)) for file in yaml_files(conf)]
    blocks = Path("blocks")
    if blocks.resolve() != FRAMEWORK / "blocks":
        pairs += [(file, FRAMEWORK / file) for file in sorted(blocks.glob("*/*.py"))]
    return [str(own) for own, ours in pairs if ours.is_file() and own.read_bytes() != ours.read_bytes()]


def say_hidden(conf: Path | None) -> None:
    """Names, on standard error, the files of the user's own that the framework's take the place of."""
    if hidden := hidden_by_framework(conf):
        from prixfixe.common.text import printable

        names = printable(", ".join(hidden[:5]) + (f" and {len(hidden) - 5} more" if len(hidden) > 5 else ""))
        print(
            f"warning: not used, since the framework has parts of the same name: {names}; "
            "give yours names of their own",
            file=sys.stderr,
        )
