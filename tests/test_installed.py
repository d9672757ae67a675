"""Installed as a wheel, everything works from any folder, configuration and blocks included."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel holds."""
    target = tmp_path_factory.mktemp("site")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--target",
        str(target),
        str(ROOT),
    ]
    subprocess.run(pip, check=True, timeout=300)
    return target


def test_train_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "prixfixe"]
    where = subprocess.run(
        [
            sys.executable,
            "-c",
            "import prixfixe, prixfixe.common.paths as p; print(prixfixe.__file__, p.conf_folder())",
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.split() == [str(installed / "prixfixe" / "__init__.py"), str(installed / "prixfixe" / "conf")]
    done = subprocess.run(
        [
            *command,
            "train",
            "-m",
            "experiment=demo",
            "recipe=bhi",
            "first=conv",
            "core=efficientnet",
            "final=soft_bins,mlp",
            "dataset.size=200",
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(
        [*command, "results", "runs/demo"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "2 of 2 combinations done. SIMULATED" in listed.stdout
