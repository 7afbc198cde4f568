"""Values that no honest caller sends have AWS's errors by name: none of them is a fault of ours."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sql
from sqlalchemy.engine import Engine

from . import test_importing as importing
from .asking import b64, refuses
from .conftest import Kms, allow

HOST = "xksProxyUriEndpoint: expected https://host or https://host:port"
STORE: dict[str, Any] = {
    "CustomKeyStoreName": "theirs",
    "CustomKeyStoreType": "EXTERNAL_KEY_STORE",
    "XksProxyUriPath": "/kms/xks/v1",
    "XksProxyConnectivity": "PUBLIC_ENDPOINT",
    "XksProxyAuthenticationCredential": {"AccessKeyId": "A" * 20, "RawSecretAccessKey": b64(bytes(48))},
}


@pytest.fixture
def strict() -> Iterator[None]:
    """A database that takes no text with NUL in it, as PostgreSQL does."""

    def check(_connection: Any, _cursor: Any, _statement: str, parameters: Any, _context: Any, many: bool) -> None:
        for row in parameters if many else (parameters,):
            values = row.values() if isinstance(row, dict) else row
            if any(isinstance(value, str) and "\0" in value for value in values):
                raise ValueError("a text with NUL in it")

    sql.event.listen(Engine, "before_cursor_execute", check)
    yield
    sql.event.remove(Engine, "before_cursor_execute", check)


@pytest.mark.parametrize("when", [1e308, -1e308, 10**400, -(10**400), 0, 0.5], ids=lambda when: f"{str(when)[:8]}")
def test_a_time_out_of_all_bounds_is_no_time_to_expire(kms: Kms, when: float) -> None:
    sent = importing.asked(kms, importing.new(kms))
    refuses(kms, "ValidationException", "admin", "ImportKeyMaterial", **sent, ValidTo=when)


@pytest.mark.parametrize(
    "host",
    [
        "exa mple.org", "a" * 70 + ".org", "a" * 64, "example.org.", ".org", "a..b", "-a.org", "a-.org",
        "b\u00fccher.org", "\u212aey.org", "example.org:", "example.org:0", "example.org:65536", "example.org:08443",
        "example.org/", "user@example.org", "[::1]", "example.org?a", "example.org\n",
    ],
)  # fmt: skip
def test_an_endpoint_that_no_host_can_have_is_refused_before_it_is_called(kms: Kms, host: str) -> None:
    kms.identity("admin", "kms:*")
    asked = STORE | {"XksProxyUriEndpoint": f"https://{host}"}
    assert refuses(kms, "ValidationException", "admin", "CreateCustomKeyStore", **asked).message == HOST


@pytest.mark.parametrize("host", ["localhost", "EXAMPLE.org", "a" * 63 + ".b-c.d1:65535", "127.0.0.1:8443"])
def test_an_endpoint_that_a_host_can_have_is_called(kms: Kms, host: str) -> None:
    kms.identity("admin", "kms:*")
    asked = STORE | {"XksProxyUriEndpoint": f"https://{host}"}
    refuses(kms, "XksProxyUriUnreachableException", "admin", "CreateCustomKeyStore", **asked)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("name", ["alias/a\0b", "\0", "alias/\0"])
def test_a_name_with_nul_names_no_key(kms: Kms, name: str) -> None:
    kms.key(allow(kms, "publisher", "kms:*"))
    arn = kms.arn("admin").replace(":iam::", f":kms:{kms.region}:").replace("user/admin", name)
    for key in (name, arn):
        refuses(kms, "NotFoundException", "publisher", "Encrypt", KeyId=key, Plaintext=b64(b"x"))
        refuses(kms, "NotFoundException", "publisher", "DescribeKey", KeyId=key)
        refuses(kms, "NotFoundException", "publisher", "PutKeyPolicy", KeyId=key, Policy="{}")


@pytest.mark.usefixtures("strict")
def test_an_id_with_nul_names_no_custom_key_store(kms: Kms) -> None:
    kms.identity("admin", "kms:*")
    asked = {"CustomKeyStoreId": "cks-0123456789abcde\0f"}
    for operation in (
        "ConnectCustomKeyStore", "DisconnectCustomKeyStore", "UpdateCustomKeyStore", "DeleteCustomKeyStore",
        "DescribeCustomKeyStores",
    ):  # fmt: skip
        refuses(kms, "CustomKeyStoreNotFoundException", "admin", operation, **asked)
    made = asked | {"Origin": "EXTERNAL_KEY_STORE", "XksKeyId": "one"}
    refuses(kms, "CustomKeyStoreNotFoundException", "admin", "CreateKey", **made)
