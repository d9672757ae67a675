"""What a careful colleague would say about a table of sequences and expression before anyone trains on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.common.text import counted
from prixfixe.data.flanks import ends_with, flanks, inserts, starts_with
from prixfixe.data.measurements import Measurements, check_expression, standard_deviation
from prixfixe.data.near_duplicates import STRETCH, NearDuplicates, near_duplicates
from prixfixe.data.sequences import NUCLEOTIDES, N, Sequences
from prixfixe.data.splits import (
    clusters,
    distinct,
    draw,
    fold_names,
    found_in,
    group_keys,
    grouped,
    groups,
    insert_links,
    straddling,
    strand_hash,
    strand_hashes,
    window_links,
    with_others,
)
from prixfixe.data.tables import OPTIONS, first_row, read_measurements

SHOWN_REJECTED = 5
HISTOGRAM_BINS = 10
BAR = 40  # characters of the longest bar of a histogram
PAIRS_AT_A_TIME, LETTERS_AT_A_TIME = 1_000_000, 1 << 27  # compared
MOST_CLUSTERED = 100_000_000  # letters of a table whose clusters are looked for: half a minute
LETTERS_COUNTED = 1 << 22  # at a time
DEFAULT_FRACTION = 0.1  # of conf/dataset/table.yaml


@dataclass(frozen=True)
class Lengths:
    """Sequence lengths in nucleotides, and the share of rows that have the most common one."""

    shortest: int
    median: float
    longest: int
    most_common: int
    most_common_share: float


@dataclass(frozen=True)
class Alphabet:
    """The share of each nucleotide, N among them, of GC among A, C, G and T, and how many rows hold an N."""

    shares: dict[str, float]
    gc: float
    rows_with_n: int


@dataclass(frozen=True)
class Repeats:
    """Sequences that stand in a table more than once.

    distinct: different sequences. repeated_rows: rows beyond the first of each.
    reverse_complements: rows whose reverse complement, another sequence, stands in the table too.
    conflicting: sequences measured more than once with different results, both strands taken together.
    largest_conflict: the largest difference among them, in the measurement's own units.
    in_several_folds: sequences that stand in more than one fold, both strands taken together; None without folds.
    """

    distinct: int
    repeated_rows: int
    reverse_complements: int
    conflicting: int
    largest_conflict: float
    in_several_folds: int | None


@dataclass(frozen=True)
class Kin:
    """Sequences that tell of each other, and must not be parted by a split.

    groups: what a default split keeps together (`prixfixe.data.splits.groups`).
    same_insert: rows with the insert of another sequence between constant flanks, on either strand.
    overlapping: rows whose genomic window overlaps that of another sequence; None without coordinates.
    clusters: of similar sequences, as dataset.folds keeps together; None where there are too many to look for.
    groups_in_several_folds, clusters_in_several_folds: those parted by the table's own folds; None without folds.
    default_split: validation sequences of a default split that share a long stretch with a training sequence; None
    where there is none, for which `unsplit` has the reason.
    """

    groups: int
    same_insert: int
    overlapping: int | None
    clusters: int | None
    groups_in_several_folds: int | None
    clusters_in_several_folds: int | None
    default_split: NearDuplicates | None
    unsplit: str | None

    def lines(self) -> list[tuple[str, str]]:
        lines = [
            ("groups", f"{self.groups:,} that a split keeps whole"),
            ("", f"{counted(self.same_insert, 'row')} with the insert of another sequence, on either strand"),
        ]
        if self.overlapping is not None:
            lines.append(("", f"{counted(self.overlapping, 'row')} whose window overlaps another one's"))
        if self.clusters is not None:
            lines.append(("clusters", f"{self.clusters:,} of sequences that share {STRETCH} nt or more"))
        return lines

    def warnings(self) -> list[str]:
        found = []
        if self.groups_in_several_folds:
            found.append(
                f"{counted(self.groups_in_several_folds, 'group')} in more than one fold: same sequence or insert on "
                "either strand, or overlapping windows"
            )
        if self.clusters_in_several_folds:
            found.append(
                f"{counted(self.clusters_in_several_folds, 'cluster')} of similar sequences in more than one fold; "
                "dataset.folds=10 dataset.fold=0 makes folds that keep them whole"
            )
        if self.default_split is not None and self.default_split.count:
            found.append(
                f"with a default split, {self.default_split.text('validation sequence')} share a stretch of {STRETCH} "
                "nt or more with a training sequence; with dataset.folds=10 dataset.fold=0, similar sequences stand on "
                "one side"
            )
        if self.unsplit is not None:
            found.append(self.unsplit.rstrip("."))
        return found


@dataclass(frozen=True)
class Flanks:
    """The constant ends that most sequences share, "" for none; rows that lack one."""

    left: str
    right: str
    rows_without: int

    def text(self) -> str:
        if not self.left and not self.right:
            return "none recognised"
        ends = f"{self.left or '-'} ... {self.right or '-'}"
        return f"{ends}, shared by most sequences; {counted(self.rows_without, 'row')} without them"


@dataclass(frozen=True)
class Expression:
    """The distribution of one task, in the measurement's own units; `edges` bound the histogram's `counts`."""

    minimum: float
    quartiles: tuple[float, float, float]
    maximum: float
    mean: float
    standard_deviation: float
    integer_share: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def lines(self, task: str) -> list[tuple[str, str]]:
        if self.minimum == self.maximum:
            return [(task, f"{self.minimum:.4g} in every row")]
        low, middle, high = self.quartiles
        lines = [
            (task, f"{self.minimum:.4g} to {self.maximum:.4g}, quartiles {low:.4g}, {middle:.4g}, {high:.4g}"),
            (
                "",
                f"mean {self.mean:.4g}, standard deviation {self.standard_deviation:.4g}; "
                f"{self.integer_share:.1%} integers",
            ),
        ]
        for start, stop, count in zip(self.edges, self.edges[1:], self.counts, strict=False):
            bar = "#" * round(BAR * count / max(self.counts))
            lines.append(("", f"{start:>8.4g} to {stop:<8.4g}{count:>10,}  {bar}"))
        return lines


@dataclass(frozen=True)
class Overlap:
    """How many rows of the table stand in another one.

    same_content: both hold the same sequences with the same expression, in whatever order or format.
    identical, reverse_complement: rows whose sequence, or its reverse complement alone, stands there.
    near: further rows within `mismatches` of a sequence there of the same length, on either strand, flanks aside.
    groups: rows that a split would keep together with one there: `prixfixe.data.splits.groups`.
    stretches: rows that share a long stretch with a sequence there.
    """

    file: str
    rows: int
    same_content: bool
    identical: int
    reverse_complement: int
    mismatches: int
    near: int
    groups: int
    stretches: NearDuplicates

    def lines(self) -> list[tuple[str, str]]:
        return [
            (
                "against",
                f"{self.file}, {counted(self.rows, 'row')}" + ("; the same content" if self.same_content else ""),
            ),
            ("", f"{counted(self.identical, 'row')} of this table in it"),
            ("", f"{counted(self.reverse_complement, 'row')} in it as the reverse complement"),
            (
                "",
                f"{counted(self.near, 'row')} within {counted(self.mismatches, 'mismatch', 'es')} of a sequence "
                "in it, on either strand",
            ),
            (
                "",
                f"{counted(self.groups, 'row')} with the sequence, the insert or an overlapping window of one in it, "
                "on either strand",
            ),
            ("", f"{self.stretches.text('row')} that share {STRETCH} nt or more with a sequence in it"),
        ]

    def warnings(self, rows: int) -> list[str]:
        if self.same_content:
            return [
                f"both files hold the same sequences and expression: scores on {self.file} would be scores on "
                "the training data"
            ]
        found = []
        if total := max(self.identical + self.reverse_complement + self.near, self.groups):
            found.append(
                f"{total:,} of {counted(rows, 'row')} to be found in {self.file}, or nearly so, on one strand or "
                "the other"
            )
        if self.stretches.count > total:
            found.append(f"{self.stretches.text('row')} share {STRETCH} nt or more with a sequence in {self.file}")
        return found


@dataclass(frozen=True)
class Report:
    file: str
    rows: int
    rejected_rows: int
    first_rejected: tuple[str, ...]
    lengths: Lengths
    alphabet: Alphabet
    repeats: Repeats
    kin: Kin
    flanks: Flanks
    expression: dict[str, Expression]
    folds: dict[str, int] | None
    against: Overlap | None
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Everything as plain values for JSON."""
        return {**asdict(self), "warnings": self.warnings()}

    def warnings(self) -> list[str]:
        """What the user should look into before training, a sentence each."""
        found = list(self.remarks)
        if self.rejected_rows:
            found.append(
                f"{counted(self.rejected_rows, 'row')} cannot be used; training refuses the file until such rows "
                "are mended or removed"
            )
        if self.repeats.conflicting:
            found.append(
                f"{counted(self.repeats.conflicting, 'sequence')} measured more than once, with results that "
                "differ by up to "
                f"{self.repeats.largest_conflict:.4g}"
            )
        if self.repeats.in_several_folds:
            found.append(
                f"{counted(self.repeats.in_several_folds, 'sequence')} in more than one fold, reverse "
                "complements included"
            )
        found += self.kin.warnings()
        if (self.flanks.left or self.flanks.right) and self.flanks.rows_without:
            found.append(f"{counted(self.flanks.rows_without, 'row')} without the constant flanks of the others")
        for task, expression in self.expression.items():
            if expression.minimum == expression.maximum:
                found.append(f"{task} is {expression.minimum:.4g} in every row: there is nothing to learn")
        if self.against is not None:
            found += self.against.warnings(self.rows)
        return found

    def text(self) -> str:
        """The report for people: a label and its facts on each line."""
        lines: list[tuple[str, str]] = [("file", self.file), ("rows", f"{self.rows:,}")]
        lines += [("unusable rows", f"{self.rejected_rows:,}")] if self.rejected_rows else []
        lines += [("", line) for line in self.first_rejected]
        lengths, alphabet, repeats = self.lengths, self.alphabet, self.repeats
        lines += [
            (
                "lengths",
                f"{lengths.shortest} to {lengths.longest} nt, median {lengths.median:g}; "
                f"{lengths.most_common_share:.1%} have {lengths.most_common}",
            ),
            ("nucleotides", "  ".join(f"{letter} {share:.2%}" for letter, share in alphabet.shares.items())),
            ("", f"GC {alphabet.gc:.1%}; N in {counted(alphabet.rows_with_n, 'row')}"),
            ("flanks", self.flanks.text()),
            (
                "sequences",
                f"{repeats.distinct:,} different; repeats of an earlier one in {counted(repeats.repeated_rows, 'row')}",
            ),
            ("", f"{counted(repeats.reverse_complements, 'row')} whose reverse complement stands in the table too"),
            ("", f"{repeats.conflicting:,} measured more than once with different results"),
        ]
        lines += self.kin.lines()
        if self.folds is not None:
            lines.append(("folds", "  ".join(f"{fold}: {count:,}" for fold, count in self.folds.items())))
        for task, expression in self.expression.items():
            lines += expression.lines(task)
        if self.against is not None:
            lines += self.against.lines()
        width = max(len(label) for label, _ in lines) + 2
        text = "".join(f"{label:<{width}}{fact}".rstrip() + "\n" for label, fact in lines)
        warnings = self.warnings()
        return (
            text + "\n" + ("".join(f"warning: {warning}.\n" for warning in warnings) or "Nothing to complain about.\n")
        )


