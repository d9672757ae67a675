"""Windows around peaks and negatives, read from the files that ChromBPNet reads; how a recipe moves and draws them; and
the simulated genome."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import compose, reverse_complement
from torch import Tensor, nn

import prixfixe
from prixfixe.common.errors import ContractError, InputError
from prixfixe.common.simulated import is_simulated
from prixfixe.contract import Batch, FinalBlock, InputSpec, Measurements, Prediction, Sequences, TargetSpec
from prixfixe.data import insertions as insertions_module
from prixfixe.data.atac import Atac
from prixfixe.data.columns import RowSource, is_source
from prixfixe.data.datasets import Split
from prixfixe.data.gc_matched import BIN
from prixfixe.data.insertions import Insertions
from prixfixe.data.peaks import Places
from prixfixe.data.tn5 import check_shift
from prixfixe.runs.checkpoint import checkpoints
from prixfixe.simulation.atac import (
    FACTORS,
    SimulatedAtac,
    expected_insertions,
    factor_sites,
    insertions,
    openness,
    preference,
    simulate_chromosome,
    write_counts,
)
from prixfixe.training.build import build_dataset, build_recipe, build_task
from prixfixe.training.experiment import run

WINDOW, POSITIONS, JITTER = 60, 20, 8
LENGTH = 9000
NAMES = ("chr1", "chr2", "chr3", "chr4")
FOLDS = {"train": ["chr1"], "valid": ["chr2"], "test": ["chr3"]}
MOTIF = "ACGTTGCAAC"


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRIXFIXE_CACHE", str(tmp_path / "cache"))
    return tmp_path


class Files:
    """The published formats, written by hand: peaks every 200 nt from 100 on, negatives 100 nt behind each."""

    def __init__(self, folder: Path, seed: int = 0, prefix: str = "") -> None:
        generator = np.random.default_rng(seed)
        self.folder, self.prefix = folder, prefix
        self.letters = {name: "".join(generator.choice(list("ACGT"), LENGTH)) for name in NAMES}
        self.text = str.lower  # as a soft-masked genome is written
        rates = np.where(np.arange(LENGTH) // 100 % 2 == 0, 2.0, 0.1)
        self.counts = {name: generator.poisson(rates) for name in NAMES}
        self.peaks = [(name, centre) for name in NAMES for centre in range(50, LENGTH, 200)]
        self.negatives = [(name, centre) for name in NAMES for centre in range(150, LENGTH, 200)]
        self.folds: Any = FOLDS

    def write(self) -> dict[str, Any]:
        """The dataset as a configuration has it."""
        fasta = "".join(f">{name} a chromosome\n{_lines(self.text(letters))}" for name, letters in self.letters.items())
        (self.folder / "genome.fa").write_text(fasta)
        write_counts(self.folder / "ends.bw", {self.named(name): some for name, some in self.counts.items()})
        for file, places in (("peaks.narrowPeak", self.peaks), ("negatives.bed", self.negatives)):
            lines = [
                f"{self.named(name)}\t{max(c - 30, 0)}\t{c + 40}\t.\t0\t.\t1\t1\t1\t{min(c, 30)}\n"
                for name, c in places
            ]
            (self.folder / file).write_text("".join(lines))
        (self.folder / "folds.json").write_text(json.dumps(self.folds))
        paths = {"genome": "genome.fa", "bigwig": "ends.bw", "peaks": "peaks.narrowPeak", "folds": "folds.json"}
        files = {setting: str(self.folder / file) for setting, file in paths.items()}
        return {
            "_target_": "prixfixe.data.atac.Atac",
            **files,
            "negatives": str(self.folder / "negatives.bed"),
            "excluded": None,
            "window": WINDOW,
            "positions": POSITIONS,
            "jitter": JITTER,
            "outliers": 0.0,
            "bias_threshold": None,
            "whole_numbers": True,
            "shift": None,
            "seed": 0,
        }

    def named(self, name: str) -> str:
        return name.removeprefix("chr") if self.prefix == "none" else name

    def window(self, name: str, centre: int, width: int) -> str:
        around = "N" * width
        first = centre - width // 2 + width
        return (around + self.letters[name] + around)[first : first + width]

    def profile(self, name: str, centre: int, width: int) -> np.ndarray:
        first = centre - width // 2 + width
        return np.pad(self.counts[name], width)[first : first + width]


def _lines(letters: str) -> str:
    return "".join(letters[first : first + 70] + "\n" for first in range(0, len(letters), 70))


def read(settings: dict[str, Any], **changes: Any) -> Split:
    return Atac(**{key: value for key, value in {**settings, **changes}.items() if key != "_target_"}).read()


# from the files


@pytest.mark.parametrize("prefix", ["", "none"])
def test_windows_and_counts_are_those_of_the_files(prefix: str, cached: Path) -> None:
    files = Files(cached, prefix=prefix)  # without `chr` in all files but the genome
    files.peaks += [("chr1", 3), ("chr1", LENGTH - 2), ("chr2", 5)]
    split = read(files.write())
    parts = {"chr1": split.train, "chr2": split.validation, "chr3": split.tests["test"]}
    for name, part in parts.items():
        margin = JITTER if name == "chr1" else 0
        rows = [(c, True) for n, c in files.peaks if n == name] + [(c, False) for n, c in files.negatives if n == name]
        rows.sort(key=lambda row: row[0])
        assert part.columns["is_peak"].tolist() == [is_peak for _, is_peak in rows]
        widths = WINDOW + 2 * margin, POSITIONS + 2 * margin
        assert part.sequences.to_strings() == [files.window(name, centre, widths[0]) for centre, _ in rows]
        profile = part.columns["profile"]
        assert is_source(profile)
        assert profile.shape == (len(rows), widths[1])
        np.testing.assert_array_equal(profile[:], [files.profile(name, centre, widths[1]) for centre, _ in rows])
        assert part.expression.shape == (len(rows), 0)
        assert part.tasks == ()
        assert part.regions is not None
        assert (part.regions[:, 2] - part.regions[:, 1] <= widths[0]).all()
    peaks = split.tests["peaks"]
    assert len(peaks) == sum(name == "chr3" for name, _ in files.peaks)
    assert peaks.columns["is_peak"].all()
    said = " ".join(split.warnings)
    # 3 on chr1 (3, 8998) and chr2 (5) and those that begin at 50 or 8950, less than 30 nt from an end, are none
    assert "3 windows reach beyond a chromosome's end, and are filled with N there" in said
    assert "90 windows on chromosomes in none of the lists" in said  # all of chr4
    assert split.train.regions is not None
    assert not set(split.train.regions[:, 0]) & set(split.validation.regions[:, 0])  # type: ignore[index]
    assert not split.simulated


def rows_in_another_process(source: RowSource) -> np.ndarray:
    return source[np.array([7, 2, 2])]


def test_rows_are_read_as_they_are_asked_for_in_any_process(cached: Path) -> None:
    files = Files(cached)
    profile = read(files.write()).train.columns["profile"]
    whole = profile[:]
    assert isinstance(profile, Insertions)
    assert whole.dtype == profile.dtype == np.float32
    generator = np.random.default_rng(0)
    for chosen in (slice(3, 9), slice(None, None, 4), generator.integers(0, len(profile), 40), np.empty(0, np.int64)):
        np.testing.assert_array_equal(profile[chosen], whole[chosen])
        np.testing.assert_array_equal(profile.take(chosen)[:], whole[chosen])
    np.testing.assert_array_equal(profile.take(np.arange(10, 30)).take(slice(5, 9))[1:], whole[16:19])
    np.testing.assert_array_equal(profile.totals(), whole.sum(axis=1))
    with multiprocessing.get_context("fork").Pool(2) as pool:  # the file is open here already
        for found in pool.map(rows_in_another_process, [profile] * 6):
            np.testing.assert_array_equal(found, whole[[7, 2, 2]])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(profile))[:], whole)
    np.testing.assert_array_equal(profile[:], whole)


def test_a_bed_of_three_columns_lies_around_its_middle(cached: Path) -> None:
    files = Files(cached)
    settings = files.write()
    lines = [f"{name} {centre - 11} {centre + 12}\n" for name, centre in files.peaks]
    (cached / "peaks.narrowPeak").write_text("track name=peaks\n# a remark\n" + "".join(lines))
    split = read(settings)
    peaks = split.validation[split.validation.columns["is_peak"]]
    assert peaks.sequences.to_strings()[0] == files.window("chr2", 50, WINDOW)
    without_summit = [f"{name}\t{c - 11}\t{c + 12}\t.\t0\t.\t1\t1\t1\t-1\n" for name, c in files.peaks]
    (cached / "peaks.narrowPeak").write_text("".join(without_summit))
    again = read(settings)
    assert again.validation.sequences.to_strings() == split.validation.sequences.to_strings()
    assert again.content != split.content


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ("{", r"folds\.json is no JSON"),
        ([], r"folds\.json needs lists of chromosomes"),
        ({"train": "chr1", "valid": ["chr2"], "test": []}, "needs lists of chromosomes"),
        ({"train": ["chr1", 2], "valid": ["chr2"], "test": []}, "needs lists of chromosomes"),
        ({**FOLDS, "test": ["chr1"]}, r"folds\.json: chr1 is in train and in test"),
        ({**FOLDS, "test": ["1"]}, "chr1 is in two lists, with and without chr"),
        ({**FOLDS, "train": ["chrX"]}, r"no chromosome in train is one of the genome's \(chr1, chr2"),
        ({**FOLDS, "valid": []}, "no chromosome in valid"),
        (
            {"train": ["chr1"], "validation": ["chr2"], "test": ["chr3"]},
            r"folds\.json: valid is missing, validation is unknown \(known: train, valid, test\)",
        ),
        ({**FOLDS, "holdout": ["chr4"]}, r"folds\.json: holdout is unknown \(known: train, valid, test\)"),
    ],
    ids=[
        "json",
        "list",
        "text",
        "number",
        "twice",
        "twice without chr",
        "unknown",
        "none",
        "other list",
        "further list",
    ],
)
def test_folds_that_are_none(folds: Any, message: str, cached: Path) -> None:
    settings = Files(cached).write()
    (cached / "folds.json").write_text(folds if isinstance(folds, str) else json.dumps(folds))
    with pytest.raises(InputError, match=message):
        read(settings)


def test_folds_without_a_test_chromosome_and_with_foreign_ones(cached: Path) -> None:
    files = Files(cached)
    files.folds = {"train": ["chr1", "chr4"], "valid": ["chr2", "chrUn_1"]}
    split = read(files.write())
    assert not split.tests
    assert any("no row is on a chromosome test of" in said and "nothing is tested" in said for said in split.warnings)
    assert len(split.train) == 2 * len(split.validation)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chr1\t20\t10", r"peaks\.narrowPeak:3: .* is no region: chromosome, start, end"),
        ("chr1\t-3\t10", "is no region"),
        ("chr1\tstart\tend", "is no region"),
        ("chr1\t10\t90\t.\t0\t.\t1\t1\t1\tsummit", "is no region"),
        ("chr1\t10\t90\t.\t0\t.\t1\t1\t1\t80", "the summit, 80, lies beyond the region's 80 nt"),
        (
            f"1\t{LENGTH}\t{LENGTH + 90}",
            r"peaks\.narrowPeak:3: 1:9,046 lies beyond the end of the chromosome in the genome, 9,000 nt: is it of "
            "another assembly",
        ),
        (f"chr4\t10\t{LENGTH + 90}\t.\t0\t.\t1\t1\t1\t{LENGTH - 10}", "chr4:9,001 lies beyond the end"),
    ],
)
def test_regions_that_are_none(line: str, message: str, cached: Path) -> None:
    settings = Files(cached).write()
    peaks = (cached / "peaks.narrowPeak").read_text().splitlines()
    (cached / "peaks.narrowPeak").write_text("\n".join([*peaks[:2], line, *peaks[2:]]))
    with pytest.raises(InputError, match=message):
        read(settings)


def test_regions_of_another_genome(cached: Path) -> None:
    settings = Files(cached).write()
    (cached / "peaks.narrowPeak").write_text("NC_01\t10\t20\n")
    with pytest.raises(InputError, match=r"no region lies on a chromosome of the genome \(NC_01; it has chr1, chr2"):
        read(settings)
    (cached / "genome.fa").write_text(">chr1:1-10\nACGTACGTAC\n")
    with pytest.raises(InputError, match="holds fragments"):
        read(settings)


def test_regions_that_end_beyond_their_chromosome_are_said(cached: Path) -> None:
    settings = Files(cached).write()
    whole = read(settings)
    peaks = (cached / "peaks.narrowPeak").read_text().replace("chr1\t20\t90\t", "chr1\t20\t900000\t")
    (cached / "peaks.narrowPeak").write_text(peaks)
    split = read(settings)
    assert any("peaks.narrowPeak: 1 region with an end beyond the chromosome's" in said for said in split.warnings)
    assert split.train.sequences.to_strings() == whole.train.sequences.to_strings()


def test_the_same_window_is_taken_once(cached: Path) -> None:
    files = Files(cached)
    whole = read(files.write())
    files.peaks = [*files.peaks, *files.peaks[:3], files.peaks[0]]
    files.negatives = [*files.negatives[-2:], *files.negatives]
    settings = files.write()
    with (cached / "peaks.narrowPeak").open("a") as file:
        file.write("chr1\t0\t100\nchrUn_1\t0\t9\nchrUn_2\t0\t9\n")  # the first one around 50 as well
    split = read(settings)
    said = " ".join(split.warnings)
    assert "peaks.narrowPeak: 5 repeats of the same window left out" in said
    assert "negatives.bed: 2 repeats of the same window left out" in said
    for part, of_whole in ((split.train, whole.train), (split.tests["peaks"], whole.tests["peaks"])):
        assert part.sequences.to_strings() == of_whole.sequences.to_strings()
    assert "repeat" not in " ".join(whole.warnings)
    places = Places(*np.array([[0, 10, 90, 50], [0, 0, 70, 50], [-1, 0, 9, 4], [-1, 0, 9, 4]]).T)
    once = places.without_repeats()
    found = np.stack([once.chromosome, once.start, once.stop, once.centre], axis=1).tolist()
    assert found == [[-1, 0, 9, 4], [-1, 0, 9, 4], [0, 0, 90, 50]]


def test_negatives_that_are_peaks(cached: Path) -> None:
    files = Files(cached)
    settings = files.write()
    with pytest.raises(
        InputError,
        match=r"peaks\.narrowPeak: the profiles \(20 positions\) of 180 of 180 negatives overlap those of peaks: give",
    ):
        read(settings, negatives=settings["peaks"])
    assert "overlap" not in " ".join(read(settings).warnings)
    files.negatives += [("chr1", 50 + POSITIONS - 1), ("chr1", 8850 - POSITIONS + 1), ("chr2", 50 + POSITIONS)]
    said = read(files.write()).warnings
    assert any(
        "negatives.bed: the profiles (20 positions) of 2 of 183 negatives overlap those of peaks" in s for s in said
    )


def test_a_bigwig_as_peaks(cached: Path) -> None:
    settings = Files(cached).write()
    with pytest.raises(
        InputError, match=r"ends\.bw is binary \(a bigWig or a bigBed\?\): regions such as peaks are text"
    ):
        read(settings, peaks=settings["bigwig"])


# the bigWig


def test_values_that_are_no_counts_are_refused(cached: Path) -> None:
    files = Files(cached)
    files.counts = {name: some / 4 for name, some in files.counts.items()}  # as smoothed
    settings = files.write()
    with pytest.raises(InputError, match=r"no whole numbers, as a smoothed .* dataset\.whole_numbers=false"):
        read(settings)
    np.testing.assert_array_equal(
        read(settings, whole_numbers=False).validation.columns["profile"][:2],
        [files.profile("chr2", centre, POSITIONS) for centre in (50, 150)],
    )
    for value, message in ((-1.0, "holds -1, and a count is not below 0"), (np.nan, "no finite numbers")):
        files.counts = {name: np.where(np.arange(LENGTH) == 500, value, 1.0) for name in NAMES}
        with pytest.raises(InputError, match=message):
            read(files.write())


def test_what_is_read_is_compared_with_the_header(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Files(cached).write()
    values = insertions_module._values
    with monkeypatch.context() as patched:
        patched.setattr(insertions_module, "_values", lambda *given: values(*given) * (given[1] != "chr3"))
        with pytest.raises(InputError, match=r"its header says that its values add up to .* and what is read adds up"):
            read(settings)


def test_a_bigwig_of_another_genome_is_refused(cached: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = Files(cached)
    files.counts["chr2"] = files.counts["chr2"][:-5]
    with pytest.raises(
        InputError, match=r"chr2 has 9,000 nt, and .*ends\.bw says 8,995 nt: both must be of one genome"
    ):
        read(files.write())
    del files.counts["chr2"]
    with pytest.raises(InputError, match=r"chr2 has 9,000 nt, and .*ends\.bw has no such chromosome"):
        read(files.write())
    (cached / "ends.bw").write_text("chr1 0 1 1\n")
    with pytest.raises(InputError, match="is no bigWig file"):
        read({**files.write(), "bigwig": str(cached / "folds.json")})
    (cached / "cut.bw").write_bytes((cached / "ends.bw").read_bytes()[:40])
    with pytest.raises(InputError, match=r"cut\.bw cannot be read as a bigWig"):
        read({**files.write(), "bigwig": str(cached / "cut.bw")})
    assert capfd.readouterr().err == ""  # where the library would write, too


# what is left out


def test_outliers_are_left_out_of_training_and_validation_alone(cached: Path) -> None:
    files = Files(cached)
    for name in NAMES:
        files.counts[name][4050 - 3 : 4050 + 3] = 500  # in the profile of one peak
        files.counts[name][4150 - 10 : 4150 + 10] = 0
    settings = files.write()
    whole, some = read(settings), read(settings, outliers=0.02)
    for all_rows, kept in ((whole.train, some.train), (whole.validation, some.validation)):
        largest, left = (rows.columns["profile"][:].sum(axis=1).max() for rows in (all_rows, kept))
        assert largest >= 3000 > left
    assert 2 <= len(whole.train) + len(whole.validation) - len(some.train) - len(some.validation) <= 0.04 * 180
    assert len(some.tests["test"]) == len(whole.tests["test"]) == 90
    assert some.tests["test"].columns["profile"].totals().max() >= 3000


def test_a_bias_model_has_negatives_alone(cached: Path) -> None:
    files = Files(cached)
    files.counts = {name: some + 1 for name, some in files.counts.items()}
    settings = files.write()
    whole, bias = read(settings), read(settings, bias_threshold=0.5)
    both = [part.columns["profile"][:] for part in (whole.train, whole.validation)]
    totals = [both[0][:, JITTER:-JITTER].sum(axis=1), both[1].sum(axis=1)]
    peaks = [part.columns["is_peak"] for part in (whole.train, whole.validation)]
    limit = 0.5 * np.quantile(np.concatenate([t[p] for t, p in zip(totals, peaks, strict=True)]), 0.01)
    for part, total, is_peak in zip((bias.train, bias.validation), totals, peaks, strict=True):
        assert len(part) == (~is_peak & (total < limit)).sum() > 10
        assert not part.columns["is_peak"].any()
    assert len(bias.tests["test"]) == (~whole.tests["test"].columns["is_peak"]).sum()
    assert len(bias.tests["peaks"]) == len(whole.tests["peaks"])
    assert any(f"learned from negatives below {limit:g} insertions alone" in said for said in bias.warnings)
    assert bias.content != whole.content
    with pytest.raises(InputError, match=r"dataset\.bias_threshold=0\.001: no training window .*45 \+ 45 train"):
        read(settings, bias_threshold=0.001)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": 70}, "the profile lies in the middle of the window"),
        ({"positions": 21}, "as many nucleotides on either side"),
        ({"shift": [4]}, r"dataset\.shift=\[4\]"),
        ({"excluded": "some.bed"}, "leave one of them out"),
    ],
)
def test_settings_that_contradict_each_other(changes: dict[str, Any], message: str, cached: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(Files(cached).write(), **changes)


# negatives that are drawn


def gapped(cached: Path) -> tuple[Files, dict[str, Any]]:
    """Few peaks, rich in G and C, on long chromosomes whose composition varies."""
    files = Files(cached)
    generator = np.random.default_rng(5)
    for name in NAMES:
        share = np.repeat(generator.uniform(0.2, 0.8, LENGTH // 300), 300)
        rich = generator.random(LENGTH) < share
        files.letters[name] = "".join(
            np.where(rich, generator.choice(list("CG"), LENGTH), generator.choice(list("AT"), LENGTH))
        )
    files.letters["chr1"] = files.letters["chr1"][:5000] + "N" * 100 + files.letters["chr1"][5100:]
    files.peaks = [(name, centre) for name in NAMES for centre in range(100, LENGTH, 900)]
    files.text = lambda letters: letters.replace("N", "r")  # what is no nucleotide is N
    (cached / "excluded.bed").write_text("1\t6000\t7000\nchr2\t0\t500\n")
    return files, {**files.write(), "negatives": None, "excluded": str(cached / "excluded.bed")}


def test_negatives_match_the_peaks_and_touch_none(cached: Path) -> None:
    files, settings = gapped(cached)
    split = read(settings)

    def content(rows: Measurements) -> np.ndarray:
        codes = rows.sequences.padded()
        margin = (codes.shape[1] - WINDOW) // 2
        codes = codes[:, margin : margin + WINDOW]
        return np.floor(((codes == 1) | (codes == 2)).mean(axis=1) / BIN).astype(int)

    found = 0
    for name, part in (("chr1", split.train), ("chr2", split.validation), ("chr3", split.tests["test"])):
        is_peak = part.columns["is_peak"]
        peaks, negatives = Counter(content(part[is_peak])), Counter(content(part[~is_peak]))
        assert all(negatives[one] <= peaks[one] for one in negatives)
        assert negatives.total() >= 0.7 * peaks.total()
        assert part.regions is not None
        margin = JITTER if name == "chr1" else 0
        found += negatives.total()
        barred = {"chr1": [(5000, 5100), (6000, 7000)], "chr2": [(0, 500)], "chr3": []}[name]
        barred += [(c - 40, c + 40) for n, c in files.peaks if n == name]
        for first, last in part.regions[~is_peak][:, 1:] + [margin, -margin]:
            assert all(last <= start or stop <= first for start, stop in barred)
    assert any(
        said.startswith(f"{found} negatives drawn for 30 peaks, of the same G + C contents") for said in split.warnings
    )
    again, other = read(settings), read(settings, seed=1)
    assert again.train.sequences.to_strings() == split.train.sequences.to_strings()
    assert other.train.sequences.to_strings() != split.train.sequences.to_strings()
    assert other.content != split.content


def test_negatives_of_a_part_do_not_hang_on_the_others(cached: Path) -> None:
    files, settings = gapped(cached)
    first = read(settings)
    files.folds = {"train": ["chr1"], "valid": ["chr2"], "test": ["chr4"]}
    settings |= {key: value for key, value in files.write().items() if key == "folds"}
    second = read(settings)
    assert first.train.sequences.to_strings() == second.train.sequences.to_strings()
    assert first.validation.sequences.to_strings() == second.validation.sequences.to_strings()


# the recipe


def recipe_of(**values: Any) -> Any:
    given = {"length": WINDOW, "jitter": JITTER, "reverse_complement": True, "negative_ratio": 0.1, **values}
    return build_recipe({"recipe": {"_target_": "blocks.recipe.window.Window", **given}})


def marked(cached: Path) -> Split:
    """A genome in which the counts stand on the first letter of a motif, and nowhere else."""
    files = Files(cached)
    generator = np.random.default_rng(1)
    for name in NAMES:
        letters = "".join(generator.choice(list("AT"), LENGTH))
        files.counts[name] = np.zeros(LENGTH, dtype=np.int64)
        for number, (own, centre) in enumerate(files.peaks + files.negatives):
            if own == name:
                letters = letters[:centre] + MOTIF + letters[centre + len(MOTIF) :]
                files.counts[name][centre] = 1 + number
        files.letters[name] = letters
    return read(files.write())


def loaded(recipe: Any, rows: Measurements, *columns: str) -> Any:
    given = {name: rows.columns[name] for name in ("profile", *columns)}
    return recipe.load(rows.sequences, torch.device("cpu"), rows.expression, columns=given)


def strings_of(x: Tensor) -> list[str]:
    codes = torch.where(x.sum(dim=1) > 0, x.argmax(dim=1), 4).to(torch.uint8).numpy()
    return Sequences.from_padded(codes, np.full(len(codes), codes.shape[1])).to_strings()


def test_sequence_and_counts_move_and_turn_together(cached: Path) -> None:
    split = marked(cached)
    recipe = recipe_of()
    task = build_task(compose("task=profile", f"task.positions={POSITIONS}")).fitted(split.train)
    samples = loaded(recipe, split.train, "is_peak")
    chosen = torch.arange(len(samples)).repeat(20)
    batch = recipe.training_batch(samples, chosen, task, torch.Generator().manual_seed(0))
    is_peak = torch.from_numpy(split.train.columns["is_peak"]).repeat(20)
    assert set(batch["shift"][is_peak].tolist()) == set(range(-JITTER, JITTER + 1))
    assert not batch["shift"][~is_peak].any()  # negatives stay, as in ChromBPNet
    assert 0.4 < batch["reverse"].float().mean() < 0.6
    offset = (WINDOW - POSITIONS) // 2
    wide = split.train.columns["profile"][:]
    there = 0
    for row, string in enumerate(strings_of(batch["x"])):
        reverse, counts = bool(batch["reverse"][row]), batch["counts"][row]
        place = string.find(reverse_complement(MOTIF) if reverse else MOTIF)
        place += len(MOTIF) - 1 if reverse else 0  # where the first letter of the motif is now
        middle = WINDOW // 2 - int(batch["shift"][row])
        assert place == (WINDOW - 1 - middle if reverse else middle)
        there += counts.any()
        expected = torch.zeros(POSITIONS)
        expected[place - offset] = float(wide[chosen[row]].max())
        assert torch.equal(counts, expected)
    assert there == len(chosen)  # 8 nt to either side leave it among the 20 in the middle
    again = recipe.training_batch(samples, chosen, task, torch.Generator().manual_seed(0))
    assert all(torch.equal(batch[key], again[key]) for key in batch)
    still = recipe_of(jitter=0, reverse_complement=False, negative_ratio=None)
    batch = still.training_batch(loaded(still, split.train), chosen, task, torch.Generator())
    assert not batch["shift"].any() and not batch["reverse"].any()
    assert torch.equal(batch["counts"].argmax(dim=1), torch.full((len(chosen),), POSITIONS // 2))


def test_an_epoch_has_all_peaks_and_other_negatives_each_time(cached: Path) -> None:
    rows = read(Files(cached).write()).train
    recipe = recipe_of(negative_ratio=0.5)
    samples = loaded(recipe, rows, "is_peak")
    is_peak = rows.columns["is_peak"]
    drawn = []
    for seed in (1, 2, 1):
        steps = recipe.epoch(samples, 16, torch.Generator().manual_seed(seed))
        assert len(steps) == recipe.steps(rows, 16) == recipe.steps(samples, 16) == -(-67 // 16)
        numbers = torch.cat(list(steps)).tolist()
        assert len(set(numbers)) == len(numbers) == 45 + 22
        assert {number for number in numbers if is_peak[number]} == set(np.flatnonzero(is_peak).tolist())
        drawn.append([numbers, {number for number in numbers if not is_peak[number]}])
    assert drawn[0] == drawn[2]
    assert drawn[0][1] != drawn[1][1]
    assert recipe.remarks(rows) == [
        "an epoch has the 45 peaks of the training rows and 22 of their 45 negatives, drawn anew "
        "(recipe.negative_ratio=0.5)"
    ]
    for ratio, rows_of_it in ((None, 90), (0.0, 45), (7.0, 90)):
        every = recipe_of(negative_ratio=ratio)
        assert len(torch.cat(list(every.epoch(samples, 16, torch.Generator())))) == rows_of_it
    without = replace(rows, columns={"profile": rows.columns["profile"]})
    with pytest.raises(InputError, match=r"the data have none: recipe\.negative_ratio=null takes all rows"):
        recipe.steps(without, 16)
    assert recipe_of(negative_ratio=None).steps(without, 16) == 6
    negatives = rows[~is_peak]  # as a bias model has them
    assert recipe.steps(negatives, 16) == 3
    assert len(torch.cat(list(recipe.epoch(loaded(recipe, negatives, "is_peak"), 16, torch.Generator())))) == 45


def test_a_sequence_of_any_length_is_read_in_its_middle() -> None:
    recipe = recipe_of(negative_ratio=None)
    string = "".join(np.random.default_rng(0).choice(list("ACGT"), 200))
    given = [string[70:130], string[60:140], string, string[71:130], string[95:105], string[70:131], ""]
    samples = recipe.load(Sequences.from_strings(given), torch.device("cpu"))
    [[batch]] = recipe.scoring_batches(samples, 16)
    assert not batch["reverse"].any() and not batch["shift"].any()
    middle = string[70:130]
    assert strings_of(batch["x"]) == [
        *[middle] * 3,
        "N" + middle[1:],
        "N" * 25 + string[95:105] + "N" * 25,
        middle,
        "N" * 60,
    ]
    assert recipe.longest == WINDOW
    exact = recipe.load(Sequences.from_strings([middle] * 50), torch.device("cpu"))
    moved = recipe.encode(exact, torch.arange(50), torch.zeros(50, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert set(strings_of(moved["x"])) == {middle, reverse_complement(middle)}  # nothing to move into


# training


class Heads(FinalBlock):
    """(B, C, L) -> logits of the positions in the middle, and the log of their sum."""

    def __init__(self, inputs: InputSpec, targets: TargetSpec) -> None:
        super().__init__()
        self.positions = int(targets.constants["positions"])
        self.profile, self.count = nn.Conv1d(inputs.channels, 1, 1), nn.Linear(inputs.channels, 1)

    def forward(self, features: Tensor) -> Prediction:
        crop = (features.shape[2] - self.positions) // 2
        profile = self.profile(features).squeeze(1)[:, crop : crop + self.positions]
        return Prediction(profile=profile, log_counts=self.count(features.mean(dim=2)).squeeze(-1))

    def size(self, batch: Batch) -> int:
        return len(batch["counts"])

    def loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        counts = batch["counts"]
        likelihood = (counts * prediction["profile"].log_softmax(-1)).sum(dim=1).mean()
        return F.mse_loss(prediction["log_counts"], counts.sum(dim=1).log1p()) - likelihood


def config(dataset: dict[str, Any], *overrides: str) -> dict[str, Any]:
    parts = ("recipe=window", "first=conv", "first.channels=8", "core=efficientnet", "core.widths=[8]", "task=profile")
    settings = ("training.device=cpu", "training.epochs=3", "training.batch_size=16")
    composed = compose("dataset=simulated_atac", *parts, *settings, *overrides)
    values = {"length": WINDOW, "jitter": JITTER}
    composed["task"] |= {"positions": POSITIONS}
    return {
        **composed,
        "recipe": {**composed["recipe"], **values},
        "dataset": dataset,
        "final": {"_target_": f"{__name__}.Heads"},
    }


def test_a_run_that_is_interrupted_ends_with_the_same_weights(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(Files(cached).write(), "recipe.negative_ratio=0.5", "training.checkpoint_minutes=0")
    assert run(settings, cached / "whole", show_progress=False)["steps"] == 15
    steps = []
    encode = type(build_recipe(settings)).encode

    def stopped(recipe: Any, samples: Any, rows: Any, reverse: Any, generator: Any) -> Batch:
        steps.append(1)
        if generator is not None and len(steps) > 11:
            raise KeyboardInterrupt
        return encode(recipe, samples, rows, reverse, generator)

    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr(type(build_recipe(settings)), "encode", stopped)
        run(settings, cached / "stopped", show_progress=False)
    assert checkpoints(cached / "stopped")
    assert not (cached / "stopped" / "metrics.json").exists()
    run(settings, cached / "stopped", show_progress=False)
    for name in ("weights.safetensors", "validation.npz"):
        assert (cached / "stopped" / name).read_bytes() == (cached / "whole" / name).read_bytes()
    metrics = json.loads((cached / "whole" / "metrics.json").read_text())
    assert metrics["test"]["n"] == 90
    assert metrics["tests"]["peaks"]["n"] == 45
    model = prixfixe.load(cached / "whole", device="cpu")
    strings = build_dataset(settings).read().validation.sequences.to_strings()
    kept = np.load(cached / "whole" / "validation.npz")["predicted"]
    np.testing.assert_allclose(model.predict(strings), kept, rtol=1e-4, atol=1e-5)


def test_windows_are_not_moved_beyond_what_was_measured(cached: Path) -> None:
    settings = config(Files(cached).write())
    settings["recipe"] |= {"jitter": JITTER + 1}
    with pytest.raises(ContractError, match="moves windows by up to 9 nt, and task profile has measurements for 8 nt"):
        run(settings, cached / "run", show_progress=False)


def test_a_wrong_jitter_of_the_data_is_named_as_theirs(cached: Path) -> None:
    composed = compose("dataset=simulated_atac", "recipe=window", "task=profile", "dataset.jitter=-1")
    with pytest.raises(InputError, match=r"^dataset\.jitter=-1: SimulatedAtac takes int, at least 0"):
        run(composed, cached / "run", show_progress=False)
    assert not (cached / "run").exists()


def test_the_data_say_how_wide_windows_are() -> None:
    settings = compose("dataset=simulated_atac", "recipe=window", "task=profile", "dataset.jitter=30")
    assert (settings["recipe"]["length"], settings["recipe"]["jitter"], settings["task"]["positions"]) == (400, 30, 200)
    settings = compose("dataset=simulated", "recipe=window", "task=profile")
    assert (settings["recipe"]["length"], settings["recipe"]["jitter"], settings["task"]["positions"]) == (
        2114,
        500,
        None,
    )


# the simulated genome


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Split, Path]:
    folder = tmp_path_factory.mktemp("simulated")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PRIXFIXE_CACHE", str(folder))
        settings = compose("dataset=simulated_atac", "dataset.nucleotides=600000", "dataset.chromosomes=4")
        assert is_simulated(settings)
        return build_dataset(settings).read(), folder


def test_the_twin_is_read_from_files_that_are_the_same_each_time(
    simulated: tuple[Split, Path], cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, folder = simulated
    assert split.simulated
    settings = compose("dataset=simulated_atac", "dataset.nucleotides=600000", "dataset.chromosomes=4")
    again = build_dataset(settings)
    assert isinstance(again, SimulatedAtac)
    rows = again.read()
    assert again.folder.is_relative_to(cached)
    [other] = (folder / "simulated_atac").iterdir()
    names = ("genome.fa", "peaks.narrowPeak", "folds.json", "insertions.bw")
    assert all((again.folder / name).read_bytes() == (other / name).read_bytes() for name in names)
    (again.folder / "insertions.bw").unlink()  # by a tool that tidies up
    once_more = build_dataset(settings).read()
    for found in (rows, once_more):
        assert found.content == split.content
        assert found.train.sequences.to_strings() == split.train.sequences.to_strings()
        np.testing.assert_array_equal(found.train.columns["profile"][:], split.train.columns["profile"][:])
    with pytest.raises(InputError, match=r"dataset\.nucleotides=60000"):
        build_dataset(compose("dataset=simulated_atac", "dataset.nucleotides=60000")).read()


def test_the_twins_truth_is_its_sites_and_the_transposases_preference(simulated: tuple[Split, Path]) -> None:
    split, _ = simulated
    codes, counts = split.train.sequences.padded(), split.train.columns["profile"][:]
    is_peak = split.train.columns["is_peak"]
    inside = slice(50, -50)
    expected = expected_insertions(codes)[:, 100:-100]
    assert counts.shape == expected.shape
    assert counts.sum() / expected.sum() == pytest.approx(1, abs=0.02)
    deviance = np.square(counts - expected) / expected  # of Poisson counts, 1 on average
    assert deviance[:, inside].mean() == pytest.approx(1, abs=0.05)
    totals = counts.sum(axis=1)
    assert np.median(totals[is_peak]) > 4 * np.median(totals[~is_peak])
    # both strands alike
    other = np.array([3, 2, 1, 0, 4], dtype=np.uint8)[codes[:, ::-1]]
    np.testing.assert_allclose(preference(other)[:, ::-1], preference(codes))
    np.testing.assert_allclose(openness(other)[:, ::-1], openness(codes), rtol=1e-3, atol=1e-3)
    # sites open peaks, with footprints; what is planted anywhere does not
    sites = {name: found[:, 100:-100] for name, found in factor_sites(codes).items()}
    free = counts / preference(codes)[:, 100:-100]  # of the preference
    means = {name: free[found & is_peak[:, None]].mean() for name, found in sites.items()}
    for factor in FACTORS:
        in_peaks, elsewhere = (sites[factor.name][rows].mean() for rows in (is_peak, ~is_peak))
        assert (in_peaks > 5 * elsewhere) == (factor.opens > 0)
        if factor.footprint:
            assert means[factor.name] < 0.5 * means["GATA"]  # which has none
    assert means["GATA"] > free[is_peak].mean()


def test_sites_are_those_of_the_consensus_on_either_strand() -> None:
    codes = Sequences.from_strings(["TTTTTGAGTCATTTTTTT", "TTTTCTTATCTTTTTTTT", "CACTTCCGGTTTTTTTTT"]).padded()
    found = factor_sites(codes)
    assert [np.flatnonzero(found["AP-1"][0])[[0, -1]].tolist(), found["AP-1"][1:].any()] == [[4, 10], False]
    assert np.flatnonzero(found["ETS"][2]).tolist() == [*range(1, 10)]
    assert found["GATA"][1].any() and not found["GATA"][0].any()


@pytest.mark.parametrize("moved", [(4, -4), (4, -5), (0, 0), (4, 4)])
def test_the_motif_around_insertions_says_that_another_shift_was_stated(moved: tuple[int, int], cached: Path) -> None:
    rng = np.random.default_rng(3)
    codes, _ = simulate_chromosome(120_000, rng)
    counts = insertions(codes, rng, moved)
    first = np.arange(1000, 119_000, 300)
    rows = Measurements(
        Sequences.from_padded(codes[first[:, None] + np.arange(300)], np.full(len(first), 300)),
        np.empty((len(first), 0)),
        tasks=(),
        columns={"profile": counts[first[:, None] + np.arange(50, 250)]},
    )
    assert check_shift(rows, moved, f"as stated {moved}") == []
    stated = (0, 0) if moved == (4, -4) else (4, -4)
    [said] = check_shift(rows, stated, f"otherwise {moved}")
    assert said.startswith(f"dataset.shift=[{stated[0]},{stated[1]}]: the Tn5 motif around the insertions")
    assert f"fits [{moved[0]},{moved[1]}] better" in said
    flat = replace(rows, columns={"profile": np.ones_like(rows.columns["profile"])})
    [said] = check_shift(flat, moved, f"flat {moved}")
    assert said.startswith("no Tn5 motif around the insertions")
