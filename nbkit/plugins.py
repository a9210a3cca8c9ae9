"""Find what other packages add by entry point: metrics, checks and gates. Loaded when it is named, never before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from nbkit.errors import UsageError

__all__ = ["GROUPS", "Plugin", "find_plugins", "load_plugin"]

GROUPS = ("nbkit.metrics", "nbkit.checks", "nbkit.gates")
"""The groups that nbkit reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """What an installed package adds under one name.

    Parameters
    ----------
    name : str
        As the contract names it.
    thing : object
        What the entry point leads to.
    source : str
        Distribution and version, such as ``nbkit-lending 0.1.0``.
    """

    name: str
    thing: object
    source: str


def find_plugins(group: str) -> Mapping[str, str]:
    """Return what is installed in a group, without loading any of it.

    Parameters
    ----------
    group : str
        One of `GROUPS`.

    Returns
    -------
    mapping of str to str
        Name to distribution and version.
    """
    return {entry.name: _source(entry) for entry in entry_points(group=group)}


def load_plugin(group: str, name: str) -> Plugin | None:
    """Load what is called so in a group.

    Parameters
    ----------
    group : str
        One of `GROUPS`.
    name : str
        As the contract names it.

    Returns
    -------
    Plugin or None
        None when nothing of that name is installed.

    Raises
    ------
    UsageError
        Two packages claim the name, or the package cannot be imported.
    """
    found = list(entry_points(group=group, name=name))
    if not found:
        return None
    sources = sorted({_source(entry) for entry in found})
    if len({entry.value for entry in found}) > 1:
        raise UsageError(f"{group}: {name!r} is claimed by {' and '.join(sources)}", next_step="uninstall one of them")
    try:
        return Plugin(name=name, thing=found[0].load(), source=sources[0])
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{group}: {name!r} of {sources[0]} cannot be loaded: {error}") from error


def _source(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"