def check(
    path: str | Path,
    *,
    against: str | Path | None = None,
    mismatches: int = 2,
    sequence: str | None = None,
    expression: str | list[str] | None = None,
) -> Report:
    """Reads a table and says what is in it, and what of it stands in the table `against`.

    sequence, expression: column names, as for `read_measurements`. Rows that cannot be used are counted, not refused.
    Raises InputError where a file cannot be read as a table.
    """
    rejected: list[str] = []
    named = first_row(path)[1] or sequence is not None or expression is not None  # else no column is known for folds
    measurements = read_measurements(
        path, sequence=sequence, expression=expression, fold=named, rejected=rejected, advice=OPTIONS
    )
    check_expression(measurements, str(path))
    overlap = None
    if against is not None:
        other = read_measurements(against, sequence=sequence, expression=expression, rejected=[], advice=OPTIONS)
        overlap = compare(measurements, other, mismatches=mismatches, file=str(against))
    columns = measurements.expression.reshape(len(measurements), -1).T
    return Report(
        file=str(path),
        rows=len(measurements),
        rejected_rows=len(rejected),
        first_rejected=tuple(rejected[:SHOWN_REJECTED]),
        lengths=_lengths(measurements.sequences),
        alphabet=_alphabet(measurements.sequences),
        repeats=_repeats(measurements),
        kin=_kin(measurements),
        flanks=_flanks(measurements.sequences),
        expression=dict(zip(measurements.tasks, map(_expression, columns), strict=True)),
        folds=_folds(measurements),
        against=overlap,
        remarks=measurements.remarks,
    )


