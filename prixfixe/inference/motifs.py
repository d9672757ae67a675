"""Which known motifs a model has learned: where it listens in real sequences, and what a motif does in random ones.

1. Attributions of the sequences, and of one dinucleotide shuffle of each, in which constant ends stay as they are.
2. Seqlets: stretches that add or take away more than others (tangermeme's recursive seqlets, over both together, so
   that one threshold holds for both).
3. Each seqlet is named by the known motif that explains most of the contributions there, as a matched filter does: the
   projection of what each base would add onto the motif's letters, over all alignments and both strands. Every motif
   competes with a decoy, itself with its columns shuffled. A seqlet that a decoy explains best, or that is unlike every
   motif, stays unnamed.
4. Two significances, Benjamini-Hochberg over all motifs. Of the model: more seqlets fall to the motif than to its decoy
   (binomial test, one-sided). Of the sequences: the motif is found in more of them than of the shuffled ones (Fisher's
   exact test, one-sided); in a library of random sequences nothing can be, whatever the model has learned.
5. Its marginal effect: its consensus implanted in random sequences that are built as the training sequences are, at
   several positions and on both strands; and how often and how far from each other motifs stand in one sequence.

Positions are 0-based and strands are those of the sequence as given.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prixfixe.common.errors import InputError
from prixfixe.common.extras import extra_module
from prixfixe.common.progress import slow_work
from prixfixe.common.text import printable
from prixfixe.data.flanks import Construct, construct, ends_with, starts_with
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import COMPLEMENT, NUCLEOTIDES, N, Sequences
from prixfixe.inference.attribution import METHODS, attribute_rows
from prixfixe.inference.mutagenesis import BASES
from prixfixe.inference.predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd

SHORTEST, LONGEST = 4, 25  # seqlets
THRESHOLD = 0.01  # of a seqlet's p, which ranks stretches and is no error rate
ALIKE = 0.7  # cosine of contributions and motif, from which on a seqlet is named
DECOYS = 20  # orders of a motif's columns that are drawn
SIGNIFICANT = 0.05  # false discovery rate
BACKGROUNDS, PLACES = 40, 5  # random sequences, and positions in each
MOST_IMPLANTED = 40  # motifs, the most significant ones
INFORMATIVE = 0.25  # bits from which on a position of a motif is implanted
FEWEST_TOGETHER = 3  # sequences with both motifs of a pair
NORMAL_95 = 1.96

Motif = np.ndarray  # (4, width), probabilities of A C G T


@dataclass(frozen=True)
class Motifs:
    """What was found.

    table: one row a motif, direction (adds or lowers) and task: seqlets, decoy (seqlets that fell to its decoy), p and
    q of the model; sequences, shuffled (sequences with it), p_shuffled and q_shuffled; plus (share of seqlets on the
    plus strand), attribution (mean sum of a seqlet), and of the significant ones effect, effect_low, effect_high (95 %
    interval of the mean over random sequences), effect_plus, effect_minus; strand where strands are kept apart.
    sites: one row a named seqlet: name, start, end, strand, motif, direction, task, attribution, similarity, sequence
    (as the motif reads). spacing: one row a pair of significant motifs in one sequence.
    known: the motifs by name. seen: of each (task, motif, direction, strand) the letters of its seqlets, counts (4,
    width).
    places: the mean effect of a significant motif at each position (of its start, in the random sequences) and strand.
    """

    table: pd.DataFrame
    sites: pd.DataFrame
    spacing: pd.DataFrame
    places: pd.DataFrame
    known: Mapping[str, Motif]
    seen: Mapping[tuple[str, str, str, str], np.ndarray]
    facts: dict[str, Any] = field(default_factory=dict)

    def significant(self) -> pd.DataFrame:
        return self.table[self.table["q"] < SIGNIFICANT]


def read_motifs(path: str | os.PathLike[str]) -> dict[str, Motif]:
    """The motifs of a MEME file by name. InputError where it holds none, or one that is no table of probabilities."""
    read_meme = extra_module("memelite.io", "interpret", "motifs").read_meme
    try:
        motifs = {str(name): np.asarray(motif, dtype=np.float64) for name, motif in read_meme(str(path)).items()}
    except FileNotFoundError as error:
        raise InputError(f"{printable(path)} does not exist") from error
    except (OSError, ValueError, IndexError, AttributeError, UnicodeDecodeError) as error:
        raise InputError(f"{printable(path)} is no MEME file of DNA motifs: {printable(error, 200)}") from error
    if not motifs:
        raise InputError(f"{printable(path)} holds no motif: a MEME file has lines MOTIF and letter-probability matrix")
    for name, motif in motifs.items():
        if not np.isfinite(motif).all() or (motif < 0).any() or (abs(motif.sum(axis=0) - 1) > 0.05).any():
            raise InputError(f"{printable(path)}: the columns of motif {printable(name, 100)} are no probabilities")
    return motifs


def find_motifs(
    model: Predictor,
    rows: Measurements,
    names: Sequence[str],
    motifs: Mapping[str, Motif],
    *,
    method: str = METHODS[0],
    seed: int = 0,
    stranded: bool | None = None,
    batch_size: int | None = None,
) -> Motifs:
    """names: of the rows. stranded: whether strands are kept apart; None is as the recipe has it: where the network
    sees one strand alone. InputError as `attribute_rows`."""
    import pandas as pd

    if not len(rows):
        raise InputError("there are no sequences")
    built = model.construct or construct(rows.sequences)
    apart = all(_sees_one_strand(member) for member in model.members) if stranded is None else stranded
    shuffled = shuffles(rows, built, seed)
    real, null = (_contributions(model, part, built, method, seed, batch_size) for part in (rows, shuffled))
    filters = _Filters(motifs, seed)
    tables, sites, spacing, places, seen = [], [], [], [], {}
    unnamed = total = 0
    for number, task in enumerate(model.tasks):
        found = _named_seqlets(np.concatenate([real[number], null[number]]), [rows, shuffled], filters)
        own = found[found["row"] < len(rows)]
        total, unnamed = total + len(own), unnamed + int(((own["motif"] == "") | own["decoy"]).sum())
        named = found[found["motif"] != ""]
        named = named.assign(group=named["strand"] if apart else "")
        table = _significance(named, len(rows))
        effects, at = _implanted(model, rows, built, table, motifs, number, seed, batch_size)
        table = _with_effects(table, effects, apart)
        table.insert(0, "task", task)
        tables.append(table)
        places.append(_by_place(effects, at, task))
        placed = _sites(named[(named["row"] < len(rows)) & ~named["decoy"]], rows, names, task)
        for (motif, direction, group), some in placed.groupby(["motif", "direction", "group"]):
            seen[task, str(motif), str(direction), str(group)] = letter_counts(list(some["sequence"]))
        spacing.append(_spacing(placed, table, len(rows), task))
        sites.append(placed.drop(columns=["group", "row"]))
    table = pd.concat(tables, ignore_index=True)
    facts = {
        "sequences": len(rows),
        "method": method,
        "seqlets": total,
        "unnamed": unnamed,
        "motifs": len(motifs),
        "stranded": apart,
        "construct": built,
        "simulated": model.simulated,
        "model": model.name,
        "seed": seed,
    }
    return Motifs(
        table if apart else table.drop(columns="strand"),
        pd.concat(sites, ignore_index=True),
        pd.concat(spacing, ignore_index=True),
        pd.concat(places, ignore_index=True),
        dict(motifs),
        seen,
        facts,
    )


def _sees_one_strand(model: Any) -> bool:
    return model.recipe.views == 1 and model.recipe.inputs.strand_boundary is None


# sequences without what makes them what they are


def inside(sequences: Sequences, built: Construct) -> tuple[np.ndarray, np.ndarray]:
    """Where each sequence begins and ends between its constant ends, where it has them: int64 (n,) both."""
    left = np.where(starts_with(sequences, built.left), len(built.left), 0)
    right = np.where(ends_with(sequences, built.right), len(built.right), 0)
    lengths = sequences.lengths.astype(np.int64)
    whole = left + right >= lengths
    return np.where(whole, 0, left), np.where(whole, lengths, lengths - right)


def shuffles(rows: Measurements, built: Construct, seed: int) -> Measurements:
    """Each sequence with the dinucleotides between its constant ends shuffled, and its further columns as they are."""
    shuffle = extra_module("tangermeme.ersatz", "interpret", "motifs").dinucleotide_shuffle
    other = rows[np.arange(len(rows))]
    starts, ends = inside(rows.sequences, built)
    for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        first = int(other.sequences.starts[row])
        letters = other.sequences.letters[first + start : first + end]
        one_hot = torch.from_numpy((letters[None] == np.arange(BASES)[:, None]).astype(np.float32))[None]
        drawn = shuffle(one_hot, n=1, random_state=[seed + row], allow_N=True)[0, 0].numpy()
        letters[:] = np.where(drawn.any(axis=0), drawn.argmax(axis=0), N)
    return other


def _contributions(
    model: Predictor, rows: Measurements, built: Construct, method: str, seed: int, batch_size: int | None
) -> np.ndarray:
    """What each base would add: float32 (tasks, n, 4, longest), 0 at N, at constant ends and past a sequence's end."""
    found = np.zeros((len(model.tasks), len(rows), BASES, rows.sequences.longest), dtype=np.float32)
    starts, ends = inside(rows.sequences, built)
    chunks = (rows[start : start + 64] for start in range(0, len(rows), 64))
    with slow_work("attributions", len(rows)) as advance:
        each = attribute_rows(model, chunks, method=method, seed=seed, batch_size=batch_size)
        for row, one in enumerate(each):
            between = slice(int(starts[row]), int(ends[row]))
            found[:, row, :, between] = np.nan_to_num(one.values[between]).transpose(2, 1, 0)
            advance(1)
    return found


