"""What a genuine document says, against what is wanted: identity, platform, debug, registers, age, nonce, time."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta

from tests.vectors.evidence.build import NONCE, REGISTERS, TIMESTAMP, document
from tests.vectors.evidence.case import ACCEPTED, Case
from tests.vectors.evidence.certificates import LINKS, MODULE, START, chain

_TPM = "i-0123456789abcdef0-tpm0000000000000000"
_LEAF_END = LINKS["leaf"].ends
_AGE = 300_000
_LEEWAY = 30_000


def _case(name: str, expect: str, fault: str, raw: bytes) -> Case:
    return Case(name, fault, raw, expect)


def _leaf_for(module: str) -> Mapping[str, str]:
    return {"subject": f"{module}.test-1.vectors"}


def identities() -> Iterator[Case]:
    """The leaf speaks for the module, the module for its platform."""
    other = MODULE[:-1] + "0"
    tpm = chain(leaf=_leaf_for(_TPM))
    bank: dict[str, object] = {"pcrs": ..., "nitrotpm_pcrs": dict(REGISTERS)}
    mute = chain(leaf={"subject": "leaf"})
    yield _case("identity-other-module", "identity", "a module id of another enclave", document({"module_id": other}))
    yield _case(
        "identity-longer",
        "identity",
        "a module id that the leaf's name begins with",
        document({"module_id": MODULE[:-1]}),
    )
    yield _case("identity-nameless", "identity", "a leaf whose name is not of that form", document(made=mute))
    yield _case("identity-tpm-registers", "identity", "nitrotpm_pcrs under an enclave's name", document(bank))
    named = document({"module_id": _TPM}, made=tpm)
    yield _case("identity-tpm-name", "identity", "pcrs under a NitroTPM's name", named)
    whole = document({**bank, "module_id": _TPM}, made=tpm)
    yield _case("platform-simulated-tpm", "platform", "a NitroTPM document under a root that is not pinned", whole)
    yield replace(
        _case("platform-production", "platform", "simulated, where the policy takes nitro-enclave", document()),
        policy="production",
    )


def debugs() -> Iterator[Case]:
    """Registers 0, 1 and 2 are there and not zero, whatever the policy."""
    for index in (0, 1, 2):
        zero = document({"pcrs": {**REGISTERS, index: bytes(48)}})
        yield _case(f"debug-zero-{index}", "debug", f"register {index} zero", zero)
        kept = {at: value for at, value in REGISTERS.items() if at != index}
        yield _case(f"debug-absent-{index}", "debug", f"register {index} absent", document({"pcrs": kept}))
    real = {**REGISTERS, **dict.fromkeys((0, 1, 2, 8), bytes(48))}
    yield _case("debug-real", "debug", "0, 1, 2 and 8 zero, 4 not: as debug enclaves show it", document({"pcrs": real}))
    yield replace(
        _case("debug-genuine", "debug", "the same, before a key service's own policy", document({"pcrs": real})),
        mode="genuine",
    )


def measurements() -> Iterator[Case]:
    """One accepted set, whole."""
    for index in (0, 1, 2, 16):
        other = document({"pcrs": {**REGISTERS, index: b"\xee" * 48}})
        yield _case(f"register-{index}-differs", "measurement", f"register {index} differs", other)
    kept = {at: value for at, value in REGISTERS.items() if at != 16}
    yield _case("register-16-absent", "measurement", "register 16 absent", document({"pcrs": kept}))
    yield _case(
        "register-16-zero",
        "measurement",
        "register 16 never extended",
        document({"pcrs": {**REGISTERS, 16: bytes(48)}}),
    )
    mixed = _case("register-mixed-releases", "measurement", "halves of two accepted sets", document())
    yield replace(mixed, policy="two-releases")
    second = _case("accept-second-release", ACCEPTED, "the second of two accepted sets", document())
    yield replace(second, policy="second-release")
    unpinned = document({"pcrs": {**REGISTERS, 4: b"\x77" * 48, 8: b"\x88" * 48}})
    yield _case("accept-unpinned", ACCEPTED, "registers that nobody pinned", unpinned)
    few = document({"pcrs": {index: REGISTERS[index] for index in (0, 1, 2, 16)}})
    yield _case("accept-four-registers", ACCEPTED, "four registers and no others", few)


def ages() -> Iterator[Case]:
    """At most the policy's age, at most 30 s ahead."""
    for name, expect, moved, fault in (
        ("accept-oldest", ACCEPTED, -_AGE, "as old as the policy allows"),
        ("age-older", "stale", -_AGE - 1, "a millisecond older than the policy allows"),
        ("accept-ahead", ACCEPTED, _LEEWAY, "30 s ahead of the clock"),
        ("age-ahead", "from-the-future", _LEEWAY + 1, "30.001 s ahead of the clock"),
    ):
        yield _case(name, expect, fault, document({"timestamp": TIMESTAMP + moved}))
    old = document({"timestamp": TIMESTAMP - _AGE - 1})
    stranger = chain(root={"seed": "stranger"})
    other = _case("root-genuine", "wrong-root", "a root that the key service does not know", document(made=stranger))
    yield replace(other, mode="genuine")
    yield replace(_case("age-genuine", "stale", "too old for a key service", old), mode="genuine")


