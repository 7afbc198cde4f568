"""What a log, or what is to go into it, can bring about: it is away, it lies, or there is nothing to send."""


class LogUnavailable(Exception):
    """The log did not answer, or could not keep the record. The record waits and goes first next time."""

    code = "log-unavailable"


class LogBehind(LogUnavailable):
    """Too many records wait for the log: this entry was not even signed, and is its caller's to offer again."""

    code = "log-behind"


class EntryUnmade(LogUnavailable):
    """An entry that was posted cannot be made, and none can follow it: the transcript shows no more than it does."""

    code = "entry-unmade"


class BootEnded(LogUnavailable):
    """The last record of this boot is signed: nothing follows it."""

    code = "boot-ended"


class LogContradiction(Exception):
    """The log's answer does not hold: it lies, or somebody does in its name. For ever: this boot writes no more."""

    code = "log-contradiction"
