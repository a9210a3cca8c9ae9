"""Compiles the kernel when a wheel is built or a checkout installed; without a compiler nbkit works, more slowly."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCE = Path("nbkit/package/_kernel.c")
_TARGET = Path("nbkit/package/_kernel.abi3.so")

# Products and sums rounded one by one, as numpy rounds them; the code reads no errno.
_FLAGS = ("-O3", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared")


class KernelHook(BuildHookInterface[Any]):
    """Puts the compiled kernel beside its source."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - as hatchling calls it
        """Compile before the files are gathered.

        Parameters
        ----------
        version : str
            Of the build.
        build_data : dict
            What the wheel is told to hold, and for which machines it is.
        """
        if sys.platform == "win32" or self.target_name != "wheel":
            return
        root = Path(self.root)
        # What Python itself was built with may not be there.
        compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
        include = sysconfig.get_path("include")
        command = [*compiler, *_FLAGS, f"-I{include}", str(root / _SOURCE), "-o", str(root / _TARGET)]
        if sys.platform == "darwin":
            command += ["-undefined", "dynamic_lookup"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            told = getattr(error, "stderr", "") or str(error)
            with suppress(OSError):  # what was compiled from an older source is not this one's
                (root / _TARGET).unlink(missing_ok=True)
            self.app.display_warning(f"nbkit's kernel was not compiled; models are scored without it:\n{told}")
            return
        build_data["artifacts"].append(str(_TARGET))
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp311-abi3-{platform}"
