"""The one reader of each file of a run folder, each with its schema: types, ranges, and how much there may be.

A file that breaks its schema is damaged: InputError names it, and whoever reads many folders names it and goes on. Keys
that a schema does not know stay as they are, so that a later version may write more. A file that is not there is {}.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from prixfixe.common.errors import InputError
from prixfixe.common.inputs import is_missing, read_bytes
from prixfixe.common.simulated import is_simulated
from prixfixe.common.text import printable
from prixfixe.runs.bounded import array_checksums, damaged, load_arrays, load_json, load_yaml

SMALL, LARGE = 2**20, 2**26  # bytes: of a file of settings or scores; of a sweep's plan or a history
SUBSET = "subset_"  # the beginning of a subset's name in test.npz
OUTPUT, COLUMN = "output_", "column_"  # of a further output's, and a column's, in the predictions of a test part
CONFIG = 2**18  # bytes of a config.yaml, which has about a thousand
NUMERIC = frozenset("fiu")  # kinds of numpy's types


def _shown(text: str) -> str:
    if printable(text) != text:
        raise ValueError("no text of one line")
    return text


def _file_name(text: str) -> str:
    if "/" in text or "\0" in text or text in (".", ".."):
        raise ValueError("no name of a folder")
    return text


def _moment(text: str) -> str:
    try:
        datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("no date and time") from None
    return text


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_shown)]
TaskName = Annotated[str, Field(min_length=1, max_length=1000)]
ColumnNames = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,59}$")
ColumnName = Annotated[str, Field(pattern=ColumnNames.pattern)]
FileName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_file_name)]
Moment = Annotated[str, Field(max_length=40), AfterValidator(_moment)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
BundledFile = Annotated[str, Field(pattern=r"^\w[\w.+-]*(/\w[\w.+-]*){0,4}$", max_length=500)]  # no hidden ones, no ..
Finite = Annotated[float, Field(allow_inf_nan=False)]
Bounded = Annotated[float, Field(ge=-1e100, le=1e100)]
Number = Annotated[Annotated[float, Field(ge=-1e100, le=1e100)] | None, BeforeValidator(_finite_or_none)]
Amount = Annotated[Annotated[float, Field(ge=0, le=1e15)] | None, BeforeValidator(_finite_or_none)]
Correlation = Annotated[Annotated[float, Field(ge=-1.001, le=1.001)] | None, BeforeValidator(_finite_or_none)]


class _Schema(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", defer_build=True)


class Choices(_Schema):
    recipe: Name
    first: Name
    core: Name
    final: Name
    task: Name | None = None
    dataset: Name | None = None


class Status(_Schema):
    state: Literal["running", "done", "failed"]
    reason: str | None = None
    started: Moment | None = None
    ended: Moment | None = None
    configuration_hash: Name | None = None
    force: bool | int | None = None
    versions: dict[str, str] = {}


class ScoreFacts(_Schema):
    """A score of a task as its run declares it; see `prixfixe.tasks.scores.Score`."""

    name: ColumnName
    label: Annotated[str, Field(min_length=1, max_length=60), AfterValidator(_shown)]
    higher_is_better: bool = True
    digits: Annotated[int, Field(ge=0, le=12)] = 3
    short: Annotated[str, Field(max_length=60), AfterValidator(_shown)] = ""
    on_a_line: bool = True


class SourceFacts(_Schema):
    """Where the weights came from that a part started from; see `prixfixe.runs.sources.Source`."""

    weights: Annotated[str, Field(min_length=1, max_length=4096)]
    path: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_shown)]
    sha256: Sha256
    tensors: Count


DeclaredScores = Annotated[list[ScoreFacts], Field(min_length=1, max_length=100)]


class TaskFacts(_Schema):
    """What each file says of the run's task. The defaults are those of version 0.1."""

    task: ColumnName = "expression"
    scores: DeclaredScores | None = None


class TestScores(_Schema):
    kl: Number = None
    pearson_r: Correlation = None
    spearman_rho: Correlation = None
    mse: Number = None
    n: Count | None = None


class NoiseCeilingFacts(_Schema):
    """See `prixfixe.tasks.ceiling.NoiseCeiling`."""

    value: Annotated[float, Field(ge=0, le=1)]
    low: Annotated[float, Field(ge=0, le=1)]
    high: Annotated[float, Field(ge=0, le=1)]
    rows: Count
    sequences: Count


