"""Motifs: seqlets and their names, positions and strands, significance, implanted effects; the planted factors."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import random_strings, reverse_complement

import prixfixe
from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.data.flanks import Construct
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import NUCLEOTIDES, Sequences
from prixfixe.dream.construct import LEFT_FLANK, RIGHT_FLANK
from prixfixe.inference import motifs as module
from prixfixe.inference.motifs import (
    _Filters,
    _named_seqlets,
    _sees_one_strand,
    _significance,
    decoy,
    implant,
    likeness,
    random_sequences,
    read_motifs,
    shuffles,
)
from prixfixe.inference.predictor import Predictor
from prixfixe.simulation import simulate
from prixfixe.simulation.factors import FACTORS, site_weights

REB1, PALINDROME = "TTACCCG", "CGCG"


def motif_of(consensus: str) -> np.ndarray:
    """(4, width)."""
    return np.where([[letter == base for letter in consensus] for base in "ACGT"], 0.91, 0.03)


def planted() -> dict[str, np.ndarray]:
    """The simulated assay's factors, (4, width) each."""
    weights = {factor.name: site_weights(factor.consensus).T for factor in FACTORS}
    return {name: each / each.sum(axis=0) for name, each in weights.items()}


def write_meme(path: Path, motifs: dict[str, np.ndarray]) -> Path:
    lines = ["MEME version 4", "", "ALPHABET= ACGT", "", "strands: + -", ""]
    for name, motif in motifs.items():
        lines += [f"MOTIF {name}", f"letter-probability matrix: alength= 4 w= {motif.shape[1]} nsites= 99 E= 0"]
        lines += [" ".join(f"{value:.6f}" for value in column) for column in motif.T] + [""]
    path.write_text("\n".join(lines))
    return path


def rows_of(strings: list[str]) -> Measurements:
    return Measurements(Sequences.from_strings(strings), np.empty((len(strings), 0)), ())


def contributions_of(strings: list[str], sites: list[tuple[int, int, str, float]]) -> np.ndarray:
    """As a model would give them that knows some sites alone: (n, 4, longest). sites: row, start, letters, each
    base's worth."""
    found = np.random.default_rng(0).normal(0, 0.01, (len(strings), 4, max(map(len, strings)))).astype(np.float32)
    for row, start, site, worth in sites:
        for place, letter in enumerate(site):
            found[row, :, start + place] = -worth / 4
            found[row, "ACGT".index(letter), start + place] = 3 * worth / 4
    return found


# positions, strands and names


@pytest.mark.parametrize("at", [0, 33, 73])
@pytest.mark.parametrize("strand", ["+", "-"])
@pytest.mark.parametrize("worth", [1.0, -1.0])
def test_site_has_its_position_strand_and_letters_in_the_sequence_as_given(at: int, strand: str, worth: float) -> None:
    site = REB1 if strand == "+" else reverse_complement(REB1)
    strings = random_strings(30)
    strings[4] = strings[4][:at] + site + strings[4][at + len(site) :]
    known = {"Gcn4": motif_of("TGACTCA"), "Reb1": motif_of(REB1), "Rsc3": motif_of(PALINDROME)}
    contributions = contributions_of(strings, [(4, at, site, worth)])
    found = _named_seqlets(contributions, [rows_of(strings)], _Filters(known, 0))
    (own,) = found[(found["row"] == 4) & (found["motif"] != "") & ~found["decoy"]].to_dict("records")
    assert (own["motif"], own["strand"], own["at"], own["width"]) == ("Reb1", strand, at, len(REB1))
    assert own["direction"] == ("adds" if worth > 0 else "lowers") and own["similarity"] > 0.95
    placed = module._sites(
        found[found["motif"] == "Reb1"].assign(group=""), rows_of(strings), [*map(str, range(30))], "y"
    )
    site_row = placed[placed["name"] == "4"].iloc[0]
    assert (site_row["start"], site_row["end"], site_row["sequence"]) == (at, at + len(REB1), REB1)


