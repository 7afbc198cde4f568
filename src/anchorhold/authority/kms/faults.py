"""AWS KMS's errors by name, with its wording where the wording is public; ours says `simulated` where it is not."""


class KmsFault(Exception):
    """One answer that is not a success. `name` is what SDKs see as the error code."""

    def __init__(self, name: str, message: str, *, status: int = 400) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message
        self.status = status

    def body(self) -> dict[str, str]:
        """The JSON body. AWS writes the key of AccessDeniedException's text with a capital letter."""
        key = "Message" if self.name == "AccessDeniedException" else "message"
        return {"__type": self.name, key: self.message}


def validation(message: str) -> KmsFault:
    return KmsFault("ValidationException", message)


def not_found(message: str) -> KmsFault:
    return KmsFault("NotFoundException", message)


def malformed_policy(message: str) -> KmsFault:
    return KmsFault("MalformedPolicyDocumentException", message)


def unsupported(message: str) -> KmsFault:
    return KmsFault("UnsupportedOperationException", message)


def bad_document(message: str) -> KmsFault:
    # What AWS answers to a malformed, wrongly signed or stale document is not public.
    return validation(f"(simulated) the attestation document is not accepted: {message}")


def invalid_ciphertext() -> KmsFault:
    # AWS sends no text: a changed blob and a wrong encryption context cannot be told apart.
    return KmsFault("InvalidCiphertextException", "")


def invalid_state(message: str) -> KmsFault:
    return KmsFault("KMSInvalidStateException", message)


def limit_exceeded(message: str) -> KmsFault:
    return KmsFault("LimitExceededException", message)


def invalid_usage(message: str) -> KmsFault:
    return KmsFault("InvalidKeyUsageException", message)


def dry_run() -> KmsFault:
    return KmsFault("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")


def throttled() -> KmsFault:
    return KmsFault(
        "ThrottlingException",
        "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
    )


def key_unavailable() -> KmsFault:
    return KmsFault("KeyUnavailableException", "the key is not available now; the request can be retried", status=500)


def internal() -> KmsFault:
    return KmsFault("KMSInternalException", "an internal error occurred; the request can be retried", status=500)


def guarded(rule: str, principal: str, action: str, resource: str) -> KmsFault:
    """What the guard's denial is in AWS's words; which rule it was stands in the journal and at the desk."""
    if rule in ("guard-kill", "guard-log"):
        return invalid_state(f"{resource} is not available.")
    if rule in ("guard-rate", "guard-budget", "guard-burst"):
        return throttled()
    return denied(principal, action, resource, "with an explicit deny in a guard policy")


def denied(principal: str, action: str, resource: str, reason: str) -> KmsFault:
    return KmsFault(
        "AccessDeniedException",
        f"User: {principal} is not authorized to perform: {action} on resource: {resource} {reason}",
    )
