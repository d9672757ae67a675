"""What designed sequences keep to: positions that stay, G + C content, forbidden sites, distance from the start."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prixfixe.common.errors import InputError
from prixfixe.common.text import printable
from prixfixe.data.flanks import NO_FLANKS, Flanks
from prixfixe.data.sequences import ASCII_TO_CODE, C, G, N
from prixfixe.inference.patterns import Pattern, consensus

REPAIRS = 400  # single changes that are tried to make a sequence keep to the constraints


@dataclass(frozen=True)
class Constraints:
    """Of sequences of one length L.

    free: bool (L,), the positions that may change. gc: the least and the largest share of G and C in the sequence.
    sites: forbidden on both strands, those that reach into the flanks among them. most_changes: from the start.
    flanks: what the model puts around the sequence.
    """

    free: np.ndarray
    gc: tuple[float, float] | None = None
    sites: tuple[Pattern, ...] = ()
    most_changes: int | None = None
    flanks: Flanks = NO_FLANKS

    def violations(self, codes: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """By how many letters or sites each sequence breaks them: int64 (n,), 0 where it keeps to all. codes, starts:
        uint8 (n, L)."""
        broken = np.zeros(len(codes), dtype=np.int64)
        if self.gc is not None:
            known, count = (codes < N).sum(axis=1), ((codes == C) | (codes == G)).sum(axis=1)
            low, high = np.ceil(self.gc[0] * known - 1e-9), np.floor(self.gc[1] * known + 1e-9)
            broken += (np.maximum(low - count, 0) + np.maximum(count - high, 0)).astype(np.int64)
        if self.most_changes is not None:
            broken += np.maximum((codes != starts).sum(axis=1) - self.most_changes, 0)
        for site in self.sites:
            for strand in site.strands():
                broken += strand.occurrences(self._within_flanks(codes, len(site) - 1)).sum(axis=1)
        return broken

    def _within_flanks(self, codes: np.ndarray, reach: int) -> np.ndarray:
        """The sequences with the nearest `reach` letters of the flanks around them."""
        left, right = (ASCII_TO_CODE[np.frombuffer(end.encode(), dtype=np.uint8)] for end in self.flanks)
        parts = [left[max(len(left) - reach, 0) :], codes, right[:reach]]
        return np.concatenate([np.broadcast_to(part, (len(codes), part.shape[-1])) for part in parts], axis=1)

    def unavoidable(self, codes: np.ndarray) -> str | None:
        """A forbidden site that stands where no position may change, and where, of sequences (n, L)."""
        for site in self.sites:
            left, right = (min(len(site) - 1, len(end)) for end in self.flanks)
            windows = np.lib.stride_tricks.sliding_window_view(np.pad(self.free, (left, right)), len(site)).any(axis=1)
            for strand in site.strands():
                found = strand.occurrences(self._within_flanks(codes, len(site) - 1))
                if (fixed := found & ~windows).any():
                    place = int(np.flatnonzero(fixed.any(axis=0))[0]) - left
                    return f"the forbidden site {site.name} stands at position {place}, where nothing may change"
        return None

    def repaired(self, codes: np.ndarray, starts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The sequences, changed at free positions until they keep to the constraints; those that cannot be brought to
        it come back as they are after `REPAIRS` single changes, of which none made it worse."""
        codes = codes.copy()
        broken = self.violations(codes, starts)
        places = np.flatnonzero(self.free)
        for _ in range(REPAIRS if len(places) else 0):
            rows = np.flatnonzero(broken)
            if not len(rows):
                break
            trial, place = codes[rows], rng.choice(places, len(rows))
            back = rng.random(len(rows)) < 0.5  # to the start's letter, which nears it
            letters = np.where(back, starts[rows, place], rng.integers(0, N, len(rows)))
            trial[np.arange(len(rows)), place] = letters
            now = self.violations(trial, starts[rows])
            better = now <= broken[rows]
            codes[rows[better]], broken[rows[better]] = trial[better], now[better]
        return codes


def fixed_positions(text: str | None, length: int) -> np.ndarray:
    """bool (length,), of ranges such as 0-17,97-110: 0-based, the end not among them, as in a BED file. InputError for
    anything else."""
    fixed = np.zeros(length, dtype=bool)
    for part in str(text).split(",") if text else ():
        match = re.fullmatch(r"\s*([0-9]{1,9})-([0-9]{1,9})\s*", part)
        if match is None or not int(match[1]) < int(match[2]) <= length:
            raise InputError(
                f"--fixed {printable(part, 40)}: give ranges such as 0-17,97-110, from 0 and the end not among them, "
                f"within the {length} letters of a sequence"
            )
        fixed[int(match[1]) : int(match[2])] = True
    return fixed


def gc_range(text: str | Sequence[float] | None) -> tuple[float, float] | None:
    """Two shares, such as 0.3-0.6. InputError for anything else."""
    if text is None:
        return None
    try:
        low, high = map(float, text.split("-") if isinstance(text, str) else text)
    except (ValueError, TypeError):
        low = high = math.nan
    if not 0 <= low <= high <= 1:
        raise InputError(
            f"--gc {printable(text, 40)}: give the least and the largest share of G and C, such as 0.3-0.6"
        )
    return low, high


def forbidden_sites(sites: str | Sequence[str] | None) -> tuple[Pattern, ...]:
    """GAATTC,GGTCTC or a list: IUPAC letters, each forbidden on both strands."""
    given = sites.split(",") if isinstance(sites, str) else list(sites or ())
    return tuple(consensus(site) for site in given)
