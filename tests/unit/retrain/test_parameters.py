"""What a notebook declares: read by syntax, with every problem named at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbkit.errors import ParameterError, UsageError
from nbkit.retrain import Parameter, notebook_parameters


def declared(write_notebook, source: str) -> dict[str, Parameter]:
    path = write_notebook("#md # Title", (source, "parameters"), "x = 1")
    return {parameter.name: parameter for parameter in notebook_parameters(path)}


def problem(write_notebook, source: str) -> str:
    with pytest.raises(ParameterError) as caught:
        declared(write_notebook, source)
    return str(caught.value)


def test_every_supported_annotation_is_read_with_its_default_and_comment(write_notebook):
    parameters = declared(
        write_notebook,
        '"""The knobs."""\n'
        "import typing as t\n"
        "from typing import Annotated, Literal, Optional\n"
        'max_iter: Annotated[int, "10..2000"] = 300  # trees at most\n'
        'rate: Annotated[float, "0.001.."] = 1\n'
        'share: Annotated[float | None, "..1.0"] = None\n'
        "seed: int | None = None\n"
        "branch: Optional[str] = '007'\n"
        "note: t.Optional[str] = None\n"
        "verbose: bool = False\n"
        'strategy: Literal["mean", "median"] = "median"\n'
        "depth: Literal[3, 5, None] = 5\n"
        'quoted: "int" = -1\n'
        "needed: None | float\n",
    )
    texts = {name: (str(parameter.allowed), parameter.default) for name, parameter in parameters.items()}
    assert texts == {
        "max_iter": ("int in 10..2000", 300),
        "rate": ("float in 0.001..", 1.0),
        "share": ("float in ..1.0 or none", None),
        "seed": ("int or none", None),
        "branch": ("str or none", "007"),
        "note": ("str or none", None),
        "verbose": ("bool", False),
        "strategy": ("'mean' or 'median'", "median"),
        "depth": ("3 or 5 or none", 5),
        "quoted": ("int", -1),
        "needed": ("float or none", None),
    }
    assert parameters["max_iter"].description == "trees at most"
    assert isinstance(parameters["rate"].default, float)
    assert [name for name, parameter in parameters.items() if parameter.required] == ["needed"]


def test_a_notebook_without_the_tag_has_no_parameters(write_notebook):
    assert notebook_parameters(write_notebook("max_iter: int = 3")) == ()


def test_all_problems_of_the_cell_are_reported_at_once(write_notebook):
    assert problem(
        write_notebook,
        "columns: list[str] = []\n"
        "options: dict = {}\n"
        "alpha = 0.1\n"
        "name = run()\n"
        "when: datetime = 1\n"
        "a, b = 1, 2\n"
        "size: int = 2 * 5\n"
        "size: int = 5\n"
        "size: int = 6\n",
    ) == (
        "train.ipynb, parameters cell: 8 problems: "
        "line 1: columns: list is not a parameter's type: a parameter is one value on a command line; expected int, "
        'float, str, bool, X | None, Literal["a", "b"] or Annotated[int, "1..10"]; '
        "line 2: options: dict is not a parameter's type: a parameter is one value on a command line; expected int, "
        'float, str, bool, X | None, Literal["a", "b"] or Annotated[int, "1..10"]; '
        "line 3: alpha has no type; write alpha: float = 0.1; "
        "line 4: name has no type; write name: float = run(); "
        'line 5: when: expected int, float, str, bool, X | None, Literal["a", "b"] or Annotated[int, "1..10"], '
        "got datetime; "
        "line 6: expected a typed assignment such as max_iter: int = 300, got a, b = (1, 2); "
        "line 7: size: expected a literal, got 2 * 5; "
        "line 9: size is declared twice"
    )


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('n: Annotated[int, "10..2000"] = 5', "the default of n: expected int in 10..2000, got 5"),
        ("n: int = True", "the default of n: expected int, got True"),
        ('n: int = "300"', "the default of n: expected int, got '300'"),
        ("x: float = None", "the default of x: expected float, got None"),
        ("x: float = 1e999", "the default of x: expected float, got inf"),
        (f"x: float = {10**400}", "the default of x: expected float, got 1000"),
        ("b: bool = 1", "the default of b: expected bool, got 1"),
        ("s: str = 7", "the default of s: expected str, got 7"),
        ('s: Literal["a", "b"] = "c"', "the default of s: expected 'a' or 'b', got 'c'"),
        ("s: int = [1]", "the default of s: expected int, got [1]"),
    ],
)
def test_a_default_must_fit_its_own_annotation(write_notebook, line, text):
    assert text in problem(write_notebook, line)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ('Annotated[int, "a..b"]', """expected a range such as "1..10", "0.0.." or "..1.0", got 'a..b'"""),
        ('Annotated[int, ".."]', """expected a range such as "1..10", "0.0.." or "..1.0", got '..'"""),
        ("Annotated[int, 5]", 'expected a range such as "1..10", "0.0.." or "..1.0", got 5'),
        ('Annotated[int, "0.5..2"]', "the limits of an int are whole numbers, got 0.5"),
        ('Annotated[float, "..1e999"]', "a limit is a finite number, got 1e999"),
        ('Annotated[int, "9..1"]', "the range '9..1' is empty"),
        ('Annotated[str, "1..2"]', "a range limits int or float, got str"),
        ('Annotated[Literal[1, 2], "1..2"]', "a range limits int or float, got Literal[1, 2]"),
        ('Annotated[int, "1..2", "3"]', "expected int, float, str, bool, X | None"),
        ("int | str", "a union is one type | None, got int | str"),
        ("None | None", "a union is one type | None, got None | None"),
        ('Literal["a", 1]', "the choices of a Literal are all text or all whole numbers"),
        ("Literal[True]", "the choices of a Literal are all text or all whole numbers"),
        ("Literal[-1]", "the choices of a Literal are all text or all whole numbers"),
        ("Union[int, None]", "expected int, float, str, bool, X | None"),
        ("tuple[int, int]", "tuple is not a parameter's type"),
        ('"1 +"', "expected int, float, str, bool, X | None"),
        ('"3"', "expected int, float, str, bool, X | None"),
        ("f()", "got f()"),
    ],
)
def test_an_annotation_that_no_parameter_may_have_is_refused(write_notebook, annotation, text):
    assert text in problem(write_notebook, f"n: {annotation} = 1")


def test_a_cell_that_is_not_python_names_its_line(write_notebook):
    text = problem(write_notebook, "n: int = 3\n%load_ext nbkit\n")
    assert text == "train.ipynb, parameters cell, line 2: expected typed assignments, got invalid syntax"


def test_two_tagged_cells_are_refused(write_notebook):
    path = write_notebook(("n: int = 3", "parameters"), ("m: int = 3", "parameters"))
    with pytest.raises(ParameterError, match="expected one cell with the tag 'parameters', got 2"):
        notebook_parameters(path)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("train.py", "", "expected a notebook that ends in .ipynb"),
        ("gone.ipynb", None, "expected a notebook, found no file"),
        ("half.ipynb", "{", "expected a notebook, got a file that cannot be read"),
        ("list.ipynb", "[]", "expected a notebook of format 4, got something else"),
        ("old.ipynb", '{"nbformat": 3, "worksheets": []}', "expected a notebook of format 4, got something else"),
    ],
)
def test_a_file_that_is_no_notebook_says_what_it_is(tmp_path, name, content, text):
    path: Path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=text):
        notebook_parameters(path)


def test_source_may_be_a_list_of_lines_as_jupyterlab_writes_it(write_notebook):
    path = write_notebook(("", "parameters"))
    document = json.loads(path.read_text())
    document["cells"][0]["source"] = ["n: int = 3\n", "m: int = 4"]
    path.write_text(json.dumps(document))
    assert [parameter.name for parameter in notebook_parameters(path)] == ["n", "m"]
