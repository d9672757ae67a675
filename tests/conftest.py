import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real measurements; tests that need it skip without it."""
    folder = Path(os.environ.get("PRIXFIXE_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "yeast" / "random_promoters.txt").exists():
        pytest.skip(f"no real data at {folder}: set PRIXFIXE_REAL_DATA to the folder that holds yeast/")
    return folder
