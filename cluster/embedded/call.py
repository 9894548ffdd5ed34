"""One request as the verbs see it: what is asked, by whom, with which options and body."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.embedded.auth import User
from cluster.embedded.kinds import Kind
from cluster.embedded.paths import Target
from cluster.embedded.status import bad_request


def now() -> str:
    """The time as metav1.Time has it, in seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


TRUE = ("1", "true", "True", "t", "T", "TRUE")


@dataclass(slots=True)
class Call:
    """A request for a resource. `warnings` become Warning headers of the response."""

    target: Target
    kind: Kind
    query: Mapping[str, str]
    user: User
    body: bytes = b""
    content_type: str = "application/json"
    user_agent: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def dry_run(self) -> bool:
        asked = self.query.get("dryRun", "")
        if asked not in ("", "All"):
            raise bad_request(f'dryRun: Unsupported value: "{asked}": supported values: "All"')
        return asked == "All"

    @property
    def manager(self) -> str:
        """The field manager: as given, else the first word of the client's User-Agent."""
        return self.query.get("fieldManager") or self.user_agent.partition("/")[0][:128] or "unknown"

    def flag(self, name: str) -> bool:
        return self.query.get(name, "") in TRUE