class Metrics(TestScores, TaskFacts):
    best_epoch: Count | None = None
    parameters: Count | None = None
    samples_per_second: Amount = None
    training_seconds: Amount = None
    inference_per_second: Amount = None
    gpu_memory_bytes: Count | None = None
    epochs: Count | None = None
    steps: Count | None = None
    left_out: Count | None = None
    processes: Count | None = None
    micro_batch: Count | None = None
    precision: Name | None = None
    device: Name | None = None
    select: ColumnName = "pearson_r"
    simulated: bool = False
    validation_near_duplicates: Annotated[float, Field(ge=0, le=1)] | None = None
    test: TestScores | None = None
    # of the validation rows and of test parts, by part and task
    noise_ceiling: dict[str, dict[str, NoiseCeilingFacts]] = {}


class Score(_Schema):
    value: Number


class Correlated(_Schema):
    value: Correlation


class SubsetScores(_Schema):
    name: Name
    pearson_r: Correlated
    spearman_rho: Correlated
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0


class TaskScores(_Schema):
    """Of a plain table, one of the run's tasks: besides the name its scores, each a number, or a value with its
    interval."""

    name: TaskName
    pearson_r: Correlated | None = None
    spearman_rho: Correlated | None = None


class Evaluation(TaskFacts):
    """Of a test set: the weighted scores and those of subsets; of a plain table: those of tasks."""

    simulated: bool = False
    pearson_score: Score | None = None
    spearman_score: Score | None = None
    subsets: Annotated[list[SubsetScores], Field(max_length=1000)] | None = None
    tasks: Annotated[list[TaskScores], Field(min_length=1, max_length=10_000)] | None = None


class BinsOfTask(_Schema):
    number: Annotated[int, Field(ge=2, le=100_000)]
    shift: Finite
    sd: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    low: Finite | list[Finite]
    high: Finite | list[Finite]


Shape = Annotated[list[Count], Field(max_length=8)]
Kind = Literal["bool", "uint8", "int64", "float32"]
GroupNames = Annotated[list[Annotated[str, Field(max_length=100)]], Field(min_length=1)]
ColumnShape = (  # a list in JSON
    Annotated[tuple[Shape, Kind], Field(strict=False)] | Annotated[tuple[Shape, Kind, GroupNames], Field(strict=False)]
)


Nucleotides = Annotated[str, Field(pattern=r"^[ACGTN]*$", max_length=100_000)]
Composition = Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=4, max_length=4)]


class ConstructFacts(_Schema):
    """How the training sequences are built; see `prixfixe.data.flanks.Construct`."""

    model_config = ConfigDict(extra="forbid")
    left: Nucleotides
    right: Nucleotides
    insert: Annotated[int, Field(ge=1, le=10**9)]
    composition: Composition


class Targets(TaskFacts):
    select: ColumnName = "pearson_r"
    tasks: Annotated[list[TaskName], Field(min_length=1, max_length=10_000)]
    mean: list[Finite]
    std: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]]
    bins: BinsOfTask | None = None
    constants: Annotated[dict[ColumnName, Finite], Field(max_length=1000)] = Field(default_factory=dict)
    columns: Annotated[dict[str, ColumnShape], Field(max_length=1000)] = Field(default_factory=dict)
    sequences: ConstructFacts | None = None
    residual_sd: list[Annotated[float, Field(ge=0, allow_inf_nan=False)] | None] | None = None


class PlanFile(_Schema):
    jobs: dict[FileName, list[str]] = {}
    launched_with: list[str] = []
    asked: list[FileName] = []


class Owner(_Schema):
    """Of a lock."""

    host: Name
    processes: Annotated[str, Field(max_length=200)]
    pid: Annotated[int, Field(ge=1, le=2**31 - 1)]
    born: Annotated[str, Field(max_length=40)] | None
    since: Name


class AccountFacts(_Schema):
    epoch: Annotated[int, Field(ge=1)]
    step: Count
    inputs: Count
    training_seconds: Annotated[float, Field(ge=0, le=1e15)]
    scored: Count
    scoring_seconds: Annotated[float, Field(ge=0, le=1e15)]
    micro_batch: Annotated[int, Field(ge=1)] | None
    precision: Name
    best: dict[str, float | int | None]
    history: list[dict[str, float | int | None]]
    scored_step: Count = 0
    since_best: Count = 0


