"""Custom key stores over an external key store proxy: created, connected, described, changed, deleted.

A store is looked at before it is believed: its health at creation, at connection and when its address or credential
changes; its key's metadata before a KMS key is made over it. AWS's CloudHSM stores do not exist here.
"""

import re
import secrets
from dataclasses import replace

from anchorhold.authority.kms import external
from anchorhold.authority.kms.authenticate import PRINCIPAL_HANDLE
from anchorhold.authority.kms.call import Answer, Call
from anchorhold.authority.kms.faults import KmsFault, limit_exceeded, unsupported, validation
from anchorhold.authority.kms.fields import Fields, stored
from anchorhold.authority.kms.paging import Listing, sequence
from anchorhold.authority.kms.store import TYPE, Connection, Connectivity, CustomKeyStore
from anchorhold.authority.kms.xks_proxy import INVALID, TIMED_OUT, UNREACHABLE, ProxyFailed

MAX_STORES = 10  # AWS's quota of an account in a Region
ID_BYTES = 9  # AWS's ids have 17 hex digits, which is no whole number of bytes
_STORE_ID = re.compile("cks-[0-9a-f]{17}")
MAX_PORT = 65_535
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"  # RFC 1123 2.1; a longer one cannot be asked of any resolver
_ENDPOINT = re.compile(rf"https://{_LABEL}(\.{_LABEL})*(:(?P<port>[1-9][0-9]{{0,4}}))?")
_PATH = r"(/[A-Za-z0-9/_-]+)?/kms/xks/v[0-9]{1,2}"
_ACCESS_KEY_ID = r"[A-Z2-7]{20,30}"
_RAW_KEY = r"[A-Za-z0-9+/=]{43,64}"
_MADE_OF = (
    "CustomKeyStoreName", "CustomKeyStoreType", "XksProxyUriEndpoint", "XksProxyUriPath", "XksProxyConnectivity",
    "XksProxyVpcEndpointServiceName", "XksProxyAuthenticationCredential",
)  # fmt: skip
_NOT_DONE = ("CloudHsmClusterId", "TrustAnchorCertificate", "KeyStorePassword", "XksProxyVpcEndpointServiceOwner")
# What a proxy's failure is called by CreateCustomKeyStore, and as a ConnectionErrorCode.
_FAILURES = {
    UNREACHABLE: ("XksProxyUriUnreachableException", "XKS_PROXY_NOT_REACHABLE"),
    TIMED_OUT: ("XksProxyUriUnreachableException", "XKS_PROXY_TIMED_OUT"),
    INVALID: ("XksProxyInvalidResponseException", "XKS_PROXY_INVALID_RESPONSE"),
    "AuthenticationFailedException": ("XksProxyIncorrectAuthenticationCredentialException", "INVALID_CREDENTIALS"),
    "AccessDeniedException": ("XksProxyInvalidConfigurationException", "XKS_PROXY_ACCESS_DENIED"),
}
_OTHERWISE = ("XksProxyInvalidConfigurationException", "XKS_PROXY_INVALID_CONFIGURATION")
_HEALTHY = ("ACTIVE", "DEGRADED")


def create_custom_key_store(call: Call) -> Answer:
    _allow(call, *_MADE_OF)
    call.authorise_account("CreateCustomKeyStore")
    if call.fields.text("CustomKeyStoreType", most=64) != TYPE:
        raise KmsFault("UnsupportedOperationException", f"CustomKeyStoreType: only {TYPE} is supported here")
    if len(call.transaction.stores.all()) >= MAX_STORES:
        raise limit_exceeded(f"expected at most {MAX_STORES} custom key stores in an account")
    if call.fields.structure("XksProxyAuthenticationCredential") is None:
        raise validation("xksProxyAuthenticationCredential: Member must not be null")
    blank = CustomKeyStore(
        f"cks-{secrets.token_hex(ID_BYTES)[:17]}", "", "", "", Connectivity.PUBLIC_ENDPOINT, None, "", b"",
        Connection.DISCONNECTED, None, call.now,
    )  # fmt: skip
    store = _changed(call, blank, needed=True)
    _look(call, store)
    call.transaction.stores.add(store)
    call.draft.response = {"customKeyStoreId": store.store_id}
    return {"CustomKeyStoreId": store.store_id}