def test_decoys_are_unlike_their_motifs() -> None:
    for motif in (motif_of(REB1), motif_of(PALINDROME), motif_of("AAAAAAAA"), motif_of("TGACTCA")):
        other = decoy(motif, 0)
        assert other.shape == motif.shape and likeness(motif, other) < module.ALIKE
        assert likeness(motif, motif[::-1, ::-1]) == pytest.approx(1)


def test_significance_counts_sequences_once_and_goes_both_ways() -> None:
    named = pd.DataFrame(
        {
            "row": [0, 0, 1, 2, 3, 10, 4, 5, 11, 12],
            "motif": ["a"] * 6 + ["b"] * 4,
            "direction": "adds",
            "group": "",
            "decoy": [False] * 6 + [False, True, False, False],
            "strand": ["+", "-", "+", "+", "+", "+", "-", "+", "+", "+"],
            "attribution": 1.0,
        }
    )
    table = _significance(named, 10).set_index("motif")
    assert table.loc["a", ["seqlets", "decoy", "sequences", "shuffled"]].tolist() == [5, 0, 4, 1]
    assert table.loc["a", "p"] == pytest.approx(0.5**5) and table.loc["a", "plus"] == 0.8
    assert table.loc["b", ["seqlets", "decoy", "sequences", "shuffled"]].tolist() == [1, 1, 1, 2]
    assert table.loc["a", "q"] == pytest.approx(2 * 0.5**5) and table.loc["b", "p"] == 0.75


def test_shuffles_keep_ends_dinucleotides_and_unknowns() -> None:
    strings = [LEFT_FLANK + string + RIGHT_FLANK for string in random_strings(5)]
    strings[2] = strings[2][:40] + "NN" + strings[2][42:]
    built = Construct(LEFT_FLANK, RIGHT_FLANK, 80, (0.25,) * 4)
    for before, after in zip(strings, shuffles(rows_of(strings), built, 0).sequences.to_strings(), strict=True):
        assert before != after and after.startswith(LEFT_FLANK) and after.endswith(RIGHT_FLANK)
        pairs = [sorted(re.findall("(?=(..))", string)) for string in (before, after)]
        assert pairs[0] == pairs[1]


def test_random_sequences_are_built_as_the_construct_says_and_implants_keep_length() -> None:
    built = Construct("ACGT", "TT", 30, (0.7, 0.1, 0.1, 0.1))
    codes, start, end = random_sequences(built, 50, 0, ("", ""))
    assert codes.shape == (50, 36) and (start, end) == (4, 34)
    assert (codes[:, :4] == [0, 1, 2, 3]).all() and 0.6 < (codes[:, 4:34] == 0).mean() < 0.8
    bare, start, end = random_sequences(built, 5, 0, ("ACGT", "TT"))  # ends that the model puts there itself
    assert bare.shape == (5, 30) and (start, end) == (0, 30)
    gapped = np.concatenate([motif_of("CGG"), np.full((4, 3), 0.25), motif_of("CCG")], axis=1)
    changed = implant(codes, gapped, 10)
    assert ["".join(NUCLEOTIDES[code] for code in row[10:13]) for row in changed] == ["CGG"] * 50
    assert (changed[:, 13:16] == codes[:, 13:16]).all() and (changed[:, :10] == codes[:, :10]).all()


def test_meme_files_are_read_or_refused(tmp_path: Path) -> None:
    known = read_motifs(write_meme(tmp_path / "some.meme", {"MA1 A": motif_of(REB1), "B": motif_of("AC")}))
    assert list(known) == ["MA1 A", "B"] and known["MA1 A"].shape == (4, 7)
    for text in ("", "MOTIF a\nletter-probability matrix: w= 2\n1 0 0 0\n", "MOTIF a\nletter w= 1\n5 0 0 0\n", "MOTIF"):
        (tmp_path / "bad.meme").write_text(text)
        with pytest.raises(InputError, match=r"bad\.meme"):
            read_motifs(tmp_path / "bad.meme")
    with pytest.raises(InputError, match="does not exist"):
        read_motifs(tmp_path / "none.meme")


