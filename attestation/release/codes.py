"""What each code about releases means and what to do about it: for `anchorhold explain` and for people."""

from collections.abc import Mapping

EXPLANATIONS: Mapping[str, tuple[str, str]] = {
    "list-threshold": (
        "Fewer signers of your quorum signed the list than your threshold asks for.",
        "Ask the missing signers to run `release sign`, or compare your quorum file with theirs.",
    ),
    "list-product": ("The list is of another product.", "Fetch the list of the product your trust file names."),
    "list-in-future": (
        "The list says it was issued after your clock's present time.",
        "Set your clock, or ask who issued it.",
    ),
    "list-too-old": (
        "The list is older than you accept, so a revocation may have been withheld from you.",
        "Fetch the current list; its publishers run `release renew` and sign it each week.",
    ),
    "list-rolled-back": (
        "The list has a lower version than one you have seen.",
        "Fetch the current list; whoever gave you this one may be hiding a revocation.",
    ),
    "list-forked": (
        "Two lists of one version differ: their signers signed two histories.",
        "Keep both files and ask the signers; use neither before they have answered.",
    ),
    "list-unrevokes": (
        "The list accepts a release that was seen revoked before.",
        "Ask the signers; a revoked release comes back as a new statement or not at all.",
    ),
    "list-incomplete": (
        "The list names a statement that is not in the file.",
        "Fetch the whole bundle again; somebody left a part out.",
    ),
    "list-empty": (
        "No release that the list names or ends was ever put in force by your quorum.",
        "Compare your quorum with the people who signed; ask them for the whole bundle.",
    ),
    "no-accepted-release": (
        "The list holds, but no release in it does.",
        "See the code of each refused release; the publishers must make and sign another.",
    ),
    "release-revoked": (
        "Enough signers say that this release is no longer accepted.",
        "Run another release; an enclave of this one must not be used.",
    ),
    "release-not-listed": (
        "The statement is in the file, but the signed list does not name it.",
        "Nothing, if it was withdrawn; else its publishers must sign a list with it.",
    ),
    "release-threshold": (
        "Fewer signers of your quorum signed the statement than your threshold asks for.",
        "Ask the missing signers to run `release sign`.",
    ),
    "release-product": ("The statement is of another product than its list.", "Ask who signed it."),
    "release-not-yet": ("The release's public delay is not over.", "Wait until its not-before."),
    "release-expired": ("The release's time is over.", "Update, or have its publishers sign it again."),
    "release-not-logged": (
        "There is no proof that the signed statement is in the log you trust.",
        "Its publishers run `release log`; do not accept it before.",
    ),
    "quorum": (
        "The quorum could be met by fewer people than its author can have meant.",
        "Correct the thresholds; list each name and key once.",
    ),
    "list-signed": ("Enough signers of your quorum signed the list, with both algorithms.", "Nothing."),
    "list-young": ("The list is not older than you accept.", "Nothing."),
    "list-version": ("The list's version is not lower than the last one you have seen.", "Nothing."),
    "version-not-checked": (
        "No last version was given, so an older list would pass.",
        "Give --version-floor; a client remembers it by itself.",
    ),
    "releases-logged": ("Every accepted release is in the log you trust.", "Nothing."),
    "log-not-checked": ("No log key was given, so a release made in secret would pass.", "Give --log-key."),
    "heartbeat": ("What was given is no heartbeat in the form.", "Ask who handed it on for the signed file."),
    "heartbeat-product": ("The heartbeat is of another product.", "Bring the one of the product that you pinned."),
    "heartbeat-threshold": (
        "Fewer signers of your quorum signed the heartbeat than your threshold asks for.",
        "Ask the missing signers why; do not take silence for consent.",
    ),
    "releases-accepted": ("At least one release is accepted.", "Nothing."),
}
"""Code to meaning and remedy."""
