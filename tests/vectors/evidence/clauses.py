"""Which check refuses which vector, by the numbers of `attestation/verify.py`; a test finds them in tracebacks."""

CLAUSES: dict[str, str] = {
    "1.1": "bytes-too-many",
    "1.2": ("bytes-text bytes-pem cose-tag-17 cose-tag-98 cose-tag-twice cose-cwt-tag cose-three cose-five cose-map"),
    "1.3": (
        "bytes-none bytes-cut bytes-cut-short payload-huge-length payload-empty map-no-break map-count-high "
        "inner-bytes-huge"
    ),
    "1.4": "protected-map protected-null payload-null payload-text signature-null",
    "1.5": (
        "unprotected-kid unprotected-algorithm unprotected-null unprotected-list unprotected-bytes "
        "unprotected-indefinite"
    ),
    "1.6": (
        "protected-empty protected-no-algorithm protected-minus-1 protected-text-algorithm "
        "protected-float-algorithm protected-true-key protected-kid protected-twice protected-list "
        "protected-trailing protected-cut protected-indefinite protected-wide-algorithm protected-wide-key "
        "protected-too-large"
    ),
    "1.7": (
        "cose-indefinite cose-payload-alone payload-map payload-pieces map-break-inside map-break-value "
        "field-pieces inner-map-indefinite inner-list-indefinite inner-bytes-pieces inner-text-pieces "
        "inner-float inner-half-float inner-simple inner-reserved"
    ),
    "1.8": (
        "cose-tag-wide cose-wide-count payload-wide-length map-count-wide field-wide-name inner-wide-length "
        "inner-wide-count register-wide-index register-twice-wide timestamp-wide"
    ),
    "1.9": "inner-deep",
    "1.10": "inner-tag inner-big-number inner-undefined inner-negative register-negative-index",
    "1.11": "map-count-huge map-65-members inner-list-huge inner-map-huge",
    "1.12": "field-bytes",
    "1.13": "field-twice field-twice-alike register-twice",
    "1.14": "inner-not-utf8 inner-surrogate",
    "1.15": "bytes-trailing bytes-twice map-trailing map-trailing-definite map-count-low",
    "1.17": "protected-es256 protected-es512 protected-eddsa",
    "1.18": "signature-der signature-short signature-long signature-empty signature-64-bytes",
    "1.19": "payload-too-large",
    "1.20": "map-list map-number",
    "1.21": "field-number",
    "1.22": "field-no-pcrs field-two-banks",
    "1.23": "field-no-module_id field-no-digest field-no-timestamp field-no-certificate field-no-cabundle",
    "1.24": "payload-unknown-field field-unknown",
    "1.25": "digest-sha256 digest-case digest-bytes",
    "1.26": "module-empty module-257 module-bytes module-null",
    "1.27": "module-control module-not-ascii",
    "1.28": "timestamp-zero timestamp-text timestamp-huge timestamp-true timestamp-null",
    "1.29": "registers-none registers-list registers-null registers-33",
    "1.30": "register-32 register-text-index",
    "1.31": "register-32-bytes register-64-bytes register-text register-null",
    "1.32": (
        "certificate-empty certificate-null certificate-text certificate-1025 bundle-member-empty "
        "bundle-member-null bundle-member-1025"
    ),
    "1.33": "bundle-none bundle-null bundle-bytes bundle-six",
    "1.34": "public_key-1025 public_key-text user_data-1025 user_data-text nonce-1025 nonce-text",
    "2.1": "root-stranger root-last root-missing root-longer root-self-signed-leaf",
    "2.2": (
        "chain-version-9 chain-no-point-leaf chain-extension-twice chain-serial-zero chain-serial-negative "
        "chain-name-long chain-name-empty chain-name-long-issuer chain-certificate-trailing "
        "chain-certificate-cut chain-certificate-zeros chain-leaf-path-length"
    ),
    "2.3": "chain-version-1-leaf chain-version-1-zonal",
    "2.4": "chain-sha256-leaf chain-sha256-regional",
    "2.5": "chain-p256-leaf chain-p521-zonal chain-ed25519-leaf",
    "2.6": "chain-critical-leaf chain-critical-regional",
    "2.7": (
        "chain-no-constraints-regional chain-no-usage-regional chain-no-constraints-zonal "
        "chain-no-usage-zonal chain-no-constraints-instance chain-no-usage-instance chain-leaf-no-constraints "
        "chain-leaf-no-usage"
    ),
    "2.8": (
        "chain-not-yet-regional chain-not-yet-zonal chain-not-yet-instance chain-not-yet-leaf "
        "chain-not-yet-root at-seconds"
    ),
    "2.9": (
        "chain-expired-regional chain-expired-zonal chain-expired-instance chain-expired-leaf "
        "chain-expired-root at-stated-late"
    ),
    "2.10": "chain-no-ca-regional chain-no-ca-zonal chain-no-ca-instance",
    "2.11": "chain-path-length-regional chain-path-length-zonal chain-doubled",
    "2.12": "chain-no-cert-sign-regional chain-no-cert-sign-zonal chain-no-cert-sign-instance",
    "2.13": (
        "chain-issuer-name-regional chain-issuer-name-zonal chain-issuer-name-instance chain-issuer-name-leaf "
        "chain-one-missing chain-swapped chain-issuer-capitals chain-root-alone chain-leaf-signs-leaf"
    ),
    "2.14": "chain-ca-as-leaf chain-leaf-ca",
    "2.15": "chain-leaf-no-sign chain-leaf-cert-sign",
    "2.17": (
        "root-pasted chain-algorithms-differ chain-forged-regional chain-forged-zonal chain-forged-instance "
        "chain-forged-leaf chain-key-ids-differ chain-name-constraints"
    ),
    "2.18": "chain-forged-beside",
    "3.1": (
        "register-0-differs register-1-differs register-2-differs register-16-differs register-16-absent "
        "register-16-zero register-mixed-releases"
    ),
    "4.3": "at-nonce-younger",
    "4.4": "at-witness-earlier",
    "5.4": (
        "signature-zero signature-r-zero signature-s-order signature-swapped signature-flipped "
        "signature-other-key signature-by-instance signature-sha256 signature-context signature-external "
        "signature-bare signature-reencoded"
    ),
    "5.7": "identity-other-module identity-longer identity-nameless",
    "5.8": "identity-tpm-registers identity-tpm-name",
    "5.9": "platform-simulated-tpm",
    "5.10": "platform-production",
    "5.11": (
        "debug-zero-0 debug-absent-0 debug-zero-1 debug-absent-1 debug-zero-2 debug-absent-2 debug-real debug-genuine"
    ),
    "5.13": "age-older age-genuine",
    "5.14": "age-ahead",
    "5.15": "nonce-absent nonce-empty nonce-other nonce-head nonce-longer nonce-hex",
    "5.17": "root-genuine",
}

# Checks that pass on what others refused, and whose.
THROUGH: dict[str, str] = {
    "1.16": "1.2 1.3",
    "2.16": "2.17 2.18",
    "5.5": "5.4",
    "5.6": "5.4",
    "5.12": "3.1",
}

# Checks that no document can show by itself: why, and the test that shows them.
ELSEWHERE: dict[str, tuple[str, str]] = {
    "4.1": ("the caller's mistake", "tests/attestation/test_vectors.py::test_a_time_needs_a_value_and_a_zone"),
    "4.2": ("the caller's mistake", "tests/attestation/test_vectors.py::test_a_time_needs_a_value_and_a_zone"),
    "5.1": ("the caller's mistake", "tests/attestation/test_verify.py::test_a_caller_without_a_nonce_is_told_so"),
    "5.2": (
        "1.17 and 2.5 come first in a document",
        "tests/attestation/test_cose_vectors.py::test_a_key_of_another_kind_or_curve_is_refused",
    ),
    "5.3": (
        "1.18 comes first in a document",
        "tests/attestation/test_cose_vectors.py::test_a_signature_of_another_size_is_refused",
    ),
    "5.16": ("no bytes make it", "tests/attestation/test_verify.py::test_nobody_else_can_make_evidence"),
}
