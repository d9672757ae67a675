"""DeepLIFT/SHAP (Shrikumar et al. 2017; Lundberg & Lee 2017) through tangermeme, where every operation has a rule.

tangermeme corrects the gradient of modules that it knows (ReLU, SiLU, layer norm, ...) and takes everything else as
linear. What is neither, such as an LSTM, attention, a softmax inside a forward pass, or the product of squeeze and
excitation, would be wrong without a word. So the operations of a forward pass are looked at one by one.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prixfixe.common.errors import InputError
from prixfixe.common.extras import extra_module
from prixfixe.common.text import counted, printable
from prixfixe.inference.tangermeme_model import TangermemeModel

SHUFFLES = 20  # references of a sequence
PAIRS_AT_ONCE = 32  # of a sequence and a reference

# Operations by autograd's names: linear in what they are given, and those that are where only one factor depends on it.
LINEAR = frozenset(
    (
        *("Add", "Alias", "AsStrided", "Cat", "Clone", "ConstantPadNd", "Copy", "CudnnBatchNorm", "Expand", "Flip"),
        *("Index", "IndexSelect", "Mean", "NativeBatchNorm", "Neg", "Permute", "Repeat", "ReshapeAlias", "Roll"),
        *("Select", "Slice", "Split", "SplitWithSizes", "Squeeze", "Stack", "Sub", "Sum", "T", "ToCopy", "Transpose"),
        *("Unbind", "Unfold", "UnsafeSplit", "UnsafeView", "Unsqueeze", "View", "AvgPool1D", "AvgPool2D"),
    )
)
PRODUCTS = frozenset(
    ("Addbmm", "Addmm", "Baddbmm", "Bmm", "Convolution", "Linear", "MkldnnConvolution", "Mm", "Mul", "Mv")
)


def rules() -> dict[type[nn.Module], Any]:
    """tangermeme's: a kind of module and how it is corrected."""
    utils = extra_module("tangermeme._deep_lift_utils", "interpret", "DeepLIFT")
    return dict(utils._build_nonlinear_ops())


