"""Addresses of brokers and stores, in the form that each library wants. Pure functions over strings."""

from __future__ import annotations

import re
import ssl
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit, urlunsplit

from taskensemble.errors import InputError

REDIS_SCHEMES = {"redis", "rediss", "valkey", "valkeys", "unix", "redis+socket", "valkey+unix"}
_SOCKETS = {"unix", "redis+socket", "valkey+unix"}
AMQP_SCHEMES = {"amqp", "amqps", "pyamqp"}


def is_redis(url: str) -> bool:
    """Whether the URL names a Redis-protocol server."""
    return urlsplit(url).scheme in REDIS_SCHEMES


def redis_url(url: str) -> str:
    """The form that redis-py reads: redis://, rediss:// or unix://.

    Raises:
        InputError: it is no address of a Redis-protocol server.
    """
    parts = urlsplit(url)
    if parts.scheme not in REDIS_SCHEMES:
        message = f"store URL {without_password(url)!r}: records need a Redis or Valkey server: "
        raise InputError(
            message
            + "give redis://, rediss://, valkey:// or unix:// (with a RabbitMQ broker, set TASKENSEMBLE_STORE_URL as well)"
        )
    if parts.scheme in _SOCKETS:
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if "virtual_host" in query:
            query["db"] = query.pop("virtual_host")
        if parts.password and "password" not in query:
            query["password"] = parts.password
        path = "/" + (parts.path or parts.netloc).lstrip("/")
        return f"unix://{path}" + (f"?{urlencode(query)}" if query else "")
    scheme = {"valkey": "redis", "valkeys": "rediss"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, parts.path, parts.query, parts.fragment))


def celery_url(url: str) -> str:
    """The form that Celery and kombu read: redis://, rediss://, redis+socket://, amqp:// or amqps:// (see `amqp_tls`)."""
    if not is_redis(url):
        parts = urlsplit(url)
        kept = [(name, value) for name, value in parse_qsl(parts.query) if not name.startswith("ssl_")]
        return f"{parts.scheme}://{parts.netloc}{parts.path}" + (f"?{urlencode(kept)}" if kept else "")
    known = redis_url(url)
    if not known.startswith("unix://"):
        return known
    parts = urlsplit(known)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    password = query.pop("password", "")
    database = query.pop("db", "0")
    user = f":{quote(password, safe='')}@" if password else ""
    return f"redis+socket://{user}{parts.path}?{urlencode({'virtual_host': database, **query})}"


def amqp_tls(url: str) -> dict[str, Any] | None:
    """What an amqps:// URL says of TLS, as py-amqp wants it: `?ssl_ca_certs=/path/ca.crt`, and ssl_certfile, ssl_keyfile for a
    certificate of one's own. The server's certificate and name are checked, unless ssl_cert_reqs=none. None for other URLs.

    Raises:
        InputError: a parameter that is not known.
    """
    parts = urlsplit(url)
    if parts.scheme != "amqps":
        return None
    given = {name: value for name, value in parse_qsl(parts.query) if name.startswith("ssl_")}
    unknown = sorted(given.keys() - {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"})
    checks = given.pop("ssl_cert_reqs", "required")
    if unknown or checks not in ("required", "none"):
        what = unknown[0] if unknown else f"ssl_cert_reqs={checks}"
        raise InputError(
            f"broker URL {without_password(url)!r}: {what} is not known; give ssl_ca_certs, ssl_certfile, ssl_keyfile, "
            "ssl_cert_reqs=required or none"
        )
    options: dict[str, Any] = {name.removeprefix("ssl_"): value for name, value in given.items()}
    if checks == "none":
        return {**options, "cert_reqs": ssl.CERT_NONE}
    return {**options, "cert_reqs": ssl.CERT_REQUIRED, "server_hostname": parts.hostname}


def check_url(url: str, said: str) -> None:
    """Checks that an address can be read as its writer meant it.

    Arguments:
        said: the argument or variable that it comes from.

    Raises:
        InputError: its host or port cannot be told, as where a password has a character that ends it, or a database or a
            parameter is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        port, parts = None, None
    rest = "" if parts is None or parts.scheme in _SOCKETS or "@" in parts.netloc else parts.path + parts.query
    if parts is None or "@" in rest or parts.fragment:
        raise InputError(
            f"{said}={without_password(url)!r}: its host and port cannot be told: write host:port, an IPv6 address in [ ], "
            "and in a password %2F for /, %3F for ?, %23 for #, %40 for @, %3A for : and %25 for %"
        )
    if port == 0:
        raise InputError(f"{said}={without_password(url)!r}: port 0 is none to connect to")
    if parts.scheme not in REDIS_SCHEMES:
        return
    if parts.scheme not in _SOCKETS and not (parts.path.strip("/") or "0").isdecimal():
        raise InputError(f"{said}={without_password(url)!r}: the database is a number, such as /0")
    # What the library would say of a parameter only when it connects.
    from redis import ConnectionPool

    try:
        ConnectionPool.from_url(redis_url(url)).make_connection()
    except (TypeError, ValueError) as error:
        known = re.search(r"argument '(\w+)'", str(error))
        what = f"the parameter {known[1]} is not known" if known else str(error)
        raise InputError(f"{said}={without_password(url)!r}: {what}") from None


def without_password(url: str) -> str:
    """The URL with `***` for the password, for messages and logs. One that cannot be read shows no part of it either."""
    shown = re.sub(r"^([\w+.-]*://[^:@/]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    return re.sub(r"([?&]\w*password=)[^&]*", r"\1***", shown, flags=re.IGNORECASE)
