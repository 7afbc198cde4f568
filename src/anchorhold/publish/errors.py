"""The one family of errors that leaves the publisher; artifacts that do not hold are the EvidenceError family's."""


class PublishError(Exception):
    """Sealing or fetching cannot go on; `code` is stable and safe to print."""

    code = "publish"


class FolderRefused(PublishError):
    """A file or a setting in the model folder that may not be sealed; names the file and the reason."""

    code = "folder-refused"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name!r}: {reason}")
        self.name = name
        self.reason = reason


class ShareRefused(PublishError):
    """A share provider answered, and the answer is no or makes no sense."""

    code = "share-refused"


class ProviderUnavailable(PublishError):
    """A share provider could not be reached; try again."""

    code = "provider-unavailable"


class FetchFailed(PublishError):
    """The packaged model could not be fetched or is not the one pinned."""

    code = "fetch"