# the simulated assay: what was planted comes back


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network trained on simulated promoters."""
    folder = tmp_path_factory.mktemp("runs") / "simulated"
    parts = ["recipe=bhi", "first=conv", "core=efficientnet", "final=soft_bins", "core.squeeze_excitation=false"]
    sizes = ["first.channels=48", "core.widths=[16]", "training.epochs=4", "training.batch_size=32"]
    sizes += ["experiment=demo", "hydra.mode=RUN", "dataset.size=6000"]
    assert main(["train", *sizes, *parts, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def model(run: Path) -> Predictor:
    return prixfixe.load(run, device="cpu")


def test_planted_factors_come_back_with_their_direction(model: Predictor) -> None:
    sequences = simulate(250, 99).measurements.sequences.to_strings()
    with pytest.warns(UserWarning, match="cut to that"):
        found = model.motifs(sequences, motifs=planted(), method="gradient")
    some = found.significant()
    directions = {factor.name: "adds" if factor.effect + factor.opening > 0 else "lowers" for factor in FACTORS}
    right = {row.motif for row in some.itertuples() if row.direction == directions[row.motif]}
    print(some[["motif", "direction", "seqlets", "decoy", "q", "effect"]])
    assert {"Rsc3", "Gcn4"} <= right, some  # of 35: a small network, trained for seconds (benchmarks/yeast/motifs: 13)
    assert len(some) - len(right) <= 1
    effects = some.drop_duplicates("motif").set_index("motif")
    assert (effects.loc[["Rsc3", "Gcn4"], "effect_low"] > 0).all()
    assert found.facts["simulated"]


def test_strands_are_merged_unless_the_network_sees_one(model: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = simulate(60, 98).measurements.sequences.to_strings()
    merged = model.motifs(sequences, motifs=planted(), method="gradient")
    apart = model.motifs(sequences, motifs=planted(), method="gradient", stranded=True)
    assert "strand" not in merged.table and set(apart.table["strand"]) <= {"+", "-"}
    sums = apart.table.groupby(["motif", "direction"])["seqlets"].sum()
    assert sums.equals(merged.table.groupby(["motif", "direction"])["seqlets"].sum())
    member = model.members[0]
    assert not _sees_one_strand(member)
    monkeypatch.setattr(type(member.recipe), "views", 1)
    assert _sees_one_strand(member)


def test_command_writes_a_page_and_tables_that_agree(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    fasta, meme = tmp_path / "some.fa", write_meme(tmp_path / "known.meme", {"<b>x": motif_of("AC"), **planted()})
    strings = simulate(80, 97).measurements.sequences.to_strings()
    fasta.write_text("".join(f">p{number}\n{string}\n" for number, string in enumerate(strings)))
    assert (
        main(
            ["motifs", str(run), str(fasta), "--motifs", str(meme), "-o", str(tmp_path / "out"), "--method", "gradient"]
        )
        == 0
    )
    assert "SIMULATED" in capsys.readouterr().out
    page = (tmp_path / "out" / "motifs.html").read_text()
    assert "SIMULATED assay" in page and "<svg" in page and "<script" not in page and "src=" not in page
    sites = pd.read_csv(tmp_path / "out" / "motifs.sites.tsv", sep="\t")
    for site in sites.itertuples():
        letters = strings[int(site.name[1:])][site.start : site.end]
        assert site.sequence == (letters if site.strand == "+" else reverse_complement(letters))
    table = pd.read_csv(tmp_path / "out" / "motifs.tsv", sep="\t")
    assert table["seqlets"].sum() == len(sites) and set(table["simulated"]) == {"simulated"}
    assert (tmp_path / "out" / "motifs.places.tsv").exists() and (tmp_path / "out" / "motifs.spacing.tsv").exists()


def test_command_refuses_what_it_cannot_use(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "some.fa").write_text(">a\nACGT\n")
    meme = write_meme(tmp_path / "known.meme", planted())
    command = ["motifs", str(run), str(tmp_path / "some.fa"), "--motifs"]
    assert main([*command, str(meme), "-o", str(tmp_path / "out.txt")]) == 2
    assert main([*command, str(tmp_path / "some.fa"), "-o", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
    assert "no motif" in capsys.readouterr().err
