"""The settings of a run that are the framework's own: one schema, checked before anything is made.

What belongs to a part (recipe, first, core, final, dataset, logger, optimiser, schedule) is checked against that part's
constructor by `prixfixe.networks.parts.factory`.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, ValidationError
from torch import nn
from torch.optim import Optimizer

from prixfixe.common.errors import InputError
from prixfixe.common.text import printable
from prixfixe.contract import FinalBlock
from prixfixe.data.datasets import Dataset
from prixfixe.data.recipe import Recipe
from prixfixe.networks.parts import Origin, factory, has_adapter, judge_all, networks_in, training_of, values_of
from prixfixe.runs.folder import run_name
from prixfixe.runs.loggers import Logger
from prixfixe.tasks.task import Task
from prixfixe.training.optim import Schedule
from prixfixe.training.scoring import PRECISIONS

LONGEST_NAME, LONGEST_FOLDER = 100, 255  # bytes of a part of a folder's name, and of all of it, as file systems take
CONSTRUCTED: dict[str, tuple[type[Any], int]] = {  # what a slot's class is, and what its constructor is given besides
    "recipe": (Recipe, 0),
    "first": (nn.Module, 1),
    "core": (nn.Module, 1),
    "final": (FinalBlock, 2),
}
MOST = 10**9  # epochs, samples a step, minutes: more is a slip


def plain_name(value: str | int | float) -> str | int | float:
    """A value that may be a part of a folder's name; ValueError where it may not."""
    text = str(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError
    if not text or text.startswith(".") or text != text.strip() or not text.isprintable():
        raise ValueError
    if len(text.encode()) > LONGEST_NAME or any(character in text for character in "/\\"):
        raise ValueError
    return value


Name = Annotated[str | int | float, AfterValidator(plain_name)]
NAME = f"a name of at most {LONGEST_NAME} visible letters and signs, without / and \\, that begins with no dot"
Count = Annotated[int, Field(ge=1, le=MOST)]
Part = dict[str, Any]
PART = "a class with its values, as conf/ has them"


class Group(BaseModel):
    """Settings that stand together. What each allows is its description, which messages end with."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class Training(Group):
    epochs: Count = Field(description="a whole number, at least 1")
    batch_size: Count = Field(description="a whole number, at least 1")
    micro_batch: Count | None = Field(description="a whole number, at least 1, or null")
    precision: Literal["auto", "fp32", "bf16"] = Field(description=f"choose auto, {' or '.join(PRECISIONS)}")
    compile: Literal["auto"] | StrictBool = Field(description="choose auto, true or false")
    score_every: Count | None = Field(default=None, description="steps, a whole number, at least 1, or null")
    patience: Count | None = Field(default=None, description="scorings, a whole number, at least 1, or null")
    allow_seen: StrictBool = Field(default=False, description="true or false")
    checkpoint_minutes: float = Field(ge=0, le=MOST, description="a number, 0 for a checkpoint after every step")
    device: str = Field(description="choose auto, cpu, cuda or cuda:N")


RATE = Field(default=None, gt=0, le=1e6, description="a number above 0, or null")


class Lora(Group):
    rank: Annotated[int, Field(ge=1, le=4096)] | None = Field(description="a whole number, at least 1, or null")
    alpha: float = Field(gt=0, le=1e6, description="a number above 0")
    dropout: float = Field(ge=0, lt=1, description="a share, 0 up to less than 1")


class PartTraining(Group):
    """`train` of first, core and final. sha256: of the file that `weights` means, as a run writes it down."""

    max_lr: float | None = RATE
    weight_decay: float | None = Field(default=None, ge=0, le=1e6, description="a number, at least 0, or null")
    frozen: StrictBool = Field(default=False, description="true or false")
    weights: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        default=None, description="a run folder, a bundle folder or a .safetensors file, or null"
    )
    lora: Lora = Field(
        default=Lora(rank=None, alpha=16, dropout=0),
        description="rank, alpha and dropout, as conf/part_training.yaml has them",
    )
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = Field(
        default=None, description="64 hexadecimal digits, or null"
    )


Weights = Annotated[str, Field(min_length=1, max_length=4096)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class NetworkTraining(Group):
    """`train` of a whole network that a part holds, which is never trained."""

    weights: Weights | None = Field(default=None, description="a run folder, or null")
    sha256: Sha256 | None = Field(default=None, description="64 hexadecimal digits, or null")


class OldPart(Group):
    """What version 0.1 had beside a part's values."""

    max_lr: float | None = RATE


Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


class BinSettings(Group):
    number: int = Field(ge=2, le=10_000, description="a whole number, at least 2")
    shift: float = Field(ge=-1e6, le=1e6, description="a number of bins")
    sd: float = Field(gt=0, le=1e6, description="a number above 0")
    range: Pair | Annotated[list[Pair], Field(min_length=1)] | None = Field(
        description="the expressions of the first and the last bin, the lower one first, as [0,17], a list of such "
        "pairs, one a task, as [[0,17],[-2,2]], or null"
    )


class Optim(Group):
    optimizer: Part = Field(description=PART)
    schedule: Part = Field(description=PART)
    clip_norm: float | None = Field(gt=0, description="a number above 0, or null")
    clip_value: float | None = Field(gt=0, description="a number above 0, or null")


class Choices(Group):
    task: Name = Field(default="expression", description=NAME)
    dataset: Name | None = Field(default=None, description=NAME)
    recipe: Name = Field(description=NAME)
    first: Name = Field(description=NAME)
    core: Name = Field(description=NAME)
    final: Name = Field(description=NAME)


class Settings(Group):
    """A run's configuration, resolved."""

    recipe: Part = Field(description=PART)
    first: Part = Field(description=PART)
    core: Part = Field(description=PART)
    final: Part = Field(description=PART)
    optim: Optim = Field(description="optimizer, schedule, clip_norm and clip_value, as conf/optim/ has them")
    dataset: Part = Field(description=PART)
    logger: Part | None = Field(default=None, description=f"{PART}, or null")
    sweep: Name = Field(description=NAME)
    variant: Name | None = Field(default=None, description=f"{NAME}, or null")
    seed: int = Field(ge=0, lt=2**63, description=f"a whole number, at least 0 and at most {2**63 - 1}")
    force: int | StrictBool = Field(default=False, description="false, or --force")
    training: Training = Field(description="epochs, batch_size and so on, as conf/train.yaml has them")
    task: Part | None = Field(default=None, description=PART)
    bins: BinSettings = Field(
        default_factory=BinSettings.model_construct, description="number, shift, sd and range, as conf/task/ has them"
    )
    choices: Choices = Field(description="the names of task, dataset, recipe, first, core and final")
    values: dict[str, Any] | None = Field(default=None, description="values of your own that other settings refer to")


def check_settings(config: Mapping[str, Any], origin: Origin) -> None:
    """Checks a run's whole configuration, resolved; InputError with the setting, its value and what is allowed.

    The framework's own settings by `Settings`, each part's by its constructor. Nothing is made, nothing is read but the
    parts' own modules. What a part's values do to its neighbours is seen when the network is built.
    """
    _validated(Settings, config, "")
    judge_all(config, origin)
    find_device(config["training"]["device"])
    given = (config.get("bins") or {}).get("range") or []
    for low, high in given if all(isinstance(pair, list) for pair in given) else [given]:
        if not low < high:
            raise InputError(f"bins.range={given}: the first number must be the lower one")
    for key in ("fold", "test_fold"):  # a part of the folder's name
        value = config["dataset"].get(key)
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            check_name(f"dataset.{key}", one)
    name = run_name(config["choices"], config["seed"], config.get("variant"), config["dataset"])
    if len(name.encode()) > LONGEST_FOLDER:
        raise InputError(f"{printable(name, 300)}: no folder can be called that; choose a shorter variant")
    factory(config["dataset"], Dataset, where="dataset", origin=origin)  # first: others' values may refer to its own
    for slot, (kind, given) in CONSTRUCTED.items():
        node = config[slot]
        if slot == "recipe":  # which is not trained
            values = {key: value for key, value in node.items() if key != "published"}
        else:
            check_training(node, slot)
            values = values_of(node)
            for name, inner in networks_in(node).items():
                _validated(NetworkTraining, inner["train"], f"{slot}.{name}.train")
                if strange := [key for key in inner if key not in ("train", "first", "core", "final")]:
                    raise InputError(
                        f"no such setting: {slot}.{name}.{printable(strange[0], 100)}; it takes "
                        f"{slot}.{name}.train.weights, the run of a whole network"
                    )
        factory(values, kind, where=slot, given=given, origin=origin)
    if config.get("task") is not None:
        if "bins" in config["task"] and config.get("bins") is None:
            raise InputError(f"bins=null: {Settings.model_fields['bins'].description}")
        factory(config["task"], Task, where="task", origin=origin)()
    factory(config["optim"]["optimizer"], Optimizer, where="optim.optimizer", given=1, origin=origin)
    factory(config["optim"]["schedule"], Schedule, where="optim.schedule", origin=origin)
    if config.get("logger") is not None:
        factory(config["logger"], Logger, where="logger", origin=origin)


def check_name(setting: str, value: Any) -> None:
    """Checks `sweep` or `variant` alone: what a folder is called."""
    try:
        plain_name(value)
    except ValueError as error:
        raise InputError(f"{setting}={_shown(value)}: {NAME}") from error


def check_training(node: Mapping[str, Any], slot: str) -> None:
    """Checks how a part is trained: `train`, and `max_lr` as version 0.1 had it."""
    said = node.get("train")
    if isinstance(said, Mapping) and said.get("lora") is None:
        said = {name: value for name, value in said.items() if name != "lora"}
    _validated(PartTraining, {} if said is None else said, f"{slot}.train")
    train = training_of({"train": said})
    old = node.get("max_lr")
    _validated(OldPart, {"max_lr": old}, slot)
    if old is not None and train["max_lr"] not in (None, old):
        raise InputError(
            f"{slot}.max_lr={old} and {slot}.train.max_lr={train['max_lr']}: the first is version 0.1's name of the "
            "second; keep that alone"
        )
    if train["frozen"] and has_adapter(train):
        raise InputError(
            f"{slot}.train.frozen=true and {slot}.train.lora.rank={train['lora']['rank']}: an adapter keeps the rest "
            "of its part as it is, and is trained itself; leave frozen out"
        )


def training_settings(node: Mapping[str, Any]) -> dict[str, Any]:
    """`training` of the configuration, checked, with `auto` resolved."""
    _validated(Training, node, "training")
    device = find_device(node["device"])
    auto = (
        "bf16" if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    )  # older ones emulate it
    return {**node, "device": device, "precision": auto if node["precision"] == "auto" else node["precision"]}


def find_device(name: str) -> torch.device:
    """auto, cpu, cuda or cuda:N as a device that is there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"training.device={printable(name, 200)!r} is no device; choose auto, cpu, cuda or cuda:N"
        ) from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"training.device={name}: networks run on cpu, cuda or cuda:N; choose one of these, or auto")
    if device.type == "cpu" and device.index is not None:
        raise InputError(f"training.device={name}: there is one cpu; choose cpu, cuda, cuda:N or auto")
    if device.type == "cuda" and not 0 <= (device.index or 0) < torch.cuda.device_count():
        raise InputError(
            f"training.device={name}: this machine has {torch.cuda.device_count()} GPUs that torch can use; "
            "choose auto or cpu"
        )
    return device


def _validated(schema: type[Group], content: Any, where: str) -> None:
    """Raises InputError for the first setting that a schema refuses."""
    try:
        schema.model_validate(content)
    except ValidationError as error:
        raise InputError(_told(schema, error.errors(include_url=False)[0], where)) from None


def _told(schema: type[Group], error: Any, where: str) -> str:
    """setting=value: what is allowed."""
    places, allowed, group = [where] if where else [], "", schema
    for name in map(str, error["loc"]):
        if name not in group.model_fields:
            if error["type"] == "extra_forbidden":
                return _no_such(group, [*places, name])
            break  # a place inside a value
        places.append(name)
        allowed = group.model_fields[name].description or ""
        group = _group_of(group.model_fields[name].annotation)
    if error["type"] == "missing":
        return f"{'.'.join(places)} is missing: {allowed}"
    value = error["input"]
    return f"{'.'.join(places)}={_shown(value)}: {allowed}"


def _group_of(annotation: Any) -> type[Group]:
    """The settings that stand below one, also where it may be null; none below another value."""
    for kind in (annotation, *typing.get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Group):
            return kind
    return Group


def _no_such(group: type[Group], places: list[str]) -> str:
    choices = [*group.model_fields]
    near = difflib.get_close_matches(places[-1], choices, n=3) or choices
    before = ".".join(places[:-1])
    names = ", ".join(f"{before}.{name}" if before else name for name in near)
    own = "; values of your own that other settings refer to go below `values`" if not before else ""
    return f"no such setting: {printable('.'.join(places), 200)}; did you mean {names}?{own}"


def _shown(value: Any) -> str:
    """A value as a YAML has it, in a message."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return printable(repr(value), 200)