class CheckpointFacts(_Schema):
    processes: Annotated[int, Field(ge=1)]
    account: AccountFacts
    param_groups: list[dict[str, Any]]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]


class FileFacts(_Schema):
    model_config = ConfigDict(extra="forbid")
    sha256: Sha256
    bytes: Count


class MemberFacts(_Schema):
    """A run of a bundle. folder: "" or members/N. sources_left_out: what it starts from and has not with it."""

    folder: Annotated[str, Field(pattern=r"^(members/[0-9]{1,4})?$")]
    run: Name
    views: Annotated[int, Field(ge=1, le=16)]
    sources_left_out: Annotated[list[Sha256], Field(max_length=10)] = []


class ExampleFacts(_Schema):
    """Sequences, further columns, and by member, row and task what must be predicted."""

    sequences: Annotated[list[Annotated[str, Field(max_length=2**20)]], Field(min_length=1, max_length=1000)]
    columns: dict[ColumnName, list[Any]] = Field(default_factory=dict)
    predictions: Annotated[list[list[list[Bounded]]], Field(min_length=1, max_length=1000)]


class CodeFacts(_Schema):
    """A class of the author's own, and the file of the bundle that shows its source."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,299}$")]
    file: BundledFile


class BundleFacts(_Schema):
    """bundle.json; see `prixfixe.runs.bundle`."""

    format: Annotated[int, Field(ge=1, le=1000)]
    prixfixe: Name
    task: ColumnName
    tasks: Annotated[list[TaskName], Field(min_length=1, max_length=10_000)]
    simulated: bool
    members: Annotated[list[MemberFacts], Field(min_length=1, max_length=10_000)]
    examples: ExampleFacts | None = None
    code: Annotated[list[CodeFacts], Field(max_length=100)] = []
    files: Annotated[dict[BundledFile, FileFacts], Field(min_length=1, max_length=100_000)]


WORDS = {  # what a value is not, by pydantic's kind of error
    **dict.fromkeys(("float_type", "float_parsing", "finite_number", "float_from_float"), "no number"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "no whole number"),
    **dict.fromkeys(("string_type", "string_too_long", "string_too_short"), "no text of that kind"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "nothing by name"),
    **dict.fromkeys(("greater_than", "greater_than_equal", "less_than", "less_than_equal"), "out of its range"),
    **dict.fromkeys(("list_type", "too_long", "too_short"), "no list of that kind"),
    "bool_type": "neither true nor false",
    "literal_error": "none of the words that it can be",
}


def problem(error: ValidationError) -> str:
    """The first thing that is wrong with a value, in words: `kl is 'low', no number`."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(step) for step in first["loc"]) or "it"
    if first["type"] == "missing":
        return f"it has no {where}"
    words = WORDS.get(first["type"]) or str(first["msg"]).removeprefix("Value error, ")
    return f"{where} is {printable(repr(first['input']), 60)}, {words}"


def validated(schema: type[_Schema], content: Any, file: Path) -> dict[str, Any]:
    """The content as the schema has it; what was not given is not there. InputError where it breaks the schema."""
    try:
        return schema.model_validate(content).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise damaged(file, problem(error)) from error


def read_object(file: Path, limit: int = SMALL) -> dict[str, Any]:
    """A JSON object without a schema of its own."""
    if is_missing(file):
        return {}
    content = load_json(file, limit)
    if not isinstance(content, dict):
        raise damaged(file, "it holds no JSON object")
    return content


def read_status(file: Path) -> dict[str, Any]:
    content = read_object(file)
    return validated(Status, content, file) if content else {}


def read_sources(file: Path) -> dict[str, dict[str, Any]]:
    """Where weights from elsewhere came from, by slot; {} where there is no such file."""
    facts = {slot: validated(SourceFacts, content, file) for slot, content in read_object(file).items()}
    if unknown := facts.keys() - {"first", "core", "final"}:
        raise damaged(file, f"{min(unknown)} is no part")
    return facts


