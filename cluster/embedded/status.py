"""The one error type of the API server, and the `Status` object that clients see of it.

Every part of the server refuses by raising `ApiError`; only `front.py` turns it into an HTTP response.
Codes and reasons are those of Kubernetes (apimachinery `metav1.StatusReason`), since kubectl and the clients
act on them: a `Conflict` is retried, `AlreadyExists` is taken for success by `create or update` loops,
`Expired` makes an informer list again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
"""A Kubernetes object, list or Status as parsed JSON. Objects from the store are shared: copy before
changing.
"""


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong with a field: `reason` as in Kubernetes (FieldValueRequired, ...), `field` its
    path.
    """

    reason: str
    message: str
    field: str


class ApiError(Exception):
    """A refusal: an HTTP code, a machine-readable reason, and a sentence."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}

    def status(self) -> Object:
        """The `Status` object of this refusal."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def split_resource(resource: str) -> tuple[str, str]:
    """`deployments.apps` -> (`deployments`, `apps`); `pods` -> (`pods`, ``)."""
    plural, _, group = resource.partition(".")
    return plural, group


def _about(resource: str, name: str) -> Object:
    plural, group = split_resource(resource)
    return {"name": name, "kind": plural} | ({"group": group} if group else {})


def not_found(resource: str, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{resource} "{name}" not found', _about(resource, name))


def unknown_path() -> ApiError:
    """What Kubernetes answers for a group, version or resource that it does not serve."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def already_exists(resource: str, name: str) -> ApiError:
    return ApiError(409, "AlreadyExists", f'{resource} "{name}" already exists', _about(resource, name))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(resource: str, name: str, why: str = MODIFIED) -> ApiError:
    message = f'Operation cannot be fulfilled on {resource} "{name}": {why}'
    return ApiError(409, "Conflict", message, _about(resource, name))


def invalid(kind: str, group: str, name: str, causes: Iterable[Cause]) -> ApiError:
    """422: the object as a whole was understood, and these fields of it are wrong."""
    causes = list(causes)
    what = f"{kind}.{group}" if group else kind
    texts = [f"{cause.field}: {cause.message}" for cause in causes]
    joined = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    details = {
        "name": name,
        "group": group,
        "kind": kind,
        "causes": [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes],
    }
    return ApiError(422, "Invalid", f'{what} "{name}" is invalid: {joined}', details)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(resource: str, name: str, why: str) -> ApiError:
    shown = f'{resource} "{name}"' if name else resource
    return ApiError(403, "Forbidden", f"{shown} is forbidden: {why}", _about(resource, name))


def expired(message: str) -> ApiError:
    """410: the history before this resourceVersion is gone; the client must list again."""
    return ApiError(410, "Expired", message)


def method_not_supported(verb: str) -> ApiError:
    return ApiError(
        405, "MethodNotAllowed", f"the server does not allow this method on the requested resource ({verb})"
    )


def unsupported_media(media: str, supported: Iterable[str]) -> ApiError:
    message = f"the body of the request was in an unknown format ({media}) - accepted media types include: "
    return ApiError(415, "UnsupportedMediaType", message + ", ".join(supported))


def unavailable(message: str) -> ApiError:
    return ApiError(503, "ServiceUnavailable", message)


def internal(message: str) -> ApiError:
    return ApiError(500, "InternalError", f"Internal error occurred: {message}")


def success(resource: str, name: str, uid: str) -> Object:
    """The `Status` of a deletion that is complete."""
    details = _about(resource, name) | {"uid": uid}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


# Messages of validation, worded as apimachinery's `field.Error`.


def required(field: str, detail: str = "") -> Cause:
    return Cause("FieldValueRequired", "Required value" + (f": {detail}" if detail else ""), field)


def shown(value: object) -> str:
    """A value as Go's %#v-like quoting in Kubernetes messages: strings quoted, the rest as JSON has it."""
    return (
        f'"{value}"'
        if isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def wrong(field: str, value: object, detail: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {shown(value)}: {detail}", field)


def not_supported(field: str, value: object, choices: Iterable[str]) -> Cause:
    listed = ", ".join(f'"{choice}"' for choice in sorted(choices))
    return Cause(
        "FieldValueNotSupported", f"Unsupported value: {shown(value)}: supported values: {listed}", field
    )


def duplicate(field: str, value: object) -> Cause:
    return Cause("FieldValueDuplicate", f"Duplicate value: {shown(value)}", field)


def immutable(field: str, value: object) -> Cause:
    return wrong(field, value, "field is immutable")
