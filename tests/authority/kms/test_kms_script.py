"""Every supported operation through boto3 and the AWS CLI, unchanged, over TLS; every other one refused by name."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.model import Shape

from anchorhold.authority.kms.operations import DONE, OTHER_OPERATIONS

from .cli import running_cli
from .process import Face, running_face
from .script import SCRIPT, Kept, Step


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    with running_face(tmp_path_factory.mktemp("face")) as face:
        yield face


def test_every_operation_of_the_face_s_table_is_in_the_script() -> None:
    assert {step.operation for step in SCRIPT} == set(DONE)


@pytest.mark.slow
def test_boto3_runs_the_script_and_each_answer_is_in_botocore_s_shape(face: Face) -> None:
    clients = {name: face.boto(name) for name in face.credentials}

    def ask(step: Step, asked: Mapping[str, object]) -> Mapping[str, Any]:
        answer = getattr(clients[step.who], xform_name(step.operation))(**asked)
        return {name: member for name, member in answer.items() if name != "ResponseMetadata"}

    run(face, ask)


@pytest.mark.slow
def test_the_aws_cli_runs_the_same_script(face: Face, tmp_path: Path) -> None:
    with ExitStack() as stack:
        clis = {name: stack.enter_context(running_cli(face, name, tmp_path)) for name in face.credentials}
        run(face, lambda step, asked: clis[step.who].call(step.operation, asked))


def run(face: Face, ask: Callable[[Step, Mapping[str, object]], Mapping[str, Any]]) -> None:
    kept: Kept = {}
    for step in SCRIPT:
        answer = ask(step, step.asks(face, kept))
        assert answer.keys() == set(step.gives.split()), step.operation
        kept |= {name: _member(answer, path) for name, path in step.keeps.items()}
        assert step.holds(kept, answer), step.operation


def _member(answer: Any, path: str) -> Any:
    for name in path.split("."):
        answer = answer[name]
    return answer


@pytest.mark.slow
def test_every_other_operation_of_the_model_is_refused_by_name(face: Face) -> None:
    client = face.boto("admin", check_parameters=False)
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
