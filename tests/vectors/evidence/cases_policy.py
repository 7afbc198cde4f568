"""Policy files: what would accept more than its author can have meant, or could be read in two ways."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from tests.vectors.evidence.case import ACCEPTED, pinned

_ZERO = b"\x00" * 48
_SET = pinned(0, 1, 2, 16)
_TPM = {"4": "41" * 48, "7": "71" * 48, "12": "c1" * 48}
_GOOD: dict[str, object] = {
    "version": 1,
    "platforms": ["nitro-enclave"],
    "releases": {"example 1.0": [_SET]},
    "required": [0, 1, 2, 16],
    "max_age_s": 300,
    "nonce": "required",
}
_MANY = 65
_LARGEST = 262_144
_NAME = 129


@dataclass(frozen=True)
class PolicyFile:
    """`expect` is the error's code, or `evidence` where the file is taken."""

    name: str
    fault: str
    raw: bytes
    expect: str


def _file(name: str, expect: str, fault: str, raw: object) -> PolicyFile:
    encoded = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    return PolicyFile(f"policy-{name}", fault, encoded, expect)


def _with(**members: object) -> dict[str, object]:
    return {name: value for name, value in {**_GOOD, **members}.items() if value is not ...}


def _sets(*sets: dict[str, str]) -> dict[str, object]:
    return _with(releases={"example 1.0": list(sets)}, required=...)


def _tpm(**registers: str) -> dict[str, object]:
    kept = {name.removeprefix("r"): value for name, value in registers.items()}
    return _with(platforms=["nitro-tpm"], releases={"example 1.0": [kept]}, required=...)


def accepted() -> Iterator[PolicyFile]:
    """Files that a reader takes."""
    other = pinned(1, 2, 16, r0=b"\xee" * 48)
    least = {"version": 1, "platforms": ["simulated"], "releases": {"r": [pinned(0, 1, 2)]}}
    yield _file("accept-whole", ACCEPTED, "every member there", _GOOD)
    yield _file("accept-least", ACCEPTED, "no more members than it needs", least)
    yield _file("accept-two-releases", ACCEPTED, "two releases", _with(releases={"1": [_SET], "2": [other]}))
    yield _file("accept-tpm-boot", ACCEPTED, "NitroTPM, 4 and 12", _tpm(r4=_TPM["4"], r12=_TPM["12"]))
    yield _file("accept-tpm-no-addition", ACCEPTED, "NitroTPM, 12 zero", _tpm(r4=_TPM["4"], r12=_ZERO.hex()))
    yield _file("accept-tpm-secure-boot", ACCEPTED, "NitroTPM, 7", _tpm(r7=_TPM["7"]))


def forms() -> Iterator[PolicyFile]:
    """Not the form."""
    bad = "malformed"
    twice = json.dumps(_GOOD)[:-1].encode() + b', "max_age_s": 3600}'
    big = json.dumps(_GOOD).encode()
    yield _file("empty", bad, "no bytes", b"")
    yield _file("not-json", bad, "no JSON", b"version: 1")
    yield _file("not-utf8", bad, "no UTF-8", b'{"version": 1, "\xff": 1}')
    yield _file("utf16", bad, "JSON in UTF-16", json.dumps(_GOOD).encode("utf-16"))
    yield _file("list", bad, "a list", [_GOOD])
    yield _file("deep", bad, "lists in lists", b"[" * 2_000)
    yield _file("too-large", "too-large", "one byte over the limit", big + b" " * (_LARGEST + 1 - len(big)))
    yield _file("member-twice", bad, "a member twice", twice)
    yield _file("member-unknown", bad, "an unknown member", _with(debug="allowed"))
    for name in ("version", "platforms", "releases"):
        yield _file(f"no-{name}", bad, f"no {name}", _with(**{name: ...}))
    yield _file("version-2", bad, "version 2", _with(version=2))
    yield _file("version-true", bad, "true as version", _with(version=True))
    yield _file("version-float", bad, "1.0 as version", _with(version=1.0))
    yield _file("measurements", bad, "the form of before: measurements", _with(releases=..., measurements=[_SET]))
    yield _file("nonce-unknown", bad, "another nonce rule", _with(nonce="never"))
    yield _file("age-float", bad, "a fraction as age", _with(max_age_s=300.0))
    yield _file("age-text", bad, "text as age", _with(max_age_s="300"))


