"""`python -m tests.authority.xks.conformance --url URL --credentials FILE`: a line a clause; exit 1 if one breaks.

FILE is JSON: {"access_key_id", "secret_access_key", "region", "keys": {"full", "encrypt_only", "decrypt_only",
"impotent", and optionally "disabled", "longest"}}.
"""

import argparse
import json
import ssl
import sys
from pathlib import Path

from tests.authority.xks.conformance.clauses import CLAUSES
from tests.authority.xks.conformance.proxy import Broken, Keys, Proxy, Signing


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.authority.xks.conformance", description=__doc__)
    parser.add_argument("--url", required=True, help="scheme, host and path prefix, up to /kms/xks/v1")
    parser.add_argument("--credentials", type=Path, required=True, metavar="FILE")
    parser.add_argument("--ca", type=Path, metavar="PEM", help="the CA of the proxy's certificate")
    parser.add_argument("--client-cert", type=Path, metavar="PEM", help="mTLS: the client's certificate")
    parser.add_argument("--client-key", type=Path, metavar="PEM", help="mTLS: its key")
    parser.add_argument("--ours", action="store_true", help="also the clauses that the specification does not ask for")
    options = parser.parse_args(arguments)
    broken = 0
    proxy = _proxy(options)
    for clause in CLAUSES:
        if clause.ours and not options.ours:
            continue
        try:
            clause.check(proxy)
            sys.stdout.write(f"ok      {clause.name}\n")
        except (Broken, OSError) as error:
            broken += 1
            sys.stdout.write(f"BROKEN  {clause.name}: {error}\n")
    return 1 if broken else 0


def _proxy(options: argparse.Namespace) -> Proxy:
    said = json.loads(options.credentials.read_text())
    signing = Signing(said["access_key_id"], said["secret_access_key"], said["region"])
    tls = None
    if options.url.startswith("https:"):
        tls = ssl.create_default_context(cafile=options.ca)
        if options.client_cert is not None:
            tls.load_cert_chain(options.client_cert, options.client_key)
    return Proxy(options.url, signing, Keys(**said["keys"]), tls, str(options.ca) if options.ca else None)


if __name__ == "__main__":
    sys.exit(main())
