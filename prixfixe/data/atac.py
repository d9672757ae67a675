"""Windows around peaks of accessible chromatin and negatives beside them, with the insertions at every position: the
files that ChromBPNet reads (Pampari et al. 2023)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge, Gt, Le, Lt

from prixfixe.common.errors import InputError
from prixfixe.common.text import counted, printable
from prixfixe.contract import Count
from prixfixe.data.datasets import TEST, Dataset, Split, enough
from prixfixe.data.gc_matched import BIN, drawn_negatives
from prixfixe.data.insertions import BigWig, Insertions, check_counts, open_bigwig
from prixfixe.data.measurements import Measurements
from prixfixe.data.near_duplicates import STRETCH, NearDuplicates, near_duplicates
from prixfixe.data.peaks import PARTS, Places, parts_of, read_folds, read_places
from prixfixe.data.prepared import content_hash, remembered
from prixfixe.data.reference import Genome, called, open_reference
from prixfixe.data.tables import chromosome_number
from prixfixe.data.tn5 import check_shift
from prixfixe.data.windows import windows_at

VERSION = 2  # counts up when other windows are cut, drawn or left out than before


class Rows(NamedTuple):
    """What is known of each window before it is cut: int64 (n,) both; bool (n,); the number of its part in PARTS."""

    chromosome: np.ndarray
    centre: np.ndarray
    is_peak: np.ndarray
    part: np.ndarray

    def of(self, chosen: np.ndarray) -> Rows:
        return Rows(*(column[chosen] for column in self))


Track = tuple[BigWig, list[str]]  # the file, and what it calls each chromosome of the genome


class Atac(Dataset):
    """Columns `profile`, insertions read from the bigWig by the row, float32 (positions + margins,), and `is_peak`.

    genome: FASTA, plain or bgzip. bigwig: of the counts of 5' ends on both strands. peaks, negatives: 10-column
    narrowPeak, whose windows lie around start + column 10, or a BED, around the middle. negatives None: as many windows
    with the G + C contents of the peaks are drawn, of each part from its own chromosomes, that touch no peak, no
    window of a peak and nothing of the BED `excluded`, and hold no N.
    Of the same window among peaks, or among negatives, one is kept. Given negatives are refused where the profiles of
    more than half overlap those of peaks.
    folds: JSON with lists of chromosomes, `train`, `valid` and `test`; the rows of all other chromosomes are left out.
    window, positions: nucleotides of a sequence and of its profile. Training rows have margins of `jitter` on either
    side of both. What lies beyond a chromosome's ends is N and has no insertion.
    outliers: rows of training and validation whose totals are among this share at either end are left out.
    bias_threshold: for a bias model, negatives alone are trained and validated on: those with a total below this times
    the 1st percentile of the totals of peaks (0.5 in Pampari et al. 2023).
    tests: `test`, all rows of its chromosomes, or for a bias model the negatives among them; `peaks`, the peaks alone.
    shift: what the bigWig says that plus and minus strand were moved by, [4, -4]; it is compared with the Tn5 motif
    around the insertions (`prixfixe.data.tn5`). None: of another enzyme, or not known.
    Of the sequences a byte a letter of every window is in memory.
    """

    simulated = False

    def __init__(
        self,
        *,
        genome: str,
        bigwig: str,
        peaks: str,
        negatives: str | None,
        excluded: str | None,
        folds: str,
        window: Count,
        positions: Count,
        jitter: Annotated[int, Ge(0), Le(100_000)],
        outliers: Annotated[float, Ge(0), Lt(0.5)],
        bias_threshold: Annotated[float, Gt(0)] | None,
        whole_numbers: bool,
        shift: list[int] | None,
        seed: Annotated[int, Ge(0)],
    ) -> None:
        if positions > window or (window - positions) % 2:
            raise InputError(
                f"dataset.window={window} dataset.positions={positions}: the profile lies in the middle of the window, "
                "with as many nucleotides on either side"
            )
        if shift is not None and len(shift) != 2:
            raise InputError(f"dataset.shift={shift}: of the plus and of the minus strand, [4,-4], or null")
        if negatives is not None and excluded is not None:
            raise InputError(
                "dataset.negatives and dataset.excluded: negatives are given, so none are drawn, and nothing is "
                "excluded; leave one of them out"
            )
        files = {"genome": genome, "bigwig": bigwig, "peaks": peaks, "negatives": negatives, "excluded": excluded}
        self.files = {name: None if path is None else os.path.expanduser(path) for name, path in files.items()}
        self.folds = os.path.expanduser(folds)
        self.window, self.positions, self.jitter, self.outliers = window, positions, jitter, outliers
        self.bias_threshold, self.whole_numbers, self.shift, self.seed = bias_threshold, whole_numbers, shift, seed

    def read(self) -> Split:
        self._prepare()
        of_part = read_folds(Path(self.folds))
        content = self._content(of_part)
        said: list[str] = []
        with ExitStack() as stack:
            genome = stack.enter_context(open_reference(Path(self._file("genome"))))
            if not isinstance(genome, Genome):
                raise InputError(f"{self._named('genome')} holds fragments: windows are cut from whole chromosomes")
            chromosomes = list(genome.lengths)
            parts = parts_of(chromosomes, of_part, genome, self.folds)
            peaks = self._places("peaks", genome, said)
            negatives = self._negatives(peaks, parts, genome, content, said)
            bigwig = open_bigwig(self._file("bigwig"))
            in_bigwig = self._bigwig_names(bigwig, genome, np.flatnonzero(parts >= 0))
            check_counts(bigwig, whole_numbers=self.whole_numbers)
            track = (bigwig, in_bigwig)
            rows = self._rows(peaks, negatives, parts, genome, said)
            rows = self._filtered(rows, track, content, said)
            cut = {name: rows.of(rows.part == place) for place, name in enumerate(PARTS)}
            measured = {name: self._measured(some, name, genome, track) for name, some in cut.items()}
        train, validation, test = (measured[name] for name in PARTS)
        if not len(train):
            raise InputError(f"no row is left to train on: {'; '.join(said)}")
        enough(validation, f"the chromosomes valid of {printable(self.folds)}", "validate")
        tests = {}
        if len(test):
            is_peak = test.columns["is_peak"]
            tests = {TEST: test if self.bias_threshold is None else test[~is_peak], "peaks": test[is_peak]}
            for name, part in tests.items():
                enough(part, f"the chromosomes test of {printable(self.folds)}, {name}", "test")
        else:
            said.append(f"no row is on a chromosome test of {printable(self.folds)}: nothing is tested")
        if self.shift is not None:
            said += check_shift(train, (self.shift[0], self.shift[1]), content)
        near = self._near(validation, train, content)
        if near.count:
            said.append(
                f"{near.text('validation window')} share a stretch of {STRETCH} nt or more with a training window: "
                "repeats of the genome, of which the scores tell as well"
            )
        return Split(
            train,
            validation,
            content,
            simulated=self.simulated,
            warnings=tuple(said),
            near_duplicates=near.share,
            tests=tests,
        )

    def _prepare(self) -> None:
        """Makes the files, where they are simulated."""

    def _file(self, name: str) -> str:
        path = self.files[name]
        assert path is not None
        return path

    def _named(self, name: str) -> str:
        return printable(self._file(name))

    def _content(self, of_part: Mapping[str, str]) -> str:
        """A hash of everything that decides what is read; its first word is the genome's, whose chromosomes `regions`
        number."""
        hashes = [f"{name}={content_hash(path)}" for name, path in self.files.items() if path is not None]
        settings = [self.window, self.positions, self.jitter, self.outliers, self.bias_threshold, self.whole_numbers]
        text = json.dumps([VERSION, settings, self.seed, sorted(of_part.items())])
        return f"{hashes[0]} atac {' '.join(hashes[1:])} {hashlib.sha256(text.encode()).hexdigest()}"

    def _places(self, name: str, genome: Genome, said: list[str]) -> Places:
        """The regions of a file, each window once."""
        read = read_places(Path(self._file(name)), genome)
        lengths = np.array(list(genome.lengths.values()))[read.chromosome]
        if beyond := int(((read.chromosome >= 0) & (read.stop > lengths)).sum()):
            said.append(f"{self._named(name)}: {counted(beyond, 'region')} with an end beyond the chromosome's")
        places = read.without_repeats()
        if repeats := len(read) - len(places):
            said.append(f"{self._named(name)}: {counted(repeats, 'repeat')} of the same window left out")
        return places

    def _negatives(
        self, peaks: Places, parts: np.ndarray, genome: Genome, content: str, said: list[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Chromosomes and centres of the negatives: int64 (m,) both."""
        if self.files["negatives"] is not None:
            places = self._places("negatives", genome, said)
            if overlapping := int(places.overlap(peaks, self.positions).sum()):
                what = (
                    f"{self._named('negatives')}: the profiles ({self.positions} positions) of {overlapping:,} of "
                    f"{counted(len(places), 'negative')} overlap those of peaks"
                )
                if overlapping > len(places) / 2:
                    raise InputError(f"{what}: give regions that are no peaks, or none, and they are drawn")
                said.append(what)
            return places.chromosome, places.centre
        barred = None if self.files["excluded"] is None else read_places(Path(self._file("excluded")), genome)

        def draw() -> dict[str, Any]:
            drawn = drawn_negatives(peaks, barred, parts, genome, self.window, self.positions, self.seed)
            return {"negatives": _packed(drawn)}

        chromosome, centre = _unpacked(remembered({"negatives": VERSION, "content": content}, draw)["negatives"])
        wanted = int((parts[peaks.chromosome[peaks.chromosome >= 0]] >= 0).sum())
        said.append(
            f"{len(centre):,} negatives drawn for {counted(wanted, 'peak')}, of the same G + C contents in steps of "
            f"{BIN:.0%}, which touch no peak"
        )
        return chromosome, centre

    def _bigwig_names(self, bigwig: BigWig, genome: Genome, used: np.ndarray) -> list[str]:
        """What the bigWig calls each chromosome of the genome; empty for those that are not used. InputError where its
        chromosomes are others."""
        lengths = bigwig.lengths
        names = [""] * len(genome.lengths)
        for number in used.tolist():
            name, length = list(genome.lengths.items())[number]
            found = called(name, lengths)
            if found is None or lengths[found] != length:
                what = "has no such chromosome" if found is None else f"says {lengths[found]:,} nt"
                raise InputError(
                    f"{self._named('genome')}: {printable(name, 60)} has {length:,} nt, and {self._named('bigwig')} "
                    f"{what}: both must be of one genome, in the same version"
                )
            names[number] = found
        return names

    def _rows(
        self,
        peaks: Places,
        negatives: tuple[np.ndarray, np.ndarray],
        parts: np.ndarray,
        genome: Genome,
        said: list[str],
    ) -> Rows:
        """Peaks and negatives of the parts by their places in the genome."""
        chromosome = np.concatenate([peaks.chromosome, negatives[0]])
        centre = np.concatenate([peaks.centre, negatives[1]])
        is_peak = np.arange(len(centre)) < len(peaks)
        part = np.where(chromosome < 0, -1, parts[chromosome])
        order = np.lexsort((~is_peak, centre, chromosome))
        rows = Rows(chromosome, centre, is_peak, part).of(order)
        if out := int((part < 0).sum()):
            said.append(f"{counted(out, 'window')} on chromosomes in none of the lists of {printable(self.folds)}")
        rows = rows.of(rows.part >= 0)
        lengths = np.array(list(genome.lengths.values()))[rows.chromosome]
        first = rows.centre - self.window // 2
        if off := int(((first < 0) | (first + self.window > lengths)).sum()):
            said.append(f"{counted(off, 'window')} reach beyond a chromosome's end, and are filled with N there")
        return rows

    def _filtered(self, rows: Rows, track: Track, content: str, said: list[str]) -> Rows:
        """Without the outliers, and for a bias model without peaks and what is as open as they are; `said` has what is
        left after each step."""

        def count() -> dict[str, Any]:
            return {"totals": _packed(self._insertions(rows, track, 0).totals())}

        totals = _unpacked(remembered({"totals": VERSION, "content": content}, count)["totals"])
        counts = [f"{_numbers(rows)} of the lists' chromosomes"]
        learned = rows.part < 2
        keep = np.ones(len(totals), dtype=bool)
        if self.outliers and learned.any():
            low = np.quantile(totals[learned], self.outliers, method="lower")
            high = np.quantile(totals[learned], 1 - self.outliers, method="higher")
            keep &= ~learned | ((totals >= low) & (totals <= high))
            counts.append(f"{_numbers(rows.of(keep))} without outliers ({low:g} to {high:g} insertions)")
        if self.bias_threshold is not None:
            of_peaks = totals[keep & learned & rows.is_peak]
            limit = self.bias_threshold * float(np.quantile(of_peaks, 0.01)) if len(of_peaks) else 0.0
            keep &= ~learned | (~rows.is_peak & (totals < limit))
            counts.append(f"{_numbers(rows.of(keep))}, learned from negatives below {limit:g} insertions alone")
            if not (keep & (rows.part == 0)).any():
                raise InputError(
                    f"dataset.bias_threshold={self.bias_threshold}: no training window has fewer than {limit:g} "
                    f"insertions, so many times the 1st percentile of the peaks' totals ({'; '.join(counts)}): take a "
                    "higher threshold, or give other negatives"
                )
        said.append("; ".join(counts))
        return rows.of(keep)

    def _insertions(self, rows: Rows, track: Track, margin: int) -> Insertions:
        first = rows.centre - self.positions // 2 - margin
        places = np.stack([rows.chromosome, first], axis=1)
        return Insertions(*track, places, self.positions + 2 * margin)

    def _measured(self, rows: Rows, part: str, genome: Genome, track: Track) -> Measurements:
        margin = self.jitter if part == PARTS[0] else 0
        first, width = rows.centre - self.window // 2 - margin, self.window + 2 * margin
        numbers = np.array([chromosome_number(name.lower().removeprefix("chr")) for name in genome.lengths])
        return Measurements(
            windows_at(genome, rows.chromosome, first, width),
            np.empty((len(first), 0)),
            tasks=(),
            regions=np.stack([numbers[rows.chromosome], first.clip(min=0), first + width], axis=1),
            columns={"profile": self._insertions(rows, track, margin), "is_peak": rows.is_peak},
        )

    def _near(self, validation: Measurements, train: Measurements, content: str) -> NearDuplicates:
        def look_up() -> dict[str, Any]:
            return asdict(near_duplicates(validation.sequences, train.sequences))

        return NearDuplicates(**remembered({"near windows": VERSION, "content": content}, look_up))


def _numbers(rows: Rows) -> str:
    """`700 + 650 train, 100 + 90 valid, 0 + 0 test (peaks + negatives)`"""
    each = []
    for place, name in enumerate(PARTS):
        own = rows.is_peak[rows.part == place]
        each.append(f"{int(own.sum()):,} + {int((~own).sum()):,} {name}")
    return f"{', '.join(each)} (peaks + negatives)"


def _packed(array: np.ndarray) -> dict[str, Any]:
    """An array as JSON has it."""
    return {"values": base64.b64encode(array.tobytes()).decode(), "type": str(array.dtype), "shape": [*array.shape]}


def _unpacked(packed: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["values"]), dtype=packed["type"]).reshape(packed["shape"])
