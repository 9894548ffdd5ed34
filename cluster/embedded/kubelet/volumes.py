"""A pod's volumes as directories, and each container's root in which they appear at their mount paths.

There is no mount namespace here, so a container's `volumeMounts` appear below a directory of its own, told to
it in CONTAINER_SANDBOX_MOUNT_POINT (the name Kubernetes itself uses where there is none either: Windows
HostProcess containers). A mount is a symbolic link to the volume's directory.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from cluster.embedded.kube import CONFIGMAPS, SECRETS, SERVICEACCOUNTS, Api, ApiError, Object
from cluster.embedded.kubelet import files
from cluster.embedded.kubelet.environment import Lookup
from cluster.embedded.kubelet.files import MountError, Payload

REFRESH_AT = 0.8
"""A token is renewed when this share of its life has passed (kubelet's token manager)."""

SUPPORTED = "configMap, secret, projected, downwardAPI, emptyDir"


@dataclass
class Volumes:
    """The volumes of one pod, under `directory`."""

    pod: Object
    directory: Path
    addresses: tuple[str, str]
    api: Api
    lookup: Lookup
    refresh_at: float = float("inf")  # seconds since the epoch at which the next token is due
    _tokens: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        """The pod's."""
        return str(self.pod["metadata"]["namespace"])

    async def update(self) -> None:
        """Make or renew every volume; MountError names the first that cannot be made."""
        self.refresh_at = float("inf")
        for volume in self.pod["spec"].get("volumes") or []:
            try:
                await self._update(volume)
            except (MountError, ApiError) as error:
                message = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
                raise MountError(message) from error

    def uses(self, kind: str, name: str) -> bool:
        """Whether any volume or variable of the pod comes from the ConfigMap or Secret `name`."""
        for volume in self.pod["spec"].get("volumes") or []:
            for source in [volume, *((volume.get("projected") or {}).get("sources") or [])]:
                ref = source.get("configMap" if kind == "ConfigMap" else "secret") or {}
                if name in (ref.get("name"), ref.get("secretName")):
                    return True
        return False

    async def _update(self, volume: Object) -> None:
        directory = self._of(volume["name"])
        if "emptyDir" in volume:
            directory.mkdir(parents=True, exist_ok=True)
            return
        payload = await self._payload(volume)
        if not files.same(directory, payload):
            files.write(directory, payload)

    async def _payload(self, volume: Object) -> Payload:
        for name, resource in (("configMap", CONFIGMAPS), ("secret", SECRETS)):
            if source := volume.get(name):
                mode = source.get("defaultMode") or files.DEFAULT_MODE
                return await files.keyed(resource, self.namespace, source, mode, self.lookup)
        if source := volume.get("downwardAPI"):
            mode = source.get("defaultMode") or files.DEFAULT_MODE
            return files.downward_files(self.pod, source, mode, self.addresses)
        if source := volume.get("projected"):
            return await self._projected(source)
        kind = next((name for name in volume if name != "name"), "none")
        raise MountError(f"the embedded cluster has no {kind} volumes, only {SUPPORTED}: use kind for others")

    async def _projected(self, projected: Object) -> Payload:
        mode = projected.get("defaultMode") or files.DEFAULT_MODE
        payload: Payload = {}
        for source in projected.get("sources") or []:
            if ref := source.get("configMap"):
                payload |= await files.keyed(CONFIGMAPS, self.namespace, ref, mode, self.lookup)
            elif ref := source.get("secret"):
                payload |= await files.keyed(SECRETS, self.namespace, ref, mode, self.lookup)
            elif ref := source.get("downwardAPI"):
                payload |= files.downward_files(self.pod, ref, mode, self.addresses)
            elif ref := source.get("serviceAccountToken"):
                payload[ref["path"]] = files.File((await self._token(ref)).encode(), mode)
            else:
                raise MountError(
                    f"projected source {', '.join(source)} is not supported by the embedded cluster"
                )
        return payload

    async def _token(self, ref: Object) -> str:
        """A token bound to the pod, renewed in time (TokenRequest API)."""
        account = self.pod["spec"].get("serviceAccountName") or "default"
        audience, seconds = ref.get("audience") or "", ref.get("expirationSeconds") or 3600
        key = (audience, ref["path"])
        token, due = self._tokens.get(key, ("", 0.0))
        if due <= time.time():
            meta = self.pod["metadata"]
            bound = {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]}
            spec: Object = {"expirationSeconds": seconds, "boundObjectRef": bound}
            if audience:
                spec["audiences"] = [audience]
            path = SERVICEACCOUNTS.path(self.namespace, account, "token")
            body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
            answer = await self.api.request("POST", path, body)
            token, due = answer["status"]["token"], time.time() + seconds * REFRESH_AT
            self._tokens[key] = (token, due)
        self.refresh_at = min(self.refresh_at, due)
        return token

    def _of(self, name: str) -> Path:
        return self.directory / "volumes" / name

    def root_of(self, container: str) -> Path:
        """Where a container's root is."""
        return self.directory / "roots" / container

    def make_root(self, container: Object) -> Path:
        """A fresh root with the container's mounts; MountError when they contradict the volumes."""
        root = self.root_of(container["name"])
        shutil.rmtree(root, ignore_errors=True)
        (root / "tmp").mkdir(parents=True, exist_ok=True)
        mounts = container.get("volumeMounts") or []
        names = {volume["name"] for volume in self.pod["spec"].get("volumes") or []}
        for mount in sorted(mounts, key=lambda each: len(each["mountPath"])):
            if mount["name"] not in names:
                raise MountError(f'volumeMounts: no volume is named "{mount["name"]}"')
            self._mount(root, mount)
        return root

    def _mount(self, root: Path, mount: Object) -> None:
        target: Path = self._of(mount["name"])
        if sub_path := mount.get("subPath"):
            target = target / files.relative(sub_path)
            if not target.exists():
                target.mkdir(parents=True)
        link = root / mount["mountPath"].strip("/")
        if link.is_symlink():
            link.unlink()
        elif link.is_dir() and not any(link.iterdir()):
            link.rmdir()
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)

    def remove(self) -> None:
        """Delete everything the pod had on disk."""
        shutil.rmtree(self.directory, ignore_errors=True)
