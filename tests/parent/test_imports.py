"""The parent neither computes nor knows: what it must not hold is not even in its process."""

import subprocess
import sys

FORBIDDEN = (
    "cryptography", "cbor2", "OpenSSL", "asn1crypto", "torch", "transformers", "boto3", "numpy",
    "anchorhold.attestation", "anchorhold.enclave", "anchorhold.client", "anchorhold.audit", "anchorhold.authority",
    "anchorhold.log", "anchorhold.publish", "anchorhold.sim",
)  # fmt: skip
PROGRAM = """
import importlib, pkgutil, sys
import anchorhold.parent
for module in pkgutil.walk_packages(anchorhold.parent.__path__, "anchorhold.parent."):
    importlib.import_module(module.name)
print("\\n".join(sorted(sys.modules)))
"""


def test_importing_the_parent_loads_nothing_it_may_not_hold() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert {"anchorhold.parent.gateway", "anchorhold.parent.lifecycle", "grpc"} <= loaded
    assert {name for name in loaded for bad in FORBIDDEN if name == bad or name.startswith(f"{bad}.")} == set()
