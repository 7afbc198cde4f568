"""Every label of every hash, signature and derivation, once. A test checks that no two are equal (STYLE 15)."""

# Statements and the NSM nonce (docs/spec/evidence.md)
STATEMENT_GENESIS = b"anchorhold/v1/statement/genesis"
STATEMENT_RELEASE = b"anchorhold/v1/statement/release"
STATEMENT_SERVE = b"anchorhold/v1/statement/serve"
NSM_NONCE = b"anchorhold/v1/nsm-nonce"
NSM_NONCE_BATCH = b"anchorhold/v1/nsm-nonce/batch"
NONCE_LEAF = b"anchorhold/v1/nsm-nonce/leaf"
NONCE_NODE = b"anchorhold/v1/nsm-nonce/node"
CONFIGURATION = b"anchorhold/v1/configuration"
POLICY = b"anchorhold/v1/policy"
KEY_ID = b"anchorhold/v1/key-id"

# Key release and leases (docs/spec/release.md)
RELEASE_SEAL = b"anchorhold/v1/release/seal"
LEASE = b"anchorhold/v1/lease"
LEASE_ASSERTED = b"anchorhold/v1/lease-asserted"
LEASE_ID = b"anchorhold/v1/lease-id"
TENANT_CREDENTIAL = b"anchorhold/v1/tenant/credential"
JOURNAL = b"anchorhold/v1/journal"
JOURNAL_CHAIN = b"anchorhold/v1/journal/chain"
JOURNAL_HEAD = b"anchorhold/v1/journal/head"
CHALLENGE = b"anchorhold/v1/release/challenge"
OWNER_SHARE = b"anchorhold/v1/release/owner-share"
TENANT_TAG = b"anchorhold/v1/tenant/tag"
TENANT_KEY = b"anchorhold/v1/tenant/key"
TENANT_SHARE = b"anchorhold/v1/tenant/share"
TENANT_BLOB = b"anchorhold/v1/tenant/blob"
TENANT_BLOBS = b"anchorhold/v1/tenant/blobs"

# The channel (docs/spec/channel.md)
HEADER = b"anchorhold/v1/channel/header"
SLOT = b"anchorhold/v1/channel/slot"
SLOT_DIGEST = b"anchorhold/v1/channel/slot-digest"
SLOT_LIST = b"anchorhold/v1/channel/slot-list"
COMMIT_REQUEST = b"anchorhold/v1/channel/commit-request"
COMMIT_RESPONSE = b"anchorhold/v1/channel/commit-response"
REQUEST_KEY = b"anchorhold/v1/channel/request"
RESPONSE_KEY = b"anchorhold/v1/channel/response"
REQUEST_DIGEST = b"anchorhold/v1/channel/request-digest"
RESPONSE_DIGEST = b"anchorhold/v1/channel/response-digest"
REQUEST_BODY = b"anchorhold/v1/channel/request-body"
TENANT_REQUEST = b"anchorhold/v1/channel/tenant-request"
TENANT_NAMESPACE = b"anchorhold/v1/channel/tenant-namespace"
TENANT_PSEUDONYM = b"anchorhold/v1/channel/tenant-pseudonym"
REPLAY = b"anchorhold/v1/channel/replay"
RECEIPT = b"anchorhold/v1/receipt"
RECEIPT_SALT = b"anchorhold/v1/receipt/salt"
RECEIPT_TAG = b"anchorhold/v1/receipt/tag"
RECEIPT_COMMITMENT = b"anchorhold/v1/receipt/commitment"

# The sealed model (docs/spec/sealed-model.md)
DESCRIPTOR = b"anchorhold/v1/model/descriptor"
TENSOR_INDEX = b"anchorhold/v1/model/tensor-index"
MODEL_KEY = b"anchorhold/v1/model/key"
MODEL_KEY_COMMITMENT = b"anchorhold/v1/model/key-commitment"
SHARE_CHECK = b"anchorhold/v1/model/share-check"
FILE_KEY = b"anchorhold/v1/model/file-key"
FILE_CONTEXT = b"anchorhold/v1/model/file-context"

# The transcript (docs/spec/transcript.md)
TRANSCRIPT_ENTRY = b"anchorhold/v1/transcript/entry"
TRANSCRIPT_CHAIN = b"anchorhold/v1/transcript/chain"
TRANSCRIPT_HEAD = b"anchorhold/v1/transcript/head"
CHECKPOINT = b"anchorhold/v1/transcript/checkpoint"
BATCH_ROOT = b"anchorhold/v1/transcript/batch-root"

# The authority's state (docs/spec/authority-state.md)
STATE_BACKUP = b"anchorhold/v1/authority/state-backup"

# The KMS face (docs/spec/release.md)
KMS_KEYSTORE = b"anchorhold/v1/kms/keystore"
KMS_BLOB = b"anchorhold/v1/kms/blob"
KMS_BLOB_CONTEXT = b"anchorhold/v1/kms/blob-context"
KMS_EXTERNAL_CONTEXT = b"anchorhold/v1/kms/external-context"
KMS_MATERIAL = b"anchorhold/v1/kms/material-id"
KMS_IMPORTED = b"anchorhold/v1/kms/imported-material-id"
KMS_IMPORT_TOKEN = b"anchorhold/v1/kms/import-token"

# The XKS face (docs/spec/xks-face.md)
XKS_AAD = b"anchorhold/v1/xks/aad"

# Keystores and backups of an authority (docs/spec/keystores.md)
KEYSTORE_SEAL = b"anchorhold/v1/keystore/seal"
BACKUP_PART = b"anchorhold/v1/backup/part"
BACKUP_SET = b"anchorhold/v1/backup/set"
BACKUP_HEADER = b"anchorhold/v1/backup/header"
BACKUP = b"anchorhold/v1/backup/signature"
RECIPIENT_ID = b"anchorhold/v1/backup/recipient-id"
OWNER_BLOB = b"anchorhold/v1/backup/owner-blob"

# Release statements, signed by people (docs/spec/release-statements.md)
RELEASES_SIGNER = b"anchorhold/v1/releases/signer"
RELEASES_STATEMENT = b"anchorhold/v1/releases/statement"
RELEASES_STATEMENT_SIGNATURE = b"anchorhold/v1/releases/statement-signature"
RELEASES_LIST = b"anchorhold/v1/releases/list"
RELEASES_LIST_SIGNATURE = b"anchorhold/v1/releases/list-signature"
RELEASES_REVOCATION = b"anchorhold/v1/releases/revocation"
RELEASES_REVOCATION_SIGNATURE = b"anchorhold/v1/releases/revocation-signature"
RELEASES_HEARTBEAT = b"anchorhold/v1/releases/heartbeat"
RELEASES_HEARTBEAT_SIGNATURE = b"anchorhold/v1/releases/heartbeat-signature"
RELEASES_QUORUM = b"anchorhold/v1/releases/quorum"
RELEASES_SEEN = b"anchorhold/v1/releases/seen"

# The guard of an authority (docs/spec/guard.md)
GUARD_POLICY = b"anchorhold/v1/guard/policy"
GUARD_TICKET = b"anchorhold/v1/guard/ticket"
GUARD_APPROVAL_REQUEST = b"anchorhold/v1/guard/approval-request"
GUARD_APPROVAL = b"anchorhold/v1/guard/approval"
GUARD_SUBJECT = b"anchorhold/v1/guard/subject"
GUARD_MEASUREMENT = b"anchorhold/v1/guard/measurement"
GUARD_OPERATOR = b"anchorhold/v1/guard/operator"
