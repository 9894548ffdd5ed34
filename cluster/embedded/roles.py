"""What the supervisor's forks become: the API server and the node.

A module of its own because importing it costs most of a cluster's start: the supervisor forks the zygote
first and imports this while the zygote imports what pods run.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn

from cluster.embedded import apiserver, node
from cluster.embedded.options import Options
from cluster.embedded.slots import Slot

NODE_NAME = "embedded"


def become_apiserver(options: Options, slot: Slot, ready: int) -> NoReturn:
    """Serve the API for ever; facts about it go to descriptor `ready` once it answers."""
    told = apiserver.Options(
        slot.node, slot.api_port, options.state_dir, slot.service_range, lambda facts: _tell(ready, facts)
    )
    _run(apiserver.serve(told))


def become_node(
    options: Options, slot: Slot, facts: dict[str, Any], orders: socket.socket, ready: int
) -> NoReturn:
    """Run controllers and kubelet for ever; a line goes to descriptor `ready` once the Node is registered."""
    told = node.NodeOptions(NODE_NAME, Path(facts["kubeconfig"]), slot, options.state_dir, options.image)
    _run(node.serve(told, orders, lambda: _tell(ready, {})))


def _run(work: Coroutine[Any, Any, None]) -> NoReturn:
    try:
        with asyncio.Runner(loop_factory=_event_loop) as runner:
            runner.run(work)
    except BaseException:  # noqa: BLE001 - whatever it is, the log must have it and the stack must not unwind
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(1)


def _event_loop() -> asyncio.AbstractEventLoop:
    """uvloop where it exists: half the CPU time for a process that mostly moves bytes."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _tell(descriptor: int, facts: dict[str, Any]) -> None:
    os.write(descriptor, json.dumps(facts).encode() + b"\n")
    os.close(descriptor)
