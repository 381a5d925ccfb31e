"""Check the URL, the hosts, the key and the headers before anything is sent."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import httpx

from leanrag.checks import check_at_least, check_whole
from leanrag.errors import ConfigurationError
from leanrag.remote.keys import Secret, Secrets

__all__ = ["Address", "Safety", "check_secrets", "check_url"]

_OWN_HEADERS = {"accept-encoding", "content-length", "content-type", "host", "transfer-encoding"}
_KEY_NAME = re.compile(r"key|token|secret|passw|sig(?:nature)?$|auth|credential|^code$", re.I)
_ENDPOINT = re.compile(r"/(?:chat/completions|completions|embeddings|rerank)$")  # documents show URLs with these ends


@dataclass(frozen=True, slots=True)
class Safety:
    """What may be sent to which server, and what is accepted from it.

    Attributes:
        allowed_hosts: Hosts that requests may be sent to; None allows the host of `base_url`.
        allow_insecure: Whether a key or headers may be sent over plain http to another machine.
        max_body_bytes: Most bytes of a response.
        count_tolerance: A warning is logged if the billed prompt tokens differ from the count by more than this share.

    Raises:
        ConfigurationError: A value cannot work.
    """

    allowed_hosts: Collection[str] | None = None
    allow_insecure: bool = False
    max_body_bytes: int = 10_000_000
    count_tolerance: float = 0.25

    def __post_init__(self) -> None:
        check_whole(1, max_body_bytes=self.max_body_bytes)
        check_at_least(0, count_tolerance=self.count_tolerance)


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of a `base_url`.

    Attributes:
        url: The URL without its query, and without the name of an endpoint at its end.
        query: The parameters of its query.
        is_local: Whether it names this machine.
    """

    url: str
    query: Mapping[str, str]
    is_local: bool


def check_secrets(secrets: Secrets, base_url: str, *, is_safe: bool) -> None:
    """Check that the key, the headers and the query are valid, and are not sent unencrypted.

    Raises:
        ConfigurationError: A value is invalid, or would be sent unencrypted.
    """
    key = {"api_key": secrets.key} if isinstance(secrets.key, Secret) else {}
    for field, secret in {**secrets.headers, **secrets.query, **key}.items():
        if not secret.is_sendable:
            raise ConfigurationError(f"`{field}` must be printable ASCII without spaces around it, and not empty")
    for field in secrets.headers:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", field) or field.lower() in _OWN_HEADERS:
            raise ConfigurationError(
                f"`headers` cannot have the field {field!r}, because it is not a valid name or each request sets it. Remove it"
            )
    hidden = secrets.key is not None or secrets.hidden
    if hidden and not (is_safe or base_url.lower().startswith("https:")):
        raise ConfigurationError(
            f"a key or headers would be sent unencrypted to {base_url}. Use https, or pass `Safety(allow_insecure=True)`"
        )


def check_url(base_url: str, allowed_hosts: Collection[str] | None) -> Address:
    """Return the parts of the URL.

    Raises:
        ConfigurationError: The URL is invalid, has a key, or its host is not allowed.
    """
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError, ValueError):
        url = httpx.URL("")
    if url.userinfo or url.fragment or "@" in str(base_url) or any(map(_KEY_NAME.search, url.params)):
        raise ConfigurationError(
            "`base_url` must not have a user, password, key or fragment. Pass a key as `api_key`, `headers` or `query`"
        )
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(f"`base_url` must be http://HOST... or https://HOST..., got {base_url!r}")
    if allowed_hosts is not None:
        allowed = [allowed_hosts] if isinstance(allowed_hosts, str) else list(allowed_hosts)
        if url.host.lower() not in {host.lower() for host in allowed}:
            raise ConfigurationError(
                f"the host {url.host} of `base_url` must be in `allowed_hosts` ({', '.join(allowed) or 'empty'})"
            )
    path = _ENDPOINT.sub("", base_url.partition("?")[0].rstrip("/"))
    return Address(path, dict(url.params), _is_local(url.host))


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")
