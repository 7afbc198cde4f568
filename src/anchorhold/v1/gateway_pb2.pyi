from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AttestRequest(_message.Message):
    __slots__ = ("nonce", "with_configuration", "enclave")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    WITH_CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    ENCLAVE_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    with_configuration: bool
    enclave: str
    def __init__(self, nonce: _Optional[bytes] = ..., with_configuration: _Optional[bool] = ..., enclave: _Optional[str] = ...) -> None: ...

class AttestResponse(_message.Message):
    __slots__ = ("document", "statement", "owner_lease", "kms_lease", "configuration", "nonce_proof")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    OWNER_LEASE_FIELD_NUMBER: _ClassVar[int]
    KMS_LEASE_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    NONCE_PROOF_FIELD_NUMBER: _ClassVar[int]
    document: bytes
    statement: bytes
    owner_lease: bytes
    kms_lease: bytes
    configuration: bytes
    nonce_proof: bytes
    def __init__(self, document: _Optional[bytes] = ..., statement: _Optional[bytes] = ..., owner_lease: _Optional[bytes] = ..., kms_lease: _Optional[bytes] = ..., configuration: _Optional[bytes] = ..., nonce_proof: _Optional[bytes] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("body",)
    BODY_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    def __init__(self, body: _Optional[bytes] = ...) -> None: ...

class EnclavesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EnclaveHint(_message.Message):
    __slots__ = ("enclave_id", "model_alias", "state", "key_ids")
    ENCLAVE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ALIAS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    enclave_id: str
    model_alias: str
    state: str
    key_ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, enclave_id: _Optional[str] = ..., model_alias: _Optional[str] = ..., state: _Optional[str] = ..., key_ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class EnclavesResponse(_message.Message):
    __slots__ = ("enclaves",)
    ENCLAVES_FIELD_NUMBER: _ClassVar[int]
    enclaves: _containers.RepeatedCompositeFieldContainer[EnclaveHint]
    def __init__(self, enclaves: _Optional[_Iterable[_Union[EnclaveHint, _Mapping]]] = ...) -> None: ...

class TranscriptRequest(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    def __init__(self, path: _Optional[str] = ...) -> None: ...

class TranscriptChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...