def read_metrics(file: Path) -> dict[str, Any]:
    """Scores and costs, those of any task; None for a number that is not finite."""
    content = read_object(file)
    if not content:
        return {}
    metrics = validated(Metrics, content, file) | other_scores(content, Metrics)
    for key in filter(lambda key: key in ("test", "tests") or key.endswith("tasks"), content):
        metrics[key] = _scores_by_name(content[key]) if key != "test" else other_scores(content[key] or {}, None)
    return metrics


def _scores_by_name(content: Any) -> dict[str, dict[str, Any]]:
    """The scores of tasks, or of test parts, by their names."""
    named = content.items() if isinstance(content, dict) else ()
    return {str(name)[:1000]: other_scores(scores, None) for name, scores in named if isinstance(scores, dict)}


def other_scores(content: Mapping[str, Any], schema: type[_Schema] | None) -> dict[str, Any]:
    """The numbers of a file that its schema does not name: scores of other tasks. None for one that is not finite."""
    known = schema.model_fields if schema else {}
    found = {}
    for name, value in content.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name not in known and ColumnNames.match(name) and (value is None or number):
            found[name] = value if number and abs(value) <= 1e100 else None
    return found


def read_evaluation(file: Path) -> dict[str, Any]:
    content = read_object(file, LARGE)
    if not content:
        return {}
    if content.get("tasks") is None:
        for name in ("pearson_score", "spearman_score", "subsets"):
            if content.get(name) is None:
                raise damaged(file, f"it has no {name}")
    evaluation = validated(Evaluation, content, file)
    for part in evaluation.get("tasks") or ():
        values = {key: one.get("value") if isinstance(one, dict) else one for key, one in part.items()}
        part |= other_scores(values, None)
    return evaluation


def read_targets(file: Path) -> dict[str, Any]:
    """tasks, mean, std, and residual_sd where it is known: a list each of one length, std above 0; bins: of all tasks,
    with low and high of each where these are lists."""
    content = read_object(file)
    if not content:
        raise InputError(f"{printable(file)} is missing: train the run again")
    targets = validated(Targets, content, file)
    bins = targets.get("bins")
    lists = [targets[name] for name in ("mean", "std") if targets[name]]  # none of a task that measures nothing
    lists.append(targets.get("residual_sd"))  # which a run of version 0.1 has not
    lists += [bins["low"], bins["high"]] if bins else []
    if any(len(values) != len(targets["tasks"]) for values in lists if isinstance(values, list)):
        raise damaged(file, "its tasks, means, deviations and bins are not as many")
    if len(set(targets["tasks"])) < len(targets["tasks"]):
        raise damaged(file, "two of its tasks have one name")
    if not bins:
        return targets
    lows, highs = (bins[end] if isinstance(bins[end], list) else [bins[end]] for end in ("low", "high"))
    if len(lows) != len(highs) or not all(low < high for low, high in zip(lows, highs, strict=True)):
        raise damaged(file, f"its bins end at {bins['high']} and begin at {bins['low']}")
    return targets


def read_plan(file: Path) -> dict[str, Any]:
    """jobs: folder name -> overrides; launched_with, asked."""
    try:
        return validated(PlanFile, read_object(file, LARGE), file)
    except InputError as error:
        if " is damaged: jobs" in str(error) or " is damaged: launched_with" in str(error):
            raise damaged(file, "it holds no jobs with their overrides") from error
        raise


def read_owner(file: Path) -> dict[str, Any]:
    """Who has written a lock; {} where it does not say so."""
    try:
        return validated(Owner, read_object(file, 2**16), file)
    except InputError:
        return {}


def read_config(file: Path) -> dict[str, Any]:
    """The resolved configuration, as plain values."""
    if is_missing(file):
        raise InputError(
            f"{printable(file.parent)} is no run folder: it has no config.yaml; give one such as "
            "runs/demo/autosome+conv+bilstm+mlp"
        )
    return _mapping(load_yaml(file, CONFIG), file)


def _mapping(content: Any, file: Path) -> dict[str, Any]:
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise damaged(file, "it holds no configuration")
    return content


