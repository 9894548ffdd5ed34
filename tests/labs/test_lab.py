"""A lesson's way to the mesh, on a real one: what is told takes effect, and what is refused is said in a sentence."""

from collections.abc import Iterator

import pytest

from cluster.embedded import lifeline
from cluster.embedded.client import EmbeddedCluster
from tests.labs.lessons import LABS
from widgets import Lab, LabError
from widgets.frontend import has_person
from widgets.series import Query

MANIFESTS = LABS / "manifests"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(rate=30, seed=5) as lab:
        yield lab


def test_three_versions_serve_before_anybody_says_a_word(lab: Lab) -> None:
    assert {lab.request().version for _ in range(40)} == {"v1", "v2", "v3"}
    seen = lab.measure(3)
    assert {key[0] for key in seen.counts} == {"v1", "v2", "v3"}
    assert 60 <= seen.total <= 120


def test_what_is_applied_takes_effect(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.apply(MANIFESTS / "reviews-subsets.yaml")
    outcome = lab.apply(MANIFESTS / "reviews-all-v1.yaml")
    assert outcome and outcome.objects[0]["metadata"]["name"] == "reviews"
    assert lab.measure(1)["v1"].value == 1.0
    assert lab.request(user="jason").version == "v1"
    assert lab.get("vs", "reviews")["spec"]["hosts"] == ["reviews"]
    assert capsys.readouterr().out.splitlines()[-1] == "✓ virtualservice/reviews applied"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("weight: 10", "weight: ten", "spec.http[0].route[1].weight: must be of type integer, not string"),
        ("weight: 10", "weight: -1", "spec.http[0].route[1].weight: -1 should be greater than or equal to 0"),
        ("  hosts:\n  - reviews\n", "", "spec.hosts: is required"),
        ("kind: VirtualService", "kind: Sevice", 'knows no kind "Sevice"'),
        ("metadata:\n  name: reviews", "metadata: {}", "has no metadata.name"),
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(lab: Lab, old: str, new: str, sentence: str) -> None:
    lab.apply(MANIFESTS / "reviews-all-v1.yaml")
    outcome = lab.apply((MANIFESTS / "reviews-canary.yaml").read_text().replace(old, new))
    assert not outcome
    assert sentence in outcome.sentence and "\n" not in outcome.sentence
    assert lab.request().version == "v1"


def test_all_of_a_file_or_nothing(lab: Lab) -> None:
    good = (MANIFESTS / "reviews-all-v1.yaml").read_text().replace("name: reviews", "name: other", 1)
    bad = (MANIFESTS / "reviews-canary.yaml").read_text().replace("weight: 10", "weight: ten")
    assert not lab.apply(f"{good}---\n{bad}")
    assert "other" not in [found["metadata"]["name"] for found in lab.get("vs")]


def test_the_slider_s_way(lab: Lab) -> None:
    lab.apply(MANIFESTS / "reviews-subsets.yaml")
    lab.apply(MANIFESTS / "reviews-all-v1.yaml")
    canary = lab.canary()
    canary.set(100)
    data = canary.data(lab.ask(Query(("destination_version",))))
    assert data.intended == {"v1": 0.0, "v3": 1.0}
    assert lab.measure(1)["v3"].value == 1.0
    assert not has_person() and canary.figure().data


def test_the_slider_says_what_cannot_be(lab: Lab) -> None:
    with pytest.raises(LabError, match=r"v3 cannot get -5 %: spec\.http\[0\]\.route\[1\]\.weight: "):
        lab.canary().set(-5)


def test_bad_questions_are_answered_with_a_sentence(lab: Lab) -> None:
    with pytest.raises(LabError, match=r"rate: .*greater than or equal to 0"):
        lab.visitors(rate=-1)
    with pytest.raises(LabError, match="no label 'colour'"):
        lab.requests(by="colour")
    with pytest.raises(LabError, match='knows no kind "unicorn"'):
        lab.get("unicorn")


def test_visitors_come_as_somebody(lab: Lab) -> None:
    assert lab.visitors(rate=20, user="jason") == "20 visitors a second, cookie: session=jason"
    assert lab.plan()["rate"] == 20
    assert lab.visitors(user="") == "20 visitors a second, nobody in particular"


def test_the_page_is_the_real_one(lab: Lab) -> None:
    html = lab.page().data
    assert f"{lab.gateway_url}/productpage" in html and "The Comedy of Errors" in html


def test_running_the_cell_again_gives_the_same_mesh_as_new(lab: Lab) -> None:
    cluster = lab._running.cluster
    assert isinstance(cluster, EmbeddedCluster)
    lab.scale("reviews-v1", 2)
    lab.apply(MANIFESTS / "reviews-all-v1.yaml")
    again = Lab(rate=30, seed=5)
    try:
        assert again.gateway_url == lab.gateway_url
        assert [found["metadata"]["name"] for found in again.get("dr")] == []
        assert "reviews" not in [found["metadata"]["name"] for found in again.get("vs")]
        assert again.get("deployments", "reviews-v1")["spec"]["replicas"] == 1
        assert again._running.cluster is cluster
    finally:
        again.close()
    assert lifeline.marked(cluster.mark) == []
