"""The model card of a bundle: README.md, with the metadata in front that the Hugging Face hub reads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, StrictUndefined

from prixfixe.analysis.evaluation import evaluate_outputs
from prixfixe.common.errors import InputError
from prixfixe.common.inputs import is_missing
from prixfixe.common.text import printable
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import Sequences
from prixfixe.inference.model import Model
from prixfixe.inference.predictor import Predictor
from prixfixe.runs.bundle import without_places
from prixfixe.runs.folder import RunFolder, fold_name
from prixfixe.runs.reader import read_evaluation, read_predictions

HUB_NAMES = {"pearson_r": "pearsonr", "spearman_rho": "spearmanr", "auroc": "roc_auc", "mcc": "matthews_correlation"}
SAME = 1e-4  # of a score: what is scored again must be what the run has written down
UNITS = {"expression": "the measurement's own units", "probability": "a probability", "log_counts": "log counts"}
UNITS["log_counts_without_bias"] = UNITS["log_counts"]
Shown = dict[str, Any]


def model_card(model: Predictor, folders: Sequence[Path], facts: Mapping[str, Any], license: str) -> str:
    """Markdown with YAML in front. folders: of the runs, whose scores are read. facts: of bundle.json so far."""
    members, scores, configs = [], [], []
    for one, folder, about in zip(model.members, folders, facts["members"], strict=True):
        run = RunFolder(folder)
        config = run.config()
        configs.append(config)
        dataset = config.get("dataset") or {}
        folds = fold_name(dataset.get("test_fold"), dataset.get("fold")) or "-"
        members.append({**about, "choices": _choices(config, one), "folds": folds})
        scores += [{"member": about["folder"] or "the run", **score} for score in scores_of(one, run)]
    title = "Prix Fixe: " + (members[0]["run"] if len(members) == 1 else f"ensemble of {len(members)} runs")
    output = facts["predicts"]
    exports = [
        {**one, "place": "/".join(filter(None, (member["folder"], one["file"]))), "inputs": _inputs(one)}
        for member in members
        for one in member.get("exports") or ()
    ]
    values = {
        **{key: facts[key] for key in ("prixfixe", "task", "tasks", "simulated", "needs", "code", "tolerance")},
        "title": printable(title + (" (SIMULATED assay)" if model.simulated else ""), 300),
        "what": _what(output, model),
        "units": UNITS.get(output, output or "none"),
        "longest": f"{model.longest:,}",
        "flanks": " and ".join(flank or "nothing" for flank in model.flanks) if any(model.flanks) else "nothing",
        "construct": _construct(model),
        "strands": strand_rule(model),
        "unknown": " or ".join(dict.fromkeys(map(unknown_letter, model.members))),
        "members": members,
        "scores": scores,
        "data": _data(configs[0], model),
        "exports": exports,
        "left_out": _left_out(members),
        "license": license,
        "examples": len(facts["examples"]["sequences"]) if facts["examples"] else "no",
    }
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["cell"] = cell
    template = (files("prixfixe.inference") / "model_card.md").read_text(encoding="utf-8")
    head = yaml.safe_dump(_metadata(model, values, scores), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n{environment.from_string(template).render(values)}\n"


def cell(value: object) -> str:
    """Text of a run as a cell of a Markdown table: in one line, and no Markdown or HTML of its own."""
    text = printable(value, 1000)
    for sign in "\\|`<>[]*":
        text = text.replace(sign, "\\" + sign)
    return text


def strand_rule(model: Predictor) -> str:
    views = {member.recipe.views for member in model.members}
    both = "both strands are predicted, and combined as the task combines them (expression: their mean)"
    one = "one input a sequence, which the recipe makes"
    if len(views) > 1:
        return f"{both}; in some members {one}"
    return one if views == {1} else both


def unknown_letter(model: Model) -> str:
    """What stands in the four channels of A, C, G and T for an N."""
    rows = model.rows_of(["N" * max(model.longest, 1)], {}) if not model.needs else None
    if rows is None or not model.recipe.inputs.channels:
        return "as the recipe has it"
    x = next(iter(model.recipe.scoring_batches(model.samples(rows), 1)))[0]["x"]
    values = x[0, :4, x.shape[2] // 2].tolist()
    return "all zeros" if not any(values) else f"{', '.join(f'{value:g}' for value in values)}"


def scores_of(model: Model, run: RunFolder) -> Iterator[Shown]:
    """The scores that a run has written down: of its validation rows, with intervals, of its test rows, and of what it
    was evaluated on."""
    metrics = run.metrics()
    intervals = _validation_intervals(model, run)
    labels = {score.name: score for score in model.task.scores}
    for part, values in (("validation", metrics), ("test", metrics.get("test") or {})):
        for name, score in labels.items():
            value = values.get(name)
            if not isinstance(value, float):
                continue
            limits = intervals.get(name) if part == "validation" else None
            if limits and not math.isclose(limits[0], value, rel_tol=SAME, abs_tol=SAME):
                limits = None  # of what the run does not keep, such as bins
            shown = _text(value, limits and limits[1], score.digits)
            yield {"data": part, "n": values.get("n", "-"), "label": score.label, "text": shown} | {
                "name": name,
                "value": value,
            }
    yield from _evaluated(run, labels)


def _evaluated(run: RunFolder, labels: Mapping[str, Any]) -> Iterator[Shown]:
    """What `prixfixe evaluate` has written, with its intervals."""
    try:
        content = read_evaluation(run.evaluation_file)
    except InputError:
        return
    where = f"test set {Path(str(content.get('test_set', ''))).name}"
    for one in [*(content.get("subsets") or ()), *(content.get("tasks") or ())]:
        for name, score in labels.items():
            value = one.get(name)
            found, limits = (value.get("value"), value.get("interval")) if isinstance(value, dict) else (value, None)
            if isinstance(found, float):
                part = f"{where}: {printable(one['name'], 100)}"
                shown = _text(found, limits, score.digits)
                about = {"data": part, "n": one.get("n", "-"), "label": score.label, "text": shown}
                yield {**about, "name": name, "value": found}


def _validation_intervals(model: Model, run: RunFolder) -> dict[str, tuple[float, Any]]:
    """Each score of the kept predictions of the validation rows again, with its bootstrap interval; of one task."""
    if is_missing(run.validation_file) or model.task.predicts is None or len(model.tasks) > 1:
        return {}
    try:
        kept = read_predictions(run.validation_file)
        n = len(kept["measured"])
        rows = Measurements(Sequences.from_strings(["N"] * n), kept["measured"], model.tasks)
        of = evaluate_outputs(model.task, rows, {model.task.predicts: kept["predicted"]}, columns=model.tasks)
    except (InputError, KeyError, IndexError, ValueError):  # scores that need more than is kept
        return {}
    found = {}
    for name in (score.name for score in model.task.scores):
        value = of.tasks[0].value(name)
        if value is not None and np.isfinite(value):
            found[name] = (value, of.tasks[0].interval(name))
    return found


def _text(value: float, interval: Any, digits: int) -> str:
    low_high = f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]" if interval else ""
    return f"{value:.{digits}f}{low_high}"


def _choices(config: Mapping[str, Any], model: Model) -> dict[str, str]:
    network = model.network
    parts = {"recipe": model.recipe, "first": network.first, "core": network.core, "final": network.final}
    choices = config.get("choices") or {}
    return {slot: str(choices.get(slot) or type(part).__name__) for slot, part in parts.items()}


def _data(config: Mapping[str, Any], model: Predictor) -> list[tuple[str, str]]:
    """What the configuration says of the data, without this machine's folders."""
    settings = without_places(config.get("dataset") or {})
    name = (config.get("choices") or {}).get("dataset") or str(settings.get("_target_")).rpartition(".")[2]
    found = [("dataset", f"{name}{' (SIMULATED)' if model.simulated else ''}")]
    found += [(key, str(value)) for key, value in settings.items() if key != "_target_" and value is not None]
    return found


