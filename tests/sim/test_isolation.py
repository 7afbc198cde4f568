"""What surrounds the simulated enclave: its NSM is its alone, there is no network, only the image is imported."""

import errno
import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import anchorhold
from anchorhold.publish.image import read_trees

Rig: TypeAlias = Any  # the class is in conftest.py, which pytest's importlib mode lets no test import

pytestmark = pytest.mark.slow

NSM_INODE = 'import os; answer = os.stat(int(options["--nsm-fd"])).st_ino'


def _holders(inode: int) -> set[int]:
    """Every process that has the socket open, as root sees it."""
    holders = set()
    for process in Path("/proc").glob("[0-9]*"):
        # Processes of others end while they are looked at.
        with suppress(OSError):
            holders |= {int(process.name) for held in _held(process) if held == f"socket:[{inode}]"}
    return holders


def _held(process: Path) -> Iterator[str]:
    """Where the descriptors of a process lead. Raises OSError once it is gone."""
    for link in (process / "fd").iterdir():
        with suppress(OSError):
            yield str(link.readlink())


def test_only_the_enclave_holds_its_end_of_the_nsm(rig: Rig) -> None:
    """Not the hypervisor's other enclaves, not this process, which plays parent and client."""
    first, second = rig.run(rig.image()), rig.run(rig.image())
    inodes = [rig.inside(NSM_INODE, window) for window in (0, 1)]
    assert inodes[0] != inodes[1]
    if os.geteuid() == 0:  # only root may look into a process that is not dumpable
        assert _holders(inodes[0]) == {first["ProcessID"]}
        assert _holders(inodes[1]) == {second["ProcessID"]}


def test_the_nsm_has_no_name_that_another_process_could_open(rig: Rig) -> None:
    pid = rig.run(rig.image())["ProcessID"]
    inode = rig.inside(NSM_INODE)
    number = rig.inside('answer = options["--nsm-fd"]')
    named = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()[1:]]
    assert [row for row in named if row[6] == str(inode) and len(row) > 7] == []
    with pytest.raises(OSError) as refused:
        os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR)
    assert refused.value.errno in (errno.ENXIO, errno.EACCES)


def test_the_window_does_not_lead_to_the_nsm(rig: Rig) -> None:
    """Whatever comes in at the window meets the enclave's own code; the control socket knows no NSM command."""
    rig.run(rig.image())
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(rig.control))
        connection.sendall(b'{"command":"DescribeNSM"}\n')
        assert b"malformed" in connection.makefile("rb").readline()


def test_a_child_of_the_enclave_does_not_inherit_the_nsm(rig: Rig) -> None:
    rig.run(rig.image())
    listing = rig.inside(
        "import subprocess\n"
        'done = subprocess.run(["/bin/ls", "-l", "/proc/self/fd"], capture_output=True, text=True, close_fds=False)\n'
        "answer = done.stdout"
    )
    assert f"socket:[{rig.inside(NSM_INODE)}]" not in listing
    assert "/proc/" in listing


def test_an_nsm_request_too_long_is_answered_or_cut_and_never_crashes_the_hypervisor(rig: Rig) -> None:
    rig.run(rig.image())
    answer = rig.inside(
        """
import cbor2, socket
nsm = socket.socket(fileno=int(options["--nsm-fd"]))
nsm.sendall((0x1001).to_bytes(4, "big") + bytes(0x1001))
size = int.from_bytes(nsm.recv(4, socket.MSG_WAITALL), "big")
answer = [cbor2.loads(nsm.recv(size, socket.MSG_WAITALL))]
nsm.sendall(b"\\xff\\xff\\xff\\xff")
answer.append(len(nsm.recv(1)))
nsm.detach()
"""
    )
    assert answer == [{"Error": "InputTooLarge"}, 0]
    assert len(rig.describe()) == 1


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK"])
def test_the_enclave_has_no_socket_but_unix_ones(rig: Rig, family: str) -> None:
    rig.run(rig.image())
    if "sockets other than Unix" not in rig.events("enclave-started")[0]["closed"]:
        pytest.skip("this host lets nobody install a seccomp filter; the log says so")
    for call in ("socket", "socketpair"):
        answer = rig.inside(
            f"""
import ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)
pair = (ctypes.c_int * 2)()
answer = [libc.{call}(int(socket.{family}), 1, 0, pair), ctypes.get_errno()]
"""
        )
        assert answer == [-1, errno.EAFNOSUPPORT]


def test_io_uring_is_no_way_round_the_filter(rig: Rig) -> None:
    rig.run(rig.image())
    if "sockets other than Unix" not in rig.events("enclave-started")[0]["closed"]:
        pytest.skip("this host lets nobody install a seccomp filter; the log says so")
    io_uring_setup = "libc.syscall(425, 1, 0), ctypes.get_errno()"
    ask = f"import ctypes; libc = ctypes.CDLL(None, use_errno=True); answer = [{io_uring_setup}]"
    assert rig.inside(ask) == [-1, errno.EPERM]


