"""Every supported operation through boto3 and the AWS CLI, unchanged, over TLS; every other one refused by name."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.model import Shape
from tests.authority.xks.conftest import PATIENCE_S, PREFIX, REGION, make_stage, policy, running

from anchorhold.authority.kms.operations import DONE, OTHER_OPERATIONS
from anchorhold.authority.kms.xks_proxy import FOLDER
from anchorhold.authority.xks.server import client_ca, make_mtls_server
from anchorhold.authority.xks.setup import default_client_name

from .cli import running_cli
from .process import Face, running_face
from .script import SCRIPT, Kept, Step


@dataclass(frozen=True)
class Stage:
    """A KMS face in a process of its own, and what it needs to know of the proxy beside it."""

    face: Face
    proxy: Mapping[str, object]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    xks = make_stage(folder / "xks", policy(), None, all_keys=True)
    server = make_mtls_server(xks.app(), xks.folder, default_client_name("aws", REGION))

    def prepare(state_dir: Path) -> None:
        (state_dir / FOLDER).mkdir()
        for name in ("client.pem", "client.key", "ca.pem"):
            shutil.copy(client_ca(xks.folder).parent / name, state_dir / FOLDER / name)

    # A loaded machine would have calls to the proxy time out, which is right and not what these tests are about.
    with running(server) as port, running_face(folder, prepare, PATIENCE_S) as face:
        yield Stage(
            face,
            {
                "CustomKeyStoreName": "ours",
                "CustomKeyStoreType": "EXTERNAL_KEY_STORE",
                "XksProxyUriEndpoint": f"https://localhost:{port}",
                "XksProxyUriPath": f"{PREFIX}/kms/xks/v1",
                "XksProxyConnectivity": "PUBLIC_ENDPOINT",
                "XksProxyAuthenticationCredential": {
                    "AccessKeyId": xks.credential.access_key_id,
                    "RawSecretAccessKey": xks.credential.secret_access_key,
                },
            },
        )
    xks.desk.close()


def test_every_operation_of_the_face_s_table_is_in_the_script() -> None:
    assert {step.operation for step in SCRIPT} == set(DONE)


@pytest.mark.slow
def test_boto3_runs_the_script_and_each_answer_is_in_botocore_s_shape(stage: Stage) -> None:
    face = stage.face
    clients = {name: face.boto(name) for name in face.credentials}

    def ask(step: Step, asked: Mapping[str, object]) -> Mapping[str, Any]:
        answer = getattr(clients[step.who], xform_name(step.operation))(**asked)
        return {name: member for name, member in answer.items() if name != "ResponseMetadata"}

    run(stage, ask)


@pytest.mark.slow
def test_the_aws_cli_runs_the_same_script(stage: Stage, tmp_path: Path) -> None:
    face = stage.face
    with ExitStack() as stack:
        clis = {name: stack.enter_context(running_cli(face, name, tmp_path)) for name in face.credentials}
        run(stage, lambda step, asked: clis[step.who].call(step.operation, asked))


def run(stage: Stage, ask: Callable[[Step, Mapping[str, object]], Mapping[str, Any]]) -> None:
    kept: Kept = {"proxy": stage.proxy}
    for step in SCRIPT:
        answer = ask(step, step.asks(stage.face, kept))
        assert answer.keys() == set(step.gives.split()), step.operation
        kept |= {name: _member(answer, path) for name, path in step.keeps.items()}
        assert step.holds(kept, answer), step.operation


def _member(answer: Any, path: str) -> Any:
    for name in path.split("."):
        answer = answer[name]
    return answer


@pytest.mark.slow
def test_every_other_operation_of_the_model_is_refused_by_name(stage: Stage) -> None:
    client = stage.face.boto("admin", check_parameters=False)
    model = client.meta.service_model
    assert set(model.operation_names) >= OTHER_OPERATIONS
    assert set(model.operation_names) == OTHER_OPERATIONS | DONE.keys()
    for name in sorted(OTHER_OPERATIONS):
        shape = model.operation_model(name).input_shape
        asked = {member: _any(shape.members[member]) for member in shape.required_members}
        with pytest.raises(ClientError) as caught:
            getattr(client, xform_name(name))(**asked)
        assert caught.value.response["Error"]["Code"] == "UnsupportedOperationException", name
        assert name in caught.value.response["Error"]["Message"]


def _any(shape: Shape) -> object:
    """Something of a member's type."""
    values: dict[str, object] = {"blob": b"x", "list": [], "map": {}, "structure": {}, "boolean": False, "integer": 1}
    return values.get(shape.type_name, "x")
