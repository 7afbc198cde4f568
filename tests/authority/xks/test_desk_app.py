"""The guard of an XKS face has a desk of its own; what is done there, the next request of KMS obeys."""

import http.client
from pathlib import Path

from tests.authority.xks.conftest import KEYS, make_stage, now_ms, policy, running, served_plain

from anchorhold.attestation import canonical
from anchorhold.authority.guard.operators import TOKEN_FILE
from anchorhold.authority.xks.desk_app import make_desk_app
from anchorhold.authority.xks.server import make_plain_server


def _call(port: int, name: str, token: str, body: dict[str, canonical.Value]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", f"/v1/admin/guard/{name}", canonical.encode(body), {"Authorization": f"Bearer {token}"})
    status = connection.getresponse().status
    connection.close()
    return status


def test_an_operator_kills_and_changes_the_policy_and_kms_is_refused_at_once(tmp_path: Path) -> None:
    stage = make_stage(tmp_path / "state")
    token = (stage.folder / TOKEN_FILE).read_text().strip()
    desk = make_plain_server(make_desk_app(stage.folder, now_ms), "127.0.0.1")
    with served_plain(stage) as proxy, running(desk) as port:
        proxy.encrypt(KEYS.full).succeeds()
        assert _call(port, "put", "x" * 43, {"policy": policy()}) == 401
        nobody = policy({"name": "one", "faces": ["kms"], "principals": ["*"], "operations": ["*"], "keys": ["*"]})
        assert _call(port, "put", token, {"policy": nobody}) == 200
        proxy.encrypt(KEYS.full).fails("AccessDeniedException")
        assert _call(port, "kill", token, {"reason": "incident 7"}) == 200
        proxy.encrypt(KEYS.full).fails("InvalidStateException")
    assert stage.last()["rule"] == "guard-kill"


def test_the_desk_is_not_at_kmss_address(tmp_path: Path) -> None:
    stage = make_stage(tmp_path / "state")
    token = (stage.folder / TOKEN_FILE).read_text().strip()
    with served_plain(stage) as proxy:
        assert _call(int(proxy.host.rpartition(":")[2]), "kill", token, {"reason": "x"}) == 404
        proxy.encrypt(KEYS.full).succeeds()