def nonces() -> Iterator[Case]:
    """Exactly the caller's nonce."""
    rows: tuple[tuple[str, str, object], ...] = (
        ("nonce-absent", "absent", None),
        ("nonce-empty", "no bytes", b""),
        ("nonce-other", "another", b"m" * 48),
        ("nonce-head", "its first 47 bytes", NONCE[:-1]),
        ("nonce-longer", "a byte more", NONCE + b"n"),
        ("nonce-hex", "its hex text, as a sample writes it", NONCE.hex().encode()),
    )
    for name, fault, value in rows:
        yield _case(name, "nonce", f"nonce: {fault}", document({"nonce": value}))


def kept() -> Iterator[Case]:
    """A kept document at a past time: what the time is worth, and what contradicts it."""
    raw, minute, second = document(), timedelta(minutes=1), timedelta(seconds=1)
    long_after = START + timedelta(days=2)
    rows = (
        ("at-own-word", ACCEPTED, "document", None, "T0", "its own word"),
        ("at-nonce", ACCEPTED, "nonce", START - minute, "T1", "a third party's nonce, a minute older"),
        ("at-witness", ACCEPTED, "witness", START + minute, "T3", "a witness while the leaf was valid"),
        ("at-witness-late", ACCEPTED, "witness", _LEAF_END + second, "T2", "a witness after the leaf's end"),
        ("at-witness-too-late", ACCEPTED, "witness", long_after, "T0", "a witness after an issuer's end"),
        ("at-stated", ACCEPTED, "caller", START + minute, "stated", "a time that the caller names"),
        ("at-stated-late", "expired", "caller", _LEAF_END + second, "", "a stated time after the leaf's end"),
        ("at-nonce-younger", "mismatch", "nonce", START + 31 * second, "", "a nonce 31 s younger than the document"),
        ("at-witness-earlier", "mismatch", "witness", START - 31 * second, "", "a witness 31 s before the document"),
    )
    for name, expect, source, dated, grade, fault in rows:
        case = _case(name, expect, f"kept: {fault}", raw)
        yield replace(case, mode="at", source=source, time=dated, grade=grade)
    seconds = document({"timestamp": TIMESTAMP // 1000})
    case = _case("at-seconds", "not-yet-valid", "kept: a timestamp in seconds", seconds)
    yield replace(case, mode="at", source="document", time=None)


def cases() -> Iterator[Case]:
    """All of these."""
    for part in (identities, debugs, measurements, ages, nonces, kept):
        yield from part()
