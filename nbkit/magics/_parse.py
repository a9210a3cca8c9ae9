"""Parse ``%nbkit`` lines: one small parser a verb, with help and completion."""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
from collections.abc import Callable
from typing import NoReturn

from nbkit.errors import UsageError

_ASSIGNMENT = re.compile(r"\s*>>\s*(?P<name>[A-Za-z_]\w*)\s*\Z")
_CELL_VERBS = ("case", "rationale")


class _HelpWantedError(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class _HelpAction(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        raise _HelpWantedError(parser.format_help())


class _Parser(argparse.ArgumentParser):
    """Reports a wrong call as `UsageError` and help as text; never exits the kernel."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, add_help=False, allow_abbrev=False)
        self.add_argument("-h", "--help", nargs=0, action=_HelpAction, help="show this help")

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}", next_step=f"{self.prog} --help")


def _target(parser: _Parser) -> None:
    parser.add_argument("target", nargs="?", default="", help="NAME[@VERSION]; default: this folder's candidate")
    parser.add_argument("--to", required=True, help="stage: staging, shadow, canary, production")


def _key(parser: _Parser) -> None:
    parser.add_argument("--key", default="", help="name of the key that signs (default: NBKIT_IDENTITY)")


def _signed_move(parser: _Parser) -> None:
    _target(parser)
    _key(parser)


def _name(parser: _Parser) -> None:
    parser.add_argument("name", nargs="?", default="", help="use case; default: this folder")


def _register(parser: _Parser) -> None:
    _name(parser)
    _key(parser)


def _new(parser: _Parser) -> None:
    parser.add_argument("name", help="lower-case name")
    parser.add_argument("--template", default="credit", help="what to begin from")


def _contract(parser: _Parser) -> None:
    parser.add_argument("action", nargs="?", choices=["check", "duties"], default="check")


def _leaks(parser: _Parser) -> None:
    parser.add_argument("frame", help="variable: DataFrame of labelled rows that a model is fitted on")
    parser.add_argument("others", nargs="*", help="variables: DataFrames that must share no row with it")


def _freeze(parser: _Parser) -> None:
    parser.add_argument("frame", help="variable: DataFrame of labelled rows")
    parser.add_argument("--share", type=float, default=0.3, help="share of the rows, 0..1")
    parser.add_argument("--seed", type=int, default=0)


def _package(parser: _Parser) -> None:
    parser.add_argument("model", help="variable: the fitted estimator or Pipeline")
    parser.add_argument("--training", required=True, help="variable: DataFrame that it was fitted on")
    parser.add_argument("--validation", help="variable: DataFrame that thresholds are chosen on")
    parser.add_argument("--alternatives", help="variable: dict of name -> figures of other models tried")
    parser.add_argument("--parameters", help="variable: dict of training parameters")
    parser.add_argument("--seed", type=int, default=0)


def _explain(parser: _Parser) -> None:
    _name(parser)
    parser.add_argument("--sample", type=int, default=500, help="rows to explain and check")
    parser.add_argument("--no-pdf", action="store_true", help="do not print the document, even where a Chromium is")


def _run(parser: _Parser) -> None:
    _name(parser)
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="KEY=VALUE")


def _rollback(parser: _Parser) -> None:
    parser.add_argument("name", help="model")
    parser.add_argument("--reason", required=True, help="why; kept in the evidence")
    _key(parser)


def _keys(parser: _Parser) -> None:
    parser.add_argument("action", choices=["new"])
    parser.add_argument("name", help="name of the key")
    parser.add_argument("--role", action="append", required=True, help="submitter, approver, operator; repeatable")
    parser.add_argument("--owner", default="", help="the person who holds it (default: name)")


def _waive(parser: _Parser) -> None:
    _signed_move(parser)
    parser.add_argument("--gate", required=True, help="as the table of gates calls it")
    parser.add_argument("--reason", required=True, help="why; kept in the evidence")
    parser.add_argument("--days", type=int, default=30, help="how long; the evidence expires with it")


def _certificate(parser: _Parser) -> None:
    parser.add_argument("target", nargs="?", default="", help="NAME[@VERSION]; default: this folder's candidate")
    _key(parser)


def _audit(parser: _Parser) -> None:
    parser.add_argument("action", choices=["verify", "replay", "costs"])
    parser.add_argument("subject", help="model to verify or to add up, or id of the decision to replay")
    parser.add_argument("--since", default="", help="costs: received from then on: 2026-11-01, or a time with its zone")
    parser.add_argument("--until", default="", help="costs: received before then")


def _lda(parser: _Parser) -> None:
    parser.add_argument("model", help="variable: the fitted estimator or Pipeline")
    parser.add_argument("--training", required=True, help="variable: DataFrame of labelled rows, none a frozen case")
    parser.add_argument("--validation", help="variable: DataFrame of more such rows")
    parser.add_argument("--cost-share", type=float, help="how much dearer an alternative may be, 0..1")
    parser.add_argument("--seed", type=int, default=0)


def _notice(parser: _Parser) -> None:
    parser.add_argument("id", help="id of the decision")
    parser.add_argument("--jurisdiction", default="", help="such as US; default: the contract's first")
    parser.add_argument("--language", default="", help="such as es; default: the contract's first")


def _reasons(parser: _Parser) -> None:
    parser.add_argument("action", nargs="?", choices=["check"], default="check")


def _case(parser: _Parser) -> None:
    parser.add_argument("id", help="name of the golden case")
    parser.add_argument("--why", required=True, help="why this case must not change")


def _cases(parser: _Parser) -> None:
    parser.add_argument("action", choices=["freeze", "add", "show", "diff", "incident"])
    parser.add_argument("subjects", nargs="*", help="diff: one or two sets; incident: id of the record; show: a set")
    parser.add_argument("--from", dest="source", help="variable: DataFrame of labelled rows (freeze, add)")
    parser.add_argument("--share", type=float, default=0.3, help="share of the rows, 0..1 (freeze)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replace", action="store_true", help="take over edited golden cases and behaviours (freeze)")
    parser.add_argument("--why", default="", help="why what was frozen is changed; what went wrong (incident)")
    parser.add_argument("--expect", action="append", default=[], metavar="KEY=VALUE", help="incident: what is right")
    parser.add_argument("--id", default="", help="incident: name of the case")
    parser.add_argument("--set", action="append", default=[], metavar="INPUT=VALUE", help="incident: other value")


def _compare(parser: _Parser) -> None:
    _name(parser)
    parser.add_argument("--also", action="append", default=[], help="variable: scores by id, estimator, function")
    parser.add_argument("--version", type=int, action="append", default=[], help="another registered version")
    parser.add_argument("--vendor", action="append", default=[], metavar="FILE:COLUMN", help="a score in a file")
    parser.add_argument("--falling", action="store_true", help="in vendor files a lower score is the higher risk")
    parser.add_argument("--mlflow", action="append", default=[], metavar="URI", help="an MLflow model")
    parser.add_argument("--run-code", action="store_true", help="load MLflow models, which runs code in their files")


def _diff(parser: _Parser) -> None:
    parser.add_argument("left", help="NAME@VERSION")
    parser.add_argument("right", help="NAME@VERSION")
    parser.add_argument("--re-evaluate", action="store_true", help="score both again, on the cases pinned now")


def _rationale(parser: _Parser) -> None:
    parser.add_argument("kind", help="architecture, data, feature, threshold, exclusion or limit")
    parser.add_argument(
        "--confirmed", default="", help="day on which a person read an old text again, such as 2027-01-31"
    )


def _review(parser: _Parser) -> None:
    parser.add_argument("target", nargs="?", default="", help="NAME[@VERSION]; default: list what waits")
    parser.add_argument("--to", default="", help="stage (default: the next one on the contract's path)")


VERBS: dict[str, tuple[Callable[[_Parser], None], str]] = {
    "new": (_new, "Write the folder of a new use case."),
    "contract": (_contract, "Check this folder's contract, or show the duties of its jurisdictions."),
    "leaks": (_leaks, "Stop when an input gives the target away."),
    "freeze": (_freeze, "Freeze a share of the rows as the cases that judge every version."),
    "package": (_package, "Write the model package of a fitted model."),
    "evaluate": (_name, "Judge the package on the frozen cases and against the champion."),
    "explain": (_explain, "Write the rationale document."),
    "register": (_register, "Register the package as a new version and sign the submission."),
    "gate": (_target, "Show every gate before a stage and what to do about each."),
    "approve": (_signed_move, "Sign a move as its approver."),
    "review": (_review, "Read a version as its reviewer, then approve or refuse it."),
    "promote": (_signed_move, "Move a version to a stage that its evidence allows."),
    "rollback": (_rollback, "Return production to the last version whose evidence holds."),
    "waive": (_waive, "Sign that one gate's result may stand, for a while."),
    "reproduce": (_certificate, "Train a version again from its record and sign the comparison."),
    "rehearse": (_certificate, "Rehearse as the deputy: train again, and a dry run of the rollback."),
    "run": (_run, "Run the use case's notebook as one MLflow run."),
    "keys": (_keys, "Make a signing key and trust it on this machine."),
    "lda": (_lda, "Search alternatives that discriminate less, and write every candidate down."),
    "notice": (_notice, "Render the notice of adverse action of a declined decision."),
    "reasons": (_reasons, "Check reasons.yaml, and recorded reasons against recomputed ones."),
    "audit": (_audit, "Verify the ledger, or replay a decision."),
    "case": (_case, "Write a golden case from YAML (%%nbkit case): inputs and expect."),
    "compare": (_compare, "Put this version and all else that could decide into one table."),
    "diff": (_diff, "Say what distinguishes two versions."),
    "cases": (_cases, "Freeze, add, show or compare the cases that judge every version."),
    "rationale": (_rationale, "Record a person's reason (%%nbkit rationale)."),
}


def parser_of(verb: str) -> _Parser:
    """Return the parser of a verb.

    Raises
    ------
    UsageError
        Unknown verb; the nearest known one is named.
    """
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"%nbkit: unknown verb {verb!r}{hint}", next_step="%nbkit --help")
    build, description = VERBS[verb]
    parser = _Parser(f"{'%%' if verb in _CELL_VERBS else '%'}nbkit {verb}", description)
    build(parser)
    return parser


def overview() -> str:
    """Return the help of ``%nbkit`` itself."""
    lines = ["%nbkit VERB ... [>> variable]    (%nbkit VERB --help, or %nbkit VERB?)", ""]
    return "\n".join(lines + [f"  {verb:<10} {description}" for verb, (_, description) in VERBS.items()])


class Call:
    """A parsed line: a verb with its arguments and the variable that takes the result; or help."""

    __slots__ = ("arguments", "help", "variable", "verb")

    def __init__(self, *, verb: str, arguments: argparse.Namespace, variable: str, help_text: str = "") -> None:
        self.verb = verb
        self.arguments = arguments
        self.variable = variable
        self.help = help_text


def parse(line: str) -> Call:
    """Parse one ``%nbkit`` line.

    Raises
    ------
    UsageError
        Unknown verb or wrong arguments.

    Examples
    --------
    >>> call = parse("freeze applications --share 0.25 >> cases")
    >>> call.verb, call.arguments.share, call.variable
    ('freeze', 0.25, 'cases')
    """
    variable = ""
    if match := _ASSIGNMENT.search(line):
        variable, line = match["name"], line[: match.start()]
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"%nbkit {line.strip()}: {error}", next_step="%nbkit --help") from error
    if not words or words[0] in ("-h", "--help", "help"):
        return Call(verb="", arguments=argparse.Namespace(), variable="", help_text=overview())
    parser = parser_of(words[0])
    try:
        return Call(verb=words[0], arguments=parser.parse_args(words[1:]), variable=variable)
    except _HelpWantedError as help_wanted:
        return Call(verb=words[0], arguments=argparse.Namespace(), variable="", help_text=help_wanted.text)


def options_of(verb: str) -> list[str]:
    """Return the options of a verb, for completion."""
    return sorted(option for action in parser_of(verb)._actions for option in action.option_strings if len(option) > 2)
