"""The quorum's heartbeat, kept and handed out (docs/spec/release.md 5.2): its form and order alone are judged here.

Whoever relies on it verifies the signatures under the quorum they pinned: an authority that vouched for them would put
its own word in the place of k people's.
"""

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.release.heartbeat import read_heartbeat
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.desk_refused import DeskRefused

LEEWAY_MS = 300_000  # a signing desk's clock and ours may differ by five minutes, as for release lists


def put(owner: Owner, raw: bytes) -> None:
    """Keep this one from now on. Raises DeskRefused for another form, one from the future, or an older one."""
    try:
        signed, said = read_heartbeat(raw)
    except EvidenceError as error:
        raise DeskRefused("heartbeat", str(error)) from error
    with owner.state.transaction() as transaction:
        now = owner.clock()
        if said.issued_at > now + LEEWAY_MS:
            raise DeskRefused("heartbeat", f"issued at: expected at most {now + LEEWAY_MS}, got {said.issued_at}")
        if (kept := transaction.heartbeat()) is not None:
            before = read_heartbeat(kept)[1]
            if said.product == before.product and said.issued_at < before.issued_at:
                raise DeskRefused("heartbeat", f"issued at: expected {before.issued_at} or later, got {said.issued_at}")
        transaction.put_heartbeat(raw)
        body: dict[str, canonical.Value] = {
            "product": said.product,
            "list": said.list,
            "version": said.version,
            "issued_at": said.issued_at,
            "signers": len(signed.signatures),
        }
        owner.journal.append(transaction.connection, now, "heartbeat", body)


def shown(raw: bytes) -> dict[str, canonical.Value]:
    """What `status` says of it: unverified, so how many signed and not whether they count."""
    signed, said = read_heartbeat(raw)
    return {
        "product": said.product,
        "list": said.list,
        "version": said.version,
        "issued_at": said.issued_at,
        "signatures": len(signed.signatures),
    }
