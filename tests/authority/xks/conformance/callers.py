"""Who is let in: Signature Version 4, and no other word about why not."""

import json

from tests.authority.xks.conformance.proxy import Proxy, encrypt_body, expect

_REFUSED = "AuthenticationFailedException"


def a_wrong_secret_is_401(proxy: Proxy) -> None:
    proxy.signed(secret="Invalid" + proxy.signing.secret).encrypt(proxy.keys.full).fails(_REFUSED)


def a_wrong_id_is_401(proxy: Proxy) -> None:
    proxy.signed(access_key_id="Invalid" + proxy.signing.access_key_id).encrypt(proxy.keys.full).fails(_REFUSED)
    proxy.signed(access_key_id="A" * 20).encrypt(proxy.keys.full).fails(_REFUSED)


def a_request_without_a_signature_is_401(proxy: Proxy) -> None:
    body = json.dumps(encrypt_body()).encode()
    path = proxy.path(proxy.keys.full, "encrypt")
    headers = {"Host": proxy.host, "Content-Type": "application/json"}
    proxy.send(path, body, headers).fails(_REFUSED)
    proxy.send(path, body, headers | {"Authorization": "AWS4-HMAC-SHA256 nonsense"}).fails(_REFUSED)


def another_services_signature_is_401(proxy: Proxy) -> None:
    proxy.signed(service="kms").encrypt(proxy.keys.full).fails(_REFUSED)


def another_regions_signature_is_401(proxy: Proxy) -> None:
    proxy.signed(region="mars-north-1").encrypt(proxy.keys.full).fails(_REFUSED)


def a_signature_over_another_body_is_401(proxy: Proxy) -> None:
    path, body = proxy.path(proxy.keys.full, "encrypt"), json.dumps(encrypt_body()).encode()
    headers = proxy.signing.headers(proxy.host, path, body)
    proxy.send(path, body.replace(b"AES_GCM", b"AES_GCN"), headers).fails(_REFUSED)


def a_signature_over_another_path_is_401(proxy: Proxy) -> None:
    body = json.dumps(encrypt_body()).encode()
    headers = proxy.signing.headers(proxy.host, proxy.path(proxy.keys.encrypt_only, "encrypt"), body)
    proxy.send(proxy.path(proxy.keys.full, "encrypt"), body, headers).fails(_REFUSED)


def host_and_date_must_be_signed(proxy: Proxy) -> None:
    for name in ("host", "x-amz-date"):
        proxy.signed(leave_out=frozenset({name})).encrypt(proxy.keys.full).fails(_REFUSED)


def four_minutes_either_way_are_taken(proxy: Proxy) -> None:
    for shift in (-240, 240):
        proxy.signed(shift_s=shift).encrypt(proxy.keys.full).succeeds()


def over_five_minutes_ago_is_401(proxy: Proxy) -> None:
    proxy.signed(shift_s=-330).encrypt(proxy.keys.full).fails(_REFUSED)


def over_five_minutes_ahead_is_401(proxy: Proxy) -> None:
    proxy.signed(shift_s=330).encrypt(proxy.keys.full).fails(_REFUSED)


def metadata_and_health_are_authenticated_too(proxy: Proxy) -> None:
    wrong = proxy.signed(secret="Invalid" + proxy.signing.secret)
    wrong.metadata(proxy.keys.full).fails(_REFUSED)
    wrong.health().fails(_REFUSED)
    wrong.decrypt(proxy.keys.full, proxy.encrypt(proxy.keys.full).succeeds()).fails(_REFUSED)


def who_is_not_let_in_does_not_learn_which_keys_exist(proxy: Proxy) -> None:
    wrong = proxy.signed(secret="Invalid" + proxy.signing.secret)
    known, unknown = (wrong.metadata(key) for key in (proxy.keys.full, "no-such-key"))
    expect((known.status, known.raw) == (unknown.status, unknown.raw), "an unauthenticated caller can tell keys apart")


def a_request_is_accepted_once(proxy: Proxy) -> None:
    path, body = proxy.path(proxy.keys.full, "encrypt"), json.dumps(encrypt_body()).encode()
    headers = proxy.signing.headers(proxy.host, path, body)
    proxy.send(path, body, headers).succeeds()
    proxy.send(path, body, headers).fails(_REFUSED)
