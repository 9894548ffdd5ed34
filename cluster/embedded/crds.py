"""Kinds that clients define: from a CustomResourceDefinition to a served resource.

A definition is served from the moment it is stored: the server sets the conditions NamesAccepted and
Established itself, and the registry gets a `Kind` for each served version. (Kubernetes docs
"CustomResourceDefinitions".)
"""

from cluster.embedded import schemas
from cluster.embedded.call import now
from cluster.embedded.kinds import Kind, Registry
from cluster.embedded.status import Cause, Object, not_supported, required, wrong
from cluster.embedded.store import Entry, Store

RESOURCE = "customresourcedefinitions.apiextensions.k8s.io"


def kinds_of(definition: Object) -> list[Kind]:
    """A `Kind` for each served version of a definition, its storage version first."""
    spec = definition["spec"]
    versions = sorted((v for v in spec["versions"] if v.get("served")), key=lambda v: not v.get("storage"))
    return [_kind(spec, version) for version in versions]


def _kind(spec: Object, version: Object) -> Kind:
    names = spec["names"]
    subresources = version.get("subresources") or {}
    storage = next(v["name"] for v in spec["versions"] if v.get("storage"))
    selectable = {field["jsonPath"].lstrip(".") for field in version.get("selectableFields") or []}
    return Kind(
        group=spec["group"],
        version=version["name"],
        kind=names["kind"],
        plural=names["plural"],
        namespaced=spec["scope"] == "Namespaced",
        schema=(version.get("schema") or {}).get("openAPIV3Schema"),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=tuple(name for name in ("status", "scale") if name in subresources),
        singular=names.get("singular", ""),
        list_kind=names.get("listKind", ""),
        columns=tuple(version.get("additionalPrinterColumns") or ()),
        scale=subresources.get("scale"),
        custom=True,
        storage_version=storage,
        selectable=frozenset(selectable),
    )


def check(definition: Object) -> list[Cause]:
    """What is wrong with a definition."""
    spec = definition.get("spec") or {}
    names = spec.get("names") or {}
    found = [required(f"spec.{key}") for key in ("group", "scope", "versions", "names") if not spec.get(key)]
    found += [required(f"spec.names.{key}") for key in ("plural", "kind") if not names.get(key)]
    if found:
        return found
    name, wanted = definition["metadata"].get("name"), f"{names['plural']}.{spec['group']}"
    if name != wanted:
        found.append(wrong("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    if spec["scope"] not in ("Namespaced", "Cluster"):
        found.append(not_supported("spec.scope", spec["scope"], ["Cluster", "Namespaced"]))
    if sum(bool(version.get("storage")) for version in spec["versions"]) != 1:
        found.append(
            wrong(
                "spec.versions",
                len(spec["versions"]),
                "must have exactly one version marked as storage version",
            )
        )
    if (spec.get("conversion") or {}).get("strategy", "None") != "None":
        why = "this cluster converts by apiVersion only (strategy None)"
        found.append(wrong("spec.conversion.strategy", spec["conversion"]["strategy"], why))
    for index, version in enumerate(spec["versions"]):
        found += _check_version(version, f"spec.versions[{index}]")
    return found


def _check_version(version: Object, at: str) -> list[Cause]:
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if not version.get("name"):
        return [required(f"{at}.name")]
    if not schema:
        return [required(f"{at}.schema.openAPIV3Schema", "schemas are required")]
    path = f"{at}.schema.openAPIV3Schema"
    if schema.get("type") != "object":
        return [wrong(f"{path}.type", schema.get("type", ""), "must be object at the root")]
    return schemas.check(schema, path)


def warnings(definition: Object) -> list[str]:
    """What to tell whoever stores a definition."""
    found = []
    for version in definition["spec"]["versions"]:
        places = list(schemas.unevaluated((version.get("schema") or {}).get("openAPIV3Schema"), ""))
        if places:
            where = ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
            found.append(
                f"x-kubernetes-validations at {where}: CEL rules are not evaluated by the embedded cluster"
            )
    return found


def conditions(old: list[Object] | None) -> list[Object]:
    """The conditions of a definition that is served."""
    if old and {c["type"] for c in old} >= {"NamesAccepted", "Established"}:
        return old
    texts = {
        "NamesAccepted": ("NoConflicts", "no conflicts found"),
        "Established": ("InitialNamesAccepted", "the initial names have been accepted"),
    }
    return [
        {"type": kind, "status": "True", "lastTransitionTime": now(), "reason": reason, "message": message}
        for kind, (reason, message) in texts.items()
    ]


class Definitions:
    """Keeps the registry in step with the stored definitions."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry

    def stored(self, entry: Entry) -> Entry:
        """Serve a definition that was just stored, and set its status. Returns the entry with that status."""
        definition = entry.object
        spec = definition["spec"]
        self._registry.remove(spec["group"], spec["names"]["plural"])
        for kind in kinds_of(definition):
            self._registry.add(kind)
        before = definition.get("status") or {}
        status = {
            "conditions": conditions(before.get("conditions")),
            "acceptedNames": spec["names"],
            "storedVersions": sorted(
                {
                    *(before.get("storedVersions") or []),
                    *(v["name"] for v in spec["versions"] if v.get("storage")),
                }
            ),
        }
        if status == before:
            return entry
        new = definition | {"metadata": dict(definition["metadata"]), "status": status}
        return self._store.replace(RESOURCE, new, entry.revision)

    def deleted(self, definition: Object) -> None:
        """Stop serving a definition's kinds; their objects go with it."""
        spec = definition["spec"]
        self._registry.remove(spec["group"], spec["names"]["plural"])
        self._store.drop(f"{spec['names']['plural']}.{spec['group']}")
