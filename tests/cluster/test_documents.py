"""A person's YAML becomes objects, or one sentence says why not."""

from __future__ import annotations

import pytest

from cluster.documents import BadDocument, read

OBJECT = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"


def test_documents_and_lists_become_objects() -> None:
    listed = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: b}}\n"
    text = f"---\n{OBJECT}---\n{listed}"
    assert [(o["kind"], o["metadata"]["name"]) for o in read(text)] == [("ConfigMap", "a"), ("Pod", "b")]


def test_a_namespace_is_given_to_objects_without_one() -> None:
    own = OBJECT.replace("{name: a}", "{name: a, namespace: mine}")
    found = read(f"{OBJECT}---\n{own}", namespace="shop")
    assert [o["metadata"]["namespace"] for o in found] == ["shop", "mine"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- 1\n- 2\n", "f.yaml is a list, not a mapping with apiVersion, kind and metadata"),
        ("hello", "f.yaml is a string, not a mapping with apiVersion, kind and metadata"),
        ("a: [1, 2", "f.yaml is not YAML: expected ',' or ']', but got '<stream end>' (line 1, column 9)"),
        ("", "f.yaml holds no object"),
        ("kind: Pod\nmetadata: {name: a}", "f.yaml has no apiVersion"),
        ("apiVersion: v1\nmetadata: {name: a}", "f.yaml has no kind"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {}", "f.yaml (Pod) has no metadata.name"),
        (
            f"{OBJECT}---\n7",
            "f.yaml, document 2 is a number, not a mapping with apiVersion, kind and metadata",
        ),
    ],
)
def test_what_is_no_object_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(BadDocument) as refused:
        read(text, "f.yaml")
    assert str(refused.value) == sentence
