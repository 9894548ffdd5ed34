"""A lesson's way to the mesh: `lab = Lab()` brings up cluster, mesh and shop, and ends them with the notebook.

Everything goes through the Kubernetes API (objects, and telemetry and visitors behind its service proxy), so a
cell means the same on every backend. There is one lab in a kernel: running its cell again gives the one that is
there, put back to how a lesson starts.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Mapping
from math import ceil
from typing import Any, ClassVar, TypeVar

from IPython.display import HTML
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

from cluster import traffic, up
from cluster.api import Api, ApiError
from cluster.base import ClusterError
from cluster.traffic import Window
from widgets import objects, page
from widgets.answers import Outcome, Reply, Seen
from widgets.canary import Canary
from widgets.errors import LabError
from widgets.frontend import Board, has_person
from widgets.live import Live
from widgets.objects import What
from widgets.series import SETTLE, TICK, Query
from widgets.startup import Startup
from widgets.traffic import Traffic

VERSION = "destination_version"
VERSION_HEADER = "x-shop-reviews-version"
RATE = 30.0
"""Visitors a second at the start of a lesson: enough to see a split within seconds, light on a laptop."""

IN_FLIGHT = 0.1
"""Seconds after which the requests of a plan or rule that was just replaced have been answered."""

Widget = TypeVar("Widget", Canary, Traffic)


class Lab:
    """A running mesh with the shop and its visitors. Raises LabError when it cannot be started.

    `backend` and `dataplane` as for `mesh up`. `seed` makes the visitors' arrivals repeatable. `name` joins the
    cluster of that name if one runs (it then goes on after the lab); without it the lab has its own.
    """

    _current: ClassVar[Lab | None] = None

    def __init__(
        self,
        backend: str = "embedded",
        dataplane: str = "python",
        seed: int = 1,
        name: str | None = None,
        rate: float = RATE,
    ) -> None:
        self._key = (backend, dataplane, name)
        self._plan = {"rate": rate, "seed": seed, "headers": {}, "mix": [], "duration": None}
        self._widgets: dict[str, Canary | Traffic] = {}
        self._pid = os.getpid()
        self._http = PoolManager()
        startup = Startup("ready")
        taken = self._take_over()
        self._running, self._owned = taken or self._start(startup)
        Lab._current = self
        atexit.register(self.close)
        self.live = Live(self.ask)
        self.gateway_url: str = objects.said(lambda: self._running.gateway_url)
        if taken:
            objects.put_back(self.api)
        objects.said(lambda: traffic.plan(self.api, self._plan))
        startup.done(f"The shop is open at {self.gateway_url}/productpage, {rate:g} visitors a second.")

    @property
    def api(self) -> Api:
        """The cluster's API."""
        return self._running.api

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Lab({self._running.backend}, {self.gateway_url})"

    # --- begin and end -------------------------------------------------------------------------------------

    def _take_over(self) -> tuple[up.Running, bool] | None:
        """The cluster of the lab that this one replaces, when it would be the same and is well."""
        old, Lab._current = Lab._current, None
        if old is None:
            return None
        old._let_go()
        try:
            if old._key == self._key and up.page_problem(old.gateway_url) == "":
                return old._running, old._owned
        except ApiError:
            pass  # it is gone: close what is left of it and start anew
        old._end()
        return None

    def _start(self, startup: Startup) -> tuple[up.Running, bool]:
        backend, dataplane, name = self._key
        if name is not None:
            try:
                return up.attach(name), False
            except ClusterError:
                pass  # none runs: start it
        try:
            own = name or f"lab-{os.getpid()}"
            return up.up(backend, dataplane, own, os.getpid(), startup), True
        except (ClusterError, ApiError) as error:
            raise LabError(f"the lab could not be started: {error}") from None

    def reset(self) -> None:
        """Put everything back to how a lesson starts: the shop as installed, only its own rules, the visitors.

        Raises LabError.
        """
        objects.put_back(self.api)
        objects.said(lambda: traffic.plan(self.api, self._plan))

    def close(self) -> None:
        """End the lab: the widgets stop, and the cluster with everything in it if the lab started it."""
        if self._pid != os.getpid() or Lab._current is not self:
            return
        Lab._current = None
        self._let_go()
        self._end()

    def _let_go(self) -> None:
        atexit.unregister(self.close)
        self.live.close()

    def _end(self) -> None:
        if self._owned:
            self._running.down()

    # --- objects -------------------------------------------------------------------------------------------

    def apply(self, what: What, namespace: str = "default") -> Outcome:
        """Apply YAML, a file or an object, all of it or nothing; say what became of it.

        Returns when every sidecar runs with the new rules. Bad input does not raise.
        """
        return _tell(lambda: objects.apply(self.api, what, namespace))

    def delete(self, what: What, namespace: str = "default") -> Outcome:
        """Delete what the YAML or object names; what is not there is no error."""
        return _tell(lambda: objects.delete(self.api, what, namespace))

    def get(self, kind: str, name: str | None = None, namespace: str = "default") -> Any:
        """One object, or all of a kind; `kind` as kubectl takes it (`vs`, `pods`). Raises LabError."""
        return objects.get(self.api, kind, name, namespace)

    def scale(self, deployment: str, replicas: int, namespace: str = "default") -> Outcome:
        """Give a Deployment this many pods and wait until they are ready, as `kubectl scale` with a wait."""
        return _tell(lambda: objects.scale(self.api, deployment, replicas, namespace))

    # --- traffic -------------------------------------------------------------------------------------------

    def visitors(self, rate: float | None = None, user: str | None = None, **plan: Any) -> str:
        """Steer the visitors: requests a second, signed in as `user` ("" for nobody), and what else a plan has.

        Raises LabError that names the field which is wrong; the visitors then go on as before.
        """
        change = dict(plan)
        if rate is not None:
            change["rate"] = rate
        if user is not None:
            change["headers"] = {**plan.get("headers", {}), **_signed_in(user)}
        now = objects.said(lambda: traffic.plan(self.api, change))
        who = (
            ", ".join(f"{name}: {value}" for name, value in now["headers"].items()) or "nobody in particular"
        )
        return f"{now['rate']:g} visitors a second, {who}"

    def plan(self) -> dict[str, Any]:
        """What the visitors do now, with all its fields. Raises LabError."""
        return objects.said(lambda: traffic.plan(self.api, {}))

    def ask(self, query: Query) -> Window:
        """Telemetry's answer to a query. Raises LabError."""
        return objects.said(
            lambda: traffic.requests(self.api, query.by, query.window, query.step, where=dict(query.where))
        )

    def requests(self, by: str | tuple[str, ...] = VERSION, window: float = 30.0, **where: str) -> Seen:
        """What the mesh saw in the last `window` seconds, by labels. Raises LabError.

        Labels are those of Istio's standard metrics; `where` filters by them. Without a filter: what the product
        page's sidecar asked of reviews.
        """
        labels = (by,) if isinstance(by, str) else by
        query = Query(labels, window, TICK, tuple((where or _to("reviews")).items()))
        return Seen.of(self.ask(query), labels, window)

    def measure(self, seconds: float, by: str | tuple[str, ...] = VERSION, **where: str) -> Seen:
        """Watch for `seconds` from now on, and say what the mesh saw in that time. Raises LabError.

        Requests that were under way when the last cell ended are not counted.
        """
        labels = (by,) if isinstance(by, str) else by
        now = self.ask(Query(labels, 1.0, TICK)).now
        begin, length = ceil((now + IN_FLIGHT) / TICK) * TICK, ceil(seconds / TICK) * TICK
        _watch(begin + length + SETTLE - now)
        filters = dict(where or _to("reviews"))
        seen = objects.said(lambda: traffic.requests(self.api, labels, length, TICK, begin + length, filters))
        return Seen.of(seen, labels, length)

    def request(
        self, path: str = "/productpage", user: str = "", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request through the gateway, as from outside; which version served it. Raises LabError."""
        began = time.perf_counter()
        sent = {**_signed_in(user), **(headers or {})}
        try:
            got = self._http.request("GET", self.gateway_url + path, headers=sent, timeout=20, retries=False)
        except HTTPError as error:
            raise LabError(f"{self.gateway_url} does not answer: {error}") from None
        taken = 1000 * (time.perf_counter() - began)
        version = got.headers.get(VERSION_HEADER, "unknown")
        return Reply(got.status, version, taken, dict(got.headers), got.data.decode(errors="replace"))

    # --- to look at ----------------------------------------------------------------------------------------

    def page(self, user: str = "", height: int = 520) -> HTML:
        """The shop's page in the notebook; with `user` as it was served once to somebody. Raises LabError."""
        fetched = self.request(user=user).body
        html = page.frame(f"{self.gateway_url}/productpage", fetched, height, live=not user)
        return HTML(html)  # type: ignore[no-untyped-call]

    def canary(self, host: str = "reviews", stable: str = "v1", canary: str = "v3") -> Canary:
        """A slider that splits the traffic to `host`, and a chart of what comes of it. Raises LabError."""
        query = Query((VERSION,), where=tuple(_to(host).items()))
        return self._only("canary", objects.said(lambda: Canary(self, query, host, stable, canary)))

    def traffic(self, by: str = VERSION, host: str = "reviews") -> Traffic:
        """A live chart of the requests a second to `host`, by a label."""
        return self._only("traffic", Traffic(self, Query((by,), where=tuple(_to(host).items()))))

    def _only(self, kind: str, widget: Widget) -> Widget:
        """One widget of a kind at a time: a cell that is run again replaces what it showed."""
        before = self._widgets.pop(kind, None)
        if before is not None:
            before.close()
        self._widgets[kind] = widget
        return widget


def _tell(action: Callable[[], Outcome]) -> Outcome:
    """Do it and show the outcome, whatever it is."""
    try:
        outcome = objects.said(action)
    except LabError as error:
        outcome = Outcome(False, str(error))
    Board().show(outcome.html(), str(outcome))
    return outcome


def _watch(seconds: float) -> None:
    """Let the time pass; whoever looks sees how much is left."""
    board = Board() if has_person() else None
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if board:
            board.show(f"<i>watching the mesh, {left:.0f} s to go</i>", "")
        time.sleep(min(left, 1.0))
    if board:
        board.show("", "")


def _signed_in(user: str) -> dict[str, str]:
    """The shop's session cookie; the product page passes the name on as header `end-user`."""
    return {"cookie": f"session={user}"} if user else {}


def _to(host: str) -> dict[str, str]:
    """Requests to a service as its callers' sidecars report them: those that nobody answered, too."""
    return {"reporter": "source", "destination_service_name": host}