def read_head(file: Path) -> dict[str, Any]:
    """Of a configuration what a table shows: the choices of slots, task and dataset, seed, variant, simulated, and as
    `settings` what is below `dataset`.

    Only the lines of these keys are parsed: to parse all of them takes most of the time.
    """
    keys = ("choices", "seed", "variant", "dataset")
    content = load_yaml(file, CONFIG, lambda text: "\n".join(top_level(text, keys)))
    if not isinstance(content, dict) or "choices" not in content:
        content = _mapping(load_yaml(file, CONFIG), file)
    choices = content.get("choices")
    slots = [name for name, field in Choices.model_fields.items() if field.is_required()]
    if not isinstance(choices, dict) or not set(slots) <= choices.keys():
        raise damaged(file, f"it does not say which {', '.join(slots)} were chosen")
    chosen = {key: value for key, value in validated(Choices, choices, file).items() if key in Choices.model_fields}
    seed, variant = content.get("seed", 0), content.get("variant")
    if type(seed) is not int or seed < 0:
        raise damaged(file, f"seed is {printable(repr(seed), 60)}, no whole number from 0 on")
    if isinstance(variant, dict | list) or len(str(variant)) > 200 or printable(variant) != str(variant):
        raise damaged(file, f"variant is {printable(repr(variant), 60)}, no name")
    settings = content["dataset"] if isinstance(content.get("dataset"), dict) else {}
    known = str(settings.get("_target_")).rpartition(".")[2].lower()  # as version 0.1 called its datasets
    return {
        **chosen,
        "task": chosen.get("task") or "expression",
        "dataset": chosen.get("dataset") or known,
        "seed": seed,
        "variant": None if variant is None else str(variant),
        "simulated": is_simulated(content),
        "settings": settings,
    }


def read_part(file: Path, key: str) -> dict[str, Any]:
    """What is below one top-level key of a configuration, by that key alone."""
    content = load_yaml(file, CONFIG, lambda text: "\n".join(top_level(text, (key,))))
    return {key: content[key]} if isinstance(content, dict) and key in content else {}


def read_text(file: Path, limit: int = CONFIG) -> str:
    try:
        return read_bytes(file, limit=limit).decode()
    except UnicodeDecodeError as error:
        raise damaged(file, error) from error


def top_level(text: str, keys: tuple[str, ...]) -> Iterable[str]:
    """The lines of these keys of a YAML mapping in block style, what is indented below them included."""
    wanted = False
    for line in text.splitlines():
        if line[:1] not in (" ", "-", "#", ""):
            wanted = line.partition(":")[0] in keys
        if wanted:
            yield line


def read_history(file: Path, *, last: bool = False) -> dict[str, list[float]]:
    """The columns of history.csv, a value an epoch, NaN where there is none; {} where there are no epochs yet.

    last: of the last epoch alone, which takes less time.
    """
    if is_missing(file):
        return {}
    lines = read_text(file, LARGE).splitlines()
    if len(lines) < 2:
        return {}
    try:
        header, *rows = csv.reader([lines[0], *([lines[-1]] if last else lines[1:])])
    except csv.Error as error:
        raise damaged(file, error) from error
    if len(set(header)) < len(header) or any(len(row) != len(header) for row in rows):
        raise damaged(file, "its last line is no epoch's scores" if last else "a line has not the header's columns")
    try:
        columns = {name: [_history_number(row[i]) for row in rows] for i, name in enumerate(header)}
    except ValueError:
        raise damaged(file, "its last line is no epoch's scores" if last else "a value in it is no number") from None
    if "epoch" in columns and not all(value >= 1 and value.is_integer() for value in columns["epoch"]):
        raise damaged(file, "a number of an epoch in it is none")
    return columns


def _history_number(text: str) -> float:
    value = float(text) if text else math.nan
    if abs(value) > 1e100 and math.isfinite(value):
        raise ValueError
    return value if math.isfinite(value) else math.nan


def read_predictions(file: Path) -> dict[str, Any]:
    """The arrays of validation.npz or test.npz: measured and predicted, (n,) or (n, tasks) of float64; test_set; and
    of every subset the rows (m,) or pairs of rows (m, 2) as `subset_<name>`.

    InputError where the file is missing or damaged, or where what was measured is not finite; of several tasks, NaN
    is what was not measured.
    """
    return _predictions(_arrays(file), file)


