"""The document prints where the machine has a Chromium, and says why where it does not."""

import subprocess
from pathlib import Path

import pytest

from nbkit.errors import RationaleError
from nbkit.rationale import find_browser, print_pdf


@pytest.fixture
def browser():
    found = find_browser()
    if found is None:
        pytest.skip("this machine has no Chromium")
    return found


def test_a_page_is_printed(browser):
    printed = print_pdf("<!DOCTYPE html><title>t</title><p>Why this model", browser=browser)
    assert printed.startswith(b"%PDF")
    assert printed.rstrip().endswith(b"%%EOF")


def script(directory: Path, text: str) -> Path:
    path = directory / "browser"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_browser_that_prints_nothing_is_an_error_with_its_last_words(tmp_path):
    with pytest.raises(RationaleError, match="browser: exit code 3: no display"):
        print_pdf("<p>", browser=script(tmp_path, "echo first >&2; echo no display >&2; exit 3"))
    with pytest.raises(RationaleError, match="browser: exit code 0: it wrote no file"):
        print_pdf("<p>", browser=script(tmp_path, "exit 0"))


def test_a_browser_that_cannot_start_or_hangs_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(RationaleError, match="No such file"):
        print_pdf("<p>", browser=tmp_path / "none")

    def hang(command, **_):
        raise subprocess.TimeoutExpired(command[0], 60)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(RationaleError, match="timed out after 60 seconds"):
        print_pdf("<p>", browser=tmp_path / "none")


def test_without_a_browser_none_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_browser() is None
    script(tmp_path, "exit 0").rename(tmp_path / "chromium-browser")
    assert find_browser() == tmp_path / "chromium-browser"
