"""The README's commands and code, as they are printed there; training is made small."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(bash|python|yaml)\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
SMALLER = {  # appended to commands that would train at published size
    "core=efficientnet": "first.channels=8 core.widths=[8] training.epochs=1 training.batch_size=32",
    "core=bilstm": "recipe=bhi first=conv final=mlp,soft_bins first.channels=8 "
    "core.hidden=4 core.channels=8 training.epochs=1 training.batch_size=32",
}


def test_the_readme_works_from_top_to_bottom(promoters: Path, tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    shutil.copy(promoters, folder / "promoters.tsv")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = []
    for language, text in BLOCKS:
        name = re.match(r"# ((?:blocks|conf)/\S+)\n", text)
        if name:
            (folder / name[1]).parent.mkdir(parents=True, exist_ok=True)
            (folder / name[1]).write_text(text)
        elif language == "python":
            subprocess.run([sys.executable, "-c", text], cwd=folder, env=environment, check=True, timeout=120)
        elif language == "bash":
            for line in text.splitlines():
                words = shlex.split(line)
                assert words[0] == "prixfixe"
                small = (
                    next((v for k, v in SMALLER.items() if k in words), "") if "experiment=demo" not in words else ""
                )
                done = subprocess.run(
                    [sys.executable, "-m", *words, *shlex.split(small)],
                    cwd=folder,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=300,
                )
                assert done.returncode == 0, f"{line}\n{done.stderr}"
                ran.append(line)
    assert len(ran) >= 10
    assert (folder / "predictions.tsv").exists()
    assert (folder / "runs" / "demo" / "bhi+conv+resnet+mlp" / "weights.safetensors").exists()


def test_the_choices_that_the_readme_names_are_the_menu() -> None:
    from prixfixe.menu.parts import menu

    for part in menu():
        assert f"`{part.name}`" in README


def test_the_demos_numbers_are_those_of_its_table_and_name_the_processor() -> None:
    table = (Path(__file__).resolve().parents[1] / "docs" / "demo" / "results.md").read_text(encoding="utf-8")
    quoted = README.partition("<!-- demo -->\n")[2].partition("<!-- /demo -->\n")[0]
    for text in (quoted, table.partition("\n\n")[2]):
        assert re.match(r"`make demo` on \d+ CPU cores \(.*(Intel|AMD|ARM|Apple|Neoverse).*\), Python .*, torch ", text)
        assert "On another, sums are made in another\norder" in text
    rows = [[line for line in text.splitlines() if line.startswith("|")] for text in (quoted, table)]
    assert len(rows[0]) == 2 + 5 and rows[0] == rows[1][:7]


@pytest.mark.parametrize("link", re.findall(r"\]\(((?!http)[^)#]+)\)", README))
def test_links_lead_somewhere(link: str) -> None:
    assert (Path(__file__).resolve().parents[1] / link).exists()
