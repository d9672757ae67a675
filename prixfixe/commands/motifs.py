"""Which known motifs a model has learned, and what they do.

Seqlets (stretches that add to or lower the prediction more than others) are named by the motifs of a MEME file; each
motif is tested against a decoy, itself with its columns shuffled, and against shuffled sequences; significant ones are
implanted in random sequences built as the training sequences are; and pairs of motifs are looked for. Writes one HTML
page with logos and, beside it, four tables: of motifs, of sites (name, start, end, strand, motif, direction,
attribution, similarity, sequence; 0-based, in the sequence as given), of pairs,
and of the effect at each position (places).
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from prixfixe.commands.attribute import add_method
from prixfixe.commands.model_options import add_runs, add_sequences, load_model, readable_twice
from prixfixe.common.errors import InputError
from prixfixe.common.files import keep_inputs
from prixfixe.common.text import counted, printable

if TYPE_CHECKING:
    from prixfixe.inference.motifs import Motifs

HELP = "known motifs that a model has learned: seqlets, effects, spacing, logos"

CHOICES = {"auto": None, "merged": False, "apart": True}


def configure(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    add_sequences(parser)
    parser.add_argument(
        "--motifs", type=Path, required=True, metavar="FILE.meme", help="known motifs, as MEME has them"
    )
    what = "a folder, or the HTML page's name; the tables stand beside it"
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER-or-FILE.html", help=what)
    add_method(parser)
    what = "count sites of both strands together or apart; default: apart where the network sees one strand alone"
    parser.add_argument("--strands", choices=list(CHOICES), default="auto", help=what)


def run(args: argparse.Namespace) -> int:
    from prixfixe.common.files import write_text
    from prixfixe.data.tables import count_sequences, read_row_chunks
    from prixfixe.inference.motifs import find_motifs, read_motifs
    from prixfixe.inference.mutagenesis import concatenated
    from prixfixe.report.motifs import page

    html = page_of(args.output)
    known = read_motifs(args.motifs)
    files = [html, *(table_of(html, what) for what in ("", "sites", "spacing", "places"))]
    for file in files:
        keep_inputs(file, args.sequences, args.motifs, *args.runs)
    args.output = None
    model = load_model(args, {".html": "html"}, args.sequences)
    with readable_twice(args.sequences) as path:
        needed, names, chunks = model.sources(), [], []
        total = count_sequences(path, sequence=args.sequence, columns=needed)
        for chunk, chunk_names in read_row_chunks(path, 4096, sequence=args.sequence, columns=needed):
            chunks.append(chunk)
            names += chunk_names
    rows = concatenated(chunks)
    if longer := int((rows.sequences.lengths > model.longest).sum()):
        print(f"warning: {model.cut_off(longer, total)}", file=sys.stderr)
    found = find_motifs(
        model,
        rows,
        names,
        known,
        method=args.method,
        seed=args.seed,
        stranded=CHOICES[args.strands],
        batch_size=args.batch_size,
    )
    own = ["prixfixe", "motifs", *map(str, args.runs), str(args.sequences), "--motifs", str(args.motifs)]
    own += ["-o", str(html), "--method", args.method, "--seed", str(args.seed), "--strands", args.strands]
    write_tables(found, html)
    write_text(html, page(found, f"Motifs of {model.name}", shlex.join(own)))
    print(summary(found))
    print(f"{html}, and beside it {', '.join(file.name for file in files[1:])}", file=sys.stderr)
    return 0


def page_of(output: Path) -> Path:
    """The page's file: as named, or motifs.html in a folder. InputError for another kind of file."""
    if output.suffix.lower() == ".html":
        return output
    if output.suffix and not output.is_dir():
        raise InputError(f"-o {printable(output)}: give a folder, or a file that ends with .html")
    return output / "motifs.html"


def table_of(page: Path, what: str) -> Path:
    return page.with_name(f"{page.stem}.{what}.tsv" if what else f"{page.stem}.tsv")


def write_tables(found: Motifs, page: Path) -> None:
    """The tables as TSV beside the page, with a column `simulated` where the model is."""
    from prixfixe.common.table_writer import table_writer

    tables = {"": found.table, "sites": found.sites, "spacing": found.spacing, "places": found.places}
    kinds = {"O": "name", "i": "integer", "f": "number", "b": "integer"}
    for what, table in tables.items():
        if found.facts["simulated"]:
            table = table.assign(simulated="simulated")
        columns = {name: kinds.get(table[name].dtype.kind, "name") for name in table.columns}
        if len(found.table["task"].unique()) == 1:
            columns.pop("task")
        with table_writer(table_of(page, what), columns) as write:
            write(*(table[name].tolist() for name in columns))


def summary(found: Motifs) -> str:
    """The significant motifs in a few lines."""
    facts, some = found.facts, found.significant()
    lines = [
        f"{facts['seqlets']:,} seqlets in {counted(facts['sequences'], 'sequence')}, "
        f"{facts['seqlets'] - facts['unnamed']:,} named; {len(some)} significant"
        + (" (SIMULATED assay)" if facts["simulated"] else "")
    ]
    for one in some.to_dict("records"):
        effect = "" if one["effect"] != one["effect"] else f", implanted {one['effect']:+.3g}"
        lines.append(
            f"  {printable(one['motif'], 60)} {one['direction']}: {one['seqlets']} seqlets, decoy {one['decoy']}, "
            f"q {one['q']:.2g}{effect}"
        )
    return "\n".join(lines)