def members() -> Iterator[PolicyFile]:
    """The form, and too much accepted."""
    too_wide, bad = "policy", "malformed"
    yield _file("age-zero", too_wide, "no age at all", _with(max_age_s=0))
    yield _file("age-long", too_wide, "more than an hour", _with(max_age_s=3601))
    yield _file("platforms-none", bad, "no platform", _with(platforms=[]))
    yield _file("platform-unknown", bad, "an unknown platform", _with(platforms=["nitro"]))
    yield _file("platform-twice", bad, "a platform twice", _with(platforms=["simulated", "simulated"]))
    yield _file(
        "platforms-mixed", too_wide, "NitroTPM beside enclaves", _with(platforms=["nitro-tpm", "nitro-enclave"])
    )
    yield _file("releases-none", too_wide, "no release", _with(releases={}, required=...))
    yield _file("release-empty", bad, "a release without a set", _with(releases={"1": []}, required=...))
    yield _file("release-nameless", too_wide, "a release without a name", _with(releases={"": [_SET]}))
    yield _file("release-long-name", too_wide, "a name of 130 characters", _with(releases={"n" * (_NAME + 1): [_SET]}))
    yield _file("release-control", too_wide, "a line feed in a name", _with(releases={"1\n2": [_SET]}))
    many = [pinned(0, 1, 2, r16=number.to_bytes(48, "big")) for number in range(1, _MANY + 1)]
    spread = {str(number): [one] for number, one in enumerate(many[1:])} | {"0": many[:2]}
    yield _file("sets-65", bad, "65 sets in a release", _sets(*many))
    yield _file("sets-65-spread", too_wide, "65 sets in 64 releases", _with(releases=spread))
    yield _file("required-missing", too_wide, "a set without a required register", _with(required=[0, 8]))
    yield _file("required-none", bad, "an empty list of required registers", _with(required=[]))
    yield _file("required-32", bad, "register 32 required", _with(required=[32]))
    yield _file("required-twice", bad, "a register required twice", _with(required=[0, 0]))


def sets() -> Iterator[PolicyFile]:
    """One measurement set, and too little pinned."""
    too_wide, bad = "policy", "malformed"
    yield _file("set-empty", too_wide, "an empty set", _sets({}))
    yield _file("set-twice", bad, "a set twice", _sets(_SET, _SET))
    for index in (0, 1, 2):
        kept = {name: value for name, value in _SET.items() if name != str(index)}
        yield _file(f"set-no-{index}", too_wide, f"register {index} not pinned", _sets(kept))
        zero = _SET | {str(index): _ZERO.hex()}
        yield _file(f"set-zero-{index}", too_wide, f"register {index} zero: every debug enclave", _sets(zero))
    yield _file("set-zero-16", too_wide, "register 16 zero: never extended", _sets(_SET | {"16": _ZERO.hex()}))
    yield _file("set-register-32", bad, "register 32", _sets(_SET | {"32": "ab" * 48}))
    yield _file("set-register-00", bad, "register 00", _sets(_SET | {"00": "ab" * 48}))
    yield _file("set-capitals", bad, "hex in capitals", _sets(_SET | {"3": "AB" * 48}))
    yield _file("set-short", bad, "a SHA-256 value", _sets(_SET | {"3": "ab" * 32}))
    yield _file("tpm-4-alone", too_wide, "NitroTPM, 4 without 12", _tpm(r4=_TPM["4"]))
    yield _file("tpm-12-alone", too_wide, "NitroTPM, 12 without 4", _tpm(r12=_TPM["12"]))
    for proving_nothing in ("1", "16", "23"):
        pinned_too = _TPM | {proving_nothing: "ab" * 48}
        fault = f"NitroTPM, register {proving_nothing}, which proves nothing"
        yield _file(
            f"tpm-{proving_nothing}", too_wide, fault, _tpm(**{f"r{name}": value for name, value in pinned_too.items()})
        )
    yield _file("tpm-24", too_wide, "NitroTPM, register 24", _tpm(r7=_TPM["7"], r24="ab" * 48))
    yield _file("tpm-zero-7", too_wide, "NitroTPM, 7 zero", _tpm(r7=_ZERO.hex()))


def cases() -> Iterator[PolicyFile]:
    """All of these."""
    for part in (accepted, forms, members, sets):
        yield from part()
