"""Where variants stand in windows, and whether they fit the genome; before anything is predicted.

The window is the declared one, see docs/variants.md: the variant's position at index width // 2 (0-based), or a region
that holds it. The alternative's window begins where the reference's does, and is as long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from prixfixe.common.errors import InputError
from prixfixe.common.text import counted, printable
from prixfixe.data.flanks import checked_flanks
from prixfixe.data.reference import Reference, Regions, region_text, reverse_complement
from prixfixe.data.variants import Change, Variant, change
from prixfixe.inference.predictor import Predictor

LISTED = 5  # mismatches that a message shows
FEWEST_REFUSED = 10  # mismatches, from which on most of a file's are refused even with keep_going
SHIFTED, FEWEST_SHIFTED = 0.9, 3  # share, and number, of mismatches that fit one letter on where positions are 0-based

NAN = float("nan")
NOTE_CHROMOSOME = "the genome has no such chromosome"
NOTE_LIKELIHOOD = "no single substitution, which alone a language model scores"
NOTE_FRAGMENT = "the window does not fit into its fragment"


@dataclass(slots=True)
class Row:
    """A variant in a window: the two alleles' letters, or a note why there are none. distance: from the window's middle
    (index width // 2 of the window as it stands in the genome), in nt."""

    variant: Variant
    region: str = ""
    reference: str = ""
    alternative: str = ""
    distance: float = NAN
    note: str = ""


@dataclass
class Tally:
    """What was met on the way. skipped, notes: by reason, with an example of each. first: mismatches in words. shifted:
    how many mismatches fit one letter further on."""

    alleles: int = 0
    records: int = 0
    rows: int = 0
    outside: int = 0
    padded: int = 0
    longer: int = 0
    in_several: str = ""
    skipped: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    checked: int = 0
    mismatched: int = 0
    swapped: int = 0
    shifted: int = 0
    unknown: int = 0
    first: list[str] = field(default_factory=list)

    def count(self, counter: Counter[str], reason: str, variant: Variant) -> None:
        counter[reason] += 1
        self.examples.setdefault(reason, str(variant))


class Placer:
    """Variants into windows of a reference. width: of the window around a variant. regions: instead of it. most:
    letters that the model reads of a window. substitutions: whether nothing else can be scored."""

    def __init__(
        self, reference: Reference, width: int, regions: Regions | None, most: int, substitutions: bool
    ) -> None:
        self.reference, self.width, self.regions, self.most = reference, width, regions, most
        self.substitutions = substitutions

    def rows(self, variants: Iterable[Variant], tally: Tally) -> Iterator[Row]:
        """A row a variant and window; none of variants that are skipped. What is met is counted in `tally`."""
        own_names: dict[str, str | None] = {}
        for variant in variants:
            tally.alleles, tally.records = tally.alleles + 1, variant.record + 1
            what = change(variant)
            if isinstance(what, str):
                tally.count(tally.skipped, what, variant)
                continue
            if variant.chrom not in own_names:
                own_names[variant.chrom] = self.reference.chromosome(variant.chrom)
            chrom = own_names[variant.chrom]
            if chrom is None:
                tally.unknown += 1
                rows = [Row(variant, note=NOTE_CHROMOSOME)]
            else:
                if chrom != variant.chrom:
                    tally.renamed[variant.chrom] = chrom
                note = self._mismatch(variant, what, chrom, tally)
                if not note and self.substitutions and not what.is_substitution:
                    note = NOTE_LIKELIHOOD
                rows = list(self._placed(variant, what, chrom, note, tally))
            for row in rows:
                tally.rows += 1
                if row.note:
                    tally.count(tally.notes, row.note.partition(":")[0], variant)
                yield row

    def _mismatch(self, variant: Variant, what: Change, chrom: str, tally: Tally) -> str:
        """Why a variant cannot be used by its REF; empty where it can."""
        if not what.removed:
            where = self.reference.stretch(chrom, what.anchor, 1, what.anchor, slide=False)
            return where if isinstance(where, str) else "beyond the chromosome's end" if where.padded else ""
        found = self._letters(chrom, what.start, len(what.removed))
        if found is None:
            return "in no fragment"
        tally.checked += 1
        if found == what.removed:
            return ""
        tally.mismatched += 1
        tally.shifted += self._letters(chrom, what.start + 1, len(what.removed)) == what.removed
        swapped = bool(what.inserted) and self._letters(chrom, what.start, len(what.inserted)) == what.inserted
        tally.swapped += swapped
        shown = found if len(found) <= 20 else f"{found[:20]}..."
        note = f"reference mismatch: the genome has {shown}" + (", REF and ALT swapped?" if swapped else "")
        if len(tally.first) < LISTED:
            tally.first.append(f"{variant}: {note.partition(': ')[2]}")
        return note

    def _letters(self, chrom: str, start: int, length: int) -> str | None:
        found = self.reference.stretch(chrom, start, length, start, slide=False)
        return None if isinstance(found, str) else found.letters

    def _placed(self, variant: Variant, what: Change, chrom: str, note: str, tally: Tally) -> Iterator[Row]:
        if self.regions is None:
            yield self._in_window(variant, what, chrom, (what.anchor - self.width // 2, self.width), note, tally)
            return
        around = self.regions.around(chrom, min(what.start, what.anchor), what.stop)
        tally.outside += not around
        if len(around) > 1:
            tally.in_several = tally.in_several or str(variant)
        for region in around:
            window = region.start, region.stop - region.start
            row = self._in_window(variant, what, chrom, window, note, tally)
            row.region = region.name
            if region.reverse:
                row.reference, row.alternative = map(reverse_complement, (row.reference, row.alternative))
            yield row

    def _in_window(
        self, variant: Variant, what: Change, chrom: str, window: tuple[int, int], note: str, tally: Tally
    ) -> Row:
        """window: its start and width."""
        start, width = window
        if note:
            return Row(variant, region_text(variant.chrom, start, start + width), note=note)
        needed = width + max(len(what.removed) - len(what.inserted), 0)
        found = self.reference.stretch(chrom, start, needed, what.anchor, slide=self.regions is None)
        if isinstance(found, str):
            return Row(variant, region_text(variant.chrom, start, start + width), note=found)
        tally.padded += found.padded
        tally.longer += width > self.most
        at = what.start - found.start
        alternative = found.letters[:at] + what.inserted + found.letters[at + len(what.removed) :]
        region = region_text(variant.chrom, found.start, found.start + width)
        if len(alternative) < width:  # a deletion across the end of a fragment
            return Row(variant, region, note=NOTE_FRAGMENT)
        distance = abs(what.anchor - found.start - width // 2)
        return Row(variant, region, found.letters[:width], alternative[:width], distance)


def check(tally: Tally, where: str, genome: str, reference: Reference, keep_going: bool) -> None:
    """InputError for what a file's variants and the genome disagree in, which would give effects of nothing."""
    usable = tally.alleles - sum(tally.skipped.values())
    if tally.unknown and (tally.unknown == usable or not keep_going):
        example = tally.examples[NOTE_CHROMOSOME]
        raise InputError(
            f"{where}: {tally.unknown:,} of {counted(usable, 'allele')} are on chromosomes that {genome} does not "
            f"have, the first is {example}; it has {printable(', '.join(list(reference.names)[:5]), 200)}"
            f"{', ...' if len(reference.names) > 5 else ''} (1 and chr1, M and MT are taken for the same). "
            + ("Give the genome of these variants" if tally.unknown == usable else "--keep-going writes them as NA")
        )
    most = 2 * tally.mismatched > tally.checked
    if not tally.mismatched or (keep_going and not (most and tally.mismatched >= FEWEST_REFUSED)):
        return
    lines = [f"{where}: {tally.mismatched:,} of {counted(tally.checked, 'REF')} are not what stands in {genome}:"]
    lines += [f"  {text}" for text in tally.first]
    lines += ["  ..."] if tally.mismatched > len(tally.first) else []
    shifted = tally.shifted >= SHIFTED * tally.mismatched and tally.mismatched >= FEWEST_SHIFTED
    if tally.swapped and not shifted:
        lines.append(f"In {tally.swapped:,} of these the genome has what ALT says: are REF and ALT swapped?")
    if shifted:
        lines.append("The REFs stand one letter further on: the positions are 0-based, and 1-based ones are needed.")
    elif most:
        lines.append("That is most of them: is this the genome's assembly (GRCh37 or GRCh38)? Are positions 1-based?")
    if not (most and tally.mismatched >= FEWEST_REFUSED):
        lines.append("--keep-going leaves these as NA and scores the others.")
    raise InputError("\n".join(lines))


def remarks(tally: Tally, most: int) -> list[str]:
    """What the user should know of what was met, a sentence each."""
    said = []
    for verb, counter in (("skipped", tally.skipped), ("NA", tally.notes)):
        for reason, count in counter.most_common():
            said.append(
                f"{verb}: {count:,} of {tally.alleles:,} alleles, {reason} (the first: {tally.examples[reason]})"
            )
    if tally.renamed:
        one, other = next(iter(tally.renamed.items()))
        said.append(f"chromosome {printable(one, 40)} is taken for the genome's {printable(other, 40)}, others alike")
    if tally.outside:
        said.append(f"skipped: {counted(tally.outside, 'allele')} in no region, or across the edge of one")
    if tally.padded:
        said.append(f"{counted(tally.padded, 'window')} past a chromosome's end, filled with N there")
    if tally.longer:
        said.append(
            f"{tally.longer:,} of {counted(tally.rows, 'window')} are longer than the {most} nt that the model reads "
            "of them, and are cut to that: variants beyond have no effect"
        )
    return said


def layout(model: Predictor, window: int | None, flanks: str | tuple[str, str] | None) -> tuple[int, str, str, str]:
    """The width of a window, what is put around it beside `dataset.flanks`, and what to say of that.

    By default the whole is as long as a typical training sequence, and the ends are those that the training sequences
    share, if `dataset.flanks` says no others. Of a run of version 0.1 nothing is known of them: the window is as long
    as the model reads.
    """
    construct, own = model.construct, model.flanks
    left = right = said = ""
    if flanks is not None:
        given = checked_flanks(flanks)
        if any(own) and given != own:
            raise InputError(
                f"--flanks {','.join(given)}: {model.name} was trained with dataset.flanks={','.join(own)}, which it "
                "puts around every sequence: leave --flanks out"
            )
        left, right = ("", "") if any(own) else given
    elif construct is not None and not any(own) and (construct.left or construct.right):
        left, right = construct.left, construct.right
        said = (
            f"around each window stand the ends that the training sequences share, {left or 'none'} and "
            f"{right or 'none'}; --flanks LEFT,RIGHT gives others, and --flanks , none"
        )
    around = len(left) + len(right)
    if window is None:
        if construct is None:
            window = model.longest - around
        else:
            window = len(construct.left) + construct.insert + len(construct.right) - around - sum(map(len, own))
    if type(window) is not int or window < 1:
        raise InputError(f"a window of {window} nt holds no variant: give --window N, or shorter --flanks")
    return window, left, right, said
