"""How fast everything is, each figure beside what it is compared with in the same run and beside the limit.

    python benchmarks/speed [SECTION ...] [--quick] [--device auto] [-o benchmarks/speed.json]

Sections: input, training, inference, sweep, growth, grid, assays; all of them where none is named. Compare ratios:
rates depend on the machine and on what else it does. -o adds to what the file has of other sections.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parent.parent))

from figures import Figure, Options
from machine import machine
from rich.console import Console
from rich.table import Table

from prixfixe.common.files import write_json
from prixfixe.training.experiment import compute_deterministically
from prixfixe.training.settings import find_device

SECTIONS = {
    "input": "pipeline",
    "training": "training",
    "inference": "inference",
    "sweep": "sweep",
    "growth": "growth",
    "grid": "grid",
    "assays": "assays",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python benchmarks/speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument(
        "--quick", action="store_true", help="small and once: to see that everything works, not to be quoted"
    )
    parser.add_argument("--repeats", type=int, default=5, help="how often each figure is measured; medians count")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="a JSON file, which keeps what it has of other sections"
    )
    arguments = parser.parse_args()
    options = Options(find_device(arguments.device), arguments.quick, 1 if arguments.quick else arguments.repeats)
    if options.device.type == "cuda":
        compute_deterministically()  # as `prixfixe train` does
    for section in arguments.sections or SECTIONS:
        figures = importlib.import_module(SECTIONS[section]).measure(options)
        show(section, figures)
        if arguments.output:
            write_json(arguments.output, with_section(arguments.output, section, figures, options))


def show(section: str, figures: list[Figure]) -> None:
    console = Console(width=170, highlight=False)
    shown = Table(title=section, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for heading in ("", "", "compared", "gain", "limit", "of limit"):
        shown.add_column(heading, justify="left" if not shown.columns else "right", no_wrap=True)
    shown.add_column("", style="dim")
    for figure in figures:
        shown.add_row(
            figure.name,
            "not measured" if figure.value is None else f"{four_digits(figure.value)} {figure.unit}",
            four_digits(figure.compared),
            "" if figure.gain is None else f"{figure.gain:.3g} x",
            four_digits(figure.limit),
            "" if figure.limit is None or figure.value is None else f"{100 * figure.value / figure.limit:.3g} %",
            figure.note,
        )
    console.print(shown)
    for words, sources in (
        ("compared with", [f.compared_with for f in figures]),
        ("limit:", [f.limited_by for f in figures]),
    ):
        for source in dict.fromkeys(filter(None, sources)):
            console.print(f"  {words} {source}", style="dim")
    console.print()


def four_digits(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def with_section(path: Path, section: str, figures: list[Figure], options: Options) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"sections": {}}
    device = torch.cuda.get_device_name(options.device) if options.device.type == "cuda" else "cpu"
    threads = torch.get_num_threads()
    content["sections"][section] = {
        **machine("torch", "numpy"),
        "command": f"python benchmarks/speed {section}" + (" --quick" if options.quick else ""),
        "device": device,
        "threads": threads,
        "figures": [{name: rounded(value) for name, value in asdict(f).items() if value is not None} for f in figures],
    }
    return content


def rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
