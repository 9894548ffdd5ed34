"""The plan of a pod's redirection, and the rules that come of it."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from mesh.proxy.redirect import iptables, nftables
from mesh.proxy.redirect.__main__ import main
from mesh.proxy.redirect.plan import Plan, PlanError, ports, ports_or_all, ranges, ranges_or_all


def test_everything_is_caught_but_the_sidecars_own_ports() -> None:
    lines = iptables.rules(Plan()).splitlines()
    assert lines[0] == "*nat" and lines[-1] == "COMMIT"
    assert "-A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN" in lines
    assert "-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT" in lines
    assert lines[-2] == "-A ISTIO_OUTPUT -j ISTIO_REDIRECT"


def test_the_proxys_own_connections_pass_before_anything_is_caught() -> None:
    lines = iptables.rules(Plan()).splitlines()
    passing = lines.index("-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN")
    assert passing < lines.index("-A ISTIO_OUTPUT -j ISTIO_REDIRECT")


def test_a_second_run_adds_no_second_jump() -> None:
    first = iptables.rules(Plan())
    again = iptables.rules(Plan(), first.splitlines())
    assert "-A PREROUTING -p tcp -j ISTIO_INBOUND" in first
    assert "PREROUTING" not in again and "-A OUTPUT " not in again


def test_what_annotations_include_and_exclude() -> None:
    plan = Plan(
        include_outbound_ranges=ranges("10.0.0.0/8", "x"),
        exclude_outbound_ranges=ranges("10.1.0.0/16", "x"),
        exclude_outbound_ports=(5432,),
        include_inbound_ports=(9080,),
        exclude_inbound_ports=(22,),
    )
    text, script = iptables.rules(plan), nftables.rules(plan)
    assert (
        "-d 10.0.0.0/8 -j ISTIO_REDIRECT" in text and "-j ISTIO_REDIRECT\n-A" not in text.split("10.0.0.0")[1]
    )
    assert text.index("10.1.0.0/16 -j RETURN") < text.index("10.0.0.0/8 -j ISTIO_REDIRECT")
    assert "--dport 5432 -j RETURN" in text and "--dport 9080 -j ISTIO_IN_REDIRECT" in text
    assert "ip daddr 10.0.0.0/8 meta l4proto tcp redirect to :15001" in script
    assert "tcp dport { 22, 15020, 15021, 15090 } return" in script
    assert script.index("10.1.0.0/16 return") < script.index("10.0.0.0/8")


def test_nothing_inbound_is_caught_when_no_port_is_included() -> None:
    plan = Plan(include_inbound_ports=())
    assert "IN_REDIRECT" not in "".join(
        line for line in iptables.rules(plan).splitlines() if "INBOUND" in line
    )
    assert "redirect" not in nftables.rules(plan).split("chain output")[0]


def test_words_of_the_annotations() -> None:
    assert ports_or_all("*", "x") is None and ports_or_all("", "x") == () and ports(" 1, 2 ,", "x") == (1, 2)
    assert ranges_or_all("*", "x") is None and ranges("10.0.0.7/8", "x") == (IPv4Network("10.0.0.0/8"),)
    for text in ("http", "0", "65536", "-1"):
        with pytest.raises(PlanError, match=r"--flag: .* is not a port number"):
            ports(text, "--flag")
    for text in ("ten", "fe80::/10", "10.0.0.0/40"):
        with pytest.raises(PlanError, match=r"--flag: .* is not an IPv4 range"):
            ranges(text, "--flag")


def test_the_command_prints_rules_and_refuses_nonsense(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dry-run", "--istio-local-exclude-ports", "8022"]) == 0
    assert "--dport 8022 -j RETURN" in capsys.readouterr().out
    assert main(["--dry-run", "nft"]) == 0
    assert "table ip istio_nat" in capsys.readouterr().out
    assert main(["--istio-service-cidr", "everything"]) == 1
    assert "everything" in capsys.readouterr().err


def test_without_a_program_or_the_right_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([]) == 1
    assert "build it from a base image" in capsys.readouterr().err


def test_on_a_machine_that_pods_share_it_touches_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONTAINER_SANDBOX_MOUNT_POINT", "/somewhere")
    monkeypatch.setattr("mesh.proxy.redirect.__main__.apply", lambda plan: pytest.fail("rules were set"))
    assert main([]) == 1
    assert "no network of its own" in capsys.readouterr().err
