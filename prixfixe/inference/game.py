"""GAME 1.0 (Genomic API for Model Evaluation): what a request may ask of a model, and what it is answered.

A request names a readout, tasks and sequences, with flanks, ranges and scales where it likes; `answer` says all that a
response holds. Which HTTP a request comes by is the business of `prixfixe.inference.serve`. Errors are `RefusedError`,
with the status and the word that the specification has for them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgpack
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prixfixe.common.errors import InputError
from prixfixe.common.simulated import SIMULATED
from prixfixe.common.text import counted, printable
from prixfixe.data.measurements import Measurements
from prixfixe.inference.predictor import Predictor
from prixfixe.runs.reader import problem

SCHEMA = "1.0"
JSON, MSGPACK = "application/json", "application/msgpack"
PACKED = (MSGPACK, "application/x-msgpack")
UNKNOWN = "unspecified"  # of what who serves the model has not said
KEYS = {400: "bad_prediction_request", 422: "prediction_request_failed", 500: "server_error"}
Base = Literal["2", "10", "e"]
BASES: Mapping[str, float] = {"2": 2.0, "10": 10.0, "e": math.e}


@dataclass(frozen=True)
class Limits:
    """What one request may bring, and how many seconds it may take, waiting included. waiting: requests at a time."""

    bytes: int = 1 << 26
    sequences: int = 200_000
    letters: int = 50_000_000
    seconds: float = 600.0
    waiting: int = 16


@dataclass(frozen=True)
class Served:
    """How a model is described. cell_types: of each of its tasks. log_base: of the predictions' logarithm, or None
    where they are as they are (linear)."""

    model: Predictor
    name: str
    cell_types: Mapping[str, str]
    species: str = UNKNOWN
    type: str = "expression"
    log_base: Base | None = None
    batch_size: int | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.log_base is not None and self.log_base not in BASES:
            raise InputError(f"log_base={printable(self.log_base, 40)}: choose one of {', '.join(BASES)}, or None")

    @property
    def scale(self) -> str:
        return "linear" if self.log_base is None else "log"


class RefusedError(Exception):
    """A request that gets an error. status: 400, 422 or 500."""

    def __init__(self, status: int, *messages: str) -> None:
        super().__init__(status, *messages)
        self.status, self.messages = status, messages


Text = Annotated[str, Field(min_length=1, max_length=1000)]


class _Message(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class TaskAsked(_Message):
    name: Text
    type: Text
    cell_type: Text
    species: Text
    scale: Literal["linear", "log"] | None = None


class Asked(_Message):
    """The body of POST /predict. prediction_ranges: 0-based, both ends included; [] is the whole sequence."""

    readout: Literal["point", "track", "interaction_matrix"]
    prediction_tasks: Annotated[list[TaskAsked], Field(min_length=1, max_length=1000)]
    sequences: Annotated[dict[str, str], Field(min_length=1)]
    upstream_seq: str | None = None
    downstream_seq: str | None = None
    prediction_ranges: dict[str, Annotated[list[int], Field(max_length=2)]] | None = None


class TaskPredicted(_Message):
    name: str
    type_requested: str
    type_actual: list[str]
    cell_type_requested: str
    cell_type_actual: str
    species_requested: str
    species_actual: str
    scale_prediction_requested: str | None
    scale_prediction_actual: str
    predictions: dict[str, float]


class Predicted(_Message):
    predictor_name: str
    prediction_tasks: list[TaskPredicted]


def answer(served: Served, name: str, body: bytes, content_type: str, go_on: Callable[[], None]) -> dict[str, Any]:
    """The response to the body of a request, as plain values; in the worker thread. RefusedError, or InputError of the
    model, where there is none. go_on: raises TimeoutError once there is no more time."""
    go_on()
    asked = parse(body, content_type)
    check_asked(asked, served.limits)
    chosen = [choose(task, asked.readout, served) for task in asked.prediction_tasks]
    window = Window.of(served.model)
    ranges = asked.prediction_ranges or {}
    flanks = (asked.upstream_seq or "").upper(), (asked.downstream_seq or "").upper()
    strings = [
        window.of_sequence(text.upper(), *flanks, ranges.get(key) or []) for key, text in asked.sequences.items()
    ]
    values = _predict(served, strings, go_on)
    tasks = []
    for task, column in zip(asked.prediction_tasks, chosen, strict=True):
        scale = task.scale or served.scale
        numbers = _on_scale(values[:, column], scale, served)
        tasks.append(
            TaskPredicted(
                name=task.name,
                type_requested=task.type,
                type_actual=[served.type],
                cell_type_requested=task.cell_type,
                cell_type_actual=served.cell_types[served.model.tasks[column]],
                species_requested=task.species,
                species_actual=served.species,
                scale_prediction_requested=task.scale,
                scale_prediction_actual=scale,
                predictions=dict(zip(asked.sequences, numbers.tolist(), strict=True)),
            )
        )
    return Predicted(predictor_name=name, prediction_tasks=tasks).model_dump()


def parse(body: bytes, content_type: str) -> Asked:
    """The body of a request. RefusedError where it is no JSON or MessagePack of that schema."""
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind in PACKED:
            content = msgpack.unpackb(body, raw=False, strict_map_key=True, object_pairs_hook=_unique)
        elif kind == JSON:
            content = json.loads(body, object_pairs_hook=_unique, parse_constant=_no_number)
        else:
            raise RefusedError(400, f"Content-Type {printable(kind, 100)}: send {JSON} or {MSGPACK}")
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise RefusedError(400, f"the request is no {kind}: {printable(error, 200) or type(error).__name__}") from error
    try:
        return Asked.model_validate(content)
    except ValidationError as error:
        raise RefusedError(400, f"the request does not follow the schema: {problem(error)}") from error


def _unique(pairs: Any) -> dict[Any, Any]:
    items = list(pairs)
    content = dict(items)
    if len(content) < len(items):
        raise ValueError("a key comes twice")
    return content


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def check_asked(asked: Asked, limits: Limits) -> None:
    """RefusedError where sequences are too many or too long, hold other letters, or ranges are none of theirs."""
    texts = asked.sequences
    if len(texts) > limits.sequences:
        raise RefusedError(400, f"{len(texts):,} sequences: at most {limits.sequences:,} a request")
    total = sum(map(len, texts.values())) + len(asked.upstream_seq or "") + len(asked.downstream_seq or "")
    if total > limits.letters:
        raise RefusedError(400, f"{total:,} letters: at most {limits.letters:,} a request")
    further = {"upstream_seq": asked.upstream_seq or "", "downstream_seq": asked.downstream_seq or ""}
    wrong = [f"sequence {key!r} is empty" for key, text in texts.items() if not text]
    for what, text in (*((f"sequence {key!r}", text) for key, text in texts.items()), *further.items()):
        if strange := text.upper().translate(DROPPED):
            wrong.append(f"{what} holds {strange[0]!r}: only A, C, G, T and N are allowed")
    ranges = asked.prediction_ranges or {}
    if ranges and ranges.keys() != texts.keys():
        wrong.append("prediction_ranges must have the ids of sequences, all of them and no others")
    for key, ends in ranges.items() if not wrong else ():
        if ends and not (len(ends) == 2 and 0 <= ends[0] <= ends[1] < len(texts[key])):
            wrong.append(
                f"prediction_ranges {key!r} is {ends}: [] or [start, end], 0-based, both included, within the "
                f"sequence's {len(texts[key]):,} letters"
            )
    if wrong:
        raise RefusedError(400, *wrong[:10])


DROPPED = str.maketrans("", "", "ACGTN")


def choose(task: TaskAsked, readout: str, served: Served) -> int:
    """The number of the model's task that a requested one means, by its name or its cell type. RefusedError, 422, where
    the model predicts no such thing."""
    if readout != "point":
        raise RefusedError(422, f"readout {readout}: this model predicts one number a sequence, readout point")
    if task.type != served.type and not task.type.startswith(f"{served.type}_"):
        raise RefusedError(
            422, f"{task.name!r}: type {task.type!r} is not predicted; this model predicts {served.type}"
        )
    if served.species not in (UNKNOWN, task.species):
        raise RefusedError(422, f"{task.name!r}: species {task.species!r}; this model is of {served.species}")
    if task.scale == "log" and served.log_base is None:
        raise RefusedError(422, f"{task.name!r}: scale log; of this model's predictions none is declared")
    tasks = served.model.tasks
    if len(tasks) == 1:
        return 0
    wanted = task.name.casefold(), task.cell_type.casefold()
    for word, names in ((wanted[0], tasks), (wanted[1], tasks), (wanted[1], [served.cell_types[t] for t in tasks])):
        found = [number for number, name in enumerate(names) if name.casefold() == word]
        if len(found) == 1:
            return found[0]
    raise RefusedError(
        422,
        f"{task.name!r}: neither its name nor its cell type {task.cell_type!r} is one of this model's: "
        f"{', '.join(tasks)} ({', '.join(served.cell_types[t] for t in tasks)})",
    )


@dataclass(frozen=True)
class Window:
    """How a requested sequence becomes one that the model was trained for.

    1. Where the training sequences begin and end with constant letters (`ends`, left and right: the construct), a
       sequence that has them already is taken without; `left` and `right` are put around whatever follows.
    2. One shorter than `insert` is filled from the tail of upstream_seq and the head of downstream_seq, half and half,
       or more from one where the other is short. Without these the model's recipe fills it, as in training.
    3. One longer than `room` is cut to it: its middle stays, or the middle of its range where one is given.
    The model itself puts `dataset.flanks` around it.
    """

    left: str
    right: str
    insert: int
    room: int
    ends: tuple[str, str] = ("", "")

    @classmethod
    def of(cls, model: Predictor) -> Window:
        built = model.construct
        left = built.left.removeprefix(model.flanks[0]) if built else ""
        right = built.right.removesuffix(model.flanks[1]) if built else ""
        room = max(model.longest - len(left) - len(right), 1)
        ends = (built.left, built.right) if built else ("", "")
        return cls(left, right, min(built.insert, room) if built else room, room, ends)

    def of_sequence(self, text: str, upstream: str, downstream: str, ends: Sequence[int]) -> str:
        start, end = ends or (0, len(text) - 1)
        before_insert, behind = self.ends
        whole = len(text) > len(before_insert) + len(behind)
        if whole and text.startswith(before_insert) and text.endswith(behind):
            text = text[len(before_insert) : len(text) - len(behind)]
            start, end = start - len(before_insert), end - len(before_insert)
        missing = self.insert - len(text)
        if missing > 0:
            after = min(max(missing - missing // 2, missing - len(upstream)), len(downstream))
            before = min(missing - after, len(upstream))
            text = upstream[len(upstream) - before :] + text + downstream[:after]
        elif len(text) > self.room:
            first = min(max((start + end + 1 - self.room) // 2, 0), len(text) - self.room)
            text = text[first : first + self.room]
        return f"{self.left}{text}{self.right}"


def _predict(served: Served, strings: list[str], go_on: Callable[[], None]) -> np.ndarray:
    """float64 (n, tasks)."""
    model = served.model
    rows, size = model.rows_of(strings), model.chunk_rows(served.batch_size)

    def chunks() -> Iterator[Measurements]:
        for start in range(0, len(rows), size):
            go_on()
            yield rows[start : start + size]

    found = np.concatenate(list(model.predict_chunks(chunks(), batch_size=served.batch_size)))
    return found.reshape(len(strings), -1)


def _on_scale(values: np.ndarray, scale: str, served: Served) -> np.ndarray:
    if scale == "linear" and served.log_base is not None:
        with np.errstate(over="ignore"):
            values = np.power(BASES[served.log_base], values)
        if not np.isfinite(values).all():
            raise RefusedError(422, "a prediction is too large for the linear scale: ask for scale log")
    return values


def predictor_name(served: Served) -> str:
    """`NAME_dev`, or in a container `NAME_YYYYMMDD-HHMMSS_UTC`. A model of a simulated assay says so in its name."""
    name = served.name + ("-SIMULATED" if served.model.simulated else "")
    inside = any(os.environ.get(f"{kind}_CONTAINER") for kind in ("APPTAINER", "SINGULARITY"))
    return f"{name}_{datetime.now(UTC):%Y%m%d-%H%M%S}_UTC" if inside else f"{name}_dev"


def help_of(served: Served) -> dict[str, Any]:
    """What GET /help answers."""
    model = served.model
    window = Window.of(model)
    simulated = f"{SIMULATED} " if model.simulated else ""
    return {
        "model": f"{simulated}{served.name}: {counted(len(model.members), 'run')} trained with Prix Fixe",
        "game_schema_version": SCHEMA,
        "publication": "Rafi et al. 2024, doi:10.1038/s41587-024-02414-w",
        "features": [
            {"task": task, "type": served.type, "cell_type": served.cell_types[task], "scale": served.scale}
            for task in model.tasks
        ],
        "cell_types": list(dict.fromkeys(served.cell_types.values())),
        "species": [served.species],
        "container_authors": "unspecified",
        "model_authors": "unspecified",
        "input_size": window.room,
        "bin_size": 1,
        "expression_strand_specific": False,
        "simulated": model.simulated,
        "log_base": served.log_base,
        "readouts": ["point"],
        "put_around_sequences": [model.flanks[0] + window.left, window.right + model.flanks[1]],
    }
