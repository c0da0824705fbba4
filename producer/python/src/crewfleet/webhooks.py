"""Where whoever starts a kickoff wants to be called, by CrewAI AMP's names; and what a worker would refuse of it.

What is wrong is told without its secrets: of authentication no value is shown, of an address neither path nor query.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypedDict, cast
from urllib.parse import urlsplit

from .errors import InvalidKickoff

_MAX_URL_CHARS = 2048
_MAX_EVENTS = 200
_MAX_EVENT_CHARS = 128
_MAX_SECRET_CHARS = 4096

_URL_FORM = 'give a URL, as in "https://example.org/hook"'
_EVENTS_FORM = 'give a list of names, as in ["crew_kickoff_started"]'
_AUTHENTICATION_FORM = 'give {"strategy": "bearer", "token": "…"} or {"strategy": "basic", "username": "…", "password": "…"}'


class Authentication(TypedDict, total=False):
    """What a call shows of who calls: `strategy` is `bearer`, with `token`, or `basic`, with `username` and `password`."""

    strategy: str
    token: str
    username: str
    password: str


class EventWebhook(TypedDict, total=False):
    """Called with events: at least one name, none twice. With `realtime`, each event comes by itself and at once."""

    events: list[str]
    url: str
    realtime: bool
    authentication: Authentication


class HumanInputWebhook(TypedDict, total=False):
    """Called when a human is asked."""

    url: str
    authentication: Authentication


class Webhooks(TypedDict, total=False):
    """Called after each task, after each step of an agent, when the crew has ended, and as the two above."""

    taskWebhookUrl: str
    stepWebhookUrl: str
    crewWebhookUrl: str
    webhooks: EventWebhook
    humanInputWebhook: HumanInputWebhook


def checked(webhooks: Mapping[str, Any]) -> dict[str, Any]:
    """Those that ask for something, as they were given. `InvalidKickoff` names the first that cannot be."""
    asked: dict[str, Any] = {}
    for name, value in webhooks.items():
        if name not in Webhooks.__annotations__:
            raise InvalidKickoff(f"webhooks has {name!r:.40}, which is none: there are {', '.join(Webhooks.__annotations__)}")
        if not _asks(value):
            continue
        if name == "webhooks":
            fields = _object(name, value, 'give {"events": ["crew_kickoff_started"], "url": "https://example.org/hook"}')
            realtime = fields.get("realtime")
            if realtime is not None and not isinstance(realtime, bool):
                raise InvalidKickoff(f"{name}.realtime is {_kind(realtime)}; give true or false")
            _check_names(f"{name}.events", fields.get("events"))
            _check_object(name, fields)
        elif name == "humanInputWebhook":
            _check_object(name, _object(name, value, 'give {"url": "https://example.org/hook"}'))
        else:
            _check_url(name, value)
        asked[name] = value
    return asked


def _asks(value: Any) -> bool:
    """Whether a value asks for something: forms send empty ones for what nobody filled in."""
    if isinstance(value, Mapping):
        fields = cast("Mapping[Any, Any]", value).items()
        return any(_asks(inner) and not (name == "realtime" and inner is False) for name, inner in fields)
    return value is not None and value not in ("", [], ())


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", tuple: "a list"}
    return kinds.get(cast("type[Any]", type(value)), "an object")


def _object(field: str, value: Any, form: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidKickoff(f"{field} is {_kind(value)}; {form}")
    return cast("Mapping[str, Any]", value)


def _check_object(field: str, fields: Mapping[str, Any]) -> None:
    url = fields.get("url")
    if not _asks(url):
        raise InvalidKickoff(f"{field}.url is missing, or empty; {_URL_FORM}")
    _check_url(f"{field}.url", url)
    authentication = fields.get("authentication")
    if _asks(authentication):
        field = f"{field}.authentication"
        _check_authentication(field, _object(field, authentication, _AUTHENTICATION_FORM))


def _check_url(field: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InvalidKickoff(f"{field} is {_kind(value)}; {_URL_FORM}")
    if len(value) > _MAX_URL_CHARS:
        raise InvalidKickoff(f"{field} has {len(value)} characters; at most {_MAX_URL_CHARS} are taken: give a shorter URL")
    problem = _problem_of(value)
    if problem:
        raise InvalidKickoff(f'{field} is "{_shown(value)}": {problem}')


def _problem_of(url: str) -> str | None:
    if re.search(r"[\s\x00-\x1f\x7f-\x9f\\]", url):
        return "a URL has no spaces, control characters and backslashes; take them out, or write them as in %20"
    if not re.match("https?://", url, re.IGNORECASE):
        return "it is no absolute URL; begin it with https:// or http://"
    if re.fullmatch("https?://([/?#].*)?", url, re.IGNORECASE):
        return "it has no host; give one as in https://example.org/hook"
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != -1
    except ValueError as error:
        # It may show all of it.
        return f"it is no URL ({type(error).__name__}); give one as in https://example.org/hook"
    if parts.username or parts.password is not None:
        return "it has a user or a password, which logs would show; take them out, and give authentication, or a query"
    if not has_host:
        return "it is no URL (empty host); give one as in https://example.org/hook"
    return "it has a fragment (#…), which is never sent; take it out" if "#" in url else None


def _shown(url: str) -> str:
    """The scheme and the host of what may be a URL."""
    found = re.match(r"([A-Za-z0-9]{1,20}://)([^/?#\\]*)(.*)", url, re.DOTALL) or re.match(r"()([^/?#\\:]*)(.*)", url, re.DOTALL)
    if found is None:
        return "…"
    scheme, authority, behind = found.groups()
    host = authority.rpartition("@")[2]
    more = "" if behind in ("", "/") and len(host) <= 80 else "/…" if behind.startswith("/") else "…"
    return f"{scheme}{'…@' if '@' in authority else ''}{host[:80]}{more}"


def _check_names(field: str, names: Any) -> None:
    if not _asks(names):
        raise InvalidKickoff(f"{field} is missing, or empty, so that nothing would be called; {_EVENTS_FORM}")
    if not isinstance(names, (list, tuple)):
        raise InvalidKickoff(f"{field} is {_kind(names)}; {_EVENTS_FORM}")
    given = cast("list[Any]", names)
    if len(given) > _MAX_EVENTS:
        raise InvalidKickoff(f"{field} has {len(given)} names; at most {_MAX_EVENTS} are taken")
    for place, name in enumerate(given):
        if not isinstance(name, str):
            raise InvalidKickoff(f"{field}[{place}] is {_kind(name)}; {_EVENTS_FORM}")
        if not name.strip():
            raise InvalidKickoff(f"{field}[{place}] is empty; name an event, or leave it out")
        if len(name) > _MAX_EVENT_CHARS:
            raise InvalidKickoff(f"{field}[{place}] has {len(name)} characters; at most {_MAX_EVENT_CHARS} are taken")
        if name in given[:place]:
            raise InvalidKickoff(f'{field}[{place}] is "{name}", which is named before; name it once')


def _check_authentication(field: str, fields: Mapping[str, Any]) -> None:
    strategy = fields.get("strategy")
    if strategy == "bearer":
        token = _secret(f"{field}.token", fields.get("token"))
        if not token:
            raise InvalidKickoff(f"{field}.token is empty; give the token, or leave authentication out")
        if not re.fullmatch("[!-~]+", token):
            raise InvalidKickoff(f"{field}.token has a space, or a character beyond ASCII, which no token has; give the token alone")
    elif strategy == "basic":
        username = _secret(f"{field}.username", fields.get("username"))
        if not username:
            raise InvalidKickoff(f"{field}.username is empty; give the user, or leave authentication out")
        if ":" in username:
            raise InvalidKickoff(f"{field}.username has a colon, which ends a user's name (RFC 7617); take it out")
        _secret(f"{field}.password", fields.get("password"))
    else:
        # It is not shown: it may be a secret in the wrong place.
        raise InvalidKickoff(f'{field}.strategy is neither "bearer" nor "basic"; {_AUTHENTICATION_FORM}')


def _secret(field: str, value: Any) -> str:
    """A text of authentication. Nothing of it is shown."""
    if value is None:
        raise InvalidKickoff(f"{field} is missing; {_AUTHENTICATION_FORM}")
    if not isinstance(value, str):
        raise InvalidKickoff(f"{field} is {_kind(value)}; {_AUTHENTICATION_FORM}")
    if len(value) > _MAX_SECRET_CHARS:
        raise InvalidKickoff(f"{field} is too long; at most {_MAX_SECRET_CHARS} characters are taken")
    if re.search(r"[\x00-\x1f\x7f-\x9f]", value):
        raise InvalidKickoff(f"{field} has a line break or another control character, which no header takes; take it out")
    return value
