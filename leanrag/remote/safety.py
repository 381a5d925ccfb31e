"""Check the URL, the hosts, the key and the headers before anything is sent."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import httpx

from leanrag.checks import check_at_least, check_whole
from leanrag.errors import ConfigurationError
from leanrag.remote.keys import Secret

__all__ = ["Safety", "check_secrets", "check_url"]

_OWN_HEADERS = {"accept-encoding", "content-length", "content-type", "host", "transfer-encoding"}


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


def check_secrets(
    key: Secret | Callable[[], str] | None, headers: Mapping[str, Secret], base_url: str, *, is_safe: bool
) -> None:
    """Check that the key and the headers are valid, and are not sent unencrypted.

    Raises:
        ConfigurationError: A value is invalid, or would be sent unencrypted.
    """
    for field, secret in [*headers.items(), *([("api_key", key)] if isinstance(key, Secret) else [])]:
        if not secret.is_sendable:
            raise ConfigurationError(f"`{field}` must be printable ASCII without spaces around it, and not empty")
    for field in headers:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", field) or field.lower() in _OWN_HEADERS:
            raise ConfigurationError(
                f"`headers` cannot have the field {field!r}, because it is not a valid name or each request sets it. Remove it"
            )
    if (key is not None or headers) and not (is_safe or base_url.lower().startswith("https:")):
        raise ConfigurationError(
            f"a key or headers would be sent unencrypted to {base_url}. Use https, or pass `Safety(allow_insecure=True)`"
        )


def check_url(base_url: str, allowed_hosts: Collection[str] | None) -> bool:
    """Return whether the URL names this machine.

    Raises:
        ConfigurationError: The URL is invalid, or its host is not allowed.
    """
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError, ValueError):
        url = httpx.URL("")
    if url.userinfo or url.query or url.fragment or "@" in str(base_url):
        raise ConfigurationError(
            "`base_url` must not have a user, password, query or fragment. Pass a key as `api_key`"
        )
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(f"`base_url` must be http://HOST... or https://HOST..., got {base_url!r}")
    if allowed_hosts is not None:
        allowed = [allowed_hosts] if isinstance(allowed_hosts, str) else list(allowed_hosts)
        if url.host.lower() not in {host.lower() for host in allowed}:
            raise ConfigurationError(
                f"the host {url.host} of `base_url` must be in `allowed_hosts` ({', '.join(allowed) or 'empty'})"
            )
    try:
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return url.host.lower() == "localhost" or url.host.lower().endswith(".localhost")
