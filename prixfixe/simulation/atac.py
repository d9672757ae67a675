"""A simulated genome with open regions, and a Tn5 transposase that prefers some sites: the stand-in for ATAC-seq.

The files are those that `prixfixe.data.atac.Atac` reads; see docs/simulated_assay.md. Nothing here is a measurement.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from scipy.ndimage import gaussian_filter1d

from prixfixe.common.errors import InputError
from prixfixe.common.extras import extra_module
from prixfixe.common.files import atomic_path, write_json, write_text
from prixfixe.contract import Count
from prixfixe.data.atac import Atac
from prixfixe.data.prepared import cache_folder
from prixfixe.data.sequences import CODE_TO_ASCII, COMPLEMENT, NUCLEOTIDES, N
from prixfixe.data.tn5 import HALF, MOTIF
from prixfixe.simulation.factors import IUPAC

VERSION = 1  # goes up when a size and seed give other files than before
STREAM = 3  # second word of the seed; other assays have the others
SLOT = 1600  # nt, in each of which is one open region
ISOCHORE = 2000  # nt of one G + C content
G_AND_C, OPEN_G_AND_C = (0.36, 0.50), 0.04  # shares of the background, and what an open region has more
SITES = (3, 5)  # in an open region, the fewest and the most
SPREAD = 80  # nt of an open region, in which they lie
REACH = 45.0  # nt, the standard deviation of what a site opens
HALF_OPEN, STEEPNESS = 2.6, 2.5  # of the sites' effects, where a position is half open, and how fast that rises
CLOSED = 0.05  # what is left where nothing is open
PROTECTED, AROUND = 0.9, 2  # share of the insertions that a bound factor prevents at its site and so many nt around
PREFERENCE = 1.0  # of the transposase: what the letters of its motif add to the logarithm of the rate
DEPTH = 3.0  # insertions at an open position, on average
PEAK = 300  # nt
LINE = 60  # letters of a FASTA's line


@dataclass(frozen=True)
class Factor:
    """A site by its consensus (IUPAC letters), on either strand. opens: its effect on openness. footprint: whether it
    keeps the transposase off its site."""

    name: str
    consensus: str
    opens: float
    footprint: bool


# Consensus sites are the literature's; effects are invented. The last one is planted anywhere and does nothing.
FACTORS = (
    Factor("CTCF", "CCASYAGGGGGC", 1.5, True),
    Factor("AP-1", "TGASTCA", 1.3, True),
    Factor("NRF1", "GCGCATGCGC", 1.3, True),
    Factor("ETS", "ACCGGAAGT", 1.1, True),
    Factor("GATA", "AGATAAS", 1.0, False),
    Factor("OCT", "ATGCAAAT", 0.0, False),
)
OPENERS = tuple(factor for factor in FACTORS if factor.opens)


def factor_sites(codes: np.ndarray) -> dict[str, np.ndarray]:
    """At which positions a site of each factor lies, by its name: bool (n, positions), all nucleotides of all sites on
    both strands. codes: uint8 (n, positions)."""
    found = {}
    for factor in FACTORS:
        length = len(factor.consensus)
        covered = np.zeros(codes.shape, dtype=bool)
        for begins in _begins(codes, factor.consensus):
            for place in range(length):
                covered[:, place : place + begins.shape[1]] |= begins
        found[factor.name] = covered
    return found


def preference(codes: np.ndarray) -> np.ndarray:
    """The transposase's: float64 (n, positions), by how much more often than on average it inserts in the middle of 9
    nt. Its motif is its own reverse complement, and is all that a model of the enzyme's bias has to learn."""
    rates = np.zeros(codes.shape)
    padded = np.pad(codes, ((0, 0), (len(MOTIF) // 2,) * 2), constant_values=N)
    for place, letters in enumerate(MOTIF):
        share = np.array([(letter in letters) / len(letters) for letter in NUCLEOTIDES[:4]])
        weights = np.append(PREFERENCE * (share - 0.25), 0.0)
        weights -= np.log(np.exp(weights[:4]).mean())  # the mean over random letters is 1
        rates += weights[padded[:, place : place + codes.shape[1]]]
    return np.exp(rates)


def openness(codes: np.ndarray) -> np.ndarray:
    """Float64 (n, positions), 0.05 (closed) to 1: what sites around a position open, less the footprints of those that
    are bound. It does not depend on the transposase."""
    sites, footprint = np.zeros(codes.shape), np.zeros(codes.shape, dtype=bool)
    for factor in OPENERS:
        length = len(factor.consensus)
        for begins in _begins(codes, factor.consensus):
            rows, first = np.nonzero(begins)
            for middle in ((length - 1) // 2, length // 2):  # of an even site between two nucleotides
                sites[rows, first + middle] += factor.opens / 2
            for place in range(-AROUND, length + AROUND) if factor.footprint else ():
                footprint[rows, (first + place).clip(0, codes.shape[1] - 1)] = True
    scale = REACH * np.sqrt(2 * np.pi)  # the smoothing has the sum 1, and a site its effect where it is
    effect = scale * gaussian_filter1d(sites, REACH, axis=1, mode="constant", truncate=4)
    bound = 1 / (1 + np.exp(STEEPNESS * (HALF_OPEN - effect)))
    opened = CLOSED + (1 - CLOSED) * bound
    return np.asarray(opened * (1 - PROTECTED * bound * footprint))


def expected_insertions(codes: np.ndarray) -> np.ndarray:
    """What there is to measure at every position: float64 (n, positions)."""
    return DEPTH * openness(codes) * preference(codes)


def simulate_chromosome(length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A chromosome's letters, uint8 (length,), and the middles of its open regions, int64 (regions,)."""
    regions = length // SLOT
    middle = SLOT * np.arange(regions) + rng.integers(SLOT // 4, SLOT - SLOT // 4, size=regions)
    share = np.repeat(rng.uniform(*G_AND_C, size=-(-length // ISOCHORE)), ISOCHORE)[:length]
    share[middle[:, None] + np.arange(-PEAK // 2, PEAK // 2)] += OPEN_G_AND_C
    codes = np.where(rng.random(length) < share, rng.integers(1, 3, length), 3 * rng.integers(0, 2, length))
    codes = codes.astype(np.uint8)
    number = rng.integers(SITES[0], SITES[1] + 1, size=regions)
    for centre, count in zip(middle.tolist(), number.tolist(), strict=True):
        for place in range(count):
            factor = OPENERS[rng.integers(len(OPENERS))]
            room = SPREAD // count - len(factor.consensus)
            first = centre - SPREAD // 2 + SPREAD // count * place + int(rng.integers(0, max(room, 0) + 1))
            _plant(codes, factor, first, rng)
    for first in rng.integers(0, length - len(FACTORS[-1].consensus), size=regions).tolist():
        _plant(codes, FACTORS[-1], first, rng)
    return codes, middle


def insertions(codes: np.ndarray, rng: np.random.Generator, shift: tuple[int, int] = (4, -4)) -> np.ndarray:
    """5' ends of one chromosome, int64 (positions,), moved by `shift` on plus and minus strand: each strand's stand on
    one end of the 9 nt around the transposase's middle. codes: uint8 (positions,)."""
    expected, counts = expected_insertions(codes[None])[0], np.zeros(len(codes), dtype=np.int64)
    for moved in (shift[0] - HALF, HALF + shift[1]):
        of_strand = rng.poisson(expected / 2)
        at = np.arange(len(codes)) + moved
        inside = (at >= 0) & (at < len(codes))
        counts[at[inside]] += of_strand[inside]
    return counts


def write_files(folder: Path, nucleotides: int, chromosomes: int, seed: int) -> dict[str, Path]:
    """FASTA, bigWig, narrowPeak and folds in a folder, by the names of `Atac`'s settings. Files that are there stay: a
    run may be reading them."""
    names = {"genome": "genome.fa", "bigwig": "insertions.bw", "peaks": "peaks.narrowPeak", "folds": "folds.json"}
    files = {setting: folder / name for setting, name in names.items()}
    if all(file.exists() for file in files.values()):
        return files
    parts: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for number in range(1, chromosomes + 1):
        rng = np.random.default_rng([seed, STREAM, number])
        codes, middle = simulate_chromosome(nucleotides // chromosomes, rng)
        parts[f"chr{number}"] = codes, middle, insertions(codes, rng)
    if not files["genome"].exists():
        write_text(files["genome"], "".join(_fasta(name, codes) for name, (codes, _, _) in parts.items()))
    if not files["peaks"].exists():
        write_text(files["peaks"], "".join(_peaks(name, middle) for name, (_, middle, _) in parts.items()))
    if not files["folds"].exists():
        *train, valid, test = parts
        write_json(files["folds"], {"train": train, "valid": [valid], "test": [test]})
    if not files["bigwig"].exists():
        write_counts(files["bigwig"], {name: counts for name, (_, _, counts) in parts.items()})
    return files


def write_counts(path: Path, counts: Mapping[str, np.ndarray]) -> None:
    """A bigWig of the positions that have a count. counts: of each chromosome, (length,)."""
    pybigtools = extra_module("pybigtools", "profiles", "a bigWig")

    def records() -> Iterator[tuple[str, int, int, float]]:
        for name in sorted(counts):
            for position in np.flatnonzero(counts[name]).tolist():
                yield name, position, position + 1, float(counts[name][position])

    with atomic_path(path) as temporary:
        named = temporary.with_name(f"{temporary.name}.bw")  # the format follows from the name's ending
        try:
            pybigtools.open(str(named), "w").write({name: len(some) for name, some in counts.items()}, records())
            named.replace(temporary)
        finally:
            named.unlink(missing_ok=True)


class SimulatedAtac(Atac):
    """`Atac` of simulated files, which are made in the cache folder. The last chromosome is tested on, the one before
    it validated on; negatives are drawn."""

    simulated = True

    def __init__(
        self,
        *,
        nucleotides: Annotated[int, Ge(50_000), Le(10**9)],
        chromosomes: Annotated[int, Ge(3), Le(100)],
        seed: Annotated[int, Ge(0)],
        window: Count,
        positions: Count,
        jitter: Annotated[int, Ge(0), Le(100_000)],
        outliers: Annotated[float, Ge(0), Lt(0.5)],
        bias_threshold: Annotated[float, Gt(0)] | None,
    ) -> None:
        if nucleotides // chromosomes < 4 * (window + 2 * jitter + SLOT):
            raise InputError(
                f"dataset.nucleotides={nucleotides}: {chromosomes} chromosomes need more, or dataset.window={window} "
                "is too wide for them"
            )
        self.size = (nucleotides, chromosomes, seed)
        self.name = f"version={VERSION} nucleotides={nucleotides} chromosomes={chromosomes} seed={seed}"
        self.folder = cache_folder() / "simulated_atac" / hashlib.sha256(self.name.encode()).hexdigest()[:16]
        super().__init__(
            genome=str(self.folder / "genome.fa"),
            bigwig=str(self.folder / "insertions.bw"),
            peaks=str(self.folder / "peaks.narrowPeak"),
            negatives=None,
            excluded=None,
            folds=str(self.folder / "folds.json"),
            window=window,
            positions=positions,
            jitter=jitter,
            outliers=outliers,
            bias_threshold=bias_threshold,
            whole_numbers=True,
            shift=[4, -4],
            seed=seed,
        )

    def _prepare(self) -> None:
        write_files(self.folder, *self.size)

    def _content(self, of_part: Mapping[str, str]) -> str:
        """By the settings: the files' bytes may differ between versions of the libraries that write them. Its first
        word is the genome's."""
        settings = [self.window, self.positions, self.jitter, self.outliers, self.bias_threshold]
        return f"simulated_atac={self.folder.name} {self.name} {json.dumps(settings)}"


def _begins(codes: np.ndarray, consensus: str) -> list[np.ndarray]:
    """Where a site begins, on the plus strand and, where it differs, on the minus strand: bool (n, positions -
    letters + 1) each. A site that reads the same on both is one."""
    allowed = np.array([[letter in IUPAC[symbol] for letter in NUCLEOTIDES] for symbol in consensus])
    other = allowed[::-1][:, COMPLEMENT]
    strands = [allowed] if np.array_equal(allowed, other) else [allowed, other]
    width = codes.shape[1] - len(consensus) + 1
    found = []
    for letters in strands:
        begins = np.ones((len(codes), max(width, 0)), dtype=bool)
        for place, choice in enumerate(letters):
            begins &= choice[codes[:, place : place + max(width, 0)]]
        found.append(begins)
    return found


def _plant(codes: np.ndarray, factor: Factor, first: int, rng: np.random.Generator) -> None:
    """Writes a site of a factor, on a random strand, into a chromosome."""
    site = np.array([NUCLEOTIDES.index(str(rng.choice(list(IUPAC[symbol])))) for symbol in factor.consensus])
    site = COMPLEMENT[site[::-1]] if rng.random() < 0.5 else site
    codes[first : first + len(site)] = site


def _fasta(name: str, codes: np.ndarray) -> str:
    letters = CODE_TO_ASCII[codes].tobytes().decode()
    lines = [letters[first : first + LINE] for first in range(0, len(letters), LINE)]
    return f">{name}\n" + "\n".join(lines) + "\n"


def _peaks(name: str, middle: np.ndarray) -> str:
    """Lines of a 10-column narrowPeak, with the summit in the middle."""
    half = PEAK // 2
    lines = [f"{name}\t{m - half}\t{m + half}\t.\t1000\t.\t0\t-1\t-1\t{half}\n" for m in middle.tolist()]
    return "".join(lines)
