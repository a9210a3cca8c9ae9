"""Versions against each other, and against everything else that could decide."""

from __future__ import annotations

from pathlib import Path

import click

from nbkit import lifecycle
from nbkit.cli._shared import bar, complete_names, json_option, name_argument, now, settings, show
from nbkit.errors import UsageError


@click.command()
@name_argument
@click.option("--version", "versions", multiple=True, type=int, help="Another registered version; repeatable.")
@click.option(
    "--vendor", "vendors", multiple=True, metavar="FILE:COLUMN", help="A score in a CSV or Parquet file; repeatable."
)
@click.option("--falling", is_flag=True, help="In vendor files a lower score is the higher risk.")
@click.option("--mlflow", "model_uris", multiple=True, metavar="URI", help="An MLflow model; needs --run-code.")
@click.option("--run-code", is_flag=True, help="Load MLflow models, which runs code out of their files.")
@json_option
def compare(
    name: str,
    *,
    versions: tuple[int, ...],
    vendors: tuple[str, ...],
    falling: bool,
    model_uris: tuple[str, ...],
    run_code: bool,
    as_json: bool,
) -> None:
    """Put the latest package of NAME, rules alone, the fallback, a vendor and other models into one table."""
    use_case = lifecycle.open_use_case(name, base=Path.cwd())
    with bar("compare"):
        result = lifecycle.compare(
            use_case,
            settings=settings(),
            now=now(),
            versions=versions,
            vendors=lifecycle.vendors_of(vendors, falling=falling),
            model_uris=model_uris,
            run_code=run_code,
        )
    show(result, as_json=as_json)


@click.command()
@click.argument("left", metavar="NAME@VERSION", shell_complete=complete_names)
@click.argument("right", metavar="NAME@VERSION", shell_complete=complete_names)
@click.option("--re-evaluate", is_flag=True, help="Score both again, on the cases that the contract pins now.")
@json_option
def diff(left: str, right: str, *, re_evaluate: bool, as_json: bool) -> None:
    """Say what distinguishes two versions: figures, costs, slices, flips, data, parameters, inputs."""
    use_case = None
    if re_evaluate:
        try:
            use_case = lifecycle.open_use_case(left.partition("@")[0], base=Path.cwd())
        except UsageError:
            use_case = None
    result = lifecycle.diff(left, right, settings=settings(), now=now(), use_case=use_case, re_evaluate=re_evaluate)
    show(result, as_json=as_json)


COMMANDS = (compare, diff)
