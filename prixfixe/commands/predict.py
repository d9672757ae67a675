"""`prixfixe predict`: a run's predictions for sequences, in the measurement's own units."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "predict the expression of the sequences in a table or FASTA file"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="a run folder with weights")
    parser.add_argument("sequences", type=Path, metavar="SEQUENCES", help="a table (TSV, CSV, Parquet) or FASTA; plain or gzip")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write there as TSV, not to standard output")
    parser.add_argument("--sequence", metavar="COLUMN", help="the table's sequence column, where it is not found by itself")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N; default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=1024, metavar="N", help="sequences at a time; default: %(default)s")


def run(args: argparse.Namespace) -> int:
    import contextlib
    import sys

    import prixfixe
    from prixfixe.data.tables import read_sequences
    from prixfixe.errors import InputError
    from prixfixe.files import atomic_path

    if args.batch_size < 1:
        raise InputError(f"--batch-size {args.batch_size}: at least 1")
    model = prixfixe.load(args.run_folder, device=args.device)
    sequences, names = read_sequences(args.sequences, sequence=args.sequence)
    columns = ["prediction"] if len(model.tasks) == 1 else [f"prediction_{task}" for task in model.tasks]
    with contextlib.ExitStack() as stack:
        if args.output is None:
            out = sys.stdout
        else:
            out = stack.enter_context(open(stack.enter_context(atomic_path(args.output)), "w", encoding="utf-8"))
        out.write("\t".join(["name", "sequence", *columns]) + "\n")
        for start in range(0, len(sequences), args.batch_size):
            chunk = sequences[start : start + args.batch_size]
            predictions = model.predict_sequences(chunk, batch_size=args.batch_size).reshape(len(chunk), -1)
            for name, sequence, values in zip(names[start:], chunk.to_strings(), predictions, strict=False):
                out.write("\t".join([name, sequence, *(f"{value:.6g}" for value in values)]) + "\n")
    return 0