def compare(measurements: Measurements, other: Measurements, *, mismatches: int, file: str) -> Overlap:
    """How much of one table stands in another; both strands, and near-duplicates within a number of mismatches."""
    here, there = measurements.sequences, other.sequences
    written, backward = strand_hashes(here)
    other_written, _ = strand_hashes(there)
    identical = found_in(written, other_written)
    either_strand = identical | found_in(backward, other_written)
    rest, there_insert = inserts(here)[~either_strand], inserts(there)
    near = within_mismatches(rest, there_insert, mismatches) | within_mismatches(
        rest.reverse_complement(), there_insert, mismatches
    )
    return Overlap(
        file=file,
        rows=len(other),
        same_content=_same_content(measurements, other),
        identical=int(identical.sum()),
        reverse_complement=int((either_strand & ~identical).sum()),
        mismatches=mismatches,
        near=int(near.sum()),
        groups=straddling(other, measurements),
        stretches=near_duplicates(here, there),
    )


def within_mismatches(sequences: Sequences, others: Sequences, mismatches: int) -> np.ndarray:
    """Which sequences have one of the same length among `others` that differs in at most `mismatches` places: bool,
    shape (n,).

    Cut into one piece more than mismatches are allowed, two such sequences have a piece in common at the same place;
    only pairs that have are compared letter by letter.
    """
    found = np.zeros(len(sequences), dtype=bool)
    for length in np.intersect1d(sequences.lengths, others.lengths):
        rows = np.flatnonzero(sequences.lengths == length)
        codes = others[np.flatnonzero(others.lengths == length)].padded()
        found[rows] = _within(sequences[rows].padded(), codes, mismatches)
    return found


