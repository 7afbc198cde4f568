"""Key policies: parsed strictly when they are put, evaluated as AWS evaluates them.

Explicit deny wins; then an Allow that names the caller; then, where the policy delegates to the account, an Allow
in the caller's identity policy; grants come after, in `call.py`. What this engine does not evaluate (an unknown
operator, condition key or element, a policy variable, NotPrincipal) is refused when the policy is put: a condition that
is silently never met would be a hole or a lockout.
"""

import json
import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from anchorhold.authority.kms.conditions import Condition, Values, parse_conditions
from anchorhold.authority.kms.faults import malformed_policy
from anchorhold.authority.kms.strict_json import DuplicateKey, loads
from anchorhold.authority.kms.wildcards import like

MAX_POLICY = 131_072  # characters, the KMS model's limit
MAX_STATEMENTS = 100
_TEXT = re.compile(r"[\t\n\r\x20-\xff]+")
_ELEMENTS = frozenset({"Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "NotResource", "Condition"})
_ACCOUNT = re.compile(r"\d{12}", re.ASCII)
_PRINCIPAL = re.compile(r"arn:aws[a-z-]*:(iam|sts)::\d{12}:[\w+=,.@/-]+", re.ASCII)
_VERSIONS = ("2012-10-17", "2008-10-17")


class Verdict(Enum):
    """What one policy says about one call."""

    ALLOWED = "allowed"
    DENIED = "denied"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Call:
    """What a policy is asked about. `values` are the condition keys present, lower-case names."""

    principal: str
    root: str
    action: str
    resource: str
    values: Values


@dataclass(frozen=True, slots=True)
class Statement:
    """`all_but_actions` and `all_but_resources`: NotAction and NotResource, which cover whatever they do not match."""

    allow: bool
    principals: tuple[str, ...]
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[Condition, ...]
    all_but_actions: bool = False
    all_but_resources: bool = False

    def applies(self, call: Call, principals: tuple[str, ...]) -> bool:
        return self.covers(call, principals) and all(condition.holds(call.values) for condition in self.conditions)

    def covers(self, call: Call, principals: tuple[str, ...]) -> bool:
        """Whether it is about this call, its conditions aside."""
        return (
            any(_names(principal, call, principals) for principal in self.principals)
            and any(like(action.lower(), call.action.lower()) for action in self.actions) != self.all_but_actions
            and any(like(resource, call.resource) for resource in self.resources) != self.all_but_resources
        )


@dataclass(frozen=True, slots=True)
class Policy:
    statements: tuple[Statement, ...]

    def unmet(self, call: Call, principals: tuple[str, ...]) -> tuple[Condition, ...]:
        """The conditions that alone keep an Allow for this call from applying."""
        return tuple(
            condition
            for statement in self.statements
            if statement.allow and statement.covers(call, principals)
            for condition in statement.conditions
            if not condition.holds(call.values)
        )

    def judge(self, call: Call, principals: tuple[str, ...]) -> Verdict:
        """Deny before allow, whatever their order."""
        applying = [statement.allow for statement in self.statements if statement.applies(call, principals)]
        if False in applying:
            return Verdict.DENIED
        return Verdict.ALLOWED if applying else Verdict.SILENT


def decide(key_policy: Policy, identity_policy: Policy | None, call: Call) -> Verdict:
    """The two policies together."""
    # 1. An explicit deny in either wins. A statement for the account root covers every principal of the account
    #    when it denies, and delegates to identity policies when it allows.
    own = key_policy.judge(call, (call.principal,))
    account = key_policy.judge(call, (call.principal, call.root))
    identity = identity_policy.judge(call, ("*",)) if identity_policy is not None else Verdict.SILENT
    if Verdict.DENIED in (own, account, identity):
        return Verdict.DENIED
    # 2. An allow for the caller by name; 3. an allow for the account and for the caller's identity.
    if own is Verdict.ALLOWED or (account is Verdict.ALLOWED and identity is Verdict.ALLOWED):
        return Verdict.ALLOWED
    return Verdict.SILENT


def _names(principal: str, call: Call, principals: tuple[str, ...]) -> bool:
    if _ACCOUNT.fullmatch(principal):  # a bare account is its root
        return call.root in principals and call.root.split(":")[4] == principal
    return principal in ("*", *principals)


def default_policy(root: str) -> str:
    """What AWS gives a key made without a policy: everything to the account, so to its administrators."""
    statement = {
        "Sid": "Enable IAM User Permissions",
        "Effect": "Allow",
        "Principal": {"AWS": root},
        "Action": "kms:*",
        "Resource": "*",
    }
    return json.dumps({"Version": _VERSIONS[0], "Id": "key-default-1", "Statement": [statement]})


@lru_cache(maxsize=64)  # text in, frozen value out; a face has few policies and asks each at every call
def parse_policy(text: str, *, identity: bool = False) -> Policy:
    """A policy that can be evaluated whole. Raises MalformedPolicyDocumentException with the place.

    An identity policy has no Principal; inside, it is the one of its holder.
    """
    if len(text) > MAX_POLICY or not _TEXT.fullmatch(text):
        raise malformed_policy(f"policy: expected at most {MAX_POLICY} characters of U+0020 to U+00FF")
    try:
        document = loads(text)
    except (ValueError, DuplicateKey) as error:
        raise malformed_policy("policy: not a JSON document") from error
    if not isinstance(document, dict) or not document.keys() <= {"Version", "Id", "Statement"}:
        raise malformed_policy("policy: expected an object of Version, Id and Statement")
    if document.get("Version", _VERSIONS[0]) not in _VERSIONS or not isinstance(document.get("Id", ""), str):
        raise malformed_policy(f"policy: expected a Version of {_VERSIONS} and a textual Id")
    statements = document.get("Statement")
    statements = [statements] if isinstance(statements, dict) else statements
    if not isinstance(statements, list) or not 1 <= len(statements) <= MAX_STATEMENTS:
        raise malformed_policy(f"policy: expected 1 to {MAX_STATEMENTS} statements")
    return Policy(tuple(_statement(member, f"statement {at}", identity) for at, member in enumerate(statements)))


def _statement(member: object, where: str, identity: bool) -> Statement:
    if not isinstance(member, dict):
        raise malformed_policy(f"{where}: expected an object")
    allowed = _ELEMENTS - {"Principal"} if identity else _ELEMENTS
    if unknown := sorted(member.keys() - allowed):
        raise malformed_policy(f"{where}: elements not supported: {unknown}")
    if not isinstance(member.get("Sid", ""), str) or member.get("Effect") not in ("Allow", "Deny"):
        raise malformed_policy(f"{where}: expected a textual Sid and an Effect of Allow or Deny")
    allow = member["Effect"] == "Allow"
    return Statement(
        allow=allow,
        principals=("*",) if identity else _principals(member.get("Principal"), where),
        actions=_actions(_either(member, "Action", where), where),
        resources=_resources(_either(member, "Resource", where), where),
        conditions=parse_conditions(member.get("Condition", {}), where, allow=allow),
        all_but_actions="NotAction" in member,
        all_but_resources="NotResource" in member,
    )


def _either(member: dict[str, object], name: str, where: str) -> object:
    if (name in member) == ("Not" + name in member):
        raise malformed_policy(f"{where}: expected one of {name} and Not{name}")
    return member.get(name, member.get("Not" + name))


def _resources(member: object, where: str) -> tuple[str, ...]:
    resources = _texts(member, f"{where}: Resource")
    if any("${" in resource for resource in resources):
        raise malformed_policy(f"{where}: Resource: policy variables are not supported")
    return resources


def _principals(member: object, where: str) -> tuple[str, ...]:
    if member == "*":
        return ("*",)
    if not isinstance(member, dict) or member.keys() != {"AWS"}:
        raise malformed_policy(f"{where}: expected a Principal of AWS accounts, users or roles")
    principals = _texts(member["AWS"], f"{where}: Principal")
    for principal in principals:
        if principal != "*" and not _ACCOUNT.fullmatch(principal) and not _PRINCIPAL.fullmatch(principal):
            raise malformed_policy(f"{where}: not a principal: {principal!r}")
    return principals


def _actions(member: object, where: str) -> tuple[str, ...]:
    actions = _texts(member, f"{where}: Action")
    for action in actions:
        if not re.fullmatch(r"kms:[A-Za-z*?]+|\*", action):
            raise malformed_policy(f"{where}: not an action of kms: {action!r}")
    return actions


def _texts(member: object, where: str) -> tuple[str, ...]:
    members = [member] if isinstance(member, str) else member
    if not isinstance(members, list) or not members or not all(isinstance(text, str) and text for text in members):
        raise malformed_policy(f"{where}: expected text or a list of texts")
    return tuple(members)
