from __future__ import annotations

from pathlib import Path

import pytest

from nbkit.files import write_atomically
from nbkit.package._files import canonical_json, sha256, strict_json


def test_a_key_that_appears_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="key 'a' appears twice"):
        strict_json(b'{"a": 1, "b": {"a": 2}, "a": 3}')


@pytest.mark.parametrize("text", [b"NaN", b'{"a": Infinity}'])
def test_nan_and_infinity_are_no_json(text: bytes) -> None:
    with pytest.raises(ValueError, match="is no JSON"):
        strict_json(text)


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"b": 1, "a": 0.1}) == canonical_json({"a": 0.1, "b": 1.0}) == b'{"a":0.1,"b":1}'


def test_a_digest_names_its_algorithm() -> None:
    assert sha256(b"").startswith("sha256:e3b0c442")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, content=b"old")
    with pytest.raises(TypeError):
        write_atomically(path, content="text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]
