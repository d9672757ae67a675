"""What simulated assays that stand in for tables share: so many rows by a seed, split as a table of real ones is."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

from annotated_types import Ge, Le

from prixfixe.common.errors import InputError
from prixfixe.data.datasets import Table
from prixfixe.data.measurements import Measurements

FEWEST = 100  # rows to train and score on


class SimulatedTable(Table):
    """`size` simulated rows, labelled as simulated.

    assay: what is simulated, as messages and the content call it. version: goes up when a size and seed give other
    numbers than before.
    """

    simulated = True
    assay: ClassVar[str]
    version: ClassVar[int]

    def __init__(
        self,
        *,
        size: Annotated[int, Le(10**7)],
        seed: Annotated[int, Ge(0)],
        validation_fraction: float,
        training_fraction: float,
        split_seed: Annotated[int, Ge(0)],
        fold: int | str | list[int | str] | None,
        folds: int | None,
        test_fold: int | str | list[int | str] | None,
        block: Annotated[int, Ge(1), Le(10**12)] | None = None,
        fold_column: str | None = None,
    ) -> None:
        if size < FEWEST:
            raise InputError(
                f"dataset.size={size}: too few rows to train and score on; take at least {FEWEST} of simulated "
                f"{self.assay}"
            )
        super().__init__(
            path=f"the simulated {self.assay}",
            validation=None,
            validation_fraction=validation_fraction,
            split_seed=split_seed,
            sequence=None,
            expression=None,
            fold=fold,
            folds=folds,
            training_fraction=training_fraction,
            test_fold=test_fold,
            block=block,
            fold_column=fold_column,
        )
        self.size, self.seed = size, seed

    @staticmethod
    @abstractmethod
    def simulate(size: int, seed: int) -> Measurements: ...

    def _measured(self) -> tuple[Measurements, str]:
        content = f"simulated {self.assay} version={self.version} size={self.size} seed={self.seed}"
        return self.simulate(self.size, self.seed), content
