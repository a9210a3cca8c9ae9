"""What waits for a reviewer, and the reviewer's signed yes or no."""

from __future__ import annotations

import click

from nbkit import lifecycle
from nbkit.cli._shared import complete_names, json_option, key_option, now, settings, show
from nbkit.errors import UsageError


@click.command()
@click.argument("target", metavar="[NAME[@VERSION]]", default="", shell_complete=complete_names)
@click.option("--to", default="", help="The stage (default: the next one on the contract's path).")
@click.option("--approve", "answer", flag_value="approve", help="Sign that it may move.")
@click.option("--refuse", "answer", flag_value="refuse", help="Sign that it must not; needs --reason.")
@click.option("--withdraw", "answer", flag_value="withdraw", help="Take your own refusal back.")
@click.option("--reason", default="", help="Why; kept with the refusal or the withdrawal.")
@key_option
@json_option
def review(target: str, *, to: str, answer: str | None, reason: str, key: str, as_json: bool) -> None:
    """Show what waits for review, or one version: what changed, what to read; then approve or refuse it."""
    where, moment = settings(), now()
    if not target:
        if answer:
            raise UsageError(f"review: --{answer} what?", next_step=f"nbkit review NAME@VERSION --{answer}")
        show(lifecycle.reviews(settings=where), as_json=as_json)
        return
    if answer is None:
        show(lifecycle.review(target, to=to, settings=where, now=moment), as_json=as_json)
        return
    result = lifecycle.answer_review(target, answer=answer, to=to, reason=reason, settings=where, now=moment, key=key)
    show(result, as_json=as_json)


COMMANDS = (review,)
