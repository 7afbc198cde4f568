"""A request of a tier goes to no deployment that does not prove to meet it: each demand, broken alone."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.configuration import Configuration
from anchorhold.attestation.timing import TimeGrade
from anchorhold.attestation.types import Platform
from anchorhold.attestation.verify import DebugRefused
from anchorhold.client.admission import TierRefused, TierUnknown
from anchorhold.client.region import region_of
from anchorhold.client.sdk import AsyncClient, Settings
from anchorhold.client.tiers import STANDARD, Tier
from anchorhold.client.tls import NO_TLS, GatewayTls
from anchorhold.sim.link import Fleet, Link, loopback_trust
from anchorhold.sim.loopback import KMS, OWNER, START, LoopbackEnclave, ManualClock, loopback_configuration
from anchorhold.sim.pki import REGION, SimulatedPki

PKI = SimulatedPki.create(START)
REAL = Path(__file__).parents[3] / "shared/vectors/nitro"
POST_QUANTUM = GatewayTls(encrypted=True, server="gateway.example", group="X25519MLKEM768")
CLASSICAL = replace(POST_QUANTUM, group="X25519")
MET = Tier(
    name="met",
    platforms=frozenset({Platform.SIMULATED}),
    split=True,
    max_lease_s=600,
    max_log_lease_s=300,
    require_pq=True,
    padding=Padding.BASIC,
    time_grade=TimeGrade.NOT_BEFORE,
    regions=frozenset({REGION}),
)
"""Exactly what the loopback deployment proves: any demand one step higher is not met."""
OF_TIER = Settings(tier="met")
NO_CHANGE: Mapping[str, Mapping[str, object] | None] = {}


class Over(Link):
    """A link that says how it is protected."""

    def __init__(self, enclave: LoopbackEnclave, tls: GatewayTls = POST_QUANTUM) -> None:
        super().__init__(enclave)
        self.tls = tls


def enclave(sources: Mapping[str, Mapping[str, object] | None] = NO_CHANGE, **changes: object) -> LoopbackEnclave:
    """The loopback deployment but for `changes`; of its sources too, by name, where None leaves one out."""
    key = Ed25519PrivateKey.generate()
    whole = loopback_configuration(key)
    kept = [(one, sources.get(one.name, {})) for one in whole.sources]
    changed = tuple(replace(one, **change) for one, change in kept if change is not None)  # type: ignore[arg-type]  # as there
    configuration = loopback_configuration(key, sources=changed, **changes)
    return LoopbackEnclave(PKI, ManualClock(START), configuration, owner_key=key)


def ask(link: Link, tier: Tier = MET, settings: Settings = OF_TIER, pinned: LoopbackEnclave | None = None) -> str:
    async def run() -> str:
        trust = replace(loopback_trust(pinned or link.enclave), tiers={tier.name: tier})
        async with AsyncClient(trust, gateway=link, now=link.enclave.clock.utc) as client:
            return (await client.ask("hi", settings)).text

    return asyncio.run(run())


def refused(link: Link, tier: Tier = MET, settings: Settings = OF_TIER) -> TierRefused:
    with pytest.raises(TierRefused) as refusal:
        ask(link, tier, settings)
    assert link.up == [], "nothing of the request has left"
    assert refusal.value.code == refusal.value.unmet[0].code
    return refusal.value


def only(refusal: TierRefused) -> tuple[str, str, str]:
    (unmet,) = refusal.unmet
    return unmet.code, unmet.expected, unmet.actual


def test_a_deployment_that_proves_all_of_it_answers() -> None:
    assert ask(Over(enclave())) == "The capital of France is Paris."


def test_a_request_without_a_tier_asks_for_none_of_it() -> None:
    assert ask(Link(enclave()), replace(MET, max_lease_s=1), Settings(padding=Padding.OFF))


def test_platform() -> None:
    hardware = replace(MET, platforms=frozenset({Platform.NITRO_ENCLAVE, Platform.NITRO_TPM}))
    assert only(refused(Over(enclave()), hardware)) == ("tier-platform", "nitro-enclave or nitro-tpm", "simulated")


def test_debug_is_refused_under_every_tier() -> None:
    genuine, zeros = enclave(), dict.fromkeys((0, 1, 2), bytes(48))
    debug = LoopbackEnclave(PKI, genuine.clock, genuine.configuration, owner_key=genuine.owner_key, measurements=zeros)
    link = Over(debug)
    with pytest.raises(DebugRefused) as refusal:
        ask(link, pinned=genuine)
    assert refusal.value.code == "debug"
    assert link.up == []


def test_split_release() -> None:
    same = enclave({OWNER: {"custodian": "a"}})
    assert only(refused(Over(same))) == ("tier-split", "shares of at least 2 custodians", "a")


def test_split_release_of_one_source() -> None:
    alone = enclave({KMS: None})
    assert only(refused(Over(alone)))[0] == "tier-split"
    assert ask(Over(alone), replace(MET, split=False))


def test_lease_that_the_configuration_allows() -> None:
    longer = enclave({KMS: {"lease_ttl_ms": 600_001}})
    assert only(refused(Over(longer))) == ("tier-lease", "at most 600 s", "600.001 s")


def test_lease_that_was_granted() -> None:
    granted = enclave()
    granted.lease_s = 601.0
    granted.renew()
    assert only(refused(Over(granted))) == ("tier-lease", "at most 600 s", "601 s")


def test_log_lease() -> None:
    assert only(refused(Over(enclave(log_lease_ms=300_001)))) == ("tier-log-lease", "at most 300 s", "300.001 s")


@pytest.mark.parametrize(
    ("tls", "got"),
    [(NO_TLS, "none"), (CLASSICAL, "X25519"), (replace(CLASSICAL, group=None), "unknown")],
)
def test_post_quantum_to_the_gateway(tls: GatewayTls, got: str) -> None:
    refusal = refused(Over(enclave(), tls))
    assert only(refusal) == ("tier-pq", "a post-quantum key exchange", got)
    assert refusal.unmet[0].demand == "hop 'client-gateway'"


def test_post_quantum_over_a_transport_that_cannot_say() -> None:
    assert only(refused(Link(enclave())))[2] == "unknown"


def test_post_quantum_keys_from_a_kms_alone() -> None:
    refusal = refused(Over(enclave({OWNER: None})), replace(MET, split=False))
    assert only(refusal)[0] == "tier-pq"
    assert refusal.unmet[0].demand == "hop 'enclave-kms-kms'"
    assert refusal.unmet[0].actual.startswith("RSA-2048")


@pytest.mark.parametrize(("wanted", "given"), [("basic", "off"), ("strict", "off"), ("strict", "basic")])
def test_padding(wanted: str, given: str) -> None:
    tier = replace(MET, padding=Padding(wanted))
    refusal = refused(Over(enclave()), tier, Settings(tier="met", padding=Padding(given)))
    assert only(refusal) == ("tier-padding", f"at least {wanted}", given)


@pytest.mark.parametrize("grade", [TimeGrade.BOUNDED, TimeGrade.WITNESSED])
def test_time_grade(grade: TimeGrade) -> None:
    refusal = refused(Over(enclave()), replace(MET, time_grade=grade))
    assert only(refusal) == ("tier-time", f"at least {grade.value}", "T1 (witness quorum 'none')")


def test_region_of_the_enclave() -> None:
    refusal = refused(Over(enclave()), replace(MET, regions=frozenset({"eu-central-1"})))
    assert [(one.code, one.demand, one.actual) for one in refusal.unmet] == [
        ("tier-region", "region of the enclave", REGION),
        ("tier-region", "region of 'kms'", REGION),
    ]


def test_region_of_the_kms() -> None:
    away = enclave({KMS: {"region": "us-east-1"}})
    assert only(refused(Over(away))) == ("tier-region", REGION, "us-east-1")


def test_a_tier_that_the_trust_file_does_not_name_is_refused_before_anything_is_asked() -> None:
    link = Over(enclave())
    with pytest.raises(TierUnknown) as refusal:
        ask(link, settings=Settings(tier="secret"))
    assert refusal.value.code == "tier-unknown"
    assert "expected met, got 'secret'" in str(refusal.value)
    assert link.attests == 0


def test_one_refusal_says_all_that_is_missing() -> None:
    refusal = refused(Link(enclave()), replace(MET, max_lease_s=60, time_grade=TimeGrade.WITNESSED))
    assert [one.code for one in refusal.unmet] == ["tier-lease", "tier-pq", "tier-time"]
    assert str(refusal).startswith("tier 'met' is not met: lease: expected at most 60 s, got 600 s; hop ")


@pytest.mark.parametrize("name", sorted(STANDARD))
def test_no_standard_tier_takes_a_simulated_enclave(name: str) -> None:
    settings = Settings(tier=name, padding=Padding.STRICT)
    assert "tier-platform" in [one.code for one in refused(Over(enclave()), STANDARD[name], settings).unmet]


def test_each_standard_tier_demands_no_less_than_the_one_before() -> None:
    internal, confidential, secret = (STANDARD[name] for name in ("internal", "confidential", "secret"))
    for less, more in ((internal, confidential), (confidential, secret)):
        assert more.platforms <= less.platforms
        assert (more.split, more.require_pq) >= (less.split, less.require_pq)
        assert (more.max_lease_s, more.max_log_lease_s) <= (less.max_lease_s, less.max_log_lease_s)


def test_every_enclave_that_is_sealed_to_must_meet_it() -> None:
    first = enclave()
    assert isinstance(first.configuration, Configuration)
    second = LoopbackEnclave(PKI, first.clock, first.configuration, owner_key=first.owner_key, lease_s=601.0)

    class Both(Fleet):
        tls = POST_QUANTUM

    def run(settings: Settings, fleet: Fleet) -> None:
        async def asking() -> None:
            trust = replace(loopback_trust(first), tiers={"met": MET})
            async with AsyncClient(trust, gateway=fleet, now=first.clock.utc, enclaves=2) as client:
                await client.ask("hi", settings)

        asyncio.run(asking())

    fleet = Both([first, second])
    with pytest.raises(TierRefused, match="lease: expected at most 600 s, got 601 s"):
        run(Settings(tier="met"), fleet)
    assert fleet.up == []
    run(Settings(), Both([first, second]))


def test_it_is_asked_again_for_each_request() -> None:
    link = Over(enclave())

    async def run() -> None:
        trust = replace(loopback_trust(link.enclave), tiers={"met": MET})
        async with AsyncClient(trust, gateway=link, now=link.enclave.clock.utc) as client:
            await client.ask("hi", Settings(tier="met"))
            sent, link.tls = len(link.up), CLASSICAL
            with pytest.raises(TierRefused):
                await client.ask("hi", Settings(tier="met"))
            assert len(link.up) == sent
            assert link.attests == 1

    asyncio.run(run())


@pytest.mark.skipif(not REAL.is_dir(), reason="the real documents are not there")
def test_real_documents_name_their_region() -> None:
    found = {region_of(path.read_bytes()) for path in REAL.glob("*-enc-prod-*.cbor")}
    assert found == {"us-east-1", "us-east-2", "ap-south-1"}


def other_regional(name: str) -> bytes:
    """A regional certificate of that name, as a root that vouches for two regions might sign."""
    key = ec.generate_private_key(ec.SECP384R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(named).issuer_name(named).public_key(key.public_key())
    dated = builder.serial_number(7).not_valid_before(START).not_valid_after(START + timedelta(days=20))
    return dated.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("name", "region"),
    [
        (f"ab.{REGION}.aws.nitro-enclaves", REGION),
        ("ab.us-east-1.aws.nitro-enclaves", None),
        (f"ab.zonal.{REGION}.aws.nitro-enclaves", None),
        (f"{REGION}.aws.nitro-enclaves", None),
        (f"ab.{REGION}.aws.nitro-enclaves.example", None),
    ],
)
def test_a_region_is_one_that_root_and_leaf_both_name(name: str, region: str | None) -> None:
    raw = enclave().attest(bytes(32)).document
    protected, unprotected, payload, signature = cbor2.loads(raw)
    fields = cbor2.loads(payload)
    fields["cabundle"][1] = other_regional(name)
    assert region_of(raw) == REGION
    assert region_of(cbor2.dumps([protected, unprotected, cbor2.dumps(fields), signature])) == region
