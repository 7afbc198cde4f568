"""An answer out of form, or none, is an NsmError: the enclave never goes on with half an answer."""

import socket

import cbor2
import pytest

from anchorhold.enclave.nsm.module import NsmClient, NsmError
from anchorhold.enclave.nsm.nitro import DEVICE, open_nitro
from anchorhold.enclave.nsm.socket import open_inherited
from anchorhold.sim.nsm import ToyNsm
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import BOOT, MODULE, START, Clock


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff",
        cbor2.dumps("Attestation"),
        cbor2.dumps({"Attestation": {}}),
        cbor2.dumps({"Attestation": {"document": "text"}}),
        cbor2.dumps({"Attestation": {"document": b""}}),
        cbor2.dumps({"GetRandom": {"random": b"r"}}),
        cbor2.dumps({"Attestation": {"document": b"d"}, "Error": "Success"}),
        cbor2.dumps({"Attestation": {"document": b"d"}}) + b"\x00",
        cbor2.dumps({"Attestation": {"document": bytes(0x3000)}}),
        b"\xa1\x6bAttestation\xa2\x68document\x41a\x68document\x41b",
        cbor2.dumps({"Error": 3}),
    ],
)
def test_an_answer_out_of_form_is_an_error(answer: bytes) -> None:
    with pytest.raises(NsmError) as caught:
        NsmClient(lambda _request: answer).attest()
    assert caught.value.name == "InvalidResponse"


def test_a_lock_that_was_not_confirmed_is_an_error() -> None:
    with pytest.raises(NsmError):
        NsmClient(lambda _request: cbor2.dumps("LockPCR")).lock_pcrs(32)


def test_a_line_that_closes_or_boasts_is_an_error() -> None:
    for sent in (b"", b"\x00\x00", b"\x00\x00\x00\x05ab", b"\x7f\xff\xff\xff"):
        ours, theirs = socket.socketpair()
        with ours:
            ours.sendall(sent)
            ours.shutdown(socket.SHUT_WR)
            with pytest.raises(NsmError) as caught:
                open_inherited(theirs.detach()).random()
            assert caught.value.name == "Unreachable"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"\xff",
        cbor2.dumps("Reboot"),
        cbor2.dumps({"ExtendPCR": {"index": 16}}),
        cbor2.dumps({"ExtendPCR": {"index": -1, "data": b""}}),
        cbor2.dumps({"ExtendPCR": {"index": 16, "data": "text"}}),
        cbor2.dumps({"DescribePCR": {"index": 0}, "LockPCR": {"index": 0}}),
        cbor2.dumps({"Attestation": {"user_data": 1, "nonce": None, "public_key": None}}),
        cbor2.dumps([1]),
    ],
)
def test_the_toy_module_refuses_what_the_real_one_would(request_bytes: bytes) -> None:
    toy = ToyNsm(SimulatedPki.create(START), BOOT, MODULE, Clock().ms)
    assert cbor2.loads(toy.transact(request_bytes)) == {"Error": "InvalidOperation"}


def test_there_is_no_nitro_device_here() -> None:
    if DEVICE.exists():
        pytest.skip("this is a Nitro enclave")
    with pytest.raises(OSError, match="nsm"):
        open_nitro()
