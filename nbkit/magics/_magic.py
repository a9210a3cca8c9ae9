"""The magic itself: find the use case, call the verb, hand back its result."""

from __future__ import annotations

import argparse
import atexit
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, magics_class

from nbkit import lifecycle
from nbkit.errors import ParameterError, UsageError
from nbkit.magics._cases import run_cases
from nbkit.magics._parse import VERBS, Call, options_of, parse
from nbkit.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from IPython.core.interactiveshell import InteractiveShell

    from nbkit.lifecycle import UseCase

_HELP_LINE = re.compile(r"\A(\s*%nbkit\s+[\w-]+)\s*\?+\s*\Z")
_Verbs = dict[str, Callable[[], object]]
_STAGES = ("staging", "shadow", "canary", "production")


@magics_class
class NbkitMagics(Magics):
    """``%nbkit`` and ``%%nbkit`` for one kernel; remembers the MLflow run that the kernel works in."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._run_id = os.environ.get("NBKIT_RUN_ID", "")
        self._owns_run = False

    @line_cell_magic  # type: ignore[untyped-decorator]
    def nbkit(self, line: str, cell: str | None = None) -> object:
        """From a notebook to a governed decision: ``%nbkit --help`` lists the verbs."""
        call = parse(line)
        if call.help:
            print(call.help)  # noqa: T201  a face prints
            return None
        if (cell is not None) != (call.verb in ("case", "rationale")):
            form = "%%nbkit" if cell is None else "%nbkit"
            raise UsageError(f"{call.verb}: write it as {form} {call.verb}", next_step=f"%nbkit {call.verb} --help")
        result = self._call(call, cell or "")
        if call.variable:
            self.shell.user_ns[call.variable] = result
            return None
        return result

    def _call(self, call: Call, cell: str) -> object:
        given = call.arguments
        verbs = {**self._building(given, cell), **self._judging(given), **self._moving(given), **self._asking(given)}
        return verbs[call.verb]()

    def _building(self, given: argparse.Namespace, cell: str) -> _Verbs:
        """Lead from rows to a registered version."""
        return {
            "new": lambda: lifecycle.new(given.name, template=given.template, directory=Path.cwd()),
            "leaks": lambda: lifecycle.check_leaks(
                self._use_case(),
                self._frame(given.frame),
                others={name: self._frame(name) for name in given.others},
            ),
            "freeze": lambda: lifecycle.freeze(
                self._use_case(), self._frame(given.frame), share=given.share, seed=given.seed
            ),
            "cases": lambda: run_cases(self._use_case(), given, frame=self._frame, settings=self._settings()),
            "case": lambda: self._case(given, cell),
            "package": lambda: self._package(given),
            "rationale": lambda: self._rationale(given, cell),
            "explain": lambda: self._explain(given),
            "register": lambda: self._register(given),
            "run": lambda: self._run_notebook(given),
        }

    def _judging(self, given: argparse.Namespace) -> _Verbs:
        """Say what a version is worth, and beside what else."""
        return {
            "evaluate": lambda: self._evaluate(given),
            "compare": lambda: self._compare(given),
            "diff": lambda: self._diff(given),
            "lda": lambda: self._lda(given),
            "reproduce": lambda: lifecycle.reproduce(
                self._target(given), base=Path.cwd(), settings=self._settings(), now=_now(), key=given.key
            ),
            "rehearse": lambda: lifecycle.rehearse(
                self._target(given), base=Path.cwd(), settings=self._settings(), now=_now(), key=given.key
            ),
        }

    def _moving(self, given: argparse.Namespace) -> _Verbs:
        """Make keys, and sign with them."""
        return {
            "keys": lambda: lifecycle.make_key(
                given.name, roles=tuple(given.role), owner=given.owner, settings=self._settings(), now=_now()
            ),
            "gate": lambda: lifecycle.gate(self._target(given), to=given.to, settings=self._settings(), now=_now()),
            "review": lambda: self._review(given),
            "approve": lambda: lifecycle.approve(
                self._target(given), to=given.to, settings=self._settings(), now=_now(), key=given.key
            ),
            "waive": lambda: self._waive(given),
            "promote": lambda: lifecycle.promote(
                self._target(given), to=given.to, settings=self._settings(), now=_now(), key=given.key
            ),
            "rollback": lambda: lifecycle.rollback(
                given.name, reason=given.reason, settings=self._settings(), now=_now(), key=given.key
            ),
        }

    def _asking(self, given: argparse.Namespace) -> _Verbs:
        """Say what the contract asks, what was decided, and what is told about it."""
        return {
            "contract": lambda: (
                lifecycle.contract_duties(self._use_case().contract)
                if given.action == "duties"
                else lifecycle.check_contract(Path.cwd() / "contract.yaml")
            ),
            "notice": lambda: lifecycle.notice(
                given.id,
                settings=self._settings(),
                jurisdiction=given.jurisdiction,
                language=given.language,
                base=Path.cwd(),
            ),
            "reasons": lambda: lifecycle.check_reasons("", base=Path.cwd(), settings=self._settings()),
            "audit": lambda: self._audit(given),
        }

    def _settings(self) -> Settings:
        return Settings.from_environment(os.environ, directory=Path.cwd())

    def _use_case(self, name: str = "") -> UseCase:
        return lifecycle.open_use_case(name, base=Path.cwd())

    def _target(self, given: argparse.Namespace) -> str:
        target: str = given.target
        return target or self._use_case().contract.name

    def _variable(self, name: str) -> object:
        if name not in self.shell.user_ns:
            raise UsageError(f"no variable {name!r} in this notebook")
        return self.shell.user_ns[name]

    def _frame(self, name: str) -> pd.DataFrame:
        import pandas as pd

        value = self._variable(name)
        if not isinstance(value, pd.DataFrame):
            raise UsageError(f"{name}: expected a pandas DataFrame, got {type(value).__name__}")
        return value

    def _mapping(self, name: str | None) -> dict[str, Any]:
        value = {} if name is None else self._variable(name)
        if not isinstance(value, dict):
            raise UsageError(f"{name}: expected a dict, got {type(value).__name__}")
        return value

    def _run(self) -> str:
        if not self._run_id:
            self._run_id = lifecycle.open_run(self._use_case(), settings=self._settings(), parameters={})
            self._owns_run = True
            atexit.register(self._leave_run)
        return self._run_id

    def _leave_run(self) -> None:
        """Mark the run of a kernel that ends before it registered as failed."""
        if self._owns_run:
            lifecycle.close_run(self._run_id, settings=self._settings(), succeeded=False)
            self._owns_run = False

    def _package(self, given: argparse.Namespace) -> object:
        return lifecycle.package(
            self._use_case(),
            self._variable(given.model),
            training=self._frame(given.training),
            validation=self._frame(given.validation) if given.validation else None,
            alternatives=self._mapping(given.alternatives),
            parameters=self._mapping(given.parameters),
            seed=given.seed,
            run_id=self._run(),
            settings=self._settings(),
            now=_now(),
        )

    def _lda(self, given: argparse.Namespace) -> object:
        with _bar("lda") as progress:
            return lifecycle.seek_alternatives(
                self._use_case(),
                self._variable(given.model),
                training=self._frame(given.training),
                validation=self._frame(given.validation) if given.validation else None,
                settings=self._settings(),
                cost_share=given.cost_share,
                seed=given.seed,
                run_id=self._run(),
                progress=progress,
            )

    def _evaluate(self, given: argparse.Namespace) -> object:
        with _bar("evaluate") as progress:
            return lifecycle.evaluate(
                self._use_case(given.name),
                settings=self._settings(),
                now=_now(),
                run_id=self._run_id,
                progress=progress,
            )

    def _explain(self, given: argparse.Namespace) -> object:
        with _bar("explain") as progress:
            return lifecycle.explain(
                self._use_case(given.name),
                settings=self._settings(),
                now=_now(),
                run_id=self._run_id,
                sample=given.sample,
                pdf=not given.no_pdf,
                progress=progress,
            )

    def _rationale(self, given: argparse.Namespace, cell: str) -> object:
        return lifecycle.write_reason(
            self._use_case(),
            kind=given.kind,
            text=cell.strip(),
            run_id=self._run(),
            now=_now(),
            confirmed=given.confirmed,
        )

    def _diff(self, given: argparse.Namespace) -> object:
        return lifecycle.diff(
            given.left,
            given.right,
            settings=self._settings(),
            now=_now(),
            use_case=self._use_case() if given.re_evaluate else None,
            re_evaluate=given.re_evaluate,
        )

    def _waive(self, given: argparse.Namespace) -> object:
        return lifecycle.waive(
            self._target(given),
            gate_name=given.gate,
            to=given.to,
            reason=given.reason,
            days=given.days,
            settings=self._settings(),
            now=_now(),
            key=given.key,
        )

    def _audit(self, given: argparse.Namespace) -> object:
        settings = self._settings()
        if given.action == "verify":
            return lifecycle.audit_verify(given.subject, settings=settings)
        if given.action == "replay":
            return lifecycle.audit_replay(given.subject, settings=settings)
        since, until = (lifecycle.moment_of(getattr(given, name), option=f"--{name}") for name in ("since", "until"))
        with _bar("costs") as progress:
            return lifecycle.audit_costs(given.subject, settings=settings, since=since, until=until, progress=progress)

    def _compare(self, given: argparse.Namespace) -> object:
        return lifecycle.compare(
            self._use_case(given.name),
            settings=self._settings(),
            now=_now(),
            run_id=self._run_id,
            versions=given.version,
            vendors=lifecycle.vendors_of(given.vendor, falling=given.falling),
            objects={name: self._variable(name) for name in given.also},
            model_uris=given.mlflow,
            run_code=given.run_code,
        )

    def _register(self, given: argparse.Namespace) -> object:
        result = lifecycle.register(
            self._use_case(given.name),
            settings=self._settings(),
            now=_now(),
            run_id=self._run_id,
            key=given.key,
        )
        if self._owns_run:
            lifecycle.close_run(self._run_id, settings=self._settings(), succeeded=True)
            self._run_id, self._owns_run = "", False
        return result

    def _run_notebook(self, given: argparse.Namespace) -> object:
        pairs = [pair.partition("=") for pair in given.parameter]
        if wrong := [key for key, separator, _ in pairs if not separator]:
            raise ParameterError("-p", problems=[f"expected KEY=VALUE, got {word!r}" for word in wrong])
        with _bar("run") as progress:
            return lifecycle.run(
                self._use_case(given.name),
                settings=self._settings(),
                parameters={key: value for key, _, value in pairs},
                progress=progress,
            )

    def _review(self, given: argparse.Namespace) -> object:
        from nbkit.magics._review import review_panel

        if not given.target:
            return lifecycle.reviews(settings=self._settings())
        return review_panel(given.target, to=given.to, settings=self._settings())

    def _case(self, given: argparse.Namespace, cell: str) -> object:
        return lifecycle.write_golden_case(self._use_case(), case_id=given.id, why=given.why, body=cell)


def _now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def _bar(title: str) -> Iterator[Callable[[float, str], None]]:
    from tqdm.auto import tqdm

    with tqdm(total=100, desc=title, leave=False, bar_format="{desc} {bar} {postfix}") as bar:

        def progress(fraction: float, message: str) -> None:
            bar.n = round(100 * fraction)
            bar.set_postfix_str(message)

        yield progress


def _help_on_question_mark(lines: list[str]) -> list[str]:
    """Turn ``%nbkit gate?`` into the verb's help; IPython would look for an object named ``gate``."""
    return [
        _HELP_LINE.sub(r"\1 --help", line.rstrip("\n")) + "\n" if _HELP_LINE.match(line) else line for line in lines
    ]


def _complete(shell: InteractiveShell, event: object) -> list[str]:
    """Complete verbs, options, stages, models with their versions, and variables."""
    text = str(getattr(event, "text_until_cursor", getattr(event, "line", "")))
    words = text.split()
    if len(words) < 2 or (len(words) == 2 and not text.endswith(" ")):
        return list(VERBS)
    verb = words[1]
    if verb not in VERBS:
        return []
    last = words[-2] if not text.endswith(" ") and len(words) > 2 else words[-1]
    if last == "--to":
        return list(_STAGES)
    found = options_of(verb)
    if verb in ("gate", "approve", "promote", "rollback", "audit", "diff", "review", "waive", "reproduce", "rehearse"):
        found = lifecycle.known_targets(Settings.from_environment(os.environ, directory=Path.cwd())) + found
    elif verb in ("package", "freeze", "leaks", "lda", "cases", "compare"):
        found = [name for name in shell.user_ns if not name.startswith("_")] + found
    return found


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register ``%nbkit`` and ``%%nbkit``, their help and their completion."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    shell.register_magics(NbkitMagics(shell))
    if _help_on_question_mark not in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.append(_help_on_question_mark)
    shell.set_hook("complete_command", _complete, str_key="%nbkit")
