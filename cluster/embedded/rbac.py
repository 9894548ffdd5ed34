"""May they? RBAC as Kubernetes has it: rules only allow; a request that no rule allows is refused.

The group system:masters may do everything. (kubernetes `plugin/pkg/auth/authorizer/rbac`.)
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cluster.embedded.auth import User
from cluster.embedded.status import ApiError, Object, forbidden
from cluster.embedded.store import Store

GROUP = "rbac.authorization.k8s.io"
ROLES, CLUSTER_ROLES = f"roles.{GROUP}", f"clusterroles.{GROUP}"
BINDINGS, CLUSTER_BINDINGS = f"rolebindings.{GROUP}", f"clusterrolebindings.{GROUP}"


@dataclass(frozen=True, slots=True)
class Ask:
    """What somebody wants to do: on a resource, or on a `path` outside them."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def full_resource(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def rule_allows(rule: Object, ask: Ask) -> bool:
    """Does one rule of a role allow it?"""
    if not _has(rule.get("verbs"), ask.verb):
        return False
    if not ask.resource:
        return any(_path_matches(pattern, ask.path) for pattern in rule.get("nonResourceURLs") or [])
    if not _has(rule.get("apiGroups"), ask.group):
        return False
    resources = rule.get("resources") or []
    wanted = {"*", ask.full_resource} | ({f"*/{ask.subresource}"} if ask.subresource else set())
    if not wanted & set(resources):
        return False
    names = rule.get("resourceNames") or []
    return not names or ask.name in names


def _has(choices: list[str] | None, value: str) -> bool:
    return bool(choices) and ("*" in (choices or []) or value in (choices or []))


def _path_matches(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern[:-1]))


def subject_matches(subject: Object, user: User, namespace: str) -> bool:
    """Does a binding's subject mean this user?"""
    match subject.get("kind"):
        case "User":
            return subject.get("name") == user.name
        case "Group":
            return subject.get("name") in user.groups
        case "ServiceAccount":
            where = subject.get("namespace") or namespace
            return user.name == f"system:serviceaccount:{where}:{subject.get('name')}"
    return False


class Authorizer:
    """Decides from the roles and bindings that are in the store now."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def rules(self, user: User, namespace: str) -> Iterator[Object]:
        """Every rule that holds for the user in the namespace ("": cluster-wide)."""
        yield from self._bound(CLUSTER_BINDINGS, "", user)
        if namespace:
            yield from self._bound(BINDINGS, namespace, user)

    def _bound(self, resource: str, namespace: str, user: User) -> Iterator[Object]:
        for binding in self._store.objects(resource, namespace):
            where = binding["metadata"].get("namespace", "")
            if any(subject_matches(subject, user, where) for subject in binding.get("subjects") or []):
                yield from self._role(binding["roleRef"], where)

    def _role(self, reference: Object, namespace: str) -> Iterator[Object]:
        cluster_wide = reference.get("kind") == "ClusterRole"
        resource = CLUSTER_ROLES if cluster_wide else ROLES
        entry = self._store.find(resource, "" if cluster_wide else namespace, reference.get("name", ""))
        yield from (entry.object.get("rules") or []) if entry else []

    def allows(self, user: User, ask: Ask) -> bool:
        if "system:masters" in user.groups:
            return True
        return any(rule_allows(rule, ask) for rule in self.rules(user, ask.namespace))

    def check(self, user: User, ask: Ask) -> None:
        """Raises Forbidden with the sentence that Kubernetes gives."""
        if not self.allows(user, ask):
            raise refusal(user, ask)


def refusal(user: User, ask: Ask) -> ApiError:
    """Forbidden, in Kubernetes' words."""
    if not ask.resource:
        return ApiError(
            403, "Forbidden", f'forbidden: User "{user.name}" cannot {ask.verb} path "{ask.path}"'
        )
    scope = f'in the namespace "{ask.namespace}"' if ask.namespace else "at the cluster scope"
    why = (
        f'User "{user.name}" cannot {ask.verb} resource "{ask.full_resource}" '
        f'in API group "{ask.group}" {scope}'
    )
    return forbidden(f"{ask.resource}.{ask.group}" if ask.group else ask.resource, ask.name, why)
