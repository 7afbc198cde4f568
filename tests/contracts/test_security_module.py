"""Every SecurityModule keeps the NSM's rules: the toy behind a call, and behind the socket that an enclave inherits."""

import hashlib
import socket
import threading
from collections.abc import Iterator

import pytest

from anchorhold.attestation.document import parse_document
from anchorhold.enclave.nsm.module import NsmClient, NsmError, SecurityModule
from anchorhold.enclave.nsm.socket import InheritedSocket
from anchorhold.sim.nsm import ToyNsm
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import BOOT, MODULE, START, Clock

_PKI = SimulatedPki.create(START)


def serve(line: socket.socket, toy: ToyNsm) -> None:
    with line, line.makefile("rb") as stream:
        while head := stream.read(4):
            answer = toy.transact(stream.read(int.from_bytes(head, "big")))
            line.sendall(len(answer).to_bytes(4, "big") + answer)


@pytest.fixture(params=["call", "socket"])
def module(request: pytest.FixtureRequest) -> Iterator[SecurityModule]:
    toy = ToyNsm(_PKI, BOOT, MODULE, Clock().ms)
    if request.param == "call":
        yield NsmClient(toy.transact)
        return
    ours, theirs = socket.socketpair()
    server = threading.Thread(target=serve, args=(ours, toy))
    server.start()
    line = InheritedSocket(theirs)
    yield NsmClient(line.transact)
    line.close()
    server.join(timeout=60)  # it ends with the line, or never
    assert not server.is_alive()


def refused(error: pytest.ExceptionInfo[NsmError], name: str) -> bool:
    return error.value.name == name


def test_it_describes_itself(module: SecurityModule) -> None:
    said = module.describe()
    assert (said.module_id, said.max_pcrs, said.digest) == (MODULE, 32, "SHA384")
    assert said.locked_pcrs == tuple(range(16))


def test_extend_hashes_the_raw_data_onto_the_old_value(module: SecurityModule) -> None:
    once = hashlib.sha384(bytes(48) + b"data").digest()
    assert module.extend_pcr(16, b"data") == once
    assert module.extend_pcr(16, b"") == hashlib.sha384(once).digest()
    assert module.describe_pcr(16).value == hashlib.sha384(once).digest()


def test_a_lock_lasts_and_a_locked_register_never_changes(module: SecurityModule) -> None:
    module.extend_pcr(16, b"c")
    before = module.describe_pcr(16)
    assert not before.locked
    module.lock_pcrs(32)
    module.lock_pcrs(0)
    for index in (0, 15, 16, 31):
        with pytest.raises(NsmError) as caught:
            module.extend_pcr(index, b"more")
        assert refused(caught, "ReadOnlyIndex")
    assert module.describe_pcr(16).value == before.value
    assert module.describe_pcr(16).locked


def test_registers_past_the_last_are_refused(module: SecurityModule) -> None:
    for call in (lambda: module.describe_pcr(32), lambda: module.extend_pcr(32, b""), lambda: module.lock_pcrs(33)):
        with pytest.raises(NsmError) as caught:
            call()
        assert refused(caught, "InvalidIndex")


def test_a_document_holds_the_locked_registers_only(module: SecurityModule) -> None:
    module.extend_pcr(16, b"c")
    assert sorted(parse_document(module.attest()).pcrs) == list(range(16))
    module.lock_pcrs(32)
    document = parse_document(module.attest(user_data=b"u", nonce=b"n", public_key=b"k"))
    assert sorted(document.pcrs) == list(range(32))
    assert (document.user_data, document.nonce, document.public_key) == (b"u", b"n", b"k")


def test_too_much_is_refused_by_the_module_s_own_name(module: SecurityModule) -> None:
    for field in (bytes(1025), bytes(5_000)):
        with pytest.raises(NsmError) as caught:
            module.attest(user_data=field)
        assert refused(caught, "InputTooLarge")
    module.attest(user_data=bytes(1024))


def test_its_entropy_differs_each_time(module: SecurityModule) -> None:
    assert len(module.random()) == 256
    assert module.random() != module.random()