def _arrays(file: Path) -> dict[str, Any]:
    if is_missing(file):
        raise InputError(f"{printable(file.parent.name)}: no {file.name}")
    return load_arrays(file)


def _predictions(arrays: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The arrays of `read_predictions`, of those that are in the file."""
    measured, predicted = arrays.get("measured"), arrays.get("predicted")
    if measured is None or predicted is None or measured.shape != predicted.shape or measured.ndim not in (1, 2):
        raise damaged(file, "it needs arrays measured and predicted of one shape")
    if not measured.size or not {measured.dtype.kind, predicted.dtype.kind} <= NUMERIC:
        raise damaged(file, "it needs arrays measured and predicted of one shape")
    found = {"measured": measured.astype("float64"), "predicted": predicted.astype("float64")}
    known = found["measured"] == found["measured"]  # NaN: a task of several that was not measured in a row
    enough = known.all() if measured.ndim == 1 else known.any()
    if not enough or not (abs(found["measured"][known]) <= 1e100).all():
        raise damaged(file, "a measured value in it is no finite number")
    if "test_set" in arrays:
        found["test_set"] = str(arrays["test_set"])[:1000]
    for name in sorted(arrays):
        if not name.startswith(SUBSET):
            continue
        rows = arrays[name]
        if rows.dtype.kind not in "iu" or rows.ndim not in (1, 2) or rows.shape[1:] not in ((), (2,)):
            raise damaged(file, f"{name} holds no row numbers")
        if rows.size and not (rows.min() >= 0 and rows.max() < len(measured)):
            raise damaged(file, f"{name} holds numbers of rows that are not there")
        found[name] = rows
    return found


def read_test_part(file: Path) -> dict[str, Any]:
    """The arrays of predictions_<part>.npz: measured, predicted and rows, uint64 (n,), and those that begin with OUTPUT
    and COLUMN, (n, ...). InputError as `read_predictions`."""
    arrays = _arrays(file)
    found = _predictions(arrays, file)
    for name, array in arrays.items():
        if name == "rows" or name.startswith((OUTPUT, COLUMN)):
            if not array.ndim or len(array) != len(found["measured"]):
                raise damaged(file, f"{name} has not as many rows as what was measured")
            if not name.startswith(COLUMN) and array.dtype.kind not in NUMERIC:
                raise damaged(file, f"{name} holds no numbers")
            found[name] = array.astype("float64") if name.startswith(OUTPUT) else array
    if "rows" not in found or found["rows"].dtype.str != "<u8":
        raise damaged(file, "it has no hashes of its rows")
    return found


def read_training_sample(file: Path) -> dict[str, Any]:
    """The arrays of training_sample.npz: rows, uint64 (m,), below, a number, and measured and predicted, (m,) or
    (m, tasks), where it has them; {} where there is no such file."""
    if is_missing(file):
        return {}
    arrays = load_arrays(file)
    rows, below = arrays.get("rows"), arrays.get("below")
    if rows is None or below is None or (rows.dtype.str, below.dtype.str) != ("<u8", "<u8") or below.shape != (1,):
        raise damaged(file, "it needs hashes of rows, and the hash below which all are there")
    found = {"rows": rows, "below": below[0]}
    if "measured" in arrays or "predicted" in arrays:
        measured, predicted = arrays.get("measured"), arrays.get("predicted")
        if measured is None or predicted is None or measured.shape != predicted.shape or len(measured) != len(rows):
            raise damaged(file, "it needs arrays measured and predicted of one shape")
        if not {measured.dtype.kind, predicted.dtype.kind} <= NUMERIC or rows.ndim != 1:
            raise damaged(file, "it needs arrays measured and predicted of one shape")
        found |= {"measured": measured.astype("float64"), "predicted": predicted.astype("float64")}
    return found


def held_out_checksum(file: Path) -> tuple[int, int] | None:
    """What tells the held-out measurements of a validation.npz apart, without reading them; None where it has none."""
    if is_missing(file):
        return None
    try:
        return array_checksums(file).get("measured")
    except InputError:
        return None


def number_in(content: Mapping[str, Any], *keys: str) -> int:
    """A count from 1 on somewhere in a configuration, such as training.epochs; 0 where there is none."""
    value: Any = content
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if type(value) is int and 0 < value < 10**9 else 0