def test_the_network_namespace_is_empty(rig: Rig) -> None:
    rig.run(rig.image())
    if "network" not in rig.events("enclave-started")[0]["closed"]:
        pytest.skip("this host allows no network namespace; the log says so")
    ours = Path("/proc/self/ns/net").readlink()
    assert rig.inside("import os; answer = os.readlink('/proc/self/ns/net')") != str(ours)
    interfaces = rig.inside("answer = open('/proc/net/dev').read().splitlines()[2:]")
    assert [line.split(":")[0].strip() for line in interfaces] in ([], ["lo"])


def test_no_core_dump_no_new_rights_and_not_dumpable(rig: Rig) -> None:
    rig.run(rig.image())
    answer = rig.inside(
        """
import ctypes, resource
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
answer = [status["NoNewPrivs"].strip(), dumpable, resource.getrlimit(resource.RLIMIT_CORE)]
"""
    )
    assert answer == ["1", 0, [0, 0]]


def test_the_environment_is_the_images_not_the_hosts(rig: Rig) -> None:
    rig.run(rig.image())
    inside = rig.inside("import os; answer = dict(os.environ)")
    inside.pop("LC_CTYPE", None)  # Python sets it itself where no locale is given (PEP 538)
    measured = rig.inside("answer = open(options['--image'] + '/env').read()").splitlines()
    assert [f"{name}={value}" for name, value in inside.items()] == measured
    assert "glibc.malloc.tcache_count=0" in inside["GLIBC_TUNABLES"]


def test_an_installed_checkout_is_not_imported(rig: Rig) -> None:
    """The venv has this project too, as an editable checkout on the path; the image lacks most of its modules."""
    rig.run(rig.image())
    assert rig.inside("import sys; answer = [m.__file__ for n, m in sys.modules.items() if n == 'anchorhold']") == [
        rig.inside("answer = options['--image'] + '/anchorhold/__init__.py'")
    ]
    answer = rig.inside(
        """
answer = []
for name in ("anchorhold.publish.image", "anchorhold.sim", "anchorhold.client"):
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        answer.append(str(error))
"""
    )
    assert answer == [f"'{name}' is not in the image" for name in _TOPS]


_TOPS = ("anchorhold.publish", "anchorhold.sim", "anchorhold.client")


def test_bytecode_planted_after_the_start_does_not_run(rig: Rig, stand_in: dict[str, bytes]) -> None:
    """Valid bytecode for a module not yet imported, put there by the same user while the enclave runs."""
    rig.run(rig.image({**stand_in, "anchorhold/enclave/later.py": b"WORD = 'measured'\n"}))
    answer = rig.inside(
        """
import importlib.util, marshal
from pathlib import Path
folder = Path(options["--image"]) / "anchorhold" / "enclave"
folder.chmod(0o700)
target = Path(importlib.util.cache_from_source(str(folder / "later.py")))
target.parent.mkdir()
code = compile("WORD = 'planted'", "later.py", "exec")
unchecked = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
target.write_bytes(unchecked + marshal.dumps(code))
plain = importlib.util.spec_from_file_location("plain", folder / "later.py")
control = importlib.util.module_from_spec(plain)
plain.loader.exec_module(control)
from anchorhold.enclave.later import WORD
answer = [control.WORD, WORD]
"""
    )
    assert answer == ["planted", "measured"]


def test_a_module_planted_by_a_link_in_the_image_is_refused(rig: Rig) -> None:
    rig.run(rig.image())
    answer = rig.inside(
        """
from pathlib import Path
folder = Path(options["--image"]) / "anchorhold" / "enclave"
folder.chmod(0o700)
outside = Path("/dev/shm") / f"{Path(options['--image']).parent.name}.py"
outside.write_text("WORD = 'planted'")
(folder / "linked.py").symlink_to(outside)
try:
    import anchorhold.enclave.linked
except ImportError as error:
    answer = str(error)
outside.unlink()
"""
    )
    assert answer == "'anchorhold.enclave.linked' would come from outside the image"


def test_the_real_measured_set_reaches_its_nsm_and_binds_register_16(rig: Rig, stand_in: dict[str, bytes]) -> None:
    """All of attestation/, enclave/ and wire/ as they are, only `main` is the stand-in's."""
    trees = read_trees(Path(anchorhold.__file__).parent)
    main = "anchorhold/enclave/__main__.py"
    rig.run(rig.image({**trees, main: stand_in[main]}))
    answer = rig.inside(
        """
from anchorhold.attestation.document import parse_document
from anchorhold.enclave.nsm.socket import open_inherited
nsm = open_inherited(int(options["--nsm-fd"]))
extended = nsm.extend_pcr(16, b"configuration")
nsm.lock_pcrs(32)
answer = [extended.hex(), parse_document(nsm.attest(user_data=b"u")).pcrs[16].hex()]
"""
    )
    assert answer == [hashlib.sha384(bytes(48) + b"configuration").hexdigest()] * 2