def update_custom_key_store(call: Call) -> Answer:
    """Name, address or credential. All but the credential and the name take a disconnected store."""
    _allow(call, "CustomKeyStoreId", "NewCustomKeyStoreName", *(one for one in _MADE_OF if one.startswith("XksProxy")))
    call.authorise_account("UpdateCustomKeyStore")
    store = _named(call)
    moved = any(name.startswith(("XksProxyUri", "XksProxyVpc")) for name in call.fields.members)
    if (moved or "XksProxyConnectivity" in call.fields.members) and store.state is Connection.CONNECTED:
        raise _invalid_state(store)
    changed = _changed(call, store, needed=False)
    if replace(changed, name=store.name) != store:
        _look(call, changed)
    call.transaction.stores.put(changed)
    return {}


def connect_custom_key_store(call: Call) -> Answer:
    """Connected if the proxy is healthy now; FAILED, with a code, if not. The call itself succeeds, as AWS's does."""
    call.fields.allow("CustomKeyStoreId")
    call.authorise_account("ConnectCustomKeyStore")
    store = _named(call)
    if store.state is Connection.CONNECTED:
        raise _invalid_state(store)
    try:
        _health(call, store)
        connected = replace(store, state=Connection.CONNECTED, error=None)
    except ProxyFailed as error:
        call.draft.proxy = error.code
        connected = replace(store, state=Connection.FAILED, error=_FAILURES.get(error.code, _OTHERWISE)[1])
    call.transaction.stores.put(connected)
    return {}


def disconnect_custom_key_store(call: Call) -> Answer:
    """From now on no key of this store is used."""
    call.fields.allow("CustomKeyStoreId")
    call.authorise_account("DisconnectCustomKeyStore")
    store = _named(call)
    if store.state is Connection.DISCONNECTED:
        raise _invalid_state(store)
    call.transaction.stores.put(replace(store, state=Connection.DISCONNECTED, error=None))
    return {}


def delete_custom_key_store(call: Call) -> Answer:
    call.fields.allow("CustomKeyStoreId")
    call.authorise_account("DeleteCustomKeyStore")
    store = _named(call)
    if call.transaction.stores.keys_in(store.store_id):
        raise KmsFault("CustomKeyStoreHasCMKsException", f"{store.store_id} has KMS keys")
    if store.state is not Connection.DISCONNECTED:
        raise _invalid_state(store)
    call.transaction.stores.remove(store.store_id)
    return {}


def describe_custom_key_stores(call: Call) -> Answer:
    call.fields.allow("CustomKeyStoreId", "CustomKeyStoreName", "Limit", "Marker")
    call.authorise_account("DescribeCustomKeyStores")
    store_id = call.fields.text("CustomKeyStoreId", least=1, most=64)
    name = call.fields.text("CustomKeyStoreName", least=1, most=256)
    if store_id is not None and name is not None:
        raise validation("expected CustomKeyStoreId or CustomKeyStoreName, got both")
    found = {
        one.store_id: one
        for one in call.transaction.stores.all()
        if store_id in (None, one.store_id) and name in (None, one.name)
    }
    if not found and (store_id or name):
        raise _not_found(store_id or name or "")
    return Listing("CustomKeyStores", 100, 1_000, sequence(found), lambda row: row[0], lambda row: _entry(row[1])).page(
        call
    )


def _allow(call: Call, *names: str) -> None:
    """Raises UnsupportedOperationException for what CloudHSM stores and other accounts' endpoints need."""
    call.fields.allow(*names, *_NOT_DONE)
    for name in _NOT_DONE:
        if call.fields.members.get(name) is not None:
            raise unsupported(f"{name}: only external key stores at an endpoint of one's own are supported here")


