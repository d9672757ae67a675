"""`prixfixe report`: one self-contained HTML file with all that a sweep says, and its figures as files on request."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

SAMPLES = 10_000


def write_report(
    folders: Sequence[Path],
    output: Path,
    *,
    score: str | None = None,
    samples: int = SAMPLES,
    figures: Path | None = None,
    formats: Sequence[str] = ("svg", "pdf"),
) -> list[Path]:
    """Writes the report of some sweeps or runs, and returns the files written, the report first.

    samples: of the bootstrap ranks, 0 for none. figures: a folder for every figure, in every one of `formats`.
    Raises InputError where a folder is not there or holds no runs.
    """
    from prixfixe.common.files import write_text
    from prixfixe.common.text import printable
    from prixfixe.figures import save
    from prixfixe.report.content import gather
    from prixfixe.report.drawings import draw, draw_heat_maps
    from prixfixe.report.page import page, suffix

    contents = gather(folders, score, samples)
    drawings = [list(draw(content)) for content in contents]
    command = ["prixfixe", "report", *map(str, folders), "-o", str(output)]
    command += ["--score", score] if score is not None else []
    command += ["--samples", str(samples)] if samples != SAMPLES else []
    title = "Prix Fixe: " + ", ".join(dict.fromkeys(printable(folder.resolve().name) for folder in folders))
    write_text(output, page(contents, drawings, title, shlex.join(command)))
    written = [output]
    if figures is not None:
        for number, (content, drawn) in enumerate(zip(contents, drawings, strict=True), 1):
            for drawing in (*draw_heat_maps(content), *drawn):
                for kind in formats:
                    written.append(figures / f"{drawing.name}{suffix(number)}.{kind}")
                    save(drawing.figure, written[-1])
    return written
