"""What an amqps:// URL says of TLS."""

from __future__ import annotations

import ssl

import pytest

from taskensemble.engine import urls
from taskensemble.errors import InputError


def test_parameters_of_tls_leave_the_url_and_become_options() -> None:
    url = "amqps://u:p@h:5671/v?ssl_ca_certs=/ca.crt&heartbeat=5"
    assert urls.celery_url(url) == "amqps://u:p@h:5671/v?heartbeat=5"
    assert urls.amqp_tls(url) == {"ca_certs": "/ca.crt", "cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "h"}
    assert urls.amqp_tls("amqps://h//?ssl_cert_reqs=none") == {"cert_reqs": ssl.CERT_NONE}


@pytest.mark.parametrize("url", ["amqp://h//", "redis://h", "rediss://h?ssl_ca_certs=/ca.crt"])
def test_other_urls_say_nothing_to_amqp(url: str) -> None:
    assert urls.amqp_tls(url) is None
    assert urls.celery_url(url) == url


@pytest.mark.parametrize("parameter", ["ssl_ca_cert=/x", "ssl_cert_reqs=maybe"])
def test_an_unknown_parameter_is_named(parameter: str) -> None:
    with pytest.raises(InputError, match=parameter.split("=")[0]):
        urls.amqp_tls(f"amqps://u:secret@h//?{parameter}")
