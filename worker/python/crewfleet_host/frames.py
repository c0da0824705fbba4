"""The wire between worker, fork server, hosts and children: a length (4 bytes, big-endian), then one JSON object with "type"."""

import json
import math
import os
import re
import socket
import struct
import threading
from collections import deque
from typing import Any

from .jsonable import jsonable

MAX_FRAME_BYTES = 256 * 1024 * 1024
_READ_BYTES = 256 * 1024
_MAX_FDS = 16
_LENGTH = struct.Struct(">I")
# A number so long, or with such an exponent, that Python may refuse it or make infinity of it.
_ODD_NUMBER = re.compile(rb"[0-9]{300}|[eE]\+?[0-9]{3}")


class Unreadable:
    """A number in a frame that Python cannot take, as its `text`: too many digits, or beyond any float."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


class FrameError(Exception):
    """A frame that breaks the rules: too long, not JSON, or no object with a "type"."""


def encode(frame: dict[str, Any]) -> bytes:
    """The bytes of one frame; always valid UTF-8 and JSON, whatever strings and numbers the crew made.

    Raises FrameError when it would be longer than MAX_FRAME_BYTES.
    """
    try:
        text = json.dumps(frame, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):  # no JSON type, NaN, or too deep
        text = json.dumps(jsonable(frame), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    body = text.encode("utf-8", "replace")  # lone surrogates have no UTF-8
    if len(body) > MAX_FRAME_BYTES:
        raise FrameError(f'a frame of type "{frame.get("type")}" of {len(body)} bytes; at most {MAX_FRAME_BYTES} are allowed')
    return _LENGTH.pack(len(body)) + body


class Channel:
    """One end of a frame channel. Sends never interleave; reads belong to one thread."""

    def __init__(self, fd: int) -> None:
        """Takes over `fd`, a connected Unix stream socket."""
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(True)
        self._socket.set_inheritable(False)
        self._sending = threading.Lock()
        self._buffer = bytearray()
        self._fds: deque[int] = deque()
        self._cut = False

    def fileno(self) -> int:
        """The socket's fd, for poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes this end, and fds that came but were not taken."""
        self._socket.close()
        while self._fds:
            os.close(self._fds.popleft())

    def send(self, frame: dict[str, Any]) -> None:
        """Sends one frame, waiting for room. Raises OSError when the other end has gone, FrameError when it is too long."""
        data = encode(frame)
        with self._sending:
            self._socket.sendall(data)

    def read(self) -> list[dict[str, Any]] | None:
        """Reads once, blocking until something comes; returns the frames completed by it, None at the end of the stream.

        Raises FrameError on a frame that breaks the rules.
        """
        try:
            data, fds, flags, _ = socket.recv_fds(self._socket, _READ_BYTES, _MAX_FDS)
        except ConnectionError:
            return None
        for fd in fds:
            os.set_inheritable(fd, False)
        self._fds.extend(fds)
        self._cut = bool(flags & socket.MSG_CTRUNC)
        if not data:
            return None
        self._buffer += data
        return list(iter(self._next, None))

    def waiting_fds(self) -> list[int]:
        """The fds that came and were not taken yet."""
        return list(self._fds)

    def take_fds(self, count: int) -> list[int]:
        """The fds that came with the oldest frame that brought some; raises FrameError when fewer than `count` came."""
        if len(self._fds) < count:
            came = len(self._fds)
            while self._fds:  # or the next frame would take them for its own
                os.close(self._fds.popleft())
            reason = ": this process has too many open" if self._cut else ""
            raise FrameError(f"the frame needs {count} file descriptors, {came} came with it{reason}")
        return [self._fds.popleft() for _ in range(count)]

    def _next(self) -> dict[str, Any] | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MAX_FRAME_BYTES:
            raise FrameError(f"a frame of {length} bytes came; at most {MAX_FRAME_BYTES} are allowed")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(memoryview(self._buffer)[_LENGTH.size : end])
        del self._buffer[:end]
        try:
            frame = _decoded(body)
        except (ValueError, RecursionError) as error:
            raise FrameError(f"a frame that is not JSON came: {error}") from None
        if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
            raise FrameError('a frame that is no object with a "type" came')
        return frame


def _decoded(body: bytes) -> Any:
    """The JSON value of `body`. A number is never a reason to refuse it, nor taken for another: see Unreadable."""
    if not _ODD_NUMBER.search(body):
        return json.loads(body)
    return json.loads(body, parse_int=_whole, parse_float=_fraction)


def _whole(text: str) -> Any:
    try:
        return int(text)
    except ValueError:  # more digits than sys.get_int_max_str_digits()
        return Unreadable(text)


def _fraction(text: str) -> Any:
    value = float(text)
    return value if math.isfinite(value) else Unreadable(text)
