"""Motif tiling and motif perturbation: a motif put at every position of a sequence, and every occurrence of a motif
taken away; each beside the sequence as it was, as the challenge's pairs have it (Rafi et al. 2024, test subsets)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.common.text import printable
from prixfixe.data.measurements import Measurements
from prixfixe.inference.design import Starts, predicted, starts_of, task_of
from prixfixe.inference.patterns import Pattern, chosen_pattern, consensus, read_patterns
from prixfixe.inference.predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd

TRIES = 200  # shuffles of an occurrence, and then random letters, until the motif is gone
Change = tuple[np.ndarray, str, str, str]  # codes (L,), motif, positions, strands


def tiled(model: Predictor, motifs: str | Sequence[str], **settings: Any) -> pd.DataFrame:
    """Every motif at every position where all letters may change, in both orientations; see `pairs`."""
    wanted = _wanted(motifs)

    def changes(codes: np.ndarray, free: np.ndarray, known: dict[str, Pattern], _: Starts, __: Any) -> Iterator[Change]:
        for text in wanted:
            for strand, pattern in zip("+-", chosen_pattern(text, known).strands(), strict=False):
                for place in _within(free, len(pattern)):
                    mutant = codes.copy()
                    mutant[place : place + len(pattern)] = pattern.written(codes[place : place + len(pattern)])
                    yield mutant, pattern.name, str(place), strand

    return pairs(model, changes, **settings)


def perturbed(model: Predictor, motifs: str | Sequence[str], **settings: Any) -> pd.DataFrame:
    """Every occurrence of a motif, on either strand and where all letters may change, shuffled until none is left; or,
    of MOTIF=LETTERS, replaced by these. A row a sequence and motif that occurs in it; see `pairs`."""
    wanted = _wanted(motifs)

    def changes(
        codes: np.ndarray, free: np.ndarray, known: dict[str, Pattern], starts: Starts, rng: np.random.Generator
    ) -> Iterator[Change]:
        for text in wanted:
            name, _, letters = text.partition("=")
            pattern = chosen_pattern(name, known)
            found = _sites(pattern, codes, free)
            if not found:
                continue
            if letters:
                mutant = _replaced(codes, pattern, consensus(letters), found)
            else:
                mutant = _shuffled(codes, pattern, free, starts.letters, rng)
            places, strands = zip(*found, strict=True)
            yield mutant, pattern.name, ",".join(map(str, places)), ",".join(strands)

    return pairs(model, changes, **settings)


def pairs(
    model: Predictor,
    changes: Any,
    *,
    number: int | None = None,
    start: Measurements | Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    motif_file: Path | None = None,
    fixed: str | None = None,
    task: str | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> pd.DataFrame:
    """A table of sequences, each given or random one before what was made of it: name, sequence, motif, position (from
    0), strand, alt_pos and ref_pos (the row itself and that of the sequence as it was, from 0), prediction and effect,
    their difference. Settings as of `prixfixe.inference.design.design`; motif_file: MEME, of those that are named."""
    import pandas as pd

    rng, which = np.random.default_rng(seed), task_of(model, task)
    known = {} if motif_file is None else read_patterns(motif_file)
    tables, before = [], 0
    for starts, free in starts_of(model, start, names, number, fixed, rng):
        table: dict[str, list[Any]] = {name: [] for name in ("name", "codes", "motif", "position", "strand", "ref_pos")}
        owner: list[int] = []
        for row, codes in enumerate(starts.codes):
            name = f"random_{row}" if starts.names is None else starts.names[row]
            reference = before + len(owner)
            made = [(codes, "", "", ""), *changes(codes, free, known, starts, rng)]
            for made_number, (mutant, motif, position, strand) in enumerate(made):
                whole = f"{name}_{made_number}" if motif else name
                for column, value in zip(table, (whole, mutant, motif, position, strand, reference), strict=True):
                    table[column].append(value)
            owner += [row] * len(made)
        rows = starts.of(np.stack(table.pop("codes")), np.array(owner))
        frame = pd.DataFrame({"name": table.pop("name"), "sequence": rows.sequences.to_strings(), **table})
        frame.insert(5, "alt_pos", np.arange(before, before + len(frame)))
        frame["prediction"] = predicted(model, rows, which, batch_size)[0]
        frame["effect"] = frame["prediction"] - frame["prediction"].to_numpy()[frame["ref_pos"] - before]
        tables.append(frame)
        before += len(frame)
    return pd.concat(tables, ignore_index=True)


def _wanted(motifs: str | Sequence[str]) -> list[str]:
    return motifs.split(",") if isinstance(motifs, str) else list(motifs)


def _within(free: np.ndarray, width: int) -> list[int]:
    """Where a stretch of `width` letters that all may change begins."""
    if len(free) < width:
        return []
    return list(map(int, np.flatnonzero(np.lib.stride_tricks.sliding_window_view(free, width).all(axis=1))))


def _sites(pattern: Pattern, codes: np.ndarray, free: np.ndarray) -> list[tuple[int, str]]:
    """Where a motif occurs, and on which strand, from the left."""
    found = []
    inside = _within(free, len(pattern))
    for strand, one in zip("+-", pattern.strands(), strict=False):
        occurs = one.occurrences(codes[None])[0]
        found += [(place, strand) for place in inside if occurs[place]]
    return sorted(found)


def _shuffled(
    codes: np.ndarray, pattern: Pattern, free: np.ndarray, letters: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    codes = codes.copy()
    while left := _sites(pattern, codes, free):
        stretch = slice(left[0][0], left[0][0] + len(pattern))
        for attempt in range(2 * TRIES):
            trial = codes.copy()
            drawn = rng.permutation(codes[stretch]) if attempt < TRIES else rng.choice(4, len(pattern), p=letters)
            trial[stretch] = drawn
            if len(_sites(pattern, trial, free)) < len(left):
                break
        else:
            raise InputError(f"motif {printable(pattern.name, 60)} fits nearly all letters: it cannot be taken away")
        codes = trial
    return codes


def _replaced(codes: np.ndarray, pattern: Pattern, by: Pattern, found: list[tuple[int, str]]) -> np.ndarray:
    if len(by) != len(pattern):
        raise InputError(
            f"motif {printable(pattern.name, 60)} is {len(pattern)} letters wide, and {by.name} {len(by)}: give as many"
        )
    codes = codes.copy()
    for place, strand in found:
        stretch = slice(place, place + len(pattern))
        there, put = (one if strand == "+" else one.reverse_complement() for one in (pattern, by))
        if there.occurrences(codes[None, stretch]).all():  # the one before may have overlapped it
            codes[stretch] = put.written(codes[stretch])
    return codes