def check_external_key(call: Call, store_id: str, xks_key_id: str) -> None:
    """The store is connected, and has an enabled AES-256 key of this id that no other KMS key of it uses."""
    store = _store(call, store_id)
    if store.state is not Connection.CONNECTED:
        raise _invalid_state(store)
    if call.transaction.stores.uses(store_id, xks_key_id):
        raise KmsFault("XksKeyAlreadyInUseException", f"a KMS key of {store_id} has this external key already")
    try:
        said = external.proxy_of(call, store).call(
            f"keys/{xks_key_id}/metadata", {"requestMetadata": external.request_metadata(call, None)}, call.now
        )
    except ProxyFailed as error:
        call.draft.proxy = error.code
        if error.code in ("KeyNotFoundException", "InvalidUriPathException"):
            raise KmsFault("XksKeyNotFoundException", "the external key store has no key of this id") from error
        raise KmsFault("XksKeyInvalidConfigurationException", "the external key cannot be looked at") from error
    usage = said.get("keyUsage")
    able = isinstance(usage, list) and {"ENCRYPT", "DECRYPT"} <= {one for one in usage if isinstance(one, str)}
    if said.get("keySpec") != "AES_256" or said.get("keyStatus") != "ENABLED" or not able:
        words = "the external key: expected an enabled AES_256 key that encrypts and decrypts"
        raise KmsFault("XksKeyInvalidConfigurationException", words)


def _changed(call: Call, store: CustomKeyStore, *, needed: bool) -> CustomKeyStore:
    """The store with what the request says of it. Raises ValidationException, and AWS's names for what is taken."""
    fields = call.fields
    name = fields.text("CustomKeyStoreName" if needed else "NewCustomKeyStoreName", least=1, most=256)
    endpoint = fields.text("XksProxyUriEndpoint", least=10, most=128)
    path = fields.text("XksProxyUriPath", least=10, most=128, form=_PATH)
    wanted = fields.choice("XksProxyConnectivity", *(one.value for one in Connectivity))
    if needed and (name is None or endpoint is None or path is None or wanted is None):
        raise validation("expected CustomKeyStoreName, XksProxyUriEndpoint, XksProxyUriPath and XksProxyConnectivity")
    changed = replace(
        store,
        name=store.name if name is None else stored(name, "CustomKeyStoreName"),
        endpoint=store.endpoint if endpoint is None else _endpoint(endpoint),
        path=store.path if path is None else path,
        connectivity=store.connectivity if wanted is None else Connectivity(wanted),
        vpc_service=_vpc_service(fields, store),
    )
    if (changed.connectivity is Connectivity.VPC_ENDPOINT_SERVICE) is (changed.vpc_service is None):
        words = "with VPC_ENDPOINT_SERVICE, and null or an empty one with PUBLIC_ENDPOINT"
        raise validation(f"(simulated) expected XksProxyVpcEndpointServiceName {words}")
    if not needed and changed.connectivity is not store.connectivity and changed.endpoint == store.endpoint:
        raise validation("(simulated) expected another XksProxyUriEndpoint with another XksProxyConnectivity")
    others = [one for one in call.transaction.stores.all() if one.store_id != store.store_id]
    if any(one.name == changed.name for one in others):
        raise KmsFault("CustomKeyStoreNameInUseException", "a custom key store has this name already")
    if any((one.endpoint, one.path) == (changed.endpoint, changed.path) for one in others):
        raise KmsFault("XksProxyUriInUseException", "a custom key store has this proxy already")
    return _with_credential(call, changed, fields.structure("XksProxyAuthenticationCredential"))


def _vpc_service(fields: Fields, store: CustomKeyStore) -> str | None:
    """What the request leaves of it. With AWS null and the empty string are none; an absent member is no change."""
    name = "XksProxyVpcEndpointServiceName"
    if name not in fields.members:
        return store.vpc_service
    if fields.members[name] in (None, ""):
        return None
    return stored(fields.needed_text(name, least=20, most=64), name)


