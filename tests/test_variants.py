"""Effects of variants: windows by hand, what the genome must say, files of all kinds, and files written."""

import gzip
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pysam
import pytest
import torch
import yaml
from conftest import compose, demo, random_strings, reverse_complement
from safetensors.torch import save_file

import prixfixe
from prixfixe.analysis.kmer_ridge import fit_kmer_ridge, kmer_counts, ridge_of
from prixfixe.cli import main
from prixfixe.common.errors import InputError
from prixfixe.contract import TargetSpec
from prixfixe.data.flanks import Construct
from prixfixe.data.measurements import Measurements
from prixfixe.data.reference import Region, Regions, open_reference, read_fragments, read_regions
from prixfixe.data.sequences import Sequences
from prixfixe.data.variants import Variant, change, read_variants
from prixfixe.inference.ensemble import Ensemble
from prixfixe.inference.model import Model
from prixfixe.inference.predictor import Predictor
from prixfixe.inference.variants import Settings, prepared
from prixfixe.menu.check import example_rows, example_task
from prixfixe.networks.network import build
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.targets import save_targets
from prixfixe.tasks.bins import Bins
from prixfixe.training.build import build_recipe, build_task
from prixfixe.training.experiment import run

CPU = torch.device("cpu")
CHR1, CHR2 = random_strings(2, 400, seed=5)
LEFT, RIGHT = "TGCATTTTTTTCACATC", "GGTTACGGCTGTT"
SMALL = ("first=conv", "first.channels=8", "core=efficientnet", "core.widths=[8]", "core.expansion=2")
WINDOW = 60
PLAIN = ("recipe=plain", f"recipe.length={WINDOW}", *SMALL)
HEAD = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def model_of(*overrides: str, tasks: tuple[str, ...] = ("expression",), seed: int = 0, **spec: Any) -> Model:
    """A model with random weights."""
    config = compose(*overrides)
    recipe = build_recipe(config)
    task = example_task(TargetSpec(tasks, (0.0,) * len(tasks), (300.0,) * len(tasks), Bins(), **spec))
    torch.manual_seed(seed)
    return Model(build(recipe, config, task), recipe, task, CPU, name="a model")


