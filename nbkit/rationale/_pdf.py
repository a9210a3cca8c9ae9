"""The document as PDF, printed by the browser that the machine has."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from nbkit.errors import RationaleError

__all__ = ["find_browser", "print_pdf"]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# It takes about two seconds; a browser that hangs must not hold up a run.
_SECONDS = 60
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-pdf-header-footer",
)


def find_browser() -> Path | None:
    """Return the machine's Chromium, or None.

    Returns
    -------
    Path or None
        The first of the usual names on the search path.
    """
    found = next((place for name in _BROWSERS if (place := shutil.which(name))), None)
    return Path(found) if found else None


def print_pdf(html: str, *, browser: Path) -> bytes:
    """Print a self-contained page.

    Parameters
    ----------
    html : str
        A whole page that needs no network.
    browser : Path
        From `find_browser`.

    Returns
    -------
    bytes
        The PDF.

    Raises
    ------
    RationaleError
        The browser did not print it.
    """
    with tempfile.TemporaryDirectory(prefix="nbkit-pdf-", ignore_cleanup_errors=True) as folder:
        page, printed = Path(folder) / "page.html", Path(folder) / "page.pdf"
        page.write_text(html, encoding="utf-8")
        profile = f"--user-data-dir={folder}/profile"
        command = [str(browser), *_OPTIONS, profile, f"--print-to-pdf={printed}", page.as_uri()]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RationaleError(f"{browser}: {error}") from error
        content = printed.read_bytes() if printed.exists() else b""
        if not content.startswith(b"%PDF"):
            said = ran.stderr.strip().splitlines()[-1:] or ["it wrote no file"]
            raise RationaleError(f"{browser}: exit code {ran.returncode}: {said[0]}")
        return content
