"""One status for each state a proxy can be in, as docs/schema/status.schema.json has them."""

import copy
import hashlib
from typing import Any

Status = dict[str, Any]
NOW = 1_790_000_000_000
MINUTE = 60_000


def sha384(text: str) -> str:
    return hashlib.sha384(text.encode()).hexdigest()


def claim(code: str, words: str) -> Status:
    return {"code": code, "words": words}


def hop(name: str, between: str, ends_at: str, exchange: str, quantum: bool | None, status: str, detail: str) -> Status:
    return {
        "name": name,
        "between": between,
        "ends_at": ends_at,
        "key_exchange": exchange,
        "post_quantum": quantum,
        "status": status,
        "detail": detail,
    }


def receipt(number: int, outcome: str = "stop", task: str = "chat") -> Status:
    refused = outcome not in ("stop", "length")
    return {
        "id": sha384(f"commitment {number}")[:32],
        "at": NOW - number * MINUTE,
        "task": task,
        "outcome": outcome,
        "prompt_tokens": None if refused else 31 + number,
        "completion_tokens": None if refused else 0 if task == "embed" else 118 - number,
        "purpose": "inference",
        "sequence": 40 - number,
        "model": sha384("model"),
        "statement": sha384("statement"),
        "commitment": sha384(f"commitment {number}")[:64],
        "tag": sha384(f"tag {number}")[:32],
    }


HYBRID = "MLKEM768-X25519"
HOPS = [
    hop("client-gateway", "this client and the gateway", "the gateway's operator", "unknown", None, "not-checked",
        "TLS to 'gateway.example': no handshake was seen yet"),
    hop("gateway-enclave", "the gateway and the enclave", "the enclave, by way of its parent", "none", None, "asserted",
        "a socket of the parent's machine: the same sealed frames"),
    hop("client-enclave", "this client and the enclave", f"the enclave of boot {sha384('boot')[:16]}", HYBRID, True,
        "proved", "the channel key is in the attested `serve` statement; prompt and answer are sealed under it"),
    hop("enclave-kms-kms", "the enclave and the KMS", "Cloud operator (kms.example)", "RSA-2048", False, "asserted",
        "the KMS's envelope is classical whatever TLS did; TLS ends in the enclave"),
    hop("enclave-owner-owner", "the enclave and the owner's authority", "Hospital trust (owner.example)", HYBRID, True,
        "asserted", "the share comes sealed to a one-time key of an attested statement; the lease is signed"),
]  # fmt: skip


def _session(*, simulated: bool) -> Status:
    return {
        "platform": "simulated" if simulated else "nitro-enclave",
        "simulated": simulated,
        "release": "2026.11.2",
        "statement": sha384("statement"),
        "key_id": sha384("key")[:32],
        "boot": sha384("boot")[:64],
        "measurements": {str(index): sha384(f"pcr{index}") for index in (0, 1, 2, 16)} | {"3": "00" * 48},
        "document_at": NOW - 4 * MINUTE,
        "epoch_end": NOW + 6 * MINUTE,
        "lease_end": NOW + 9 * MINUTE,
        "purposes": ["inference"],
        "leases": [
            {
                "source": "owner",
                "custodian": "Hospital trust",
                "asserted": False,
                "keystore": "pkcs11 vault",
                "not_after": NOW + 9 * MINUTE,
            },
            {
                "source": "kms",
                "custodian": "Cloud operator",
                "asserted": True,
                "keystore": "not said",
                "not_after": NOW + 14 * MINUTE,
            },
        ],
    }


def _proved(root: str) -> list[Status]:
    return [
        claim("enclave", f"A document signed under {root}, made for this proxy's own random number."),
        claim("software", "Its measurements are those that the trust file accepts."),
        claim("configuration", "It runs the pinned configuration, and no debug mode."),
        claim("model", "It says, under that signature, that it serves the pinned model."),
        claim("channel", "Requests are sealed to a key of this enclave; answers count under its key alone."),
        claim("lease", "Hospital trust lets it serve, by a lease signed with their key."),
    ]


_NOT_PROVED = [
    claim("answers", "That what the model says is true."),
    claim("this-machine", "That this machine, and the programs on it that talk to the proxy, are honest."),
    claim("traffic", "Nothing hides that requests are made, when, and about how long they are."),
]
_ASSERTED = [claim("kms-lease", "The enclave says that Cloud operator's key service lets it serve.")]
_TOY = claim("simulated", "Everything: a toy root stands in for hardware. Send nothing secret.")


def _base(state: str, *, simulated: bool = False) -> Status:
    return {
        "version": 1,
        "proxy": "0.4.0",
        "state": state,
        "since": NOW - 4 * MINUTE,
        "code": None,
        "message": None,
        "hint": None,
        "simulated": simulated,
        "deployment": {
            "name": "ward-seven",
            "gateway": "gateway.example:443",
            "alias": "smollm",
            "model": sha384("model"),
            "configuration": sha384("configuration"),
            "platforms": ["simulated" if simulated else "nitro-enclave"],
        },
        "verified_at": None,
        "session": None,
        "proved": [],
        "asserted": [],
        "not_proved": [claim("nothing-verified", "Nothing is verified now. Requests are refused, none is unsealed.")],
        "hops": None,
        "receipts": [],
        "counters": {"requests": 0, "answered": 0, "failed": 0, "resealed": 0},
    }


def _good(state: str, *, simulated: bool) -> Status:
    root = "the pinned simulated root" if simulated else "the pinned root of the platform's maker"
    return _base(state, simulated=simulated) | {
        "verified_at": NOW - 4 * MINUTE,
        "session": _session(simulated=simulated),
        "proved": _proved(root),
        "asserted": _ASSERTED,
        "not_proved": [_TOY, *_NOT_PROVED] if simulated else _NOT_PROVED,
        "hops": HOPS,
        "receipts": [receipt(1), receipt(2, "length"), receipt(3, task="embed"), receipt(4, "too-long")],
        "counters": {"requests": 6, "answered": 3, "failed": 2, "resealed": 1},
    }


def _bad(state: str, code: str, message: str, hint: str | None) -> Status:
    was = {"verified_at": NOW - 40 * MINUTE, "receipts": [receipt(1)]}
    return _base(state) | was | {"code": code, "message": message, "hint": hint}


STATES: dict[str, Status] = {
    "starting": _base("starting"),
    "verified": _good("verified", simulated=False),
    "verified-simulated": _good("verified-simulated", simulated=True),
    "refused": _bad(
        "refused",
        "measurement",
        f"measurement 0 (image) differs: expected {sha384('a')[:32]}..., got {sha384('b')[:32]}...",
        "anchorhold explain measurement",
    ),
    "lease-ended": _bad(
        "lease-ended", "lease-ended", "the lease of 'owner' is over", "the key's owner revoked or did not renew it"
    ),
    "gateway-away": _bad(
        "gateway-away", "unavailable", "unavailable 'failed to connect to all addresses'", "is the gateway up?"
    ),
}


def status(state: str) -> Status:
    """A copy, to be changed by one test."""
    return copy.deepcopy(STATES[state])