def _what(output: str | None, model: Predictor) -> str:
    if output is None:
        return "nothing a sequence: other runs start from its weights"
    remark = f" ({model.task.used_in_words(model.members[0].network.outputs)})" if model.remark else ""
    return f"`{output}`, one number a sequence{' and task' if len(model.tasks) > 1 else ''}{remark}"


def _construct(model: Predictor) -> str:
    built = model.construct
    if built is None:
        return "not kept by this run"
    ends = f"between {built.left or 'nothing'} and {built.right or 'nothing'}"
    shares = ", ".join(f"{letter} {share:.2f}" for letter, share in zip("ACGT", built.composition, strict=True))
    return f"an insert of about {built.insert:,} nt {ends}; its letters: {shares}"


def _inputs(one: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {about['shape']} {about['dtype']}" for name, about in one["inputs"].items())


def _left_out(members: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        "/".join(filter(None, (member["folder"], "sources", f"{sha256}.safetensors")))
        for member in members
        for sha256 in member.get("sources_left_out") or ()
    ]


def _metadata(model: Predictor, values: Mapping[str, Any], scores: Sequence[Shown]) -> dict[str, Any]:
    """As `huggingface_hub.ModelCardData` reads it."""
    kind = "tabular-classification" if values["units"] == UNITS["probability"] else "tabular-regression"
    simulated = ["simulated"] if model.simulated else []
    dataset = printable(dict(values["data"])["dataset"], 100)
    results: dict[tuple[str, str], Shown] = {}
    for score in scores:
        key = (score["member"], score["data"])
        about = {"name": f"{dataset}, {score['data']}, member {score['member']}", "type": "dna-sequences"}
        results.setdefault(key, {"task": {"type": kind}, "dataset": about, "metrics": []})
        metric = HUB_NAMES.get(score["name"], score["name"])
        results[key]["metrics"].append({"type": metric, "value": score["value"], "name": score["label"]})
    index = [{"name": values["title"], "results": list(results.values())}]
    return {
        "license": values["license"],
        "library_name": "prixfixe",
        "pipeline_tag": kind,
        "tags": ["prixfixe", "biology", "genomics", "dna", str(values["task"]), *simulated],
        "metrics": list(dict.fromkeys(HUB_NAMES.get(score["name"], score["name"]) for score in scores)),
        **({"model-index": index} if results else {}),
    }
