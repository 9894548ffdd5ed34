"""What the kubelet decides, and what it says, without any process."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.embedded.kubelet import images, plan, status, unsupported
from cluster.embedded.kubelet.plan import Ended, Record, Running, Waiting, next_steps, records_of

POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u"},
    "spec": {
        "initContainers": [
            {"name": "first"},
            {"name": "side", "restartPolicy": "Always"},
            {"name": "second"},
        ],
        "containers": [{"name": "a"}, {"name": "b"}],
    },
}


def ended(code: int, at: float = 100.0, ran: float = 1.0) -> Ended:
    return Ended(code, "Completed" if code == 0 else "Error", at - ran, at)


def end(record: Record, code: int, at: float = 100.0, ran: float = 1.0) -> None:
    plan.note_end(record, ended(code, at, ran))


def phase(policy: str, records: dict[str, Record]) -> str:
    return status.phase_of(policy, records)


def test_the_order_of_init_containers_sidecars_and_main_containers() -> None:
    records = records_of(POD)
    assert next_steps("Always", records, 0).start == ["first"]
    records["first"].state = Running(0)
    assert next_steps("Always", records, 0).start == []
    end(records["first"], 0)
    assert next_steps("Always", records, 100).start == ["side"]
    records["side"].state = Running(100)
    assert next_steps("Always", records, 100).start == []  # until it has started
    records["side"].started = True
    assert next_steps("Always", records, 100).start == ["second"]
    assert phase("Always", records) == "Pending"
    end(records["second"], 0)
    assert next_steps("Always", records, 100).start == ["a", "b"]
    records["a"].state = records["b"].state = Running(100)
    assert phase("Always", records) == "Running"
    end(records["side"], 1, 200)
    assert next_steps("Always", records, 200).start == ["side"]
    assert "first" not in next_steps("Always", records, 200).start


def test_sidecars_end_when_the_main_containers_have() -> None:
    records = records_of(POD)
    end(records["first"], 0)
    end(records["second"], 0)
    records["side"].state, records["side"].started = Running(0), True
    end(records["a"], 0)
    end(records["b"], 1)
    steps = next_steps("Never", records, 100)
    assert steps.stop == ["side"] and steps.start == []
    end(records["side"], 143)
    assert plan.finished("Never", records) and phase("Never", records) == "Failed"


@pytest.mark.parametrize(
    ("policy", "over"), [("Never", "Failed"), ("OnFailure", "Pending"), ("Always", "Pending")]
)
def test_a_failing_init_container(policy: str, over: str) -> None:
    records = records_of(POD)
    end(records["first"], 1)
    assert phase(policy, records) == over
    assert next_steps(policy, records, 100).start == ([] if policy == "Never" else ["first"])


@pytest.mark.parametrize(
    ("policy", "codes", "expected"),
    [
        ("Never", (0, 0), "Succeeded"),
        ("Never", (0, 1), "Failed"),
        ("OnFailure", (0, 0), "Succeeded"),
        ("OnFailure", (0, 1), "Running"),
        ("Always", (0, 0), "Running"),
    ],
)
def test_phases(policy: str, codes: tuple[int, int], expected: str) -> None:
    records = records_of({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}})
    for record, code in zip(records.values(), codes, strict=True):
        end(record, code)
    assert phase(policy, records) == expected


def test_back_off_doubles_up_to_five_minutes_and_is_forgiven() -> None:
    record = Record("a", "main", {})
    waits = []
    for _ in range(9):
        end(record, 1)
        waits.append(plan.back_off(record))
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300, 300]
    end(record, 1, at=2000, ran=plan.FORGIVEN_AFTER)
    assert plan.back_off(record) == 0


def test_a_back_off_is_waited_for() -> None:
    records = records_of({"spec": {"containers": [{"name": "a"}]}})
    end(records["a"], 1, at=50)
    end(records["a"], 1, at=100)
    steps = next_steps("Always", records, 105)
    assert (steps.start, steps.back_off, steps.again) == ([], ["a"], 110)
    records["a"].state = Waiting("CrashLoopBackOff")
    assert next_steps("Always", records, 110).start == ["a"]


@given(st.sampled_from(["Always", "OnFailure", "Never"]), st.integers(0, 2**32))
def test_whatever_happens_containers_start_in_order_and_never_twice(policy: str, seed: int) -> None:
    dice, records, now = random.Random(seed), records_of(POD), 0.0
    for _ in range(60):
        now += dice.choice([0, 1, 400])
        steps = next_steps(policy, records, now)
        for name in steps.start:
            record = records[name]
            assert not isinstance(record.state, Running)
            if record.kind == "main":
                assert status.initialized(records)
            record.state = Running(now)
        running = [r for r in records.values() if isinstance(r.state, Running)]
        for record in running:
            if record.name in steps.stop or dice.random() < 0.3:
                end(record, dice.choice([0, 0, 1, 137]), now)
            else:
                record.started = record.ready = True
        if plan.finished(policy, records):
            assert next_steps(policy, records, now + 1000).start == []
            assert phase(policy, records) in ("Succeeded", "Failed")
        if policy == "Always":
            assert phase(policy, records) in ("Pending", "Running")


def test_the_status_says_who_is_not_ready() -> None:
    records = records_of({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}})
    records["a"].state = Running(10)
    records["a"].started = records["a"].ready = True
    pod = {"metadata": POD["metadata"], "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}
    said = status.status_of(pod, records, ("127.9.1.1", "127.9.0.1"), 5, 20)
    conditions = {condition["type"]: condition for condition in said["conditions"]}
    assert conditions["Ready"]["message"] == "containers with unready status: [b]"
    assert conditions["Initialized"]["status"] == "True"
    assert said["phase"] == "Pending" and said["qosClass"] == "BestEffort"
    assert said["containerStatuses"][0]["state"] == {"running": {"startedAt": "1970-01-01T00:00:10Z"}}
    pod["status"] = said
    later = status.status_of(pod, records, ("127.9.1.1", "127.9.0.1"), 5, 99)
    assert later == said  # nothing changed, so nothing is written


@pytest.mark.parametrize(
    ("image", "accepted", "ok"),
    [
        ("service-mesh-lab:1.0", "service-mesh-lab:1.0", True),
        ("service-mesh-lab:1.0", "service-mesh-lab", True),
        ("localhost:5000/team/service-mesh-lab:1.0@sha256:ab", "service-mesh-lab", True),
        ("service-mesh-lab:2.0", "service-mesh-lab:1.0", False),
        ("nginx", "service-mesh-lab", False),
        ("service-mesh-lab-extra", "service-mesh-lab", False),
    ],
)
def test_images(image: str, accepted: str, ok: bool) -> None:
    assert images.runnable(image, accepted) is ok


def test_what_is_ignored_is_named_and_what_restricts_is_not() -> None:
    container = {
        "name": "a",
        "tty": True,
        "securityContext": {"capabilities": {"drop": ["ALL"]}, "runAsUser": 1},
    }
    assert unsupported.ignored({"spec": {"containers": [container]}}) == [
        "spec.containers[0].tty (containers have no terminal)"
    ]
    container["securityContext"] = {"capabilities": {"add": ["NET_ADMIN"]}}
    assert (
        "spec.containers[0].securityContext" in unsupported.ignored({"spec": {"containers": [container]}})[1]
    )
