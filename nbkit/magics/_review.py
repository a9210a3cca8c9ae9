"""The panel of ``%nbkit review``: read, then approve or refuse with one's own key."""

from __future__ import annotations

import html
from collections.abc import Callable
from datetime import UTC, datetime

import ipywidgets as widgets

from nbkit import lifecycle
from nbkit.errors import NbkitError
from nbkit.settings import Settings

__all__ = ["review_panel"]


def review_panel(target: str, *, to: str, settings: Settings, clock: Callable[[], datetime] | None = None) -> object:
    """Return the panel of one version.

    Parameters
    ----------
    target : str
        ``NAME@VERSION``, or ``NAME`` for the candidate.
    to : str
        The stage; empty for the next one on the contract's path.
    settings : Settings
        Where MLflow, keys and trust file are; its identity is the key that is offered.
    clock : callable, optional
        Says when something is signed.

    Returns
    -------
    ipywidgets.VBox
        The review as HTML, a reason, a key and two buttons; what was signed appears below them.
    """
    now = clock or (lambda: datetime.now(UTC))
    shown = lifecycle.review(target, to=to, settings=settings, now=now())
    name = f"{shown.name}@{shown.version}"
    document = widgets.HTML(shown.view().html())
    reason = widgets.Textarea(placeholder="Why (needed to refuse)", layout=widgets.Layout(width="40em", height="4em"))
    key = widgets.Text(value=settings.identity, description="Your key", placeholder="name of your key")
    outcome = widgets.HTML()
    approve = widgets.Button(description="Approve", button_style="success", disabled=not shown.table.succeeded)
    refuse = widgets.Button(description="Refuse", button_style="danger")
    approve.tooltip = f"Sign that {name} may move to {shown.stage}"
    refuse.tooltip = f"Sign that {name} must not move to {shown.stage}"

    def answer(how: str) -> Callable[[object], None]:
        def clicked(_button: object) -> None:
            try:
                result = lifecycle.answer_review(
                    name, answer=how, to=shown.stage, reason=reason.value, settings=settings, now=now(), key=key.value
                )
                document.value = lifecycle.review(name, to=shown.stage, settings=settings, now=now()).view().html()
            except NbkitError as error:
                outcome.value = f"<p role='alert'><b>{type(error).__name__}</b>: {html.escape(str(error))}</p>"
                return
            outcome.value = result.view().html()
            approve.disabled = refuse.disabled = True

        return clicked

    approve.on_click(answer("approve"))
    refuse.on_click(answer("refuse"))
    return widgets.VBox([document, reason, key, widgets.HBox([approve, refuse]), outcome])
