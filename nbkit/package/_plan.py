"""The compiled plan: the exact path from a contract row to a score, without pandas or scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from nbkit.errors import ContractViolationError, PackageError
from nbkit.files import write_atomically
from nbkit.package._engines import Engine, LinearEngine, Link, TreeEngine, engine_from_json, sigmoid, sigmoids
from nbkit.package._files import canonical_json, sha256, strict_json
from nbkit.package._quick import QuickTrees
from nbkit.package._rows import PlanColumn, PlanInput, RowMaker
from nbkit.package._steps import Level, Scalar, step_from_json, step_to_json
from nbkit.package._tables import Table
from nbkit.package._treelite import TreeliteError

PLAN_FORMAT = 1
PLAN_FILE = "plan.json"
TREES_FILE = "trees.treelite"

_NO_NUMBER = "the score is no number: an input is too large for the model's arithmetic"


class Plan:
    """A fitted model as float64 preprocessing and trees or a dot product.

    Immutable and safe to share between threads. Rows are those that ``RowCheck.check`` returns: the plan checks neither
    ranges nor infinities again.

    Parameters
    ----------
    family : str
        Class name of the fitted predictor.
    tolerance : float
        How far the plan's score may lie from the fitted model's.
    inputs : sequence of PlanInput
        The inputs, in the contract's order.
    columns : sequence of PlanColumn
        The columns of the model's row.
    engine : Engine
        What turns the model's row into a margin.
    sign : {1, -1}
        -1 where the positive class is the model's first, so that its probability is one minus the model's.
    """

    __slots__ = ("_columns", "_engine", "_family", "_inputs", "_quick", "_rows", "_sign", "_tolerance")

    def __init__(
        self,
        *,
        family: str,
        tolerance: float,
        inputs: Sequence[PlanInput],
        columns: Sequence[PlanColumn],
        engine: Engine,
        sign: int = 1,
    ) -> None:
        self._family = family
        self._tolerance = tolerance
        self._inputs = tuple(inputs)
        self._columns = tuple(columns)
        self._engine = engine
        self._sign = sign
        self._rows = RowMaker(inputs=self._inputs, columns=self._columns)
        self._quick: QuickTrees | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in the contract's order."""
        return tuple(item.name for item in self._inputs)

    @property
    def number_inputs(self) -> frozenset[str]:
        """Names of the inputs that are numbers."""
        return frozenset(item.name for item in self._inputs if item.type != "category")

    @property
    def columns(self) -> tuple[PlanColumn, ...]:
        """The columns of the model's row; each names the input that it comes from."""
        return self._columns

    @property
    def family(self) -> str:
        """Class name of the fitted predictor."""
        return self._family

    @property
    def tolerance(self) -> float:
        """How far a score may lie from the fitted model's."""
        return self._tolerance

    @property
    def engine(self) -> Engine:
        """What turns the model's row into a margin."""
        return self._engine

    @property
    def linear(self) -> bool:
        """Whether a score is a dot product, and so are its reasons."""
        return isinstance(self._engine, LinearEngine)

    @property
    def link(self) -> Link:
        """``logit``: the margin is a log-odds; ``identity``: it is the score itself."""
        return self._engine.link

    @property
    def sign(self) -> int:
        """-1 where the trees or coefficients speak of the negative class, else 1."""
        return self._sign

    @property
    def digest(self) -> str:
        """``sha256:`` and the hash of both files: the same trees and steps give the same digest."""
        return sha256(b"".join(self.to_files().values()))

    def score(self, row: Mapping[str, Scalar]) -> float:
        """Return the probability of the positive class.

        Parameters
        ----------
        row : mapping
            Every input by name: float, text, or None where it is missing.

        Returns
        -------
        float
            0..1.

        Raises
        ------
        ContractViolationError
            An input is absent, or the model was fitted to refuse its value.
        """
        margin = self._margin(row)
        if self._engine.link == "identity":
            return margin
        return sigmoid(margin) if self._sign > 0 else 1.0 - sigmoid(margin)

    def margin(self, row: Mapping[str, Scalar]) -> float:
        """Return the log-odds of the positive class; for forests, which have none, the score itself.

        Parameters
        ----------
        row : mapping
            Every input by name.

        Returns
        -------
        float
            On the scale that `link` names.

        Raises
        ------
        ContractViolationError
            As `score`.
        """
        return self._sign * self._margin(row)

    def _margin(self, row: Mapping[str, Scalar]) -> float:
        margins = None if self._quick is None else self._quick.margins([row])
        margin = self._walked_margin(row) if margins is None else float(margins[0])
        # Compared with thresholds, NaN would approve.
        if margin != margin:
            raise ContractViolationError(_NO_NUMBER)
        return margin

    def _walked_margin(self, row: Mapping[str, Scalar]) -> float:
        cells = self._rows.cells(row)
        if not self._engine.takes_missing:
            self._refuse_missing(cells)
        return self._engine.one(cells)

    def transform(self, row: Mapping[str, Scalar]) -> NDArray[np.float64]:
        """Return the model's row, shape (columns,), before the cast that some trees ask for.

        Parameters
        ----------
        row : mapping
            Every input by name.

        Returns
        -------
        ndarray of float64
            In the order of `columns`.

        Raises
        ------
        ContractViolationError
            As `score`.
        """
        return np.array(self._rows.cells(row), dtype=np.float64)

    def transform_columns(self, columns: Table) -> NDArray[np.float64]:
        """Return the model's rows, shape (rows, columns).

        Parameters
        ----------
        columns : mapping
            Every input's values by name; a DataFrame is one.

        Returns
        -------
        ndarray of float64
            As `transform` gives for each row.

        Raises
        ------
        ContractViolationError
            As `score`.
        """
        return self._rows.matrix(columns)

    def score_columns(self, columns: Table) -> NDArray[np.float64]:
        """Return the scores of many rows, shape (rows,): bit for bit what `score` gives for each.

        Parameters
        ----------
        columns : mapping
            Every input's values by name; a DataFrame is one.

        Returns
        -------
        ndarray of float64
            0..1.

        Raises
        ------
        ContractViolationError
            As `score`.
        """
        return self._scores(self._rows.matrix(columns))

    def _scores(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self._engine.takes_missing and (holed := np.isnan(matrix).any(axis=1)).any():
            self._refuse_missing(matrix[holed][0].tolist())
        return self._answers(self._engine.many(matrix))

    def _answers(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        # Compared with thresholds, NaN would approve.
        if np.isnan(margins).any():
            raise ContractViolationError(_NO_NUMBER)
        if self._engine.link == "identity":
            return margins
        return sigmoids(margins) if self._sign > 0 else 1.0 - sigmoids(margins)

    def lay_out(self) -> None:
        """Lay small trees out as tables; takes a tenth of a second for hundreds of trees."""
        if self._quick is None and isinstance(self._engine, TreeEngine):
            self._quick = QuickTrees.of(self._engine, self._rows)

    def score_rows(self, rows: Sequence[Mapping[str, Scalar]]) -> list[float]:
        """Return the scores of rows that came one by one: bit for bit what `score` gives for each.

        Parameters
        ----------
        rows : sequence of mapping
            Inputs by name.

        Returns
        -------
        list of float
            0..1, in the order of the rows.

        Raises
        ------
        ContractViolationError
            As `score`, for any of them.
        """
        margins = None if self._quick is None else self._quick.margins(rows)
        if margins is not None:
            return cast("list[float]", self._answers(margins).tolist())
        matrix = np.array([self._rows.cells(row) for row in rows], dtype=np.float64)
        return cast("list[float]", self._scores(matrix.reshape(len(rows), len(self._columns))).tolist())

    def _refuse_missing(self, cells: list[float]) -> None:
        total = sum(cells)
        if total != total:
            names = dict.fromkeys(self._columns[place].source for place, cell in enumerate(cells) if cell != cell)
            problems = [f"$.{name}: missing" for name in names]
            raise ContractViolationError(f"{self._family} takes no missing values", problems=problems)

    def to_files(self) -> dict[str, bytes]:
        """Return the plan's files by name: ``plan.json`` (format 1) and, for trees, ``trees.treelite``.

        Returns
        -------
        dict of str to bytes
            Canonical JSON and treelite's own format; no pickle.
        """
        domains: list[tuple[Level, ...]] = []
        columns = [
            {
                "source": column.source,
                "level": column.level,
                "missing": column.missing,
                "steps": [step_to_json(step, domains=domains) for step in column.steps],
            }
            for column in self._columns
        ]
        document = {
            "format": PLAN_FORMAT,
            "family": self._family,
            "tolerance": self._tolerance,
            "sign": self._sign,
            "inputs": [{"name": item.name, "type": item.type} for item in self._inputs],
            "columns": columns,
            "domains": [list(domain) for domain in domains],
            "engine": self._engine.to_json(),
        }
        files = {PLAN_FILE: canonical_json(document)}
        if isinstance(self._engine, TreeEngine):
            files[TREES_FILE] = bytes(self._engine.trees.serialize_bytes())
        return files

    def save(self, directory: Path) -> None:
        """Write the plan's files into a directory.

        Parameters
        ----------
        directory : Path
            Must exist.
        """
        for name, content in self.to_files().items():
            write_atomically(directory / name, content=content)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        directory : Path
            Where the files lie. Verify them first.

        Returns
        -------
        Plan
            Gives the same scores, bit for bit.

        Raises
        ------
        PackageError
            The files are absent or of no known format.
        """
        paths = [path for name in (PLAN_FILE, TREES_FILE) if (path := directory / name).is_file()]
        return cls.from_files({path.name: path.read_bytes() for path in paths})

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Read a plan from the bytes of its files.

        Parameters
        ----------
        files : mapping of str to bytes
            As `to_files` returns.

        Returns
        -------
        Plan
            Gives the same scores, bit for bit.

        Raises
        ------
        PackageError
            The files are absent or of no known format.
        """
        try:
            document = strict_json(files[PLAN_FILE])
            if not isinstance(document, dict) or document.get("format") != PLAN_FORMAT:
                raise ValueError(f"expected format {PLAN_FORMAT}")
            return cls._from_document(document, trees=files.get(TREES_FILE))
        except (KeyError, IndexError, TypeError, ValueError, TreeliteError) as error:
            raise PackageError(f"{PLAN_FILE}: no plan that this version reads ({error})") from error

    @classmethod
    def _from_document(cls, document: dict[str, object], *, trees: bytes | None) -> Self:
        fields: Any = document
        domains = [frozenset(levels) for levels in fields["domains"]]
        return cls(
            family=str(fields["family"]),
            tolerance=float(fields["tolerance"]),
            sign=int(fields["sign"]),
            inputs=[PlanInput(name=item["name"], type=item["type"]) for item in fields["inputs"]],
            columns=[
                PlanColumn(
                    source=column["source"],
                    level=column["level"],
                    missing=column["missing"],
                    steps=tuple(step_from_json(step, domains=domains) for step in column["steps"]),
                )
                for column in fields["columns"]
            ],
            engine=engine_from_json(fields["engine"], trees=trees, file=TREES_FILE),
        )
