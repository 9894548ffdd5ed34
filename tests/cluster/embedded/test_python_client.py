"""The official Python client against a running server: typed objects, dynamic client, watch, relist after 410."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client, config, dynamic, watch


@pytest.fixture
def k8s(api: Any) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(str(api.kubeconfig)) as made:
        yield made


def deployment(name: str) -> client.V1Deployment:
    labels = {"app": name}
    container = client.V1Container(name="a", image="a:1", ports=[client.V1ContainerPort(container_port=80)])
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels), spec=client.V1PodSpec(containers=[container])
    )
    spec = client.V1DeploymentSpec(selector=client.V1LabelSelector(match_labels=labels), template=template)
    return client.V1Deployment(metadata=client.V1ObjectMeta(name=name), spec=spec)


def test_typed_objects_make_the_round_trip(k8s: client.ApiClient, namespace: str) -> None:
    apps = client.AppsV1Api(k8s)
    made = apps.create_namespaced_deployment(namespace, deployment("web"))
    assert made.spec.replicas == 1 and made.metadata.creation_timestamp is not None
    made.spec.replicas = 3
    assert apps.replace_namespaced_deployment("web", namespace, made).metadata.generation == 2
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "b:1"}]}}}}
    merged = apps.patch_namespaced_deployment("web", namespace, patch)
    assert sorted(c.name for c in merged.spec.template.spec.containers) == ["a", "b"]
    scale = apps.read_namespaced_deployment_scale("web", namespace)
    assert scale.spec.replicas == 3
    assert apps.list_deployment_for_all_namespaces(field_selector="metadata.name=web").items
    with pytest.raises(client.ApiException) as refused:
        apps.create_namespaced_deployment(namespace, deployment("web"))
    assert refused.value.status == 409
    apps.delete_namespaced_deployment("web", namespace)


def test_watch_sees_everything_in_order(k8s: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(k8s)
    listed = core.list_namespaced_config_map(namespace)

    def work() -> None:
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="a"), data={"k": "1"})
        core.create_namespaced_config_map(namespace, body)
        core.patch_namespaced_config_map("a", namespace, {"data": {"k": "2"}})
        core.delete_namespaced_config_map("a", namespace)

    thread = threading.Thread(target=work)
    thread.start()
    seen = []
    stream = watch.Watch().stream(
        core.list_namespaced_config_map,
        namespace,
        resource_version=listed.metadata.resource_version,
        timeout_seconds=20,
    )
    for event in stream:
        seen.append((event["type"], (event["object"].data or {}).get("k")))
        if event["type"] == "DELETED":
            break
    thread.join()
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


def test_a_lost_version_is_410_and_a_new_list_goes_on(k8s: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(k8s)
    with pytest.raises(client.ApiException) as gone:
        list(
            watch.Watch().stream(
                core.list_namespaced_pod, namespace, resource_version="99999999", timeout_seconds=5
            )
        )
    assert gone.value.status == 410
    version = core.list_namespaced_pod(namespace).metadata.resource_version
    stream = watch.Watch().stream(
        core.list_namespaced_pod, namespace, resource_version=version, timeout_seconds=1
    )
    assert list(stream) == []


def test_dynamic_client_and_server_side_apply(k8s: client.ApiClient, namespace: str) -> None:
    maps = dynamic.DynamicClient(k8s).resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "1"}}
    maps.server_side_apply(body=body, namespace=namespace, field_manager="one")
    made = maps.server_side_apply(body=body | {"data": {"j": "2"}}, namespace=namespace, field_manager="two")
    assert made.data.to_dict() == {"k": "1", "j": "2"}
    with pytest.raises(dynamic.exceptions.ConflictError):
        maps.server_side_apply(body=body | {"data": {"k": "3"}}, namespace=namespace, field_manager="two")


def test_tokens_and_reviews(k8s: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(k8s)
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=["istio-ca"]))
    token = core.create_namespaced_service_account_token("default", namespace, request).status.token
    review = client.V1TokenReview(spec=client.V1TokenReviewSpec(token=token, audiences=["istio-ca"]))
    status = client.AuthenticationV1Api(k8s).create_token_review(review).status
    assert status.authenticated and status.user.username == f"system:serviceaccount:{namespace}:default"


def test_version_and_apis(k8s: client.ApiClient) -> None:
    assert client.VersionApi(k8s).get_code().git_version.endswith("+embedded")
    groups = {group.name for group in client.ApisApi(k8s).get_api_versions().groups}
    assert {"apps", "batch", "discovery.k8s.io"} <= groups