def _within(codes: np.ndarray, others: np.ndarray, mismatches: int) -> np.ndarray:
    found = np.zeros(len(codes), dtype=bool)
    if codes.shape[1] <= mismatches:
        return ~found
    pairs = max(min(PAIRS_AT_A_TIME, LETTERS_AT_A_TIME // codes.shape[1]), 1)
    for start, stop in pairwise(np.linspace(0, codes.shape[1], mismatches + 2).astype(int).tolist()):
        keys, other_keys = _piece_keys(codes[:, start:stop]), _piece_keys(others[:, start:stop])
        order = np.argsort(other_keys)
        ordered = other_keys[order]
        first = np.searchsorted(ordered, keys, side="left")
        candidates = np.searchsorted(ordered, keys, side="right") - first
        rows = np.flatnonzero((candidates > 0) & ~found)
        ends = np.cumsum(candidates[rows])
        while len(rows):
            some = max(int(np.searchsorted(ends, pairs, side="right")), 1)
            chunk, counts = rows[:some], candidates[rows[:some]]
            row = np.repeat(chunk, counts)
            place = (
                np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first[chunk], counts)
            )
            close = (codes[row] != others[order[place]]).sum(axis=1) <= mismatches
            found[row[close]] = True
            rows, ends = rows[some:], ends[some:] - ends[some - 1]
    return found


def _piece_keys(codes: np.ndarray) -> np.ndarray:
    return strand_hash(Sequences.from_padded(codes, np.full(len(codes), codes.shape[1], dtype=np.int32)))


def _same_content(one: Measurements, other: Measurements) -> bool:
    if one.expression.shape != other.expression.shape:
        return False
    return np.array_equal(_sorted_rows(one), _sorted_rows(other))


def _sorted_rows(measurements: Measurements) -> np.ndarray:
    """A hash of each sequence, then its expression, in an order that depends on the content alone."""
    columns = [strand_hashes(measurements.sequences)[0], *measurements.expression.reshape(len(measurements), -1).T]
    order = np.lexsort(columns[::-1])
    return np.stack([column[order].view(np.uint64) for column in columns])


def _lengths(sequences: Sequences) -> Lengths:
    values, counts = np.unique(sequences.lengths, return_counts=True)
    return Lengths(
        shortest=int(values[0]),
        median=float(np.median(sequences.lengths)),
        longest=int(values[-1]),
        most_common=int(values[counts.argmax()]),
        most_common_share=float(counts.max() / len(sequences)),
    )


def _alphabet(sequences: Sequences) -> Alphabet:
    counts = np.zeros(len(NUCLEOTIDES), dtype=np.int64)
    with_n = np.zeros(len(sequences), dtype=bool)
    ends = np.cumsum(sequences.lengths, dtype=np.int64)
    for start in range(0, len(sequences.letters), LETTERS_COUNTED):
        letters = sequences.letters[start : start + LETTERS_COUNTED]
        counts += np.bincount(letters, minlength=len(NUCLEOTIDES))
        with_n[np.searchsorted(ends, start + np.flatnonzero(letters == N), side="right")] = True
    known = counts[:N].sum()
    return Alphabet(
        shares={letter: float(share) for letter, share in zip(NUCLEOTIDES, counts / counts.sum(), strict=True)},
        gc=float((counts[NUCLEOTIDES.index("G")] + counts[NUCLEOTIDES.index("C")]) / known) if known else 0.0,
        rows_with_n=int(with_n.sum()),
    )


def _repeats(measurements: Measurements) -> Repeats:
    written, backward = strand_hashes(measurements.sequences)
    different = len(distinct(written))
    keys = np.minimum(written, backward)
    order = np.argsort(keys)
    starts = np.flatnonzero(np.append(True, keys[order][1:] != keys[order][:-1]))
    expression = measurements.expression.reshape(len(measurements), -1)[order]
    # fmax and fmin pass over what was not measured; a group without any has no difference
    difference = np.nan_to_num(np.fmax.reduceat(expression, starts) - np.fmin.reduceat(expression, starts)).max(axis=1)
    return Repeats(
        distinct=different,
        repeated_rows=len(measurements) - different,
        reverse_complements=int((found_in(backward, written) & (written != backward)).sum()),
        conflicting=int((difference > 0).sum()),
        largest_conflict=float(difference.max()),
        in_several_folds=_in_several_folds(measurements, keys),
    )


def _in_several_folds(measurements: Measurements, labels: np.ndarray) -> int | None:
    """How many different labels of rows stand in more than one of the table's own folds; None without folds."""
    if measurements.fold is None:
        return None
    order = np.argsort(labels)
    starts = np.flatnonzero(np.append(True, labels[order][1:] != labels[order][:-1]))
    fold = np.searchsorted(np.array(fold_names(measurements)), measurements.fold)[order]
    return int((np.maximum.reduceat(fold, starts) != np.minimum.reduceat(fold, starts)).sum())


def _kin(measurements: Measurements) -> Kin:
    sequences = measurements.sequences
    keys = group_keys(sequences)
    by_insert = grouped(keys, *insert_links(sequences, keys))
    group, overlapping = by_insert, None
    if measurements.regions is not None:
        overlapping = int(with_others(keys, grouped(keys, *window_links(measurements.regions, keys))).sum())
        group = groups(measurements)
    cluster = clusters(sequences) if len(sequences.letters) <= MOST_CLUSTERED else None
    near = unsplit = None
    try:
        drawn = draw(measurements, validation_fraction=DEFAULT_FRACTION, seed=0)
        near = near_duplicates(sequences[drawn.validation], sequences[drawn.train])
    except InputError as error:
        unsplit = str(error)
    return Kin(
        groups=len(distinct(group)),
        same_insert=int(with_others(keys, by_insert).sum()),
        overlapping=overlapping,
        clusters=None if cluster is None else len(distinct(cluster)),
        groups_in_several_folds=_in_several_folds(measurements, group),
        clusters_in_several_folds=None if cluster is None else _in_several_folds(measurements, cluster),
        default_split=near,
        unsplit=unsplit,
    )


def _flanks(sequences: Sequences) -> Flanks:
    left, right = flanks(sequences)
    lacking = ~(starts_with(sequences, left) & ends_with(sequences, right))
    return Flanks(left, right, int(lacking.sum()))


def _expression(values: np.ndarray) -> Expression:
    values = values[~np.isnan(values)]
    counts, edges = np.histogram(values, bins=HISTOGRAM_BINS)
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return Expression(
        minimum=float(values.min()),
        quartiles=(low, middle, high),
        maximum=float(values.max()),
        mean=float(values.mean()),
        standard_deviation=standard_deviation(values),
        integer_share=float((values % 1 == 0).mean()),
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
    )


def _folds(measurements: Measurements) -> dict[str, int] | None:
    if measurements.fold is None:
        return None
    folds, counts = np.unique(measurements.fold, return_counts=True)
    return {str(fold) or "(none)": int(count) for fold, count in zip(folds, counts, strict=True)}
