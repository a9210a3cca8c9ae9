"""The values that somebody gives for a run, checked before a kernel starts."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from nbkit.errors import ParameterError
from nbkit.retrain._convert import Value, from_python, from_text
from nbkit.retrain._parameters import Parameter


def check_parameters(given: Mapping[str, object], *, declared: Sequence[Parameter]) -> dict[str, Value]:
    """Return the given values in their declared types.

    Text, as from ``-p key=value``, is read by the declared type and never guessed: ``007`` stays text where ``str`` is
    declared, ``1e3`` is no ``int``, ``yes`` is no ``bool``; ``none`` or ``null`` is ``None`` where the type says
    ``| None``. A Python value must have the declared type; an ``int`` may stand for a ``float``.

    Parameters
    ----------
    given : mapping of str to object
        Values by parameter name; those not given keep the notebook's default.
    declared : sequence of Parameter
        What ``notebook_parameters`` read.

    Returns
    -------
    dict of str to int, float, str, bool or None
        The given values only.

    Raises
    ------
    ParameterError
        A name is unknown, a value of the wrong type or out of range, or a required one missing: all problems at once.

    Examples
    --------
    >>> from nbkit.retrain._annotation import Allowed
    >>> branch = Parameter(name="branch", allowed=Allowed(kind="str"), default="001")
    >>> check_parameters({"branch": "007"}, declared=[branch])
    {'branch': '007'}
    """
    known = {parameter.name: parameter for parameter in declared}
    values: dict[str, Value] = {}
    problems = []
    for name, value in given.items():
        if name not in known:
            problems.append(_unknown(name, known=list(known)))
            continue
        try:
            allowed = known[name].allowed
            values[name] = from_text(value, allowed) if isinstance(value, str) else from_python(value, allowed)
        except ParameterError as problem:
            problems.append(f"{name}: {problem}")
    problems += [
        f"{parameter.name}: missing; expected {parameter.allowed}"
        for parameter in declared
        if parameter.required and parameter.name not in given
    ]
    if problems:
        raise ParameterError("parameters", problems=problems)
    return values


def _unknown(name: str, *, known: list[str]) -> str:
    if not known:
        return f"{name}: unknown; the notebook has no cell tagged 'parameters'"
    near = difflib.get_close_matches(name, known, n=1)
    return f"{name}: unknown; " + (f"did you mean '{near[0]}'?" if near else f"the parameters are {', '.join(known)}")