def operations_without_rule(model: TangermemeModel) -> list[str]:
    """What in a forward pass is neither linear nor has a rule, with the module where it is, each once."""
    device = model.unknown.codes.device
    x = torch.full((2, 4, model.length), 0.25, device=device, requires_grad=True)
    columns = [_zeros(model, name, device) for name in model.names]
    made_by: dict[Any, tuple[str, nn.Module]] = {}
    inside: list[set[Any]] = []
    handles = []

    def entered(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        inside.append(set(_functions(inputs)))

    def left(name: str) -> Any:
        def noted(module: nn.Module, inputs: Any, output: Any) -> None:
            before = inside.pop()
            for function in _walk(_functions(output), before):
                made_by.setdefault(function, (name, module))  # the innermost module, which is left first

        return noted

    for name, module in model.network.named_modules():
        handles += [module.register_forward_pre_hook(entered), module.register_forward_hook(left(name))]
    was_training = model.network.training
    try:
        model.network.eval()
        with torch.enable_grad():
            end = model(x, *columns)
    finally:
        model.network.train(was_training)
        for handle in handles:
            handle.remove()
    known, found = rules(), set()
    depends = _depending(end.grad_fn, x)
    for function in depends:
        kind = re.sub(r"Backward\d*$", "", function.name())
        name, module = made_by.get(function, ("the task", model.network))
        factors = sum(following in depends for following, _ in function.next_functions)
        if type(module) in known or kind in LINEAR or (kind in PRODUCTS and factors <= 1):
            continue
        if kind == "Div" and not (len(function.next_functions) > 1 and function.next_functions[1][0] in depends):
            continue
        found.add(f"{kind} in {name}" if name else f"{kind} in the network")
    return sorted(found)


def _zeros(model: TangermemeModel, name: str, device: torch.device) -> Tensor:
    spec = model.task.spec.columns[name]
    return torch.zeros((2, *spec.shape), dtype=spec.dtype, device=device)


def _functions(values: Any) -> Iterator[Any]:
    """The operations that made tensors, of any nesting."""
    if isinstance(values, Tensor):
        if values.grad_fn is not None:
            yield values.grad_fn
    elif isinstance(values, dict):
        yield from _functions(list(values.values()))
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _functions(value)
    elif hasattr(values, "outputs"):
        yield from _functions(values.outputs)


def _walk(starts: Iterator[Any], stop: set[Any]) -> Iterator[Any]:
    """Operations from the given ones back, without those of `stop` and what lies behind these."""
    waiting, seen = list(starts), set(stop)
    while waiting:
        function = waiting.pop()
        if function in seen:
            continue
        seen.add(function)
        yield function
        waiting += [following for following, _ in function.next_functions if following is not None]


def _depending(end: Any, x: Tensor) -> set[Any]:
    """The operations between x and the end."""
    every = list(_walk(iter([end]), set()))
    after: dict[Any, list[Any]] = {}
    leaves = []
    for function in every:
        for following, _ in function.next_functions:
            if following is not None:
                after.setdefault(following, []).append(function)
        if getattr(function, "variable", None) is x:
            leaves.append(function)
    depends: set[Any] = set()
    waiting = [function for leaf in leaves for function in after.get(leaf, [])]
    while waiting:
        function = waiting.pop()
        if function not in depends:
            depends.add(function)
            waiting += after.get(function, [])
    return depends


def check_rules(model: TangermemeModel, name: str) -> None:
    """InputError where an operation has no rule."""
    if without := operations_without_rule(model):
        some = ", ".join(printable(one, 80) for one in without[:3])
        more = f" and {len(without) - 3} more" if len(without) > 3 else ""
        raise InputError(
            f"{name}: DeepLIFT has no rule for {some}{more}; use --method integrated, whose sums agree for every "
            "network, or mutagenesis"
        )


def references(x: Tensor, seed: int) -> Tensor:
    """Dinucleotide-shuffled sequences: (B, SHUFFLES, 4, L). A sequence's depend on the seed alone, not on the others.

    x: one-hot, (B, 4, L), without N. Warns where a shuffle equals its sequence, as of a periodic one.
    """
    ersatz = extra_module("tangermeme.ersatz", "interpret", "DeepLIFT")
    seeds = [seed + number for number in range(SHUFFLES)] * len(x)
    each = ersatz.dinucleotide_shuffle(x.cpu().repeat_interleave(SHUFFLES, dim=0), n=1, random_state=seeds)
    shuffled: Tensor = each.view(len(x), SHUFFLES, *x.shape[1:])
    same = (shuffled == x.cpu()[:, None]).all(dim=3).all(dim=2).sum(dim=1)
    if int((same > 0).sum()):
        warnings.warn(
            f"{counted(int((same > 0).sum()), 'sequence')} equal {counted(int(same.sum()), 'of their shuffle')}: a "
            "periodic or short sequence has few orders of its dinucleotides, and such a reference explains nothing",
            stacklevel=2,
        )
    return shuffled


def deeplift(
    model: TangermemeModel,
    x: Tensor,
    columns: Sequence[Tensor],
    task: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """What each base would add at each position, beside the mean reference, (B, 4, L), and the error of the sum: the
    mean over references of how far it is from the difference of the predictions, (B,)."""
    library = extra_module("tangermeme.deep_lift_shap", "interpret", "DeepLIFT")
    shuffled = references(x, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sums that do not agree: told with their size, a row each
        multipliers = library.deep_lift_shap(
            model,
            x.cpu(),
            args=tuple(columns) or None,
            target=task,
            batch_size=PAIRS_AT_ONCE,
            references=shuffled,
            raw_outputs=True,
            device=str(x.device),
        )
    difference = x.cpu()[:, None] - shuffled
    sums = (difference * multipliers).sum(dim=(2, 3))
    with torch.no_grad():
        own = model(x, *columns)[:, task, None].cpu()
        repeated = [column.repeat_interleave(SHUFFLES, dim=0) for column in columns]
        theirs = model(shuffled.flatten(0, 1).to(x.device), *repeated)[:, task].cpu().view(len(x), -1)
    error = (sums - (own - theirs)).abs().mean(dim=1)
    hypothetical = multipliers - (shuffled * multipliers).sum(dim=2, keepdim=True)
    return hypothetical.mean(dim=1), error
