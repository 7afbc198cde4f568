"""What the parent is told, once, from one JSON file. Nothing in it is secret but the path of the credentials."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MAX_CONFIG = 1 << 20  # bytes
MAX_EGRESS = 16  # destinations; a deployment has one per key source
MAX_ENCLAVES = 4  # what one parent instance can have
MAX_PORT = 65_535


class ConfigError(Exception):
    """The configuration file does not say what the parent needs; nothing was started."""


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixWindow:
    """The enclave's socket; the parent's own ports are this path with `_<port>` behind it."""

    path: Path


@dataclass(frozen=True, slots=True)
class VsockWindow:
    """The enclave's CID on AF_VSOCK."""

    cid: int


@dataclass(frozen=True, slots=True)
class EnclaveConfig:
    """Where one enclave is, and how to run it: `command` is nitro-cli, or what speaks like it."""

    window: UnixWindow | VsockWindow
    command: tuple[str, ...]
    eif: str
    args: tuple[str, ...]
    start: bool


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM: the gateway's certificate with those between it and its CA, and its key."""

    certificate: Path
    key: Path

    def read(self) -> tuple[bytes, bytes]:
        """Key and certificate. Raises ConfigError."""
        try:
            return self.key.read_bytes(), self.certificate.read_bytes()
        except OSError as error:
            raise ConfigError(f"tls: {str(error.filename)!r}: {(error.strerror or 'unreadable').lower()}") from error


@dataclass(frozen=True, slots=True)
class ParentConfig:
    """One parent with its enclaves; the first is the default."""

    listen: Address
    ready_file: Path | None
    counters_file: Path | None
    configuration: Path
    credentials: Path
    purposes: Path | None
    sealed: Path
    log: Address
    egress: Mapping[str, Address]
    enclaves: tuple[EnclaveConfig, ...]
    alias: str
    tls: TlsFiles | None
    resealed: Path | None = None
    """Where an enclave that seals its model anew may put it; none: nothing is taken."""
    adapters: Path | None = None
    """Sealed adapters, each in a folder named by its digest in lower-case hex; none: no adapter is given out."""


def load_config(path: Path) -> ParentConfig:
    """Raises ConfigError."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG + 1)
        value = json.loads(raw[:MAX_CONFIG].decode("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{str(path)!r}: expected a JSON file of at most {MAX_CONFIG} bytes") from error
    return parse_config(value)


def parse_config(value: object) -> ParentConfig:
    """Raises ConfigError; unknown fields are refused, so a misspelt one is not silently ignored."""
    fields = _object(value, "configuration")
    needed = {"listen", "configuration", "credentials", "sealed", "log", "egress"}
    # One enclave stands beside the other fields, several in a list.
    run = {"enclaves"} if "enclaves" in fields else {"window", "enclave"}
    optional = {"ready_file", "counters_file", "alias", "tls", "purposes", "resealed", "adapters"}
    _check_names(fields, needed | run, optional, "configuration")
    egress = _object(fields["egress"], "egress")
    if len(egress) > MAX_EGRESS:
        raise ConfigError(f"egress: expected at most {MAX_EGRESS} destinations, got {len(egress)}")
    return ParentConfig(
        listen=_address(_text(fields["listen"], "listen"), "listen"),
        ready_file=_path_or_none(fields.get("ready_file"), "ready_file"),
        counters_file=_path_or_none(fields.get("counters_file"), "counters_file"),
        configuration=Path(_text(fields["configuration"], "configuration")),
        credentials=Path(_text(fields["credentials"], "credentials")),
        purposes=_path_or_none(fields.get("purposes"), "purposes"),
        sealed=Path(_text(fields["sealed"], "sealed")),
        log=_address(_log_host(_text(fields["log"], "log")), "log"),
        egress={name: _address(_text(target, name), f"egress {name!r}") for name, target in egress.items()},
        enclaves=_enclaves(fields),
        alias=_text(fields.get("alias", ""), "alias"),
        tls=_tls(fields["tls"]) if "tls" in fields else None,
        resealed=_path_or_none(fields.get("resealed"), "resealed"),
        adapters=_path_or_none(fields.get("adapters"), "adapters"),
    )


def _tls(value: object) -> TlsFiles:
    fields = _object(value, "tls")
    _check_names(fields, {"certificate", "key"}, set(), "tls")
    return TlsFiles(Path(_text(fields["certificate"], "tls certificate")), Path(_text(fields["key"], "tls key")))


def _window(value: object) -> UnixWindow | VsockWindow:
    if isinstance(value, str) and value:
        return UnixWindow(Path(value))
    fields = _object(value, "window")
    _check_names(fields, {"cid"}, set(), "window")
    cid = fields["cid"]
    # 0 to 3 are the hypervisor, local, host and the parent itself; 2^32-1 is "any".
    if type(cid) is not int or not 4 <= cid < (1 << 32) - 1:
        raise ConfigError(f"window: expected a cid from 4, got {cid!r}")
    return VsockWindow(cid)


def _enclaves(fields: dict[str, object]) -> tuple[EnclaveConfig, ...]:
    if "enclaves" not in fields:
        return (_enclave(fields["window"], fields["enclave"]),)
    listed = fields["enclaves"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_ENCLAVES:
        raise ConfigError(f"enclaves: expected a list of 1 to {MAX_ENCLAVES}")
    found = []
    for one in listed:
        members = _object(one, "enclaves")
        _check_names(members, {"window", "enclave"}, set(), "enclaves")
        found.append(_enclave(members["window"], members["enclave"]))
    windows = [one.window for one in found]
    if len(set(windows)) != len(windows) or len({type(window) for window in windows}) != 1:
        raise ConfigError("enclaves: expected another window for each, all of one kind")
    return tuple(found)


def _enclave(window: object, value: object) -> EnclaveConfig:
    fields = _object(value, "enclave")
    _check_names(fields, {"command", "eif", "args", "start"}, set(), "enclave")
    if type(fields["start"]) is not bool:
        raise ConfigError(f"enclave start: expected true or false, got {fields['start']!r}")
    command = _texts(fields["command"], "enclave command")
    if not command:
        raise ConfigError("enclave command: expected a program")
    return EnclaveConfig(
        _window(window),
        command,
        _text(fields["eif"], "enclave eif"),
        _texts(fields["args"], "enclave args"),
        fields["start"],
    )


def _log_host(url: str) -> str:
    if not url.startswith("http://"):
        # Records are signed inside and public: TLS to a log on another machine is a reverse proxy's work.
        raise ConfigError(f"log: expected http://host:port, got {url!r}")
    return url.removeprefix("http://").rstrip("/")


def _address(text: str, what: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > MAX_PORT:
        raise ConfigError(f"{what}: expected host:port, got {text!r}")
    return Address(host.strip("[]"), int(port))


def _object(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ConfigError(f"{what}: expected an object, got {type(value).__name__}")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{what}: expected text, got {type(value).__name__}")
    return value


def _texts(value: object, what: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{what}: expected a list of texts, got {type(value).__name__}")
    return tuple(_text(item, what) for item in value)


def _path_or_none(value: object, what: str) -> Path | None:
    return None if value is None else Path(_text(value, what))


def _check_names(fields: dict[str, object], needed: set[str], optional: set[str], what: str) -> None:
    missing, unknown = sorted(needed - fields.keys()), sorted(fields.keys() - needed - optional)
    if missing or unknown:
        raise ConfigError(f"{what}: missing {missing}, unknown {unknown}")
