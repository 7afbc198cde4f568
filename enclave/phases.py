"""The phase table (DESIGN 8). What is not in the table is refused, and DEAD does not come back."""

from enum import Enum, auto


class Phase(Enum):
    BOOT = auto()  # nothing is known yet
    MEASURED = auto()  # the configuration is in PCR16 and the registers are locked
    LOGGED = auto()  # genesis is in the log, and the log proved it
    KEYED = auto()  # every share is here and the model key proved itself
    LOADED = auto()  # weights are in memory, keys are wiped
    SERVING = auto()
    RESEALED = auto()  # a boot that serves nobody: the model is sealed anew, and its manifest has left
    DRAINING = auto()  # a renewal was refused, or a shutdown was asked for: streams end, none begins
    DEAD = auto()


class Step(Enum):
    CONFIGURATION_LOCKED = auto()
    GENESIS_INCLUDED = auto()
    KEY_PROVED = auto()
    MODEL_LOADED = auto()
    MODEL_RESEALED = auto()
    RECORDS_INCLUDED = auto()
    RENEWAL_REFUSED = auto()
    SHUTDOWN_ASKED = auto()
    LEASE_ENDED = auto()
    DRAINED = auto()
    FAILED = auto()


_NEXT: dict[tuple[Phase, Step], Phase] = {
    (Phase.BOOT, Step.CONFIGURATION_LOCKED): Phase.MEASURED,
    (Phase.MEASURED, Step.GENESIS_INCLUDED): Phase.LOGGED,
    (Phase.LOGGED, Step.KEY_PROVED): Phase.KEYED,
    (Phase.KEYED, Step.MODEL_LOADED): Phase.LOADED,
    (Phase.KEYED, Step.MODEL_RESEALED): Phase.RESEALED,
    (Phase.RESEALED, Step.DRAINED): Phase.DEAD,
    (Phase.LOADED, Step.RECORDS_INCLUDED): Phase.SERVING,
    (Phase.SERVING, Step.RENEWAL_REFUSED): Phase.DRAINING,
    (Phase.SERVING, Step.SHUTDOWN_ASKED): Phase.DRAINING,
    (Phase.DRAINING, Step.RENEWAL_REFUSED): Phase.DRAINING,
    (Phase.DRAINING, Step.SHUTDOWN_ASKED): Phase.DRAINING,
    (Phase.SERVING, Step.LEASE_ENDED): Phase.DEAD,
    (Phase.DRAINING, Step.LEASE_ENDED): Phase.DEAD,
    (Phase.DRAINING, Step.DRAINED): Phase.DEAD,
    **{(phase, Step.FAILED): Phase.DEAD for phase in Phase if phase is not Phase.DEAD},
}


class PhaseError(Exception):
    """A step that the table does not have."""


class Phases:
    """The one phase variable of the process."""

    def __init__(self) -> None:
        self._phase = Phase.BOOT

    @property
    def now(self) -> Phase:
        return self._phase

    def take(self, step: Step) -> Phase:
        """The phase after `step`. Raises PhaseError if the table has no such step here."""
        following = _NEXT.get((self._phase, step))
        if following is None:
            raise PhaseError(f"{step.name} is not a step from {self._phase.name}")
        self._phase = following
        return following

    def require(self, *allowed: Phase) -> None:
        """Raises PhaseError unless the process is in one of `allowed`."""
        if self._phase not in allowed:
            wanted = " or ".join(phase.name for phase in allowed)
            raise PhaseError(f"expected phase {wanted}, got {self._phase.name}")
