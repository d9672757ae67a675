"""Windows of a genome: sequences alone, nothing is measured. A language model is trained on them (task=masked)."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Gt, Lt

from prixfixe.common.errors import InputError
from prixfixe.common.text import counted, printable
from prixfixe.contract import Count, Share
from prixfixe.data.datasets import Dataset, Split, enough
from prixfixe.data.fasta import fasta_blocks, is_fasta
from prixfixe.data.measurements import Measurements
from prixfixe.data.near_duplicates import STRETCH, near_duplicates
from prixfixe.data.sequences import N, Sequences, Windows
from prixfixe.data.streams import open_text

WINDOWS = 1  # counts up when other windows are cut, or held out, than before
PIECE = 1 << 16  # letters of a training chromosome that near-duplicates are looked up in at a time
HEAD = 1 << 16  # bytes, in which a FASTA's first sequence begins
NAMES_SHOWN = 20


class Genome(Dataset):
    """Windows of the sequences (chromosomes) of a FASTA file, plain or compressed.

    path: letters are A C G T N in either case; other codes are refused, as in all FASTA that is read here.
    window: nucleotides of each. stride: nucleotides from the begin of one window to that of the next. What is left at
    the end of a sequence, and sequences shorter than a window, are in none.
    most_unknown: windows in which a larger share is N are left out, and counted.
    validation: names of whole sequences to validate on, so that no window overlaps one that is trained on. None: the
    last ones of the file, as many as come nearest to `validation_fraction` of the letters, at least one; of a file with
    one sequence its end, without the windows that reach across.

    Windows that overlap share their letters in memory: a byte a letter of the genome, 12 bytes a window, and 24 more
    for its region. On the training device a recipe holds each window by itself, as it does all sequences: windows times
    its length in bytes.
    """

    def __init__(
        self,
        *,
        path: str,
        window: Count,
        stride: Count,
        most_unknown: Share,
        validation: str | list[str] | None,
        validation_fraction: Annotated[float, Gt(0), Lt(1)],
    ) -> None:
        self.path = os.path.expanduser(path)
        self.window, self.stride, self.most_unknown = window, stride, most_unknown
        self.validation = [validation] if isinstance(validation, str) else validation
        self.validation_fraction = validation_fraction

    def read(self) -> Split:
        with open_text(self.path) as stream:
            if not is_fasta(stream.read(HEAD)):
                raise InputError(f"{printable(self.path)} is no FASTA: its first line must begin with >")
        blocks, names = [], list[str]()
        for sequences, some_names in fasta_blocks(Path(self.path)):
            blocks.append(sequences)
            names += some_names
        chromosomes = Sequences.concatenate(blocks)
        return windows_of(
            chromosomes,
            names,
            where=self.path,
            window=self.window,
            stride=self.stride,
            most_unknown=self.most_unknown,
            validation=self.validation,
            validation_fraction=self.validation_fraction,
        )


def windows_of(
    chromosomes: Sequences,
    names: list[str],
    *,
    where: str,
    window: int,
    stride: int,
    most_unknown: float,
    validation: list[str] | None,
    validation_fraction: float,
    simulated: bool = False,
) -> Split:
    """The windows of whole sequences as a training and a validation part, of which no letter is in both; as `Genome`
    says. `regions` are where each window lies: the number of its sequence, and its first and past-the-end position.

    where: the file's name. Raises InputError where one of the parts has too few windows.
    """
    number, first, unknown = cut_windows(chromosomes, window, stride, most_unknown)
    regions = np.stack([number, first, first + window], axis=1)
    held_out, across, said = chosen_for_validation(chromosomes, names, regions, validation, validation_fraction, where)
    stored = Windows(chromosomes.letters, chromosomes.starts[number] + first, np.full(len(first), window, np.int32))
    everything = Measurements(stored, np.empty((len(stored), 0)), tasks=(), regions=regions)
    train, validated = everything[~held_out & ~across], everything[held_out]
    if not len(train):
        raise InputError(
            f"{where}: no window of {window} nt is left to train on: choose a shorter window, or hold out less"
        )
    enough(validated, where, "validate")
    short = int((np.asarray(chromosomes.lengths) < window).sum())
    said += [f"{counted(short, 'sequence')} of {where} shorter than a window ({window} nt) left out"] if short else []
    if unknown:
        said.append(f"{counted(unknown, 'window')} of {where} left out: more than {most_unknown:.0%} of each is N")
    near = near_duplicates(validated.sequences, pieces(chromosomes, train.regions))
    if near.count:
        said.append(
            f"{near.text('validation window')} share a stretch of {STRETCH} nt or more with what is trained on: "
            "repeats of the genome, of which the scores tell as well"
        )
    digest = hashlib.sha256(np.ascontiguousarray(chromosomes.letters).data)
    for array in (chromosomes.lengths, regions[held_out], regions[across]):
        digest.update(np.ascontiguousarray(array).tobytes())
    kind = "simulated genome" if simulated else "genome"
    return Split(
        train,
        validated,
        content=f"{kind} version={WINDOWS} {digest.hexdigest()} window={window} stride={stride} N={most_unknown}",
        simulated=simulated,
        warnings=tuple(said),
        near_duplicates=near.share,
    )


def cut_windows(
    chromosomes: Sequences, window: int, stride: int, most_unknown: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """The number of the sequence and the first position in it of each window, int64 (n,) both, without those of which a
    larger share than `most_unknown` is N; and how many these are."""
    numbers, firsts, left_out = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    for number, (start, length) in enumerate(
        zip(chromosomes.starts.tolist(), chromosomes.lengths.tolist(), strict=True)
    ):
        first = np.arange(0, length - window + 1, stride)
        at = np.flatnonzero(chromosomes.letters[start : start + length] == N)
        known = np.searchsorted(at, first + window) - np.searchsorted(at, first) <= most_unknown * window
        left_out += int((~known).sum())
        firsts.append(first[known])
        numbers.append(np.full(len(firsts[-1]), number))
    return np.concatenate(numbers), np.concatenate(firsts), left_out


def chosen_for_validation(
    chromosomes: Sequences,
    names: list[str],
    regions: np.ndarray,
    wanted: list[str] | None,
    fraction: float,
    where: str,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Which windows are held out and which are neither held out nor trained on, bool (n,) both; and what is to be said
    of it."""
    lengths = np.asarray(chromosomes.lengths, dtype=np.int64)
    nothing = np.zeros(len(regions), dtype=bool)
    with_windows = np.unique(regions[:, 0])
    if not len(with_windows):
        raise InputError(f"{where} has no sequence that holds a window: choose a shorter window")
    if wanted is not None:
        if missing := [name for name in wanted if name not in names]:
            have = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
            raise InputError(
                f"dataset.validation: {where} has no sequence {printable(', '.join(missing), 200)}; it has {have}"
            )
        chosen = [number for number, name in enumerate(names) if name in wanted]
        return np.isin(regions[:, 0], chosen), nothing, []
    if len(with_windows) == 1:
        cut = round(int(lengths[with_windows[0]]) * (1 - fraction))
        held_out = regions[:, 1] >= cut
        said = f"{where} has one sequence that holds a window: validated on what follows its first {cut:,} nt"
        return held_out, ~held_out & (regions[:, 2] > cut), [said]
    shares = np.cumsum(lengths[with_windows][::-1]) / lengths[with_windows].sum()  # of the last one, the last two, ...
    count = 1 + int(np.abs(shares[:-1] - fraction).argmin())
    last = with_windows[-count:].tolist()
    shown = ", ".join(names[number] for number in last[:NAMES_SHOWN]) + (", ..." if count > NAMES_SHOWN else "")
    said = f"validated on the last sequences of {where}: {shown} ({shares[count - 1]:.1%} of the letters)"
    return np.isin(regions[:, 0], last), nothing, [said]


def pieces(chromosomes: Sequences, regions: np.ndarray | None) -> Sequences:
    """What the windows at `regions` cover of each sequence, from the first to the last, in pieces."""
    assert regions is not None
    begins, lengths = [], []
    for number in np.unique(regions[:, 0]).tolist():
        of_one = regions[regions[:, 0] == number]
        first, end = int(of_one[:, 1].min()), int(of_one[:, 2].max())
        starts = np.arange(first, end, PIECE)
        begins.append(int(chromosomes.starts[number]) + starts)
        lengths.append(np.minimum(starts + PIECE, end) - starts)
    flat = np.concatenate(lengths).astype(np.int32)
    return Windows(chromosomes.letters, np.concatenate(begins), flat)
