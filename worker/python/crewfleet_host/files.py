"""The files that a kickoff made or changed, as the reply lists them."""

import base64
import hashlib
import mimetypes
import os
from typing import Any

# What Python's own table lacks, by version.
_MEDIA_TYPES = {
    ".md": "text/markdown",
    ".jsonl": "application/jsonl",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".parquet": "application/vnd.apache.parquet",
}
_BLOCK_BYTES = 1 << 20


def describe(folder: str, names: list[str], most: int, inline_bytes: int) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The list "files" of a result, by path, and "files_left_out" when there are more than `most`, or names that are no UTF-8.

    `names` are relative to `folder`. What is nearest to the top is listed first; contents are inline while all together they fit
    into `inline_bytes`.
    """
    # A name that is no UTF-8 cannot stand in JSON.
    chosen = sorted((name for name in names if printable(name) == name), key=lambda name: (name.count("/"), name))
    left_out = [*chosen[most:], *(name for name in names if printable(name) != name)]
    found, room = [], inline_bytes
    for name in chosen[:most]:
        entry = _entry(os.path.join(folder, name), name, room)
        if entry is not None:
            found.append(entry)
            room -= entry["bytes"] if entry["content"] is not None else 0
    return sorted(found, key=lambda entry: entry["path"]), _left_out(folder, left_out)


def _entry(place: str, name: str, room: int) -> dict[str, Any] | None:
    digest, head = hashlib.sha256(), b""
    size = 0
    try:
        with open(place, "rb", opener=_without_following) as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                size += len(block)
                if size <= room:
                    head += block
    except OSError:  # removed meanwhile, or its owner may not read it
        return None
    content, encoding = _inline(head) if size <= room else (None, None)
    return {"path": name, "bytes": size, "sha256": digest.hexdigest(), "media_type": media_type(name), "content": content, "encoding": encoding}


def media_type(name: str) -> str | None:
    """By the ending of a name."""
    ending = os.path.splitext(name)[1].lower()
    return _MEDIA_TYPES.get(ending) or mimetypes.guess_type(name)[0]


def _inline(data: bytes) -> tuple[str, str]:
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(data).decode("ascii"), "base64"


def _left_out(folder: str, names: list[str]) -> dict[str, Any] | None:
    if not names:
        return None
    sizes = (os.lstat(os.path.join(folder, name)).st_size for name in names if os.path.lexists(os.path.join(folder, name)))
    return {"count": len(names), "bytes": sum(sizes), "first": printable(names[0])}


def printable(name: str) -> str:
    """With "?" for what is no UTF-8."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _without_following(place: str, flags: int) -> int:
    return os.open(place, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
