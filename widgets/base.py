"""What a widget needs of the lab it belongs to: ask, change, and one update loop."""

from __future__ import annotations

from typing import Protocol

from cluster.api import Api
from cluster.traffic import Window
from widgets.live import Live
from widgets.series import Query


class Mesh(Protocol):
    """A running mesh, as the widgets see it; `widgets.lab.Lab` is one."""

    @property
    def api(self) -> Api:
        """The cluster's API."""

    @property
    def live(self) -> Live:
        """The notebook's update loop."""

    def ask(self, query: Query) -> Window:
        """Telemetry's answer. Raises LabError."""
