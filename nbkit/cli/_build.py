"""From a use case to a registered version."""

from __future__ import annotations

from pathlib import Path

import click

from nbkit import lifecycle
from nbkit.cli._shared import bar, json_option, key_option, name_argument, now, settings, show
from nbkit.errors import ParameterError


@click.command()
@click.argument("name")
@click.option("--template", default="credit", show_default=True, help="What to begin from.")
@json_option
def new(name: str, *, template: str, as_json: bool) -> None:
    """Write the folder of a new use case."""
    show(lifecycle.new(name, template=template, directory=Path.cwd()), as_json=as_json)


@click.group()
def contract() -> None:
    """Check a contract, or print its JSON Schema."""


@contract.command("check")
@click.argument("file", type=click.Path(path_type=Path), default=Path("contract.yaml"))
@json_option
def contract_check(file: Path, *, as_json: bool) -> None:
    """Report everything that is wrong with a contract FILE (or the folder that holds it)."""
    path = file / "contract.yaml" if file.is_dir() else file
    show(lifecycle.check_contract(path), as_json=as_json)


@contract.command("schema")
def contract_schema() -> None:
    """Print the JSON Schema of contract.yaml, for editors."""
    import json

    from nbkit.contract import contract_schema as schema

    click.echo(json.dumps(schema(), indent=2))


@click.command()
@name_argument
@click.option("-p", "--parameter", "pairs", multiple=True, metavar="KEY=VALUE", help="A notebook parameter.")
@json_option
def run(name: str, *, pairs: tuple[str, ...], as_json: bool) -> None:
    """Run the notebook of NAME as one MLflow run.

    Parameters are checked against the notebook's annotations before a kernel starts.
    """
    parameters = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise ParameterError(f"-p: expected KEY=VALUE, got {pair!r}")
        if key in parameters:
            raise ParameterError(f"-p: {key} is given twice")
        parameters[key] = value
    use_case = lifecycle.open_use_case(name, base=Path.cwd())
    with bar(f"run {use_case.contract.name}") as progress:
        result = lifecycle.run(use_case, settings=settings(), parameters=parameters, progress=progress)
    show(result, as_json=as_json)


@click.command()
@name_argument
@click.option("--from", "source", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--share", default=0.3, show_default=True, help="Share of the rows, 0..1.")
@click.option("--seed", default=0, show_default=True)
def freeze(name: str, *, source: Path, share: float, seed: int) -> None:
    """Freeze a share of a CSV or Parquet file as the cases that judge every version."""
    import pandas as pd

    use_case = lifecycle.open_use_case(name, base=Path.cwd())
    frame = pd.read_parquet(source) if source.suffix == ".parquet" else pd.read_csv(source)
    cases = lifecycle.freeze(use_case, frame, share=share, seed=seed)
    click.echo(f"{use_case.contract.name}: {len(cases.ids)} cases frozen as {cases.reference}")


@click.command()
@name_argument
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Also write JUnit XML here, for CI.")
@json_option
def evaluate(name: str, *, junit: Path | None, as_json: bool) -> None:
    """Judge the latest package of NAME on the frozen cases and against the champion."""
    use_case = lifecycle.open_use_case(name, base=Path.cwd())
    with bar("evaluate") as progress:
        result = lifecycle.evaluate(use_case, settings=settings(), now=now(), junit=junit, progress=progress)
    show(result, as_json=as_json)


@click.command()
@name_argument
@click.option("--sample", default=500, show_default=True, help="Rows to explain and check.")
@click.option("--pdf/--no-pdf", default=True, show_default=True, help="Print it too, where the machine has a Chromium.")
@json_option
def explain(name: str, *, sample: int, pdf: bool, as_json: bool) -> None:
    """Write the rationale document of the latest package of NAME."""
    use_case = lifecycle.open_use_case(name, base=Path.cwd())
    with bar("explain") as progress:
        result = lifecycle.explain(use_case, settings=settings(), now=now(), sample=sample, pdf=pdf, progress=progress)
    show(result, as_json=as_json)


@click.command()
@name_argument
@key_option
@json_option
def register(name: str, *, key: str, as_json: bool) -> None:
    """Register the latest package of NAME as a new version and sign the submission."""
    use_case = lifecycle.open_use_case(name, base=Path.cwd())
    show(lifecycle.register(use_case, settings=settings(), now=now(), key=key), as_json=as_json)


COMMANDS = (new, contract, run, freeze, evaluate, explain, register)
