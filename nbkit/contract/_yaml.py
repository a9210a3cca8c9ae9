"""Read YAML into plain values: strictly, and remembering the line of every key."""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from nbkit.errors import ContractError

# A contract is a few pages; anything larger is another file by mistake.
_MOST_CHARACTERS = 1_000_000

_LIKE_A_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core types only: ``NO`` is Norway, ``1e6`` is a number, ``2026-01-01`` is text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # A few nested aliases expand to billions of nodes; a contract needs none.
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are not allowed", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


for _tag, _pattern, _first in (
    ("null", r"(~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"[-+]?[0-9]+\Z", list("-+0123456789")),
    (
        "float",
        r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def path_text(path: tuple[str | int, ...]) -> str:
    """Return a place as text, such as ``$.inputs[2].minimum``."""
    steps = []
    for step in path:
        if isinstance(step, int):
            steps.append(f"[{step}]")
        else:
            steps.append(f".{step}" if _LIKE_A_NAME.match(step) else f"[{step[:60]!r}]")
    return "$" + "".join(steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One YAML document as plain values."""

    root: yaml.MappingNode
    value: dict[str, object]
    lines: dict[tuple[str | int, ...], int]
    problems: tuple[str, ...]


def read_document(text: str, *, source: str) -> Document:
    """Read the one mapping in ``text``.

    Raises
    ------
    ContractError
        The text is not YAML, not one document, or not a mapping.
    """
    if len(text) > _MOST_CHARACTERS:
        raise ContractError(f"{source}: expected at most {_MOST_CHARACTERS} characters, got {len(text)}")
    try:
        root = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise ContractError(f"{source}: {_syntax_text(error)}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ContractError(f"{source}: line {line}: a control character that YAML does not allow") from error
    except RecursionError:
        raise ContractError(f"{source}: nested too deeply") from None
    if not isinstance(root, yaml.MappingNode):
        got = {yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value"}.get(type(root), "an empty file")
        raise ContractError(f"{source}: expected a mapping of keys to values, got {got}")
    reader = _Reader()
    value = reader.mapping(root, ())
    return Document(root=root, value=value, lines=reader.lines, problems=tuple(reader.problems))


def _syntax_text(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{place}{error.problem or error.context}"


class _Reader:
    """Turn nodes into values, keeping lines and problems on the way."""

    def __init__(self) -> None:
        self.lines: dict[tuple[str | int, ...], int] = {(): 1}
        self.problems: list[str] = []

    def mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                self.problems.append(f"{path_text(path)}: expected keys that are text (line {line})")
                continue
            key = self._text(key_node, path)
            if key in values:
                first = self.lines[(*path, key)]
                self.problems.append(f"{path_text((*path, key))}: appears twice, in lines {first} and {line}")
                continue
            self.lines[(*path, key)] = line
            values[key] = self._value(value_node, (*path, key))
        return values

    def _value(self, node: yaml.Node, path: tuple[str | int, ...]) -> object:
        self.lines.setdefault(path, node.start_mark.line + 1)
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and kind in {"str", "int", "float", "bool", "null"}:
            return self._scalar(node, kind, path)
        self.problems.append(f"{path_text(path)}: tags such as {node.tag!r} are not allowed (line {self.lines[path]})")
        return None

    def _scalar(self, node: yaml.ScalarNode, kind: str, path: tuple[str | int, ...]) -> object:
        if kind == "str":
            return self._text(node, path)
        if kind == "null":
            return None
        if kind == "bool":
            return node.value.lower() == "true"
        try:
            # YAML writes .inf and .nan with a dot that Python does not know.
            return int(node.value) if kind == "int" else float(re.sub(r"\.(?=[iInN])", "", node.value))
        except ValueError:
            self.problems.append(f"{path_text(path)}: not a number that can be read (line {self.lines[path]})")
            return None

    def _text(self, node: yaml.ScalarNode, path: tuple[str | int, ...]) -> str:
        text = str(node.value)
        if text.isprintable() or text.encode("utf-8", "ignore").decode() == text:
            return text
        self.problems.append(f"{path_text(path)}: half a surrogate pair is not text (line {node.start_mark.line + 1})")
        return ""
