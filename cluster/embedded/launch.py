"""The last moments between a fork of the zygote and a container's own program.

`python -m X` becomes X right here, in the interpreter that is already warm; any other command is exec'd.
`prepare` says which before the fork, and refuses what could not be started.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import shutil
import signal
import sys
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from cluster.embedded import lifeline, shim

NOT_FOUND = 127


@dataclass(frozen=True)
class Order:
    """A container process to start: what the kubelet asks of the zygote."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    private: list[int] = field(default_factory=list)  # the zygote's own descriptors, not for the child


@dataclass(frozen=True)
class Module:
    """`python -m name arguments...`."""

    name: str
    arguments: list[str]


def warm_module(argv: list[str]) -> Module | None:
    """The module if `argv` is `python -m X ...` of our own interpreter, else None."""
    ours = {"python", "python3", sys.executable, Path(sys.executable).name}
    if not argv or argv[0] not in ours:
        return None
    rest = argv[1:]
    while rest and rest[0] in ("-u", "-B"):  # forks write through line by line, and never compile twice
        rest = rest[1:]
    if len(rest) >= 2 and rest[0] == "-m":
        return Module(rest[1], rest[2:])
    return None


def refusal(order: Order) -> str | None:
    """Why this order cannot be started, in the words of a container runtime; None if it can."""
    if not order.argv:
        return "no command specified"
    if not Path(order.cwd).is_dir():
        return f'chdir to "{order.cwd}": no such file or directory'
    if warm_module(order.argv) is None and not _executable(order):
        return f'exec: "{order.argv[0]}": executable file not found in $PATH'
    return None


def _executable(order: Order) -> bool:
    command = order.argv[0]
    if os.sep in command:
        path = Path(order.cwd, command)
        return path.is_file() and os.access(path, os.X_OK)
    return shutil.which(command, path=order.env.get("PATH", os.defpath)) is not None


def run(order: Order, stdout: int, stderr: int) -> NoReturn:
    """In the freshly forked child: become the container. Ends in SystemExit or in another program."""
    _own_session()
    _own_output(stdout, stderr, order.private)
    os.chdir(order.cwd)
    os.environ.clear()
    os.environ.update(order.env)
    module = warm_module(order.argv)
    if module is None:
        _exec(order)
    _run_module(module, order)


def _own_session() -> None:
    os.setsid()
    lifeline.die_with_parent()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _own_output(stdout: int, stderr: int, private: list[int]) -> None:
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    for descriptor in {stdout, stderr, *private} - {1, 2}:
        with contextlib.suppress(OSError):  # closed twice is closed
            os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _exec(order: Order) -> NoReturn:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvpe(order.argv[0], order.argv, order.env)
    except OSError as error:
        os.write(2, f"exec {order.argv[0]}: {error.strerror}\n".encode())
        os._exit(NOT_FOUND)


def _run_module(module: Module, order: Order) -> NoReturn:
    shim.install()
    sys.argv = ["-m", *module.arguments]
    sys.path[0] = order.cwd
    extra = [part for part in order.env.get("PYTHONPATH", "").split(os.pathsep) if part not in sys.path]
    sys.path[1:1] = [part for part in extra if part]
    # A preloaded module is in sys.modules already, which is the point; runpy would warn about it.
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")
    try:
        runpy.run_module(module.name, run_name="__main__", alter_sys=True)
    except SystemExit:
        raise
    except ImportError as error:
        if getattr(error, "name", None) is None and "No module named" in str(error):
            print(f"{sys.executable}: {error}", file=sys.stderr)  # runpy's own: X itself was not found
        else:
            _print_traceback(error)
        sys.exit(1)
    except BaseException as error:  # noqa: BLE001 - as the interpreter does at top level
        _print_traceback(error)
        sys.exit(130 if isinstance(error, KeyboardInterrupt) else 1)
    sys.exit(0)


def _print_traceback(error: BaseException) -> None:
    """As the interpreter would, without the frames of the zygote."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_globals.get("__name__") != "__main__":
        frame = frame.tb_next
    traceback.print_exception(error.with_traceback(frame or error.__traceback__))
