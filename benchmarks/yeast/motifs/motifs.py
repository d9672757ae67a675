"""Which motifs a trained run has learned: of real promoters beside JASPAR, or of the simulated assay beside what was
planted. README.md says how the runs were trained.

    python benchmarks/yeast/motifs/motifs.py real RUN random_promoters.txt jaspar2026_core_fungi.meme
    python benchmarks/yeast/motifs/motifs.py planted RUN
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import prixfixe
from prixfixe.data.measurements import Measurements
from prixfixe.data.sequences import Sequences
from prixfixe.data.tables import read_measurements
from prixfixe.figures.motifs import draw_motifs
from prixfixe.figures.style import save
from prixfixe.inference.motifs import (
    BACKGROUNDS,
    PLACES,
    Motifs,
    decoy,
    find_motifs,
    implant,
    random_sequences,
    read_motifs,
)
from prixfixe.inference.predictor import Predictor
from prixfixe.simulation import simulate
from prixfixe.simulation.factors import FACTORS, site_weights

HERE = Path(__file__).parent
WANTED = ("poly(dA:dT)", "REB1", "NSI1", "ABF1", "RAP1", "RSC3")  # NSI1 binds as Reb1 does
POLY_A = "poly(dA:dT)"  # which JASPAR has no motif of: it is bound by no factor
MOST_DRAWN = 16
UNTRAINED_SEED = 99  # of simulated promoters that the run has not seen


def planted() -> dict[str, np.ndarray]:
    """The simulated assay's factors as probabilities, (4, width)."""
    weights = {factor.name: site_weights(factor.consensus).T for factor in FACTORS}
    return {name: each / each.sum(axis=0) for name, each in weights.items()}


def poly_a() -> np.ndarray:
    column = np.array([0.91, 0.03, 0.03, 0.03])
    return np.tile(column[:, None], (1, 8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("real", "planted"))
    parser.add_argument("run", type=Path)
    parser.add_argument("files", type=Path, nargs="*", help="of real promoters: a table and a MEME file")
    parser.add_argument("--sequences", type=int, default=2000)
    parser.add_argument("--method", default="gradient")
    args = parser.parse_args()
    model = prixfixe.load(args.run, device="cpu")
    if args.what == "planted":
        sequences, known = simulate(args.sequences, UNTRAINED_SEED).measurements.sequences, planted()
    else:
        table, meme = args.files
        sequences = read_measurements(table).sequences
        sequences = sequences[np.arange(min(args.sequences, len(sequences)))]
        known = {**read_motifs(meme), POLY_A: poly_a()}
    found = find_motifs(model, rows_of(sequences), [*map(str, range(len(sequences)))], known, method=args.method)
    some = found.significant()
    drawn = some.head(MOST_DRAWN).reset_index(drop=True)
    seen = {str(place): found.seen["expression", row.motif, row.direction, ""] for place, row in drawn.iterrows()}
    picture = HERE / f"{args.what}.png"
    save(draw_motifs(drawn, seen, known, simulated=model.simulated), picture)
    Image.open(picture).quantize(64).save(picture, optimize=True)  # a quarter of the bytes
    text = markdown(found) + (came_back(found) if args.what == "planted" else looked_for(found, model))
    (HERE / f"{args.what}.md").write_text(text)
    print(text)


def rows_of(sequences: Sequences) -> Measurements:
    return Measurements(sequences, np.empty((len(sequences), 0)), ())


def markdown(found: Motifs) -> str:
    facts = found.facts
    lines = [
        ("**SIMULATED assay.** " if facts["simulated"] else "")
        + f"{facts['sequences']:,} sequences, {facts['seqlets']:,} seqlets, "
        f"{facts['seqlets'] - facts['unnamed']:,} named by one of {facts['motifs']} motifs ({facts['method']}).",
        "",
        "| motif | does | seqlets | decoy | q | sequences | shuffled | q shuffled | on plus | implanted | 95 % |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in found.significant().itertuples():
        effect = "" if np.isnan(row.effect) else f"{row.effect:+.2f}"
        interval = "" if np.isnan(row.effect) else f"{row.effect_low:+.2f} to {row.effect_high:+.2f}"
        lines.append(
            f"| {row.motif} | {row.direction} | {row.seqlets} | {row.decoy} | {row.q:.1g} | {row.sequences} | "
            f"{row.shuffled} | {row.q_shuffled:.2g} | {100 * row.plus:.0f} % | {effect} | {interval} |"
        )
    return "\n".join(lines) + "\n"


def looked_for(found: Motifs, model: Predictor) -> str:
    """Motifs that were asked for, significant or not: their seqlets, and what they and their decoys do implanted."""
    lines = ["", "| looked for | seqlets that it raises | decoy | q | implanted, mean (95 %) | its decoy implanted |"]
    lines.append("|---|---:|---:|---:|---|---|")
    built = found.facts["construct"]
    background, start, end = random_sequences(built, BACKGROUNDS, 1, model.flanks)
    for name, motif in found.known.items():
        if name.split()[-1] not in WANTED:
            continue
        own = found.table[(found.table["motif"] == name) & (found.table["direction"] == "adds")]
        counts = "0 | 0 | "
        if len(own):
            counts = f"{own.iloc[0]['seqlets']} | {own.iloc[0]['decoy']} | {own.iloc[0]['q']:.1g}"
        effects = [effect_of(model, background, start, end, one) for one in (motif, decoy(motif, 0))]
        lines.append(f"| {name} | {counts} | {effects[0]} | {effects[1]} |")
    return "\n".join(lines) + "\n"


def effect_of(model: Predictor, background: np.ndarray, start: int, end: int, motif: np.ndarray) -> str:
    before = predicted(model, background)
    each = []
    for at in np.linspace(start, end - motif.shape[1], PLACES).round().astype(int):
        each += [predicted(model, implant(background, one, at)) - before for one in (motif, motif[::-1, ::-1])]
    mean = np.mean(each, axis=0)
    width = 1.96 * mean.std(ddof=1) / np.sqrt(len(mean))
    return f"{mean.mean():+.2f} ({mean.mean() - width:+.2f} to {mean.mean() + width:+.2f})"


def predicted(model: Predictor, codes: np.ndarray) -> np.ndarray:
    return model.predict_sequences(Sequences.from_padded(codes, np.full(len(codes), codes.shape[1])))


def came_back(found: Motifs) -> str:
    """Which planted factors are significant with the direction that they have in the simulated cell."""
    some = found.significant()
    directions = {factor.name: "adds" if factor.effect + factor.opening > 0 else "lowers" for factor in FACTORS}
    right = [row.motif for row in some.itertuples() if row.direction == directions[row.motif]]
    wrong = [f"{row.motif} ({row.direction})" for row in some.itertuples() if row.direction != directions[row.motif]]
    missing = [name for name in directions if name not in right]
    return (
        f"\nCame back with the right direction: {len(right)} of {len(directions)} ({', '.join(right)}). With the wrong "
        f"one: {', '.join(wrong) or 'none'}. Not: {', '.join(missing)}.\n"
    )


if __name__ == "__main__":
    main()
