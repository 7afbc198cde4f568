"""Any request gets an answer in AWS's form: shapes of botocore's model filled well, at their edges, and wrongly.

No answer is a fault of ours; and where there is one, its cause is in the journal: type and place, no text.
"""

import asyncio
import base64
import json
import sqlite3
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.model import Shape
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from anchorhold.attestation.types import Sha384
from anchorhold.authority.export.events import event_of
from anchorhold.authority.export.follow import Exported
from anchorhold.authority.kms.app import DATABASE, MAX_WAITING, KmsFace
from anchorhold.authority.kms.operations import ALL_OPERATIONS, DONE
from anchorhold.sim.pki import SimulatedPki
from anchorhold.wire import sigv4

from .conftest import MODEL, Kms, _asgi, check_answer, recipient, refused

COMMON = {
    "AccessDeniedException", "ValidationException", "SerializationException", "UnknownOperationException",
    "MissingAuthenticationTokenException", "RequestEntityTooLargeException", "ThrottlingException",
}  # fmt: skip
"""Error names that are every service's and so not in the KMS model."""
KNOWN = {shape.name for shape in MODEL.error_shapes} | COMMON
JUNK: st.SearchStrategy[object] = st.sampled_from(
    [None, True, 0, -1, 2**70, 1.5, float("inf"), "", "x", "\0", "\ud800", [], [None], {}, {"a": 1}, [[]], "x" * 10_000]
)


class Stand:
    """A face with one of everything, that all examples share."""

    def __init__(self, folder: Path) -> None:
        now = time.time_ns() // 1_000_000
        self.kms = Kms(folder / "kms", SimulatedPki.create(datetime.fromtimestamp(now / 1000, UTC)), now)
        kms = self.kms
        self.arn = str(kms.call("admin", "CreateKey")["KeyMetadata"]["Arn"])
        other = str(kms.call("admin", "CreateKey")["KeyMetadata"]["KeyId"])
        kms.call("admin", "CreateAlias", AliasName="alias/a", TargetKeyId=self.arn)
        grantee = kms.arn("enclave")
        grant = kms.call("admin", "CreateGrant", KeyId=self.arn, GranteePrincipal=grantee, Operations=["Decrypt"])
        blob = kms.call("admin", "GenerateDataKey", KeyId=self.arn, KeySpec="AES_256")["CiphertextBlob"]
        document = recipient(kms.document())["AttestationDocument"]
        policy = kms.call("admin", "GetKeyPolicy", KeyId=self.arn)["Policy"]
        self.words: dict[str, list[object]] = {
            "KeyIdType": [self.arn, other, "alias/a", self.arn.rpartition("key/")[0] + "alias/a", "alias/none"],
            "AliasNameType": ["alias/a", "alias/b", "alias/aws/c", "x"],
            "PrincipalIdType": [grantee, "arn:aws:iam::000000000001:root", "me"],
            "GrantTokenType": [grant["GrantToken"], "eA=="],
            "GrantIdType": [grant["GrantId"], "00"],
            "CiphertextType": [blob, base64.b64encode(base64.b64decode(blob)[:-1]).decode(), "AA=="],
            "AttestationDocumentType": [document, "AA=="],
            "PolicyType": [policy, "{}", '{"Statement":[]}', "[" * 1_000],
            "MarkerType": [base64.b64encode(b"ListKeys\n0").decode(), "%"],
            "EncryptionContextKey": ["a", "A", "\0"],
        }

        self.others = self.words | {"KeyIdType": [other, "x"], "AliasNameType": ["alias/b", "x"]}

    def words_for(self, operation: str) -> dict[str, list[object]]:
        """What ends a key or an alias ends another one: the examples after it need theirs."""
        return self.others if operation.startswith(("Disable", "Schedule", "Delete", "UpdateAlias")) else self.words

    def send(self, operation: str, body: bytes) -> tuple[int, bytes]:
        return asyncio.run(_asgi(self.kms.app, self.kms.signed(self.kms.caller("admin"), operation, body)))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Stand:
    return Stand(tmp_path_factory.mktemp("http"))


def filled(shape: Shape, words: dict[str, list[object]]) -> st.SearchStrategy[object]:
    """Values of a shape: mostly good, some at the edge, some of another type."""
    good: st.SearchStrategy[object]
    least, most = int(shape.metadata.get("min", 0)), int(shape.metadata.get("max", 64))
    if shape.name in words:
        good = st.sampled_from(words[shape.name])
    elif shape.type_name == "structure":
        good = structure(shape, words)
    elif shape.type_name == "list":
        good = st.lists(filled(shape.member, words), min_size=least, max_size=3)
    elif shape.type_name == "map":
        names = filled(shape.key, words).filter(lambda name: isinstance(name, str))
        good = st.dictionaries(names, filled(shape.value, words), max_size=3)
    elif shape.type_name == "boolean":
        good = st.booleans()
    elif shape.type_name == "integer":
        good = st.sampled_from([least, most, least - 1, most + 1, 7, 30])
    elif shape.type_name == "blob":
        sizes = st.sampled_from([0, 1, 32, min(most, 8_192), min(most, 8_192) + 1])
        good = sizes.map(lambda size: base64.b64encode(bytes(size)).decode())
    elif enum := shape.metadata.get("enum"):
        good = st.sampled_from(list(enum))
    else:
        edges = ["x" * size for size in {least, max(least - 1, 0), min(most, 9_000), min(most + 1, 9_000)}]
        good = st.sampled_from(edges) | st.text(max_size=8)
    return st.one_of(good, good, good, good, good, JUNK)


