"""A run's network for other programs: ONNX (`model.onnx`) and torch.export (`model.pt2`), compared before kept.

An exported file takes the keys of a batch as the recipe encodes them and gives what `Model.predict` gives: in eval
mode, strands combined as the task combines them, in the measurement's own units. The number of rows is free, the
length is the recipe's. A file is kept only where it predicts what the network does.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prixfixe.common.errors import InputError
from prixfixe.common.extras import extra_module
from prixfixe.common.text import printable
from prixfixe.contract import Prediction
from prixfixe.data.measurements import Measurements
from prixfixe.inference.model import Model

FILES = {"onnx": "model.onnx", "torch_export": "model.pt2"}
BATCHES = (1, 3)  # rows at a time when a file is compared
MOST_ROWS = 1 << 16  # at a time
OPSET = 20
TOLERANCE, DIGITS = 1e-4, 1e-6  # of the outputs' spread; of the largest, for float32's last digits


@dataclass(frozen=True)
class Exported:
    """A file that was written, and how far its outputs are from the network's.

    inputs: by name the shape of a row and its kind of number. output: the name of its one output.
    largest_difference: of any output, in its own units, on so many sequences. spread: of the network's outputs.
    """

    kind: str
    file: str
    inputs: dict[str, dict[str, Any]]
    output: str
    largest_difference: float
    spread: float
    sequences: int


class Whole(nn.Module):
    """The keys of all views (strands) of a batch, each (B, ...), -> the prediction that a task combines them to.
    reverse: of each view, whether it is the reverse complement.

    Both strands go through the network as one batch: in eval mode no row tells of another.
    """

    def __init__(self, model: Model, keys: Sequence[str], reverse: Sequence[bool]) -> None:
        super().__init__()
        self.network, self.output, self.keys, self.reverse = model.network, model.predicted, tuple(keys), reverse
        self.views, self.combine = len(reverse), model.task.combine

    def forward(self, *tensors: Tensor) -> Tensor:
        count, rows = len(self.keys), tensors[0].shape[0]
        batches = [dict(zip(self.keys, tensors[v * count : (v + 1) * count], strict=True)) for v in range(self.views)]
        together = {key: torch.cat([batch[key] for batch in batches]) for key in self.keys}
        outputs = self.network(together).outputs
        views = [
            Prediction(**{name: output[view * rows : (view + 1) * rows] for name, output in outputs.items()})
            for view in range(self.views)
        ]
        for batch, reverse in zip(batches, self.reverse, strict=True):
            batch["reverse"] = torch.full((rows,), reverse, dtype=torch.bool)
        return self.combine(views, batches)[self.output].float()


def export(model: Model, rows: Measurements, kind: str, folder: Path) -> Exported:
    """Writes the file of a kind (see `FILES`) into a folder. rows: at least 3, on which it is compared.

    Raises InputError where the network does not export, and says why, or where the file predicts anything else; no
    file is there then. On the CPU; a model that is elsewhere is refused.
    """
    if model.device.type != "cpu":
        raise InputError(f"{model.name} is on {model.device}: export it on the CPU, with --device cpu")
    tensors, names, keys, reverse = encoded(model, rows)
    whole, file = Whole(model, keys, reverse).eval(), folder / FILES[kind]
    with torch.no_grad():
        expected = whole(*tensors).numpy()
    examples = tuple(tensor[: max(BATCHES)] for tensor in tensors)
    dynamic = (tuple({0: torch.export.Dim("batch", min=1, max=MOST_ROWS)} for _ in tensors),)
    run = WRITERS[kind](whole, examples, dynamic, names, file, model)
    found = np.concatenate([batch for size in BATCHES for batch in _in_batches(run, tensors, size)])
    wanted = np.concatenate([expected] * len(BATCHES))
    spread = float(expected.std(axis=0).min())
    difference = float(np.abs(found - wanted).max()) if found.shape == wanted.shape else np.inf
    if not difference <= allowed(expected):
        file.unlink()
        raise InputError(
            f"{model.name}: {file.name} predicts what differs by {difference:.3g} from the network itself, whose "
            f"predictions spread by {spread:.3g}: it is not kept; other versions of torch and onnxruntime may do better"
        )
    facts = {}
    for name, tensor in zip(names, tensors, strict=True):
        facts[name] = {"shape": list(tensor.shape[1:]), "dtype": str(tensor.dtype).removeprefix("torch.")}
    return Exported(kind, file.name, facts, model.predicted, difference, spread, len(expected))


def allowed(expected: np.ndarray) -> float:
    """How far predictions (n, ...) of the same model may be off elsewhere: 1e-4 of their spread, and float32's last
    digits."""
    return float(TOLERANCE * expected.std(axis=0).min() + DIGITS * np.abs(expected).max())


def encoded(model: Model, rows: Measurements) -> tuple[list[Tensor], list[str], list[str], list[bool]]:
    """The tensors of rows as an exported file takes them, their names (x, or x_forward and x_reverse), the keys of the
    batch that they are, and of each view that a row has whether it is the reverse complement."""
    batches = next(iter(model.recipe.scoring_batches(model.samples(rows), len(rows), model.network.columns)))
    taken = {key for keys in model.network.takes.values() for key in keys}
    keys = ["x", *sorted(key for key in batches[0] if key in taken and key != "x")]
    tensors, names = [], []
    for batch, strand in zip(batches, ("_forward", "_reverse") if len(batches) > 1 else ("",), strict=True):
        tensors += [batch[key].contiguous() for key in keys]
        names += [f"{key}{strand}" for key in keys]
    return tensors, names, keys, [bool(batch["reverse"].any()) for batch in batches]


def _in_batches(run: Callable[[list[Tensor]], np.ndarray], tensors: list[Tensor], size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(tensors[0]), size):
        yield run([tensor[start : start + size] for tensor in tensors])


def _write_onnx(
    whole: Whole, examples: tuple[Tensor, ...], dynamic: Any, names: list[str], file: Path, model: Model
) -> Callable[[list[Tensor]], np.ndarray]:
    onnx = extra_module("onnx", "onnx", "--onnx")
    extra_module("onnxscript", "onnx", "--onnx")
    runtime = extra_module("onnxruntime", "onnx", "--onnx")
    with _refused(model, "ONNX"):
        program = torch.onnx.export(
            whole,
            examples,
            dynamo=True,
            dynamic_shapes=dynamic,
            input_names=names,
            output_names=[whole.output],
            opset_version=OPSET,
            verbose=False,
        )
        assert program is not None
        proto = program.model_proto
        _without_places(proto)
        onnx.checker.check_model(proto)
        file.write_bytes(proto.SerializeToString(deterministic=True))
        session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(tensors: list[Tensor]) -> np.ndarray:
        given = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
        return np.asarray(session.run(None, given)[0])

    return run


def _without_places(proto: Any) -> None:
    """Removes what the exporter notes of where code lies on this machine."""
    for holder in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.functions):
        del holder.metadata_props[:]
        holder.doc_string = ""
    for function in proto.functions:
        for holder in (*function.node, *function.value_info):
            del holder.metadata_props[:]
            holder.doc_string = ""
    for holder in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del holder.metadata_props[:]
        holder.doc_string = ""


def _write_torch_export(
    whole: Whole, examples: tuple[Tensor, ...], dynamic: Any, names: list[str], file: Path, model: Model
) -> Callable[[list[Tensor]], np.ndarray]:
    with _refused(model, "torch.export"):
        program = torch.export.export(whole, examples, dynamic_shapes=dynamic)
        for module in program.graph_module.modules():
            for node in getattr(getattr(module, "graph", None), "nodes", ()):
                node.meta.pop("stack_trace", None)  # where code lies on this machine
        torch.export.save(program, file)
        loaded = torch.export.load(file).module()  # written by this very process

    def run(tensors: list[Tensor]) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(loaded(*tensors).numpy())

    return run


WRITERS: dict[str, Any] = {"onnx": _write_onnx, "torch_export": _write_torch_export}


@contextmanager
def _refused(model: Model, what: str) -> Iterator[None]:
    """Inside, whatever torch raises becomes an InputError with its reason; its notes to developers are not shown."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Exception as error:  # of torch's compiler, of many kinds
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        reason = printable(" ".join(lines[:3]) or type(cause).__name__, 400)
        raise InputError(f"{model.name} does not export to {what}: {reason}") from error
    finally:
        logging.disable(level)
