"""What variants (SNVs, insertions, deletions) do to the prediction: that of the alternative allele less that of the
reference, in the measurement's own units.

VCF is a VCF (plain, gzip, bgzip) or BCF, with or without genotypes, or a table with the columns Chromosome, Position
(1-based), Ref and Alt, where - as Alt removes Ref and - as Ref inserts Alt behind the position; its other columns stand
in the output as well. The window around a variant has its position at index WINDOW // 2 (0-based), in both alleles;
with --regions it is the region that holds the variant. The window of the alternative begins where the reference's does
and is as long. Every REF is compared with the genome before anything is written. See docs/variants.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prixfixe.commands.model_options import STANDARD_INPUT, add_output, add_runs, load_model, read_ahead, readable_twice
from prixfixe.common.errors import InputError
from prixfixe.common.options import whole_number
from prixfixe.common.simulated import SIMULATED
from prixfixe.common.table_writer import FORMATS, table_writer
from prixfixe.common.text import printable

if TYPE_CHECKING:
    from prixfixe.data.annotated_vcf import Entry
    from prixfixe.inference.variants import Scored, Settings, VariantScorer

HELP = "effects of variants in a VCF or a table, checked against the genome"

ENDINGS = {**FORMATS, ".vcf": "vcf", ".vcf.gz": "vcf"}


def configure(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument("variants", type=Path, metavar="VCF", help="VCF, BCF or a table; - is standard input")
    what = "FASTA, plain or bgzip, or fragments with chr:start-end in their headers; a .fai beside it is used"
    parser.add_argument("--genome", type=Path, required=True, metavar="FASTA", help=what)
    add_output(parser, ENDINGS)
    what = "nt around a variant, which stands at index N // 2; default: as of the training sequences"
    parser.add_argument("--window", type=whole_number("--window", "nucleotides", least=1), metavar="N", help=what)
    what = "windows are the regions that hold a variant; variants in none are skipped"
    parser.add_argument("--regions", type=Path, metavar="BED", help=what)
    what = "put around each window; default: dataset.flanks, or the ends that the training sequences share; , is none"
    parser.add_argument("--flanks", metavar="LEFT,RIGHT", help=what)
    what = "a column that the model needs, one value for all windows; again for another one"
    parser.add_argument("--column", action="append", default=[], metavar="NAME=VALUE", help=what)
    what = "variants whose REF is not the genome's are NA, with a note, and no reason to stop"
    parser.add_argument("--keep-going", action="store_true", help=what)
    what = "beside each effect that of a k-mer ridge of the training rows, the change in GC, the distance to the middle"
    parser.add_argument("--baseline", action="store_true", help=what)


def run(args: argparse.Namespace) -> int:
    from prixfixe.data.variants import is_vcf
    from prixfixe.inference.variants import prepared

    given = STANDARD_INPUT if str(args.variants) == "-" else args.variants
    inputs = [args.variants, args.genome, *([args.regions] if args.regions else [])]
    settings = settings_of(args)
    model = load_model(args, ENDINGS, *inputs)
    annotate = args.output is not None and args.output.name.lower().endswith((".vcf", ".vcf.gz"))
    with readable_twice(given) as path, prepared(model, path, args.genome, settings) as scorer:
        if annotate:
            check_annotated(scorer, is_vcf(path))
        columns = scorer.columns
        for remark in scorer.remarks:
            print(remark, file=sys.stderr)
        if annotate:
            write_vcf(scorer, args.output)
        else:
            with table_writer(args.output, columns) as write:
                for scored in scored_of(scorer):
                    write(*scorer.values(scored))
        if args.output is not None:
            print(f"effects of {scorer.rows:,} alleles in their windows in {args.output}", file=sys.stderr)
    return 0


def settings_of(args: argparse.Namespace) -> Settings:
    from prixfixe.inference.variants import Settings

    columns = {}
    for text in args.column:
        name, equals, value = text.partition("=")
        if not equals or not name or name in columns:
            raise InputError(f"--column {printable(text, 100)}: give NAME=VALUE, each name once")
        columns[name] = value
    return Settings(args.window, args.regions, args.flanks, columns, args.keep_going, args.baseline, args.batch_size)


def scored_of(scorer: VariantScorer) -> Iterator[Scored]:
    """The numbers of all rows, chunk by chunk; how far it is stands on standard error."""
    from prixfixe.common.progress import slow_work

    with slow_work("variants", scorer.rows) as advance:
        for scored in scorer.scored(read_ahead(scorer.chunks())):
            yield scored
            advance(len(scored.rows))


def check_annotated(scorer: VariantScorer, vcf: bool) -> None:
    """InputError where the input is no VCF, or an allele has several windows."""
    if not vcf:
        raise InputError("a table of variants makes no annotated VCF: end -o with .tsv, or another table's ending")
    if scorer.tally.in_several:
        raise InputError(
            f"{scorer.tally.in_several} lies in several regions, and an annotated VCF has one entry an allele: end -o "
            "with .tsv for a row a region"
        )


def write_vcf(scorer: VariantScorer, output: Path) -> None:
    """Writes the VCF with the table's numbers as INFO entries."""
    from prixfixe.data.annotated_vcf import info_name, write_annotated

    what = {
        "reference_prediction": "prediction with the reference allele",
        "alternative_prediction": "prediction with the alternative allele",
        "effect": "alternative less reference",
        "spread": "standard deviation of the effect over the ensemble's members",
        "ridge_effect": "effect by a k-mer ridge of the training rows",
        "gc_change": "change in the window's share of G and C",
        "distance": "nt from the window's middle",
    }
    if scorer.by_likelihood:
        what["effect"] = "log P(alternative) - log P(reference), in nats"
    model, tasks = scorer.model, scorer.model.tasks
    columns = [name for name in what if name in scorer.columns]
    keys = {}
    for column in columns:
        for task in tasks:
            keys[column, task] = info_name(column, task if len(tasks) > 1 else None)
    if len(set(keys.values())) < len(keys):
        raise InputError("two tasks have names that differ in no letter or digit: end -o with .tsv")
    label = f" ({SIMULATED})" if model.simulated else ""
    label += f"; {model.remark}" if model.remark else ""
    described = {}
    for (column, task), key in keys.items():
        described[key] = f"{what[column]}{f', {task}' if len(tasks) > 1 else ''}, by {model.name}{label}"

    def entries() -> Iterator[Entry]:
        for scored in scored_of(scorer):
            table = scored.table(tasks)
            for place, row in enumerate(scored.rows):
                values = {}
                for column in columns:
                    for number, task in enumerate(tasks):
                        values[keys[column, task]] = float(table[column][place * len(tasks) + number])
                yield row.variant.record, row.variant.alt, values

    write_annotated(scorer.path, output, entries(), described, f"{model.name}, windows of {scorer.width} nt{label}")
