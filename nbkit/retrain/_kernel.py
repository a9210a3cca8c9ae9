"""The kernel of one run: this interpreter, its own folder for sockets, and gone when the run is over."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# A kernel may need seconds to flush what it logs in its exit hooks; half of this passes before it is terminated.
_SHUTDOWN_S = 20.0
_LAST_LINES = 5
# ipykernel 7 closes its output thread while its control thread may still be answering the request to end; in 2 of 100
# runs on a busy machine each then waited for the other until the kernel was terminated. An exit hook that waits for the
# control thread, which ends by itself after its answer, runs before the closing and after the notebook's own hooks.
KERNEL_ARGUMENTS = (
    "--IPKernelApp.exec_lines=__import__('atexit').register("
    "__import__('ipykernel.kernelapp').kernelapp.IPKernelApp.instance().control_thread.join, 5) and None",
)


@dataclass(slots=True, kw_only=True)
class Kernel:
    """One kernel process: what it starts with, and afterwards how it ended."""

    directory: Path
    environment: Mapping[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> Path:
        """Where the process writes what no cell shows: the interpreter's own last words."""
        return self.folder / "kernel.log"

    def manager_class(self) -> type:
        """Return the kernel manager that papermill shall use, bound to this kernel."""
        # Loaded here because importing nbkit must not load Jupyter.
        from jupyter_client import AsyncKernelManager
        from jupyter_client.kernelspec import KernelSpecManager

        kernel = self

        class IpcKernelManager(AsyncKernelManager):
            """Unix sockets in a private folder: no unencrypted TCP (ipykernel warns of it) and no race for a port."""

            def __init__(self, **traits: object) -> None:
                super().__init__(
                    transport="ipc" if os.name == "posix" else "tcp",
                    # The system allows about 100 characters for a socket's path; a home directory can be longer.
                    connection_file=str(kernel.folder / "k.json"),
                    # With no folders to search, python3 is the interpreter that runs nbkit, not one a user installed.
                    kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
                    shutdown_wait_time=_SHUTDOWN_S,
                    **traits,
                )

            async def start_kernel(self, **options: object) -> None:
                with kernel.output.open("wb") as output:
                    await super().start_kernel(**options, **kernel.start_options(output))
                kernel.process = self.provisioner.process

        return IpcKernelManager

    def start_options(self, output: IO[bytes]) -> dict[str, object]:
        """Return how the process starts; standard output is ours and may carry JSON, so the kernel never has it."""
        inherited = {**os.environ, **self.environment, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        return {"env": inherited, "cwd": str(self.directory), "stdout": output, "stderr": subprocess.STDOUT}

    def stop(self) -> None:
        """Kill the process if papermill left it, and return when it is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def how_it_ended(self) -> str:
        """Say how the process ended, for a kernel that nobody asked to end."""
        code = None if self.process is None else self.process.poll()
        if code is None:
            ending = "the kernel stopped answering"
        elif code < 0:
            ending = f"the kernel was killed by {signal.Signals(-code).name}"
            if -code == signal.SIGKILL:
                ending += "; if nobody did that, the machine was out of memory"
        else:
            ending = f"the kernel ended with exit code {code}"
        words = self._last_words()
        return f"{ending}: {words}" if words else ending

    def _last_words(self) -> str:
        if not self.output.exists():
            return ""
        lines = self.output.read_text(encoding="utf-8", errors="replace").split("\n")
        return " | ".join([line.strip() for line in lines if line.strip()][-_LAST_LINES:])
