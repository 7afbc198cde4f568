"""Who may connect: a client whose certificate chains to the pinned CA and names KMS; plain HTTP on loopback alone."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.authority.xks.conformance.proxy import Proxy
from tests.authority.xks.conformance.transport import _answers
from tests.authority.xks.conftest import KEYS, PREFIX, REGION, Stage, now_ms, running

from anchorhold.authority.xks.certificates import make_client
from anchorhold.authority.xks.server import NotLoopback, common_name, make_mtls_server, make_plain_server
from anchorhold.authority.xks.setup import SetupRefused, Wanted, default_client_name, init


def _context(stage: Stage, folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=stage.folder / "tls" / "ca.pem")
    context.load_cert_chain(folder / "client.pem", folder / "client.key")
    return context


def test_another_cas_client_is_refused_whatever_its_name(stage: Stage, mtls: Proxy, tmp_path: Path) -> None:
    make_client(tmp_path, tmp_path / "ca.pem", default_client_name("aws", REGION), now=datetime.now(UTC))  # noqa: TID251 - a certificate for now
    assert not _answers(mtls, _context(stage, tmp_path))
    mtls.metadata(KEYS.full).succeeds()


@pytest.mark.parametrize(
    ("expected", "let_in"),
    [
        (default_client_name("aws", REGION), True),
        ("cks.kms.*.amazonaws.com", True),
        (default_client_name("aws", "us-east-1"), False),
        ("ks.kms.eu-central-1.amazonaws.com", False),
    ],
)
def test_a_client_with_another_name_is_refused(stage: Stage, expected: str, let_in: bool) -> None:
    with running(make_mtls_server(stage.app(), stage.folder, expected)) as port:
        proxy = stage.proxy(f"https://localhost:{port}{PREFIX}", stage.tls)
        assert _answers(proxy, stage.tls) is let_in


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "proxy.example"])
def test_plain_http_is_for_loopback_alone(stage: Stage, host: str) -> None:
    with pytest.raises(NotLoopback):
        make_plain_server(stage.app(), host)


def test_a_certificate_with_two_names_names_nobody() -> None:
    both = {"subject": ((("commonName", "a"),), (("commonName", "b"),))}
    assert common_name(both) is None
    assert common_name({"subject": ((("commonName", "a"),),)}) == "a"
    assert common_name({}) is None
    assert common_name(None) is None


@pytest.mark.parametrize(
    ("partition", "region", "name"),
    [
        ("aws", "eu-central-1", "cks.kms.eu-central-1.amazonaws.com"),
        ("aws-eusc", "eusc-de-east-1", "cks.kms.eusc-de-east-1.amazonaws.eu"),
        ("aws-us-gov", "us-gov-west-1", "cks.kms.us-gov-west-1.amazonaws.com"),
    ],
)
def test_kms_is_named_by_partition_and_region(partition: str, region: str, name: str) -> None:
    assert default_client_name(partition, region) == name


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted("both"),
        Wanted("simulated", region="EU"),
        Wanted("simulated", prefix="store"),
        Wanted("simulated", prefix="/" + "a" * 128),
        Wanted("simulated", client_name="*"),
        Wanted("simulated", client_name="a b"),
    ],
    ids=["class", "region", "prefix", "long prefix", "any name", "no name"],
)
def test_what_makes_no_sound_face_is_refused_and_leaves_nothing(tmp_path: Path, wanted: Wanted) -> None:
    with pytest.raises(SetupRefused):
        init(tmp_path / "state", wanted, now=now_ms())
    assert not (tmp_path / "state").exists()


def test_a_face_is_never_overwritten(stage: Stage) -> None:
    with pytest.raises(FileExistsError):
        init(stage.folder, Wanted("simulated"), now=now_ms())