@pytest.fixture(scope="module")
def plain() -> Model:
    return model_of(*PLAIN, "final=mlp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with random weights, as training would leave it."""
    config = demo("autosome", "conv", "efficientnet", "soft_bins", "first.channels=8", "core.widths=[8]")
    ends = Construct(LEFT, RIGHT, 80, (0.25,) * 4)
    task = example_task(TargetSpec(("expression",), (8.0,), (3.0,), Bins(), construct=ends))
    torch.manual_seed(0)
    network = build(build_recipe(config), config, task)
    made = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    made.path.mkdir()
    made.config_file.write_text(yaml.safe_dump(config))
    save_targets(made, task)
    save_file(network.state_dict(), made.weights_file)
    return made.path


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    """Two chromosomes, the second in lower case, in lines of 60."""
    path = tmp_path / "genome.fa"
    lines = [">chr1 the first"]
    lines += [CHR1[start : start + 60] for start in range(0, len(CHR1), 60)]
    lines += [">chr2"] + [CHR2[start : start + 60].lower() for start in range(0, len(CHR2), 60)]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def vcf(path: Path, *records: tuple[str, int, str, str]) -> Path:
    rows = (f"{chrom}\t{pos}\t.\t{ref}\t{alt}\t.\t.\t.\n" for chrom, pos, ref, alt in records)
    path.write_text(HEAD + "".join(rows))
    return path


def base(chromosome: str, position: int, length: int = 1) -> str:
    return chromosome[position - 1 : position - 1 + length]


def other(letter: str) -> str:
    return {"A": "C", "C": "G", "G": "T", "T": "A"}[letter]


def snv(chrom: str, position: int) -> tuple[str, int, str, str]:
    letter = base(CHR1 if chrom == "chr1" else CHR2, position)
    return chrom, position, letter, other(letter)


def by_hand(chromosome: str, position: int, ref: str, alt: str, width: int) -> tuple[str, str]:
    """Both alleles' windows, the position at index width // 2; N beyond the ends."""
    padded = "N" * 1000 + chromosome + "N" * 1000
    first = 1000 + position - 1 - width // 2
    mutant = padded[: 1000 + position - 1] + alt + padded[1000 + position - 1 + len(ref) :]
    return padded[first : first + width], mutant[first : first + width]


def expect(model: Predictor, table: pd.DataFrame, pairs: list[tuple[str, str]]) -> None:
    reference = model.predict([one for one, _ in pairs])
    alternative = model.predict([two for _, two in pairs])
    assert table.reference_prediction.to_numpy() == pytest.approx(reference, rel=1e-5)
    assert table.alternative_prediction.to_numpy() == pytest.approx(alternative, rel=1e-5)
    near = 1e-5 * np.abs(reference).max()
    assert table.effect.to_numpy() == pytest.approx(alternative - reference, abs=near)
    assert np.abs(table.effect).max() > 3 * near


# windows


def test_each_row_is_the_prediction_of_strings_built_by_hand(plain: Model, genome: Path, tmp_path: Path) -> None:
    deletion, insertion = base(CHR1, 200, 6), base(CHR1, 250)
    records = [
        snv("chr1", 100),
        ("chr1", 200, deletion, deletion[0]),
        ("chr1", 250, insertion, f"{insertion}ACGTACGT"),
        snv("chr2", 3),  # near the beginning, where half of the window is N
        snv("chr2", len(CHR2)),
        ("chr1", 300, base(CHR1, 300, 3), "TTT" if base(CHR1, 300, 3) != "TTT" else "AAA"),
        ("chr1", 150, base(CHR1, 150, 45), base(CHR1, 150)),  # longer than what is right of the middle
        ("chr1", 160, base(CHR1, 160), base(CHR1, 160) + "ACGGT" * 10),
    ]
    path = vcf(tmp_path / "a.vcf", *records)
    with pytest.warns(UserWarning, match="2 windows past a chromosome's end"):
        table = plain.variants(path, genome=genome, window=WINDOW)
    names = ["chrom", "pos", "ref", "alt", "region", "reference_prediction", "alternative_prediction", "effect"]
    assert list(table.columns) == names
    assert table.iloc[:, :4].to_numpy().tolist() == [list(record) for record in records]
    chromosomes = {"chr1": CHR1, "chr2": CHR2}
    pairs = [by_hand(chromosomes[chrom], pos, ref, alt, WINDOW) for chrom, pos, ref, alt in records]
    assert all(len(one) == len(two) == WINDOW for one, two in pairs)
    expect(plain, table, pairs)
    assert table.region[0] == f"chr1:{100 - WINDOW // 2}-{99 + WINDOW // 2}"
    assert table.region[0] == "chr1:70-129" and pairs[0][0][WINDOW // 2] == base(CHR1, 100)


@pytest.mark.parametrize("width", [1, 2, 21, 40])
def test_any_width_has_the_position_at_its_half(plain: Model, genome: Path, tmp_path: Path, width: int) -> None:
    record = snv("chr1", 123)
    table = plain.variants(vcf(tmp_path / "a.vcf", record), genome=genome, window=width)
    pair = by_hand(CHR1, *record[1:], width)
    assert pair[0][width // 2] == record[2] and pair[1][width // 2] == record[3]
    expect(plain, table, [pair])


def test_regions_are_windows(plain: Model, genome: Path, tmp_path: Path) -> None:
    ref = base(CHR1, 120, 5)
    records = [snv("chr1", 110), ("chr1", 120, ref, ref[0]), snv("chr1", 390), snv("chr1", 101), snv("chr1", 100)]
    bed = tmp_path / "regions.bed"
    bed.write_text("track name=x\n1\t100\t150\tfirst\t0\t+\nchr1\t90\t140\tsecond\t0\t-\n")
    with pytest.warns(UserWarning, match="skipped: 1 allele in no region"):
        table = plain.variants(vcf(tmp_path / "a.vcf", *records), genome=genome, regions=bed)
    assert table.region.tolist() == ["second", "first"] * 2 + ["second", "first", "second"]

    def pair(pos: int, ref: str, alt: str, start: int, stop: int) -> tuple[str, str]:
        mutant = CHR1[: pos - 1] + alt + CHR1[pos - 1 + len(ref) :]
        return CHR1[start:stop], mutant[start:stop]

    pairs = []
    for record in (records[0], records[1], records[3]):
        one, two = pair(*record[1:], 90, 140)
        pairs += [(reverse_complement(one), reverse_complement(two)), pair(*record[1:], 100, 150)]
    one, two = pair(*records[4][1:], 90, 140)
    expect(plain, table, [*pairs, (reverse_complement(one), reverse_complement(two))])


def test_a_region_holds_a_variant_that_it_holds_whole() -> None:
    with pytest.raises(ValueError):
        Regions({"chr1": []})
    names = [("a", 10, 20), ("b", 0, 100), ("c", 15, 16), ("d", 30, 40)]
    regions = Regions({"chr1": [Region(start, stop, name, False) for name, start, stop in names]})
    assert [one.name for one in regions.around("chr1", 15, 16)] == ["b", "a", "c"]
    assert [one.name for one in regions.around("chr1", 15, 17)] == ["b", "a"]
    assert [one.name for one in regions.around("chr1", 19, 21)] == ["b"]
    assert [one.name for one in regions.around("chr1", 39, 40)] == ["b", "d"]
    assert regions.around("chr1", 99, 101) == regions.around("chr2", 15, 16) == []


def test_flanks_stand_around_the_window(genome: Path, tmp_path: Path) -> None:
    ends = Construct(LEFT, RIGHT, 30, (0.25,) * 4)
    model = model_of(*PLAIN, "final=mlp", construct=ends)
    record = snv("chr1", 99)
    path = vcf(tmp_path / "a.vcf", record)

    def pair(width: int, left: str, right: str) -> tuple[str, str]:
        one, two = by_hand(CHR1, *record[1:], width)
        return left + one + right, left + two + right

    expect(model, model.variants(path, genome=genome), [pair(30, LEFT, RIGHT)])
    expect(model, model.variants(path, genome=genome, flanks=("", "")), [pair(60, "", "")])
    expect(model, model.variants(path, genome=genome, flanks=("ACG", "TT"), window=31), [pair(31, "ACG", "TT")])
    model.flanks = "GGG", "CC"  # as dataset.flanks: put there by the model itself, in training as here
    expect(model, model.variants(path, genome=genome), [pair(55, "", "")])
    with pytest.raises(InputError, match="leave --flanks out"):
        model.variants(path, genome=genome, flanks=("", ""))


def test_a_longer_window_is_said_to_be_cut(plain: Model, genome: Path, tmp_path: Path) -> None:
    path = vcf(tmp_path / "a.vcf", snv("chr1", 150))
    with pytest.warns(UserWarning, match="1 of 1 window are longer than the 60 nt"):
        table = plain.variants(path, genome=genome, window=200)
    assert table.effect[0] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    "parts",
    [
        ("autosome", "conv", "efficientnet", "soft_bins"),
        ("bhi", "parallel_conv", "bilstm", "mlp"),
        ("unlockdna", "kmer", "proformer", "expression_heads"),
    ],
    ids="+".join,
)
def test_every_recipe_scores_its_construct(parts: tuple[str, ...], genome: Path, tmp_path: Path) -> None:
    config = demo(*parts)
    recipe = build_recipe(config)
    task, _ = example_rows(config, recipe)
    ends = Construct(LEFT, RIGHT, 80, (0.25,) * 4)
    task = task.with_spec(replace(task.spec, construct=ends, mean=(0.0,), std=(300.0,)))
    torch.manual_seed(1)
    model = Model(build(recipe, config, task), recipe, task, CPU)
    records = [snv("chr1", position) for position in range(60, 340, 40)]
    table = model.variants(vcf(tmp_path / "a.vcf", *records), genome=genome)
    pairs = [by_hand(CHR1, *record[1:], 80) for record in records]
    expect(model, table, [(LEFT + one + RIGHT, LEFT + two + RIGHT) for one, two in pairs])


# several tasks, ensembles, chunks


def test_tasks_are_rows_and_members_have_a_spread(genome: Path, tmp_path: Path) -> None:
    members = [model_of(*PLAIN, "final=mlp", tasks=("a", "b"), seed=seed) for seed in range(3)]
    model = Ensemble(members)
    records = [snv("chr1", 50), snv("chr2", 200)]
    table = model.variants(vcf(tmp_path / "a.vcf", *records), genome=genome, window=WINDOW)
    assert table.task.tolist() == ["a", "b"] * 2 and table.pos.tolist() == [50, 50, 200, 200]
    chromosomes = {"chr1": CHR1, "chr2": CHR2}
    pairs = [by_hand(chromosomes[chrom], *rest, WINDOW) for chrom, *rest in records]
    each = model.predict_members([two for _, two in pairs]) - model.predict_members([one for one, _ in pairs])
    assert table.effect.to_numpy() == pytest.approx(each.mean(axis=0).reshape(-1), abs=1e-3)
    assert table.spread.to_numpy() == pytest.approx(each.std(axis=0, ddof=1).reshape(-1), abs=1e-3)


def test_a_binary_effect_is_of_probabilities(genome: Path, tmp_path: Path) -> None:
    config = compose("task=binary", *PLAIN, "recipe.reverse_complement=true", "final=binary")
    recipe, rows = build_recipe(config), Sequences.from_strings(random_strings(8, WINDOW))
    task = build_task(config).fitted(Measurements(rows, np.arange(8) % 2.0, ("label",)))
    torch.manual_seed(0)
    model = Model(build(recipe, config, task), recipe, task, CPU)
    record = snv("chr1", 100)
    table = model.variants(vcf(tmp_path / "a.vcf", record), genome=genome, window=WINDOW)
    one, two = model.predict(by_hand(CHR1, *record[1:], WINDOW))
    assert 0 < table.reference_prediction[0] < 1 and two != one
    assert table.effect[0] == pytest.approx(two - one, rel=1e-3)


def test_chunks_and_reruns_give_the_same(plain: Model, genome: Path, tmp_path: Path) -> None:
    records = [snv("chr1", position) for position in (50, 60, 50, 70, 60, 50)] * 7
    path = vcf(tmp_path / "a.vcf", *records)
    first, again = (plain.variants(path, genome=genome, window=WINDOW) for _ in range(2))
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert first.groupby("pos").effect.nunique().eq(1).all()
    small = plain.variants(path, genome=genome, window=WINDOW, batch_size=3)
    assert small.effect.to_numpy() == pytest.approx(first.effect.to_numpy(), abs=1e-3)


def test_a_column_is_one_value_for_all(genome: Path, tmp_path: Path) -> None:
    config = compose(*PLAIN, "final=mlp", "recipe.flags=[strand]")
    recipe, sequences = build_recipe(config), Sequences.from_strings(random_strings(8, WINDOW))
    columns = {"strand": np.arange(8.0)}
    task = build_task(config).fitted(Measurements(sequences, np.arange(8.0), columns=columns))
    model = Model(build(recipe, config, task), recipe, task, CPU)
    record = snv("chr1", 222)
    path = vcf(tmp_path / "a.vcf", record)
    with pytest.raises(InputError, match="--column strand=VALUE"):
        model.variants(path, genome=genome)
    with pytest.raises(InputError, match="a finite number is needed"):
        model.variants(path, genome=genome, columns={"strand": "plus"})
    with pytest.raises(InputError, match="--column gc"):
        model.variants(path, genome=genome, columns={"strand": 1, "gc": 1})
    table = model.variants(path, genome=genome, columns={"strand": "3"}, window=WINDOW)
    one, two = model.predict(by_hand(CHR1, *record[1:], WINDOW), columns={"strand": [3.0, 3.0]})
    assert table.effect[0] == pytest.approx(two - one, rel=1e-3) and two != one


def test_memory_does_not_grow_with_the_file(plain: Model, genome: Path, tmp_path: Path) -> None:
    model = model_of("recipe=plain", "recipe.length=8", "first=conv", "first.channels=2", "core=efficientnet",
                     "core.widths=[2]", "core.expansion=1", "final=mlp")  # fmt: skip

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    lines, rows, sizes = 50_000, 0, []
    path = vcf(tmp_path / "a.vcf", *(snv("chr1", 1 + line % 60) for line in range(lines)))
    with prepared(model, path, genome, Settings(window=8)) as work:
        for scored in work.scored(work.chunks()):
            rows += len(scored.rows)
            sizes.append(resident())
    assert rows == lines and len(sizes) > 40
    assert max(sizes) < sizes[len(sizes) // 10] + 8_000_000  # all rows together take four times as much


# what alleles say


@pytest.mark.parametrize(
    ("ref", "alt", "reason"),
    [
        ("A", "<DEL>", "symbolic"),
        ("A", "<NON_REF>", "symbolic"),
        ("A", "*", "a deletion that another record tells of"),
        ("A", ".", "no alternative"),
        ("A", "A[chr2:5[", "breakend"),
        ("A", "R", "letters other"),
        ("N", "A", "letters other"),
        ("A", "a", "equal to the reference"),
    ],
)
def test_what_cannot_be_scored_has_a_reason(ref: str, alt: str, reason: str) -> None:
    found = change(Variant("chr1", 5, ref, alt, 0))
    assert isinstance(found, str) and reason in found


def test_skipped_alleles_are_named_and_counted(plain: Model, genome: Path, tmp_path: Path) -> None:
    letter = base(CHR1, 90)
    alts = [one for one in "ACGT" if one != letter]
    records = [("chr1", 90, letter.lower(), ",".join([*alts, "<DEL>", "*"])), ("chr1", 90, letter, ".")]
    with pytest.warns(UserWarning) as said:
        table = plain.variants(vcf(tmp_path / "a.vcf", *records), genome=genome)
    assert table.alt.tolist() == alts
    texts = [str(one.message) for one in said]
    assert any(f"1 of 6 alleles, symbolic allele (the first: chr1:90 {letter.lower()}><DEL>)" in one for one in texts)
    assert any("1 of 6 alleles, no alternative allele" in one for one in texts)


# the genome's say


def write_command(capsys: Any, *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_positions_counted_from_0_are_refused(folder: Path, genome: Path, tmp_path: Path, capsys: Any) -> None:
    records = []
    for position in range(50, 350, 3):
        chrom, pos, ref, alt = snv("chr1", position)
        records.append((chrom, pos - 1, ref, alt))
    path, output = vcf(tmp_path / "a.vcf", *records), tmp_path / "out.tsv"
    for further in ([], ["--keep-going"]):
        code, out, err = write_command(capsys, "variants", folder, path, "--genome", genome, "-o", output, *further)
        assert (code, out) == (2, "") and not output.exists()
        assert "the positions are 0-based" in err and "of 100 REFs are not what stands" in err
    wrong = [(chrom, pos, ref, alt) for chrom, pos, ref, alt in (snv("chr2", one) for one in range(50, 350, 3))]
    path = vcf(tmp_path / "b.vcf", *(("chr1", *rest) for _, *rest in wrong))
    code, _, err = write_command(capsys, "variants", folder, path, "--genome", genome, "--keep-going")
    assert code == 2 and "is this the genome's assembly" in err


def test_swapped_alleles_are_named(folder: Path, genome: Path, tmp_path: Path, capsys: Any) -> None:
    good = snv("chr1", 80)
    chrom, pos, ref, alt = snv("chr1", 95)
    path = vcf(tmp_path / "a.vcf", good, (chrom, pos, alt, ref), snv("chr1", 99))
    code, out, err = write_command(capsys, "variants", folder, path, "--genome", genome)
    assert (code, out) == (2, "") and f"chr1:95 {alt}>{ref}: the genome has {ref}, REF and ALT swapped?" in err
    assert "1 of 3 REFs are not what stands in" in err and "--keep-going" in err
    output = tmp_path / "out.tsv"
    code, _, err = write_command(capsys, "variants", folder, path, "--genome", genome, "--keep-going", "-o", output)
    table = pd.read_csv(output, sep="\t")
    assert code == 0 and table.effect.isna().tolist() == [False, True, False]
    assert table.note.fillna("").tolist() == ["", f"reference mismatch: the genome has {ref}, REF and ALT swapped?", ""]


def test_chromosomes_have_two_names(plain: Model, genome: Path, tmp_path: Path) -> None:
    _, pos, ref, alt = snv("chr1", 80)
    with pytest.warns(UserWarning, match="chromosome 1 is taken for the genome's chr1"):
        named = plain.variants(vcf(tmp_path / "a.vcf", ("1", pos, ref, alt)), genome=genome)
    same = plain.variants(vcf(tmp_path / "b.vcf", ("chr1", pos, ref, alt)), genome=genome)
    assert named.chrom[0] == "1" and named.effect[0] == same.effect[0]
    mixed = vcf(tmp_path / "c.vcf", ("chr1", pos, ref, alt), ("chrUn", 5, "A", "C"))
    with pytest.raises(InputError, match=r"1 of 2 alleles are on chromosomes .* chrUn:5 A>C; it has chr1, chr2"):
        plain.variants(mixed, genome=genome)
    table = plain.variants(mixed, genome=genome, keep_going=True)
    assert table.note.tolist() == ["", "the genome has no such chromosome"] and np.isnan(table.effect[1])
    with pytest.raises(InputError, match="Give the genome of these variants"):
        plain.variants(vcf(tmp_path / "d.vcf", ("7", 5, "A", "C")), genome=genome, keep_going=True)


# files


def packed(path: Path, kind: str) -> Path:
    """A VCF of text as a file of another kind."""
    if kind == "gzip":
        path.with_suffix(".vcf.gz").write_bytes(gzip.compress(path.read_bytes()))
        return path.with_suffix(".vcf.gz")
    out = path.with_suffix({"bgzip": ".vcf.gz", "bcf": ".bcf"}[kind])
    with pysam.VariantFile(str(path)) as given:
        header = given.header
        with pysam.VariantFile(str(out), {"bgzip": "wz", "bcf": "wb"}[kind], header=header) as written:
            for record in given:
                written.write(record)
    return out


@pytest.mark.parametrize("kind", ["gzip", "bgzip", "bcf"])
def test_vcf_of_all_kinds_says_the_same(tmp_path: Path, kind: str) -> None:
    head = HEAD.replace("#CHROM", "##contig=<ID=chr1>\n#CHROM").replace("INFO\n", "INFO\tFORMAT\tann\tbob\n")
    head = head.replace("#CHROM", '##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">\n#CHROM')
    path = tmp_path / "a.vcf"
    path.write_text(head + "chr1\t5\trs1\tA\tC,G\t.\t.\t.\tGT\t0/1\t1/1\nchr1\t9\t.\tACC\tA\t.\t.\t.\tGT\t0/1\t./.\n")
    plain = list(read_variants(path))
    assert [(one.position, one.ref, one.alt, one.record) for one in plain] == [
        *((5, "A", "C", 0), (5, "A", "G", 0)),
        (9, "ACC", "A", 1),
    ]
    assert list(read_variants(packed(path, kind))) == plain


@pytest.mark.parametrize("text", ["", HEAD, HEAD + "chr1\tx\n", "#CHROM\tPOS\nchr1\t5\n", "A,B\n1,2\n"])
def test_bad_variants_are_one_message(folder: Path, genome: Path, tmp_path: Path, capsys: Any, text: str) -> None:
    path = tmp_path / "a.vcf"
    path.write_text(text)
    code, out, err = write_command(capsys, "variants", folder, path, "--genome", genome)
    assert (code, out) == (2, "") and "a.vcf" in err and "Traceback" not in err


def test_tables_keep_their_columns_and_have_insertions_and_deletions(
    plain: Model, genome: Path, tmp_path: Path
) -> None:
    ref = base(CHR1, 77)
    path = tmp_path / "t.csv.gz"
    lines = ["Name,Chromosome,Position,Ref,Alt,Value", f"a,chr1,77,{ref},-,0.5", 'b,chr1,77,-,ACG,"x,y"']
    path.write_bytes(gzip.compress("\n".join([*lines, f"c,chr1,77,{ref},{other(ref)},"]).encode()))
    table = plain.variants(path, genome=genome, window=WINDOW)
    assert table.Name.tolist() == ["a", "b", "c"] and table.Value.tolist() == ["0.5", "x,y", ""]
    pairs = [by_hand(CHR1, 77, one, two, WINDOW) for one, two in ((ref, ""), (ref, f"{ref}ACG"), (ref, other(ref)))]
    expect(plain, table, pairs)
    far = tmp_path / "far.tsv"
    far.write_text("Chromosome\tPosition\tRef\tAlt\nchr1\t401\t-\tA\nchr1\t400\t-\tA\n")
    assert plain.variants(far, genome=genome).note.tolist() == ["beyond the chromosome's end", ""]
    lines[0] = lines[0].replace("Value", "effect")
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(InputError, match="has a column effect, and so has the output"):
        plain.variants(path, genome=genome)
    path.write_bytes(gzip.compress(f'chrom,pos,ref,alt,remark\nchr1,77,{ref},-,"a\tb"\n'.encode()))
    assert plain.variants(path, genome=genome, window=WINDOW).remark.tolist() == [r"a\tb"]
    path.write_bytes(gzip.compress(b"chrom,pos,ref,alt\nchr1,5,A,C,more\n"))
    with pytest.raises(InputError, match="more cells than its header"):
        plain.variants(path, genome=genome)
    path.write_bytes(gzip.compress(b"chrom,pos,ref,alt\nchr1,5.0,A,C\n"))
    with pytest.raises(InputError, match=r"row 1: position '5.0' is no whole number"):
        plain.variants(path, genome=genome)


@pytest.mark.parametrize("first", [101, 100], ids=["from 1", "from 0"])
def test_windows_slide_within_fragments(plain: Model, tmp_path: Path, first: int) -> None:
    fragments = tmp_path / "fragments.fa"
    fragments.write_text(f">one::chr1:{first}-200(+) text\n{CHR1[100:200]}\n>chr1:{first + 150}-270\n{CHR1[250:270]}\n")
    deletion = base(CHR1, 195, 4)
    records = [snv("chr1", 102), snv("chr1", 150), ("chr1", 195, deletion, deletion[0]), snv("chr1", 255)]
    with pytest.warns(UserWarning, match="NA: 1 of 5 alleles, in no fragment"):
        table = plain.variants(vcf(tmp_path / "a.vcf", *records, snv("chr1", 210)), genome=fragments, window=WINDOW)
    assert table.note.tolist()[3:] == ["the window does not fit into its fragment", "in no fragment"]
    assert table.effect.isna().tolist() == [False] * 3 + [True] * 2
    pairs = []
    for (_, pos, ref, alt), start in zip(records, (100, 119, 137), strict=False):
        mutant = CHR1[: pos - 1] + alt + CHR1[pos - 1 + len(ref) :]
        pairs.append((CHR1[start : start + WINDOW], mutant[start : start + WINDOW]))
    assert pairs[2][1].endswith(CHR1[198:200])
    expect(plain, table[:3], pairs)
    assert table.region[0] == "chr1:101-160"


def test_fragments_may_be_the_other_strand(tmp_path: Path) -> None:
    path = tmp_path / "fragments.fa"
    path.write_text(f">chr1:100-200(-)\n{reverse_complement(CHR1[100:200])}\n")
    found = read_fragments(path)
    assert found is not None and found.fragments["chr1"] == [(100, CHR1[100:200])]
    path.write_text(f">chr1:100-200\n{CHR1[100:200]}\n>chr1:1-200\n{CHR1[100:190]}\n")
    with pytest.raises(InputError, match="says 200 nt, and the sequence has 90 nt"):
        read_fragments(path)


def test_genomes_of_all_kinds_say_the_same(genome: Path, tmp_path: Path) -> None:
    plain_gzip, bgzip = tmp_path / "plain.fa.gz", tmp_path / "blocks.fa.gz"
    plain_gzip.write_bytes(gzip.compress(genome.read_bytes()))
    pysam.tabix_compress(str(genome), str(bgzip))
    for path in (genome, plain_gzip, bgzip):
        before = sorted(tmp_path.iterdir())
        with open_reference(path) as reference:
            found = reference.stretch("chr2", 395, 10, 396, slide=False)
            assert not isinstance(found, str) and (found.letters, found.padded) == (CHR2[395:] + "N" * 5, True)
            found = reference.stretch("chr2", -3, 5, 0, slide=False)
            assert not isinstance(found, str) and found.letters == "NNN" + CHR2[:2]
        assert sorted(tmp_path.iterdir()) == before  # no index is left beside it
    with open_reference(genome) as reference:
        bed = tmp_path / "a.bed"
        bed.write_text("chr1\t20\t10\n")
        with pytest.raises(InputError, match=r"a\.bed:1"):
            read_regions(bed, reference)


def test_an_annotated_vcf_keeps_its_records(folder: Path, genome: Path, tmp_path: Path, capsys: Any) -> None:
    first, second = base(CHR1, 90), base(CHR2, 120)
    path = tmp_path / "a.vcf"
    head = HEAD.replace(
        "#CHROM",
        '##INFO=<ID=AF,Number=A,Type=Float,Description="frequency">\n##contig=<ID=chr1>\n'
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">\n#CHROM',
    ).replace("INFO\n", "INFO\tFORMAT\tann\n")
    path.write_text(
        head
        + f"chr1\t90\trs1\t{first}\t<DEL>,{other(first)}\t29.5\tPASS\tAF=0.25,0.5\tGT\t0|2\n"
        + "chr2\t100\trs2\tA\t.\t.\t.\t.\tGT\t0|0\n"
        + f"chr2\t120\trs3\t{second}\t{other(second)},{second}ACG\t.\t.\t.\tGT\t1|2\n"
    )
    table = prixfixe.load(folder, device="cpu").variants(path, genome=genome)
    for ending in ("vcf", "vcf.gz"):
        output = tmp_path / f"out.{ending}"
        assert write_command(capsys, "variants", folder, path, "--genome", genome, "-o", output)[0] == 0
        with pysam.VariantFile(str(output)) as written, pysam.VariantFile(str(path)) as given:
            assert "run" in str(written.header) and written.header.info["PRIXFIXE_effect"].number == "A"
            effects = []
            for one, two in zip(written, given, strict=True):
                assert str(one).split("\t")[:7] == str(two).split("\t")[:7]
                assert str(one).split("\t")[8:] == str(two).split("\t")[8:]
                assert one.info.get("AF") == two.info.get("AF")
                effects.append(one.info.get("PRIXFIXE_effect"))
        assert effects[0] == (None, pytest.approx(table.effect[0], rel=1e-4)) and effects[1] is None
        assert effects[2] == pytest.approx(tuple(table.effect[1:]), rel=1e-4)
    code, _, err = write_command(capsys, "variants", folder, output, "--genome", genome, "-o", tmp_path / "again.vcf")
    assert code == 2 and "already" in err
    (tmp_path / "t.tsv").write_text(f"chrom\tpos\tref\talt\nchr1\t90\t{first}\t{other(first)}\n")
    code, _, err = write_command(
        capsys, "variants", folder, tmp_path / "t.tsv", "--genome", genome, "-o", tmp_path / "again.vcf"
    )
    assert code == 2 and "makes no annotated VCF" in err and not (tmp_path / "again.vcf").exists()


# a language model


@pytest.fixture(scope="module", params=["plain", "unlockdna"])
def language_model(request: pytest.FixtureRequest) -> Iterator[Model]:
    """Both strands by themselves, or joined in one input."""
    overrides = ("recipe=plain", "recipe.length=40", "recipe.mask_share=0.1", "recipe.reverse_complement=true")
    if request.param == "unlockdna":
        overrides = ("recipe=unlockdna", "recipe.width=40", "recipe.head=2", "recipe.tail=3")
    config = compose("task=masked", "dataset=simulated_genome", *overrides, *SMALL, "final=masked")
    recipe = build_recipe(config)
    rows = Measurements(Sequences.from_strings(random_strings(30, 40)), np.empty((30, 0)), tasks=())
    task = build_task(config).fitted(rows)
    torch.manual_seed(3)
    yield Model(build(recipe, config, task), recipe, task, CPU)


def test_a_language_model_scores_by_likelihood(language_model: Model, genome: Path, tmp_path: Path) -> None:
    model, width = language_model, 40 if language_model.recipe.views == 2 else 45
    insertion = base(CHR1, 200)
    records = [snv("chr1", 100), ("chr1", 200, insertion, f"{insertion}ACG"), snv("chr2", 50)]
    with pytest.warns(UserWarning, match="NA: 1 of 3 alleles, no single substitution"):
        table = model.variants(vcf(tmp_path / "a.vcf", *records), genome=genome, window=width)
    assert "reference_prediction" not in table.columns and np.isnan(table.effect[1])
    for row, chromosome in ((0, CHR1), (2, CHR2)):
        _, pos, ref, alt = records[row]
        window = by_hand(chromosome, pos, ref, alt, width)[0]
        samples = model.samples(model.rows_of([window]))
        masked = samples.with_columns(mask=torch.zeros_like(samples.codes, dtype=torch.bool))
        index = width // 2 if model.recipe.views == 2 else width // 2 - 2
        places = [index] if model.recipe.views == 2 else [index, 79 - index]
        masked.columns["mask"][0, places] = True  # type: ignore[index]
        ratios = []
        for batch in next(model.recipe.scoring_batches(masked, 1)):
            with torch.no_grad():
                log_probs = model.network.forward(batch)["logits"][0].log_softmax(0)
            for place in np.flatnonzero(batch["mask"][0]).tolist():
                plus = batch["tokens"][0, place] == "ACGT".index(ref)
                letters = (alt, ref) if plus else (reverse_complement(alt), reverse_complement(ref))
                codes = ["ACGT".index(letter) for letter in letters]
                ratios.append(float(log_probs[codes[0], place] - log_probs[codes[1], place]))
        assert len(ratios) == 2
        assert table.effect[row] == pytest.approx(np.mean(ratios), abs=1e-5) and abs(table.effect[row]) > 1e-4


def test_a_language_model_has_no_baseline(language_model: Model, genome: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        language_model.variants(vcf(tmp_path / "a.vcf", snv("chr1", 100)), genome=genome, baseline=True)


# the baseline


def test_kmers_are_counted_on_both_strands() -> None:
    counts = kmer_counts(Sequences.from_strings(["AACGNTT", "AANCGTT", "A"]), longest=2)
    assert counts.shape == (3, 2 + 10)
    assert counts[0, :2].tolist() == [4, 2]  # A with T, C with G
    assert counts[:, 2:].sum(axis=1).tolist() == [5, 5, 0]  # AA AC CG TT; CG, its own reverse complement, twice
    rest = counts[0] - kmer_counts(Sequences.from_strings([reverse_complement("AACGNTT")]), longest=2)[0]
    assert not rest.any()


def test_a_ridge_finds_what_is_linear() -> None:
    strings = random_strings(400, 30)
    sequences = Sequences.from_strings(strings)
    expression = np.stack([np.array([text.count("G") + text.count("C") for text in strings], dtype=float)] * 2, axis=1)
    expression[:5, 1] = np.nan
    ridge = fit_kmer_ridge(Measurements(sequences[:300], expression[:300], ("a", "b")))
    predicted = ridge.predict(sequences[300:])
    assert predicted.shape == (100, 2) and np.corrcoef(predicted[:, 0], expression[300:, 0])[0, 1] > 0.95
    with pytest.raises(InputError, match="have none"):
        fit_kmer_ridge(Measurements(sequences, np.empty((400, 0)), ()))


def test_a_baseline_stands_beside_each_effect(promoters: Path, genome: Path, tmp_path: Path, capsys: Any) -> None:
    config = demo("bhi", "conv", "efficientnet", "mlp", "dataset=table", f"dataset.path={promoters}")
    run(config, tmp_path / "run", show_progress=False)
    path, output = vcf(tmp_path / "a.vcf", snv("chr1", 100), snv("chr2", 60)), tmp_path / "out.csv"
    command = ("variants", tmp_path / "run", path, "--genome", genome, "--baseline", "-o", output)
    code, _, err = write_command(capsys, *command)
    assert code == 0 and "ridge regression on the counts of 692 k-mers" in err
    table = pd.read_csv(output)
    assert table.columns.tolist()[-4:] == ["effect", "ridge_effect", "gc_change", "distance"]
    model = prixfixe.load(tmp_path / "run", device="cpu")
    assert model.construct is not None
    width = model.construct.insert
    left, right = model.construct.left, model.construct.right
    one, two = (left + text + right for text in by_hand(CHR1, *snv("chr1", 100)[1:], width))
    by_ridge = ridge_of(model).predict(Sequences.from_strings([one, two]))[:, 0]
    assert table.ridge_effect[0] == pytest.approx(by_ridge[1] - by_ridge[0], rel=1e-3)
    change_by_hand = sum(text in "GC" for text in two) - sum(text in "GC" for text in one)
    assert table.gc_change[0] == pytest.approx(change_by_hand / width, rel=1e-4) and table.distance.tolist() == [0, 0]
    promoters.unlink()
    assert write_command(capsys, *command)[0] == 2


# real saturation mutagenesis


def test_every_reference_base_of_the_mpra_is_found(plain: Model, real_data: Path) -> None:
    table, fasta = real_data / "human" / "mpra_variants.tsv.gz", real_data / "human" / "mpra_elements.fa"
    if not table.exists():
        pytest.skip(f"no {table}")
    with prepared(plain, table, fasta, Settings(window=WINDOW)) as work:
        tally = work.tally
        assert (tally.alleles, tally.checked, tally.mismatched, tally.rows) == (14_504, 14_504, 0, 14_504)
        assert not tally.notes and not tally.skipped and work.further[-1] == "Element"
        assert work.remarks[1].endswith("10 1-based, the last position included")
