"""Where the broker is: the section `[broker]` of `crewfleet.toml` and `CREWFLEET__BROKER__…`, as the programs read them."""

from __future__ import annotations

import os
import re
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

from yarl import URL

from .errors import BrokerUnavailable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "CREWFLEET__BROKER__"
_BETWEEN_URLS = re.compile(r"[,\s]\s*(?=amqps?://)")
#: Keys of the section that are for the programs, and mean nothing here.
_OF_THE_PROGRAMS = frozenset(("max_reply_bytes", "consumer_timeout_s", "management_url", "streams", "results_max_age_s", "results_max_bytes"))


class SettingsError(ValueError):
    """A setting that is not allowed; it names the key and its place."""


@dataclass(frozen=True)
class Settings:
    """The section `[broker]`, as far as a client needs it. Names and defaults are those of `deploy/CONFIGURATION.md`."""

    #: `amqp://` or `amqps://`, with user and password; several with commas between them are tried in their order. A secret.
    url: str = "amqp://guest:guest@127.0.0.1:5672/%2f"
    url_file: str | None = None
    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None
    namespace: str = "kickoff"
    client_name: str | None = None
    heartbeat_s: int = 20
    connect_timeout_s: int = 10
    max_request_bytes: int = 8 * 1024 * 1024

    def __repr__(self) -> str:
        return f"Settings(url=***, namespace={self.namespace!r})"

    @property
    def urls(self) -> list[str]:
        """The URLs, in the order in which they are tried."""
        text = self.url
        if self.url_file is not None:
            try:
                text = Path(self.url_file).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise BrokerUnavailable(f"[broker] url_file {self.url_file} cannot be read: {error.strerror}") from error
        # A comma may be part of a password, too.
        return [url.strip() for url in _BETWEEN_URLS.split(text.strip()) if url.strip()]

    def checked_urls(self) -> list[str]:
        """The same. Raises `SettingsError` for a URL that is none of AMQP's. The URL has a password, so it is not shown."""
        urls = self.urls
        for number, url in enumerate(urls, 1):
            try:
                parsed = URL(url)
                is_one = parsed.scheme in ("amqp", "amqps") and parsed.host and (parsed.port is None or parsed.port > 0)
            except ValueError:
                is_one = False
            if not is_one:
                raise SettingsError(f"broker.url: URL {number} is none of AMQP's: write amqp://USER:PASSWORD@HOST:5672/%2f, or amqps://")
        return urls

    def tls(self) -> ssl.SSLContext:
        """What an `amqps://` connection believes, and shows of itself."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.client_cert_file is not None:
            context.load_cert_chain(self.client_cert_file, self.client_key_file)
        return context


def load(url: str | None = None, config: str | os.PathLike[str] | None = None, **given: Any) -> Settings:
    """The settings: `crewfleet.toml` (of the working directory, or `config`), then the environment, then what is given."""
    file = Path(config) if config is not None else Path("crewfleet.toml")
    section: dict[str, Any] = {}
    if config is not None or file.exists():
        section = _of_file(file)
    values, environment = _checked(section, str(file)), _of_environment(os.environ)
    # As in the programs: paths of a file start at its folder, and a URL from a higher source outranks a file that holds one.
    values |= {key: str(file.parent / value) for key, value in values.items() if key.endswith("_file")}
    if "url" in environment:
        values.pop("url_file", None)
    values |= environment
    values |= {name: value for name, value in given.items() if value is not None}
    # Whoever names a URL means that one, and not the file that a configuration names.
    if url is not None:
        values |= {"url": url, "url_file": None}
    try:
        settings = replace(Settings(), **values)
    except TypeError as error:
        raise SettingsError(f"unknown setting: {error}") from error
    if settings.url_file is None:
        settings.checked_urls()
    return settings


def _of_file(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            parsed = tomllib.load(opened)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: {error}") from error
    section = parsed.get("broker", {})
    if not isinstance(section, dict):
        raise SettingsError(f"{file}: broker is no section: write [broker]")
    return cast("dict[str, Any]", section)


def _checked(section: Mapping[str, Any], place: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    kinds = {field.name: field.type for field in fields(Settings)}
    for key, value in section.items():
        if key in _OF_THE_PROGRAMS:
            continue
        if key not in kinds:
            raise SettingsError(f"{place}: [broker] has no key {key!r}: it has {', '.join(sorted((*kinds, *_OF_THE_PROGRAMS)))}")
        values[key] = _value(f"{place}: broker.{key}", str(kinds[key]), value)
    return values


def _of_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    section = {name[len(PREFIX) :].lower(): value for name, value in environ.items() if name.startswith(PREFIX)}
    return _checked(section, "environment")


def _value(place: str, kind: str, value: Any) -> Any:
    if kind == "int":
        try:
            return int(value)
        except (TypeError, ValueError):
            raise SettingsError(f"{place} = {value!r} is no whole number") from None
    if isinstance(value, list):
        parts = cast("list[Any]", value)
        if all(isinstance(one, str) for one in parts):
            return ",".join(parts)
    if not isinstance(value, str):
        raise SettingsError(f"{place} is no text")
    return value