# seqlets and their names


class _Filters:
    """Motifs as matched filters: each as it is, then each as its reverse complement.

    names: of the motifs, and as often again of their decoys. weights: (2 m, 4, widest), probabilities less 1/4, of
    length 1, filled with 0 at the right.
    """

    def __init__(self, motifs: Mapping[str, Motif], seed: int) -> None:
        every = [*motifs.values(), *(decoy(motif, seed) for motif in motifs.values())]
        self.names, self.real = [*motifs, *motifs], len(motifs)
        self.widths = np.array([motif.shape[1] for motif in every] * 2)
        self.weights = np.zeros((len(self.widths), BASES, int(self.widths.max())), dtype=np.float32)
        for number, motif in enumerate(every):
            for strand, letters in enumerate((motif, motif[::-1, ::-1])):
                centred = letters - letters.mean(axis=0)
                norm = np.linalg.norm(centred) or 1.0
                self.weights[number + strand * len(every), :, : motif.shape[1]] = centred / norm

    def explain(self, contributions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """contributions (n, 4, L) -> how much of them a motif explains that starts there, (n, 2 m, L), and the cosine
        of both."""
        values = torch.from_numpy(contributions)
        values = torch.nn.functional.pad(values, (0, self.weights.shape[2] - 1))
        explained = torch.nn.functional.conv1d(values, torch.from_numpy(self.weights))
        reach = torch.from_numpy((np.arange(self.weights.shape[2]) < self.widths[:, None]).astype(np.float32)[:, None])
        there = torch.nn.functional.conv1d((values**2).sum(dim=1, keepdim=True), reach).clamp(min=1e-12).sqrt()
        return explained.numpy(), (explained / there).numpy()


def decoy(motif: Motif, seed: int) -> Motif:
    """The motif with its columns in another order, of those that were drawn the one least like it, on both strands and
    in any alignment; where every order is like it, as of a homopolymer, with A and C, and G and T, exchanged."""
    drawn = np.random.default_rng(seed)
    orders = [motif[:, drawn.permutation(motif.shape[1])] for _ in range(DECOYS)]
    least = min(orders, key=lambda one: likeness(motif, one))
    return least if likeness(motif, least) < ALIKE else motif[[1, 0, 3, 2]]


def likeness(first: Motif, second: Motif) -> float:
    """The highest cosine of two motifs over all alignments and both strands: 1 of the same."""
    one, width = first - first.mean(axis=0), second.shape[1]
    best = -1.0
    for letters in (second, second[::-1, ::-1]):
        other = np.pad(letters - letters.mean(axis=0), ((0, 0), (first.shape[1], first.shape[1])))
        scale = np.linalg.norm(one) * np.linalg.norm(other) or 1.0
        for shift in range(first.shape[1] + width):
            best = max(best, float((one * other[:, shift : shift + first.shape[1]]).sum() / scale))
    return best


def _named_seqlets(contributions: np.ndarray, parts: Sequence[Measurements], filters: _Filters) -> pd.DataFrame:
    """row, start, end, direction, attribution, motif ("" of unnamed ones), decoy (whether it is
    that of the motif), strand, at (where the motif starts), width,
    similarity."""
    import pandas as pd

    letters = np.concatenate([part.sequences.padded() for part in parts])
    lengths = np.concatenate([part.sequences.lengths for part in parts])
    standing = np.take_along_axis(contributions, np.minimum(letters, 3)[:, None].astype(np.int64), axis=1)[:, 0]
    rows = []
    for seqlet in seqlets(standing).itertuples(index=False):
        row, start, end = int(seqlet[0]), int(seqlet[1]), int(seqlet[2])
        sign = 1 if seqlet[3] > 0 else -1
        middle, widest = (start + end) // 2, filters.weights.shape[2]
        first = max(middle - widest + 1, 0)
        window = contributions[row : row + 1, :, first : middle + widest]
        explained, cosine = (one[0, :, : middle + 1 - first] * sign for one in filters.explain(window))
        at = np.arange(first, middle + 1)
        possible = (at > middle - filters.widths[:, None]) & (at + filters.widths[:, None] <= lengths[row])
        best = int(np.where(possible, explained, -np.inf).argmax())
        which, place = divmod(best, len(at))
        alike = bool(possible.any()) and cosine[which, place] >= ALIKE
        name = filters.names[which % len(filters.names)] if alike else ""
        is_decoy = which % len(filters.names) >= filters.real
        strand = "+" if which < len(filters.names) else "-"
        direction = "adds" if sign > 0 else "lowers"
        width = int(filters.widths[which])
        rows.append(
            (row, start, end, direction, seqlet[3], name, is_decoy, strand, int(at[place]), width, cosine[which, place])
        )
    columns = ["row", "start", "end", "direction", "attribution", "motif", "decoy", "strand", "at", "width"]
    columns.append("similarity")
    return pd.DataFrame(rows, columns=columns)


def seqlets(standing: np.ndarray) -> pd.DataFrame:
    """Stretches that add, and those that take away; of two that overlap the one with the lower p: row, start, end,
    attribution, p. standing: what the bases that stand there add, (n, L)."""
    import pandas as pd

    recursive = extra_module("tangermeme.seqlet", "interpret", "motifs").recursive_seqlets
    both = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where there are none, which the table says
        for sign in (1, -1):
            values = torch.from_numpy(sign * standing)
            found = recursive(values, threshold=THRESHOLD, min_seqlet_len=SHORTEST, max_seqlet_len=LONGEST)
            both.append(found.assign(attribution=sign * found["attribution"]))
    every = pd.concat(both).sort_values("p-value", kind="stable").reset_index(drop=True)
    covered, kept = np.zeros(standing.shape, dtype=bool), []
    for row, start, end in every.iloc[:, :3].to_numpy(dtype=int):
        kept.append(not covered[row, start:end].any())
        covered[row, start:end] |= kept[-1]
    return every[np.array(kept, dtype=bool)]


def _significance(named: pd.DataFrame, n: int) -> pd.DataFrame:
    """One row a motif, direction and group; the rows from n on are shuffled sequences, as many."""
    import pandas as pd
    from scipy.stats import binomtest, false_discovery_control, fisher_exact

    rows = []
    for (motif, direction, group), both in named.groupby(["motif", "direction", "group"]):
        some = both[~both["decoy"]]
        own = some[some["row"] < n]
        if not len(own):
            continue
        decoys = int((both["decoy"] & (both["row"] < n)).sum())
        p = binomtest(len(own), len(own) + decoys, alternative="greater").pvalue
        sequences, shuffled = own["row"].nunique(), some[some["row"] >= n]["row"].nunique()
        counts = np.array([[sequences, n - sequences], [shuffled, n - shuffled]])
        beside = fisher_exact(counts, alternative="greater").pvalue
        plus, mean = float((own["strand"] == "+").mean()), float(own["attribution"].mean())
        rows.append((motif, direction, group, len(own), decoys, p, p, sequences, shuffled, beside, beside, plus, mean))
    columns = ["motif", "direction", "strand", "seqlets", "decoy", "p", "q", "sequences", "shuffled"]
    columns += ["p_shuffled", "q_shuffled", "plus", "attribution"]
    table = pd.DataFrame(rows, columns=columns)
    if len(table):
        for column in ("q", "q_shuffled"):
            table[column] = false_discovery_control(table[column])
    return table.sort_values(["p", "seqlets"], ascending=[True, False], kind="stable").reset_index(drop=True)


def _sites(named: pd.DataFrame, rows: Measurements, names: Sequence[str], task: str) -> pd.DataFrame:
    """The named seqlets of real sequences, with the letters under the motif as it reads."""
    strings = rows.sequences.to_strings()
    letters = []
    for row, at, width, strand in named[["row", "at", "width", "strand"]].itertuples(index=False):
        site = strings[row][at : at + width]
        letters.append(site if strand == "+" else reverse_complement(site))
    table = named.assign(sequence=letters, name=[names[row] for row in named["row"]], task=task)
    table["start"], table["end"] = table["at"], table["at"] + table["width"]
    columns = ["name", "start", "end", "strand", "motif", "direction", "task", "attribution", "similarity", "sequence"]
    ordered = table.sort_values(["row", "start"], kind="stable").reset_index(drop=True)
    return ordered[[*columns, "group", "row"]]


def reverse_complement(letters: str) -> str:
    codes = COMPLEMENT[[NUCLEOTIDES.index(letter) for letter in letters]][::-1]
    return "".join(NUCLEOTIDES[code] for code in codes)


def letter_counts(sites: Sequence[str]) -> np.ndarray:
    """(4, width); an N counts a quarter of each."""
    counts = np.zeros((BASES, len(sites[0])))
    for site in sites:
        for position, letter in enumerate(site):
            if letter == "N":
                counts[:, position] += 1 / BASES
            else:
                counts[NUCLEOTIDES.index(letter), position] += 1
    return counts


# what a motif does where it stands alone


def random_sequences(built: Construct, count: int, seed: int, flanks: tuple[str, str]) -> tuple[np.ndarray, int, int]:
    """Random inserts between the construct's ends: codes (count, length), and where the insert begins and ends.
    flanks: what the model puts around every sequence itself."""
    ends = built.left.removeprefix(flanks[0]), built.right.removesuffix(flanks[1])
    left, right = (Sequences.from_strings([end]).letters if end else np.empty(0, dtype=np.uint8) for end in ends)
    shares = np.array(built.composition) / sum(built.composition)
    drawn = np.random.default_rng(seed).choice(BASES, size=(count, built.insert), p=shares).astype(np.uint8)
    whole = np.concatenate([np.tile(left, (count, 1)), drawn, np.tile(right, (count, 1))], axis=1)
    return whole, len(left), len(left) + built.insert


def implant(background: np.ndarray, motif: Motif, at: int) -> np.ndarray:
    """Sequences, codes (n, L), with a motif's consensus at a position, where it prefers a base by INFORMATIVE bits."""
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = 2 + np.nansum(motif * np.log2(motif), axis=0)
    changed = background.copy()
    places = np.flatnonzero(bits >= INFORMATIVE)
    changed[:, at + places] = motif.argmax(axis=0)[places]
    return changed


def _implanted(
    model: Predictor,
    rows: Measurements,
    built: Construct,
    table: pd.DataFrame,
    motifs: Mapping[str, Motif],
    task: int,
    seed: int,
    batch_size: int | None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Of the significant motifs: what each does in every random sequence, (BACKGROUNDS, PLACES, 2 strands), and the
    positions of its start."""
    background, start, end = random_sequences(built, BACKGROUNDS, seed, model.flanks)
    columns_of = np.random.default_rng(seed).integers(len(rows), size=BACKGROUNDS)

    def predicted(codes: np.ndarray) -> np.ndarray:
        sequences = Sequences.from_padded(codes, np.full(len(codes), codes.shape[1]))
        drawn = rows[np.resize(columns_of, len(codes))]
        given = {name: drawn.columns[name] for name in model.needs}
        values = model.predict_sequences(sequences, columns=given, batch_size=batch_size)
        return np.asarray(values.reshape(len(codes), -1)[:, task])

    before = predicted(background)
    chosen = [
        motif
        for motif in dict.fromkeys(table[table["q"] < SIGNIFICANT]["motif"])
        if motifs[motif].shape[1] <= end - start
    ][:MOST_IMPLANTED]
    effects, places = {}, {}
    with slow_work("implanting motifs", len(chosen)) as advance:
        for name in chosen:
            motif, changed = motifs[name], []
            places[name] = np.linspace(start, end - motif.shape[1], PLACES).round().astype(int)
            for at in places[name]:
                changed += [implant(background, motif, at), implant(background, motif[::-1, ::-1], at)]
            after = predicted(np.concatenate(changed)).reshape(PLACES, 2, BACKGROUNDS)
            effects[name] = (after - before).transpose(2, 0, 1)
            advance(1)
    return effects, places


def _by_place(effects: Mapping[str, np.ndarray], places: Mapping[str, np.ndarray], task: str) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for motif, each in effects.items():
        for place, at in enumerate(places[motif].tolist()):
            rows += [(motif, task, at, strand, each[:, place, way].mean()) for way, strand in enumerate("+-")]
    return pd.DataFrame(rows, columns=["motif", "task", "position", "strand", "effect"])


def _with_effects(table: pd.DataFrame, effects: Mapping[str, np.ndarray], apart: bool) -> pd.DataFrame:
    columns = ["effect", "effect_low", "effect_high", "effect_plus", "effect_minus"]
    values = np.full((len(table), len(columns)), np.nan)
    for row, (motif, strand) in enumerate(zip(table["motif"], table["strand"], strict=True)):
        if motif in effects:
            each = effects[motif]  # (backgrounds, places, strands)
            strands = each.mean(axis=(0, 1))
            shown = each if not apart else each[:, :, :1] if strand == "+" else each[:, :, 1:]
            mean = shown.mean(axis=(1, 2))
            width = NORMAL_95 * mean.std(ddof=1) / np.sqrt(len(mean))
            values[row] = mean.mean(), mean.mean() - width, mean.mean() + width, *strands
    for number, column in enumerate(columns):
        table[column] = values[:, number]
    return table


# which stand together


def _spacing(sites: pd.DataFrame, table: pd.DataFrame, n: int, task: str) -> pd.DataFrame:
    """Pairs of significant motifs: first, second, task, together (sequences with both), expected if they knew nothing
    of each other, p (Fisher, two-sided), distance (median, from middle to middle), same_strand (share of pairs)."""
    import pandas as pd
    from scipy.stats import fisher_exact

    chosen = list(dict.fromkeys(table[table["q"] < SIGNIFICANT]["motif"]))
    by_motif = {}
    for motif in chosen:
        own = sites[sites["motif"] == motif]
        middle = (own["start"] + own["end"]) / 2
        by_motif[motif] = own.assign(middle=middle)[["row", "middle", "strand"]]
    rows = []
    for number, first in enumerate(chosen):
        for second in chosen[number + 1 :]:
            pairs = by_motif[first].merge(by_motif[second], on="row")
            both = pairs["row"].nunique()
            if both < FEWEST_TOGETHER:
                continue
            ones, others = (by_motif[motif]["row"].nunique() for motif in (first, second))
            counts = np.array([[both, ones - both], [others - both, n - ones - others + both]])
            distance = float((pairs["middle_x"] - pairs["middle_y"]).abs().median())
            same = float((pairs["strand_x"] == pairs["strand_y"]).mean())
            rows.append((first, second, task, both, ones * others / n, fisher_exact(counts).pvalue, distance, same))
    columns = ["first", "second", "task", "together", "expected", "p", "distance", "same_strand"]
    return pd.DataFrame(rows, columns=columns).sort_values("p", kind="stable")


def motifs_of(
    model: Predictor,
    sequences: Sequence[str],
    motifs: str | os.PathLike[str] | Mapping[str, Motif],
    columns: Any,
    **settings: Any,
) -> Motifs:
    """`Predictor.motifs`."""
    known = motifs if isinstance(motifs, Mapping) else read_motifs(motifs)
    rows = model.rows_of(sequences, columns)
    model.warn_of_longer(rows.sequences)
    return find_motifs(model, rows, [str(row) for row in range(len(rows))], known, **settings)