def structure(shape: Any, words: dict[str, list[object]]) -> st.SearchStrategy[dict[str, object]]:
    if shape is None:
        return st.just({})
    members = {name: filled(member, words) for name, member in shape.members.items()}
    needed = {name: members.pop(name) for name in shape.required_members}
    return st.fixed_dictionaries(needed, optional=members)


def fillings(shared: Stand) -> st.SearchStrategy[tuple[str, dict[str, object]]]:
    """An operation and what it is asked."""
    return st.sampled_from(sorted(DONE)).flatmap(
        lambda name: st.tuples(
            st.just(name), structure(MODEL.operation_model(name).input_shape, shared.words_for(name))
        )
    )


def check(shared: Stand, operation: str, status: int, raw: bytes) -> None:
    body = json.loads(raw) if raw else {}
    cause = shared.kms.journal()[-1].body if status == 500 else None
    assert status in (200, 400), (status, cause)
    if status == 200:
        check_answer(operation, raw)
        return
    assert body["__type"] in KNOWN, body
    assert isinstance(body.get("Message" if body["__type"] == "AccessDeniedException" else "message"), str)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_filling_of_any_shape_is_answered_in_form(shared: Stand, data: st.DataObject) -> None:
    operation, body = data.draw(fillings(shared))
    check(shared, operation, *shared.send(operation, json.dumps(body).encode()))


@pytest.mark.parametrize("status", [200, 400])
def test_the_examples_are_done_and_refused_alike(shared: Stand, status: int) -> None:
    """Shapes and words are good enough that some are done: one in twenty."""
    assert shared.send("Decrypt", json.dumps({"CiphertextBlob": shared.words["CiphertextType"][0]}).encode())[0] == 200
    find(
        fillings(shared),
        lambda asked: shared.send(asked[0], json.dumps(asked[1]).encode())[0] == status,
        settings=settings(max_examples=2_000, deadline=None, database=None, phases=[Phase.generate]),
    )


@pytest.mark.slow
@pytest.mark.parametrize("operation", sorted(DONE))
def test_many_fillings_of_each_shape_are_answered_in_form(shared: Stand, operation: str) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(structure(MODEL.operation_model(operation).input_shape, shared.words_for(operation)))
    def send(body: dict[str, object]) -> None:
        check(shared, operation, *shared.send(operation, json.dumps(body).encode()))

    send()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    operation=st.sampled_from(sorted(ALL_OPERATIONS)) | st.text(st.characters(codec="latin-1"), max_size=8),
    body=st.binary(max_size=64)
    | st.recursive(JUNK, lambda inner: st.lists(inner, max_size=2)).map(lambda value: json.dumps(value).encode()),
)
def test_any_bytes_under_any_target_are_answered_in_form(shared: Stand, operation: str, body: bytes) -> None:
    status, raw = shared.send(operation, body)
    if operation in ALL_OPERATIONS:
        check(shared, operation, status, raw)
    else:
        assert json.loads(raw)["__type"] in {"UnknownOperationException", "SerializationException"}


def test_a_fault_of_ours_journals_its_cause_and_says_nothing_outside(kms: Kms) -> None:
    connection = sqlite3.connect(kms.folder / DATABASE)
    with connection:
        connection.execute("DROP TABLE aliases")
    connection.close()
    error = refused("KMSInternalException", lambda: kms.call("admin", "ListAliases"))
    assert (error.status, error.message) == (500, "an internal error occurred; the request can be retried")
    entry = kms.journal()[-1]
    assert entry.type == "fault"
    assert entry.body["operation"] == "ListAliases"
    assert entry.body["cause"] == "OperationalError"
    assert str(entry.body["place"]).startswith("authority/kms/rows/names.py:")
    assert "SELECT" not in json.dumps(dict(entry.body))
    event = event_of(Exported(entry, Sha384(bytes(48)), b""), authority="kms", face="kms")
    assert (event.denied, event.alerts, event.record["errorCode"]) == (True, ("fault",), "OperationalError")


def test_a_fault_of_ours_leaves_nothing_of_the_call_behind(kms: Kms) -> None:
    connection = sqlite3.connect(kms.folder / DATABASE)
    with connection:
        connection.execute("DROP TABLE materials")
    refused("KMSInternalException", lambda: kms.call("admin", "CreateKey"))
    assert connection.execute("SELECT count(*) FROM keys").fetchone() == (0,)
    connection.close()


def test_a_full_queue_is_throttled_in_aws_s_words(kms: Kms) -> None:
    face = next(
        cell.cell_contents for cell in kms.app.routes[0].endpoint.__closure__ if isinstance(cell.cell_contents, KmsFace)
    )
    request = kms.signed(kms.caller("admin"), "ListKeys", b"{}")
    with face._lock:
        waiting = [threading.Thread(target=_quiet, args=(face, request)) for _ in range(MAX_WAITING)]
        for thread in waiting:
            thread.start()
        while face._waiting._value:
            time.sleep(0.001)
        error = refused("ThrottlingException", lambda: kms.send(request))
        assert (error.status, error.message) == (
            400,
            "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
        )
    for thread in waiting:
        thread.join()
    assert kms.call("admin", "ListKeys")["Keys"] == []


def _quiet(face: KmsFace, request: sigv4.Request) -> None:
    face.call(request, "127.0.0.1", "request")
