"""The AWS CLI as a client: its own driver and commands, unchanged, kept running so that a script pays one start only.

Members go in as the command line takes them: blobs as files, maps and lists as JSON, a document within a structure by
the shorthand syntax. What comes out is the JSON it prints, with blobs decoded by botocore's output shape.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore import xform_name
from botocore.model import OperationModel, Shape, StructureShape

from .process import Face

# What `aws` itself does with its arguments, once a line.
_DRIVER = """
import contextlib, io, json, sys
from awscli.clidriver import create_clidriver
driver = create_clidriver()
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = driver.main(json.loads(line))
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


@dataclass(frozen=True)
class Cli:
    """One caller's command line."""

    process: "subprocess.Popen[str]"
    endpoint: str
    folder: Path
    model: Any

    def call(self, operation: str, asked: Mapping[str, object]) -> dict[str, Any]:
        """Raises AssertionError with what the command said, if it fails."""
        shapes: OperationModel = self.model.operation_model(operation)
        arguments = [part for name, value in asked.items() for part in self._argument(name, value)]
        command = ["kms", xform_name(operation, "-"), "--endpoint-url", self.endpoint, "--output", "json"]
        said = self._run([*command, "--no-paginate", *arguments])
        return _decoded(shapes.output_shape, json.loads(said)) if said.strip() else {}

    def _run(self, command: list[str]) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        code, out, err = json.loads(self.process.stdout.readline())
        assert code == 0, err
        return str(out)

    def _argument(self, name: str, value: object) -> list[str]:
        flag = f"--{xform_name(name, '-')}"
        if isinstance(value, bytes):
            return [flag, self._file(name, value)]
        if isinstance(value, Mapping) and any(isinstance(inner, bytes) for inner in value.values()):
            parts = (
                f"{member}@={self._file(member, inner)}" if isinstance(inner, bytes) else f"{member}={inner}"
                for member, inner in value.items()
            )
            return [flag, ",".join(parts)]
        if isinstance(value, str) and value.startswith("https://"):
            # The command line would fetch it: a text that looks like an address goes in as a file.
            (self.folder / name).write_text(value)
            return [flag, f"file://{self.folder / name}"]
        return [flag, json.dumps(value) if isinstance(value, Mapping | list) else str(value)]

    def _file(self, name: str, content: bytes) -> str:
        (self.folder / name).write_bytes(content)
        return f"fileb://{self.folder / name}"


@contextmanager
def running_cli(face: Face, name: str, folder: Path) -> Iterator[Cli]:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", _DRIVER], env=face.environment(name), **pipes) as process:
        yield Cli(process, face.endpoint, folder, face.boto(name).meta.service_model)
        assert process.stdin is not None
        process.stdin.close()


def _decoded(shape: Shape, value: Any) -> Any:
    """The same, with top-level blobs as bytes."""
    assert isinstance(shape, StructureShape)
    return {
        name: base64.b64decode(member) if shape.members[name].type_name == "blob" else member
        for name, member in value.items()
    }
