"""The real Envoy sends each user where our proxy does, by the same hash of the same key."""

from __future__ import annotations

from mesh.control.compile.sticky import in_parts, sum_for
from tests.oracle.test_same import _open, envoy
from tests.support import xds
from tests.support.ads import AdsServer
from tests.support.echo import EchoServer
from tests.support.http import connect
from tests.support.proxies import environment, own_address, running, until

USERS = [f"user-{number}" for number in range(200)]


def routes(policy: dict[str, object], share: int) -> dict[str, object]:
    weights = in_parts([share, 100 - share], sum_for("oracle"))
    clusters = [
        {"name": name, "weight": weight} for name, weight in zip(("one", "two"), weights, strict=True)
    ]
    split = {"use_hash_policy": True, "clusters": clusters}
    action = {"weighted_clusters": split, "hash_policy": [{**policy, "terminal": True}]}
    return {"match": {"prefix": "/"}, "route": action}


async def chosen(address: tuple[str, int], header: str, prefix: str = "") -> list[str]:
    client = await connect(*address)
    answers = [await client.request(headers={header: prefix + user}) for user in USERS]
    return [answer.header("x-upstream") for answer in answers]


async def test_a_user_goes_where_envoy_would_send_them() -> None:
    one, two = await EchoServer("one").start(), await EchoServer("two").start()
    theirs, ours = (own_address(), 8080), (own_address(), 8080)
    ads = [await AdsServer().start() for _ in range(2)]
    cookie = {"cookie": {"name": "user", "path": "/", "ttl": "3600s"}}
    async with envoy(ads[0].port), running(ads[1].port, environment("sticky")) as proxy:
        for place, server in ((theirs, ads[0]), (ours, ads[1])):
            await server.serve(
                xds.cluster("one"),
                xds.endpoints("one", one.address),
                xds.cluster("two"),
                xds.endpoints("two", two.address),
                xds.listener("web", *place, xds.hcm("routes")),
                xds.routes("routes", xds.host(routes({"header": {"header_name": "x-user"}}, 30))),
            )
        await until(lambda: proxy.ready)
        await _open(theirs)
        by_header = await chosen(ours, "x-user")
        assert by_header == await chosen(theirs, "x-user")
        assert {"one", "two"} == set(by_header)
        for share in (30, 60):
            for server in ads:
                await server.serve(xds.routes("routes", xds.host(routes(cookie, share))))
                await server.acked()
            by_cookie = await chosen(ours, "cookie", "a=b; user=")
            assert by_cookie == await chosen(theirs, "cookie", "a=b; user=")
            assert all(new == "one" for old, new in zip(by_header, by_cookie, strict=True) if old == "one")
        client = await connect(*ours)
        newcomer = await client.request()
        given = newcomer.header("set-cookie").partition(";")[0].replace('"', "")
        assert given.startswith("user=") and "Max-Age=3600" in newcomer.header("set-cookie")
        again = await client.request(headers={"cookie": given})
        assert again.header("x-upstream") == newcomer.header("x-upstream")
        assert dict(newcomer.json()["headers"])["cookie"] == given
        for broken in ("user", "user=", ";;;=", 'user="', "=user", "\x80" * 4000):
            assert (await client.request(headers={"cookie": broken})).header("set-cookie").startswith("user=")
    for server in (one, two, *ads):
        await server.stop()
