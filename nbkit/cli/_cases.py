"""Case sets: what judges every version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nbkit import lifecycle
from nbkit.cli._shared import json_option, name_argument, settings, show
from nbkit.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def cases() -> None:
    """Freeze, add, show and compare the cases that judge every version.

    A case set holds labelled rows, golden cases, incidents and behaviours under one digest, which the contract names.
    Whatever changes a set gives a new digest, and results on different digests are not compared.
    """


@cases.command("freeze")
@name_argument
@click.option("--from", "source", type=_FILE, help="CSV or Parquet file of labelled rows; needed the first time.")
@click.option("--set", "set_name", default="holdout", show_default=True, help="Name of the case set.")
@click.option("--share", default=0.3, show_default=True, help="Share of the rows, 0..1.")
@click.option("--seed", default=0, show_default=True)
@click.option("--replace", is_flag=True, help="Take over golden cases and behaviours that were edited or removed.")
@click.option("--why", default="", help="Why what was frozen is changed; kept in the set.")
@json_option
def cases_freeze(
    name: str,
    *,
    source: Path | None,
    set_name: str,
    share: float,
    seed: int,
    replace: bool,
    why: str,
    as_json: bool,
) -> None:
    """Freeze rows, golden cases and behaviours under one digest."""
    use_case = lifecycle.open_use_case(name, base=Path.cwd())
    frame = read_frame(source) if source else None
    result = lifecycle.freeze_case_set(use_case, frame, name=set_name, share=share, seed=seed, replace=replace, why=why)
    show(result, as_json=as_json)


@cases.command("add")
@name_argument
@click.option("--from", "source", type=_FILE, help="CSV or Parquet file of labelled rows that the set does not hold.")
@click.option("--why", default="", help="Kept in the set.")
@json_option
def cases_add(name: str, *, source: Path | None, why: str, as_json: bool) -> None:
    """Add rows, and every golden case, incident and behaviour that is not frozen yet."""
    use_case = lifecycle.open_use_case(name, base=Path.cwd())
    show(lifecycle.add_cases(use_case, read_frame(source) if source else None, why=why), as_json=as_json)


@cases.command("show")
@name_argument
@click.option("--set", "reference", default="", help="Another set: its file, or the beginning of its digest.")
@json_option
def cases_show(name: str, *, reference: str, as_json: bool) -> None:
    """Show what the pinned case set holds, and what is not frozen yet."""
    use_case = lifecycle.open_use_case(name, base=Path.cwd())
    show(lifecycle.show_case_set(use_case, reference=reference), as_json=as_json)


@cases.command("diff")
@click.argument("left", metavar="SET")
@click.argument("right", metavar="[SET]", default="")
@click.option("--name", default="", help="Use case (default: this folder).")
@json_option
def cases_diff(left: str, right: str, *, name: str, as_json: bool) -> None:
    """Compare two case sets, each named by its file or the beginning of its digest; the second is the pinned one."""
    use_case = lifecycle.open_use_case(name, base=Path.cwd())
    show(lifecycle.diff_case_sets(use_case, left, right), as_json=as_json)


@cases.command("incident")
@click.argument("record_id", metavar="RECORD_ID")
@click.option(
    "--expect",
    "pairs",
    multiple=True,
    required=True,
    metavar="KEY=VALUE",
    help="As in a golden case, such as decision=refer; repeatable.",
)
@click.option("--why", required=True, help="What went wrong.")
@click.option("--id", "case_id", default="", help="Name of the case.")
@click.option(
    "--set",
    "replaced",
    multiple=True,
    metavar="INPUT=VALUE",
    help="Another value for an input; needed for personal data.",
)
@click.option("--name", default="", help="Use case (default: this folder).")
@json_option
def cases_incident(
    record_id: str,
    *,
    pairs: tuple[str, ...],
    why: str,
    case_id: str,
    replaced: tuple[str, ...],
    name: str,
    as_json: bool,
) -> None:
    """Turn a recorded decision that went wrong into a case."""
    result = lifecycle.make_incident(
        lifecycle.open_use_case(name, base=Path.cwd()),
        record_id,
        expect=lifecycle.expectation_of(pairs),
        why=why,
        settings=settings(),
        case_id=case_id,
        replacements=lifecycle.replacements_of(replaced),
    )
    show(result, as_json=as_json)


def read_frame(source: Path) -> pd.DataFrame:
    """Read a table of rows.

    Raises
    ------
    UsageError
        Neither CSV nor Parquet.
    """
    import pandas as pd

    try:
        return pd.read_parquet(source) if source.suffix == ".parquet" else pd.read_csv(source)
    except (ValueError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"{source}: cannot be read as {source.suffix.removeprefix('.') or 'csv'}: {first}") from error


COMMANDS = (cases,)
