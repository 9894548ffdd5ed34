"""When to come for the next certificate: at half its life, a little earlier for some, and again soon after
a failure.

Pure: the sidecar (`mesh.proxy`) and the control plane's own servers ask here and do the waiting themselves.
Half the life is Istio's `SECRET_GRACE_PERIOD_RATIO` of 0.5: a CA that is away for less than the other half
is not noticed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

RENEW_AT = 0.5
"""The share of its life after which a certificate is renewed."""

SPREAD = 0.05
"""Workloads started together renew up to this share of the life earlier, so that they do not all come at
once.
"""

FIRST_RETRY = 0.1
"""Seconds until the first new attempt after the CA did not answer; doubles with each attempt."""

LONGEST_RETRY = 15.0
"""Seconds between attempts at most."""


def renew_at(received: datetime, not_after: datetime, draw: float) -> datetime:
    """The moment to renew a certificate got at `received`; `draw` in [0, 1) picks the place within the
    spread.

    Counted from when it was received and not from its notBefore, which the CA dates back for slow clocks.
    """
    life = max(not_after - received, timedelta(0))
    return received + life * (RENEW_AT - SPREAD * draw)


def retry_after(failures: int, left: timedelta) -> float:
    """Seconds to wait after the `failures`-th failed attempt in a row, when the certificate lives for
    `left` more.

    Never longer than a tenth of what is left, so that a certificate of seconds still gets several attempts.
    """
    pause = min(FIRST_RETRY * 2.0 ** min(failures - 1, 16), LONGEST_RETRY)
    return max(min(pause, left.total_seconds() / 10), FIRST_RETRY / 2)
