"""`prixfixe data download`: the public data, from Zenodo."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HELP = "download the public data, verify and unpack it"

DESCRIPTION = """\
Downloads a public data set from Zenodo into a folder, verifies size and checksum of every file, and unpacks archives:
  dream2022  yeast promoters of Rafi et al. 2024 (CC BY 4.0), all of record 10633252
  starrseq   fly enhancers of de Almeida et al. 2022: the six Sequences_* files of record 5502060, for dataset=starrseq
  lentimpra  human enhancers of Agarwal et al. 2025: human_mpra_data.tar.gz of record 10633252, for dataset=lentimpra
  atac       folds.zip and bias_models.zip of ChromBPNet, record 7443683, for dataset=atac
Given again, it fetches only what is missing and goes on where it was cut. Without a network it says what to fetch by
hand and where to put it. The environment variable PRIXFIXE_ZENODO may name another server that speaks Zenodo's API.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    parser.add_argument("dataset", choices=["dream2022", "starrseq", "lentimpra", "atac"], help="which data set")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder for the files")


def run(args: argparse.Namespace) -> int:
    from prixfixe.data.download import RECORDS, ZENODO, download

    base = os.environ.get("PRIXFIXE_ZENODO", ZENODO)
    record, names = RECORDS[args.dataset]
    for path in download(record, args.output, TerminalReporter(), names=names, base=base):
        print(path)
    return 0


class TerminalReporter:
    """Reports on standard error: a bar on a terminal, elsewhere a line every tenth of a file."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    @contextmanager
    def transfer(self, name: str, size: int, done: int) -> Iterator[Callable[[int], None]]:
        if not sys.stderr.isatty():
            yield self._lines(name, size, done)
            return
        from rich.console import Console
        from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        columns = (*Progress.get_default_columns()[:2], DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(name, total=size, completed=done)
            yield lambda done: progress.update(task, completed=done)

    def _lines(self, name: str, size: int, done: int) -> Callable[[int], None]:
        self.say(f"{name}: {'going on' if done else 'downloading'} at {done:,} of {size:,} bytes")
        tenths = 10 * done // max(size, 1)

        def show(done: int) -> None:
            nonlocal tenths
            if (now := 10 * done // max(size, 1)) > tenths:
                tenths = now
                self.say(f"{name}: {10 * tenths} %")

        return show
