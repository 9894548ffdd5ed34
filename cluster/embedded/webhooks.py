"""Admission webhooks: asking servers in the cluster about objects before they are stored. (placeholder of
this slice)
"""

from cluster.embedded.call import Call
from cluster.embedded.status import Object


class Webhooks:
    async def mutate(self, call: Call, operation: str, object: Object, old: Object | None) -> Object:
        return object

    async def validate(self, call: Call, operation: str, object: Object | None, old: Object | None) -> None:
        return None