def _with_credential(call: Call, store: CustomKeyStore, credential: Fields | None) -> CustomKeyStore:
    if credential is None:
        return store
    credential.allow("AccessKeyId", "RawSecretAccessKey")
    access_key_id = credential.needed_text("AccessKeyId", least=20, most=30, form=_ACCESS_KEY_ID)
    secret = credential.needed_text("RawSecretAccessKey", least=43, most=64, form=_RAW_KEY)
    aad = external.secret_aad(access_key_id)
    sealed = call.around.keystore.seal(PRINCIPAL_HANDLE, secret.encode(), aad)
    return replace(store, access_key_id=access_key_id, secret=sealed)


def _endpoint(text: str) -> str:
    """AWS's endpoints have no port; ours may, as a proxy here listens where it can. Raises ValidationException."""
    found = _ENDPOINT.fullmatch(text)
    if found is None or int(found["port"] or 0) > MAX_PORT:
        raise validation("xksProxyUriEndpoint: expected https://host or https://host:port")
    return text.lower()


def _look(call: Call, store: CustomKeyStore) -> None:
    """Raises AWS's error for what is wrong with the proxy."""
    try:
        _health(call, store)
    except ProxyFailed as error:
        call.draft.proxy = error.code
        raise KmsFault(
            _FAILURES.get(error.code, _OTHERWISE)[0], "the external key store proxy cannot be used"
        ) from error


def _health(call: Call, store: CustomKeyStore) -> None:
    meta = {"kmsRequestId": call.draft.request_id, "kmsOperation": call.draft.name}
    said = external.proxy_of(call, store).call("health", {"requestMetadata": meta}, call.now)
    fleet = said.get("ekmFleetDetails")
    if not isinstance(fleet, list) or not fleet:
        raise ProxyFailed(INVALID)
    if not any(isinstance(one, dict) and one.get("healthStatus") in _HEALTHY for one in fleet):
        raise ProxyFailed(UNREACHABLE)


def _named(call: Call) -> CustomKeyStore:
    return _store(call, call.fields.needed_text("CustomKeyStoreId", least=1, most=64))


def _store(call: Call, store_id: str) -> CustomKeyStore:
    """Raises CustomKeyStoreNotFoundException. What is no id of ours is not asked of the database."""
    store = call.transaction.stores.get(store_id) if _STORE_ID.fullmatch(store_id) else None
    if store is None:
        raise _not_found(store_id)
    return store


def _entry(store: CustomKeyStore) -> dict[str, object]:
    proxy: dict[str, object] = {
        "Connectivity": store.connectivity.value,
        "AccessKeyId": store.access_key_id,
        "UriEndpoint": store.endpoint,
        "UriPath": store.path,
    }
    if store.vpc_service is not None:
        proxy["VpcEndpointServiceName"] = store.vpc_service
    entry: dict[str, object] = {
        "CustomKeyStoreId": store.store_id,
        "CustomKeyStoreName": store.name,
        "ConnectionState": store.state.value,
        "CreationDate": store.created / 1000,
        "CustomKeyStoreType": TYPE,
        "XksProxyConfiguration": proxy,
    }
    return entry if store.error is None else entry | {"ConnectionErrorCode": store.error}


def _not_found(name: str) -> KmsFault:
    return KmsFault("CustomKeyStoreNotFoundException", f"there is no custom key store {name[:256]}")


def _invalid_state(store: CustomKeyStore) -> KmsFault:
    return KmsFault("CustomKeyStoreInvalidStateException", f"{store.store_id} is {store.state.value}")


OPERATIONS = {
    "CreateCustomKeyStore": create_custom_key_store,
    "ConnectCustomKeyStore": connect_custom_key_store,
    "DisconnectCustomKeyStore": disconnect_custom_key_store,
    "DescribeCustomKeyStores": describe_custom_key_stores,
    "UpdateCustomKeyStore": update_custom_key_store,
    "DeleteCustomKeyStore": delete_custom_key_store,
}
