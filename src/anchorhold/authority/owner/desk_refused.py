"""The one error of the owner's desk."""


class DeskRefused(Exception):
    """An order that cannot be carried out. The administrator may see why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
