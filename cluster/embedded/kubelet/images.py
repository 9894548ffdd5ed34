"""Which images this kubelet can run: the lab's own, whose programs are installed beside it. Pure."""

from __future__ import annotations


def runnable(image: str, accepted: str) -> bool:
    """Whether a pod's image is the accepted one, whatever registry it is written with.

    `accepted` without a tag accepts any tag.
    """
    name = image.rsplit("/", 1)[-1].partition("@")[0]
    return name == accepted or (":" not in accepted and name.partition(":")[0] == accepted)


def pull_error(image: str, accepted: str) -> str:
    """Why an image cannot be pulled, and what to do."""
    return (
        f'Failed to pull image "{image}": the embedded cluster has no container runtime and runs only the image '
        f"{accepted}; use --backend kind for other images"
    )
