"""Fairness on the command line: the search for less discriminatory alternatives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nbkit import lifecycle
from nbkit.cli._shared import bar, json_option, name_argument, settings, show

if TYPE_CHECKING:
    import pandas as pd

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@name_argument
@click.option("--training", required=True, type=_FILE, help="CSV or Parquet of labelled rows, none a frozen case.")
@click.option("--validation", type=_FILE, help="More such rows.")
@click.option("--cost-share", type=float, help="How much dearer an alternative may be, 0..1 (default: the contract's).")
@click.option("--seed", default=0, show_default=True)
@json_option
def lda(
    name: str, *, training: Path, validation: Path | None, cost_share: float | None, seed: int, as_json: bool
) -> None:
    """Search alternatives to the latest package of NAME that discriminate less, and write every candidate down."""
    use_case = lifecycle.open_use_case(name, base=Path.cwd())
    with bar("lda") as progress:
        result = lifecycle.seek_alternatives(
            use_case,
            training=_table(training),
            validation=_table(validation) if validation else None,
            settings=settings(),
            cost_share=cost_share,
            seed=seed,
            progress=progress,
        )
    show(result, as_json=as_json)


def _table(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


COMMANDS = (lda,)
