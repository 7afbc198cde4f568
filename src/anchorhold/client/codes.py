"""What a client, the proxy and the enclave's own refusals say beside evidence: each code, its meaning, what to do.

Standard library alone: `anchorhold explain` reads it in every installation.
"""

from collections.abc import Mapping
from types import MappingProxyType

_TABLE = """
# client

client
The client refused, for a reason that the message says.
Read the message.

unavailable
Nobody answered at the gateway's address.
Try again; ask whoever runs the gateway.

lease-ended
The leave to serve is over: whoever holds the model's key revoked it or did not renew it.
Ask the key's owner. Text delivered before is provisional and has no receipt.

unauthenticated-hint
No answer, only a word that anybody on the way may have said; the request was verified and sealed once more first.
Try again; the word is in the message and proves nothing.

request-invalid
The caller's own request is in no form that an enclave takes: too large, too many parts, or out of range.
Shorten or mend it as the message says. Nothing was sent.

adapter-not-granted
The request names an adapter, and there is no tenant credential to show for it, or one that does not list it.
Ask the owner authority for a credential that lists the adapter. Nothing was sent.

trust-file
A trust file that does not say, in the one form it has, whom to trust.
Get it again from whoever signs it, and pin it by its fingerprint.

release-list-missing
No release list to judge by.
Get the current list and name it: source in the trust file, or --releases FILE.

release-memory
What was remembered of release lists cannot be read or kept, so a list gone back could not be told.
Find out who changed it; to begin anew, check the list's version with its signers and remove the file.

hop-not-pq
The trust file asks for post-quantum key exchange on every hop, and this one has none, or none that anybody saw.
Use TLS with X25519MLKEM768 to the gateway, or a deployment whose model key needs an owner's share.

# tiers

tier-unknown
The trust file names no such tier.
Name one that it has, or add it there.

tier
Every request of this proxy is of one tier, and the request named another.
Leave the header out, or use a proxy of that tier.

tier-platform
The tier does not take this platform.
Send it to a deployment on a platform that the message names.

tier-split
The tier asks for a model key split among custodians, and the evidence shows too few different ones.
Send it to a split deployment.

tier-lease
A lease is longer than the tier allows, so a revocation would be obeyed too late.
Send it to a deployment with shorter leases.

tier-log-lease
The log lease is longer than the tier allows.
Send it to a deployment with a shorter log lease.

tier-pq
A hop of the request is not post-quantum, or nobody saw whether it is.
See which: anchorhold ask --hops.

tier-padding
The tier asks for more padding than the request has.
Ask with --padding strict.

tier-time
The tier asks for a better grade of time than the deployment's log gives.
Send it to a deployment whose log is witnessed.

tier-region
Something that the request or its keys touch is in no region, or another, than the tier allows.
Send it to a deployment in a region that the message names.

# the enclave's refusal

replayed
The enclave has had this request before, or its ciphertext.
Ask again: each send is sealed anew.

busy
The enclave has no room for another request now.
Try again in a moment.

quota
This tenant has taken the requests that its credential gives it, for now.
Try again later, or ask the owner authority for a credential with more.

adapter
The adapter asked for is not served: it is not sealed for this model, it or its lease was refused, or its lease ended.
Ask the owner authority whether it is registered, released to this tenant and not revoked.

draining
The enclave takes no new requests because it is about to stop.
Try again: another enclave, or its successor, will take it.

deadline
The answer was not whole by the request's own deadline.
Ask for less, or allow longer.

too-long
Prompt and answer together are longer than the model or the deployment takes.
Shorten the prompt or lower max_tokens.

bad-request
The enclave or the model's template does not take such a request.
Check roles and their order, and the parameters.

unsupported
The model cannot do what was asked: tools, embeddings, or text.
Ask a deployment whose model can.

engine
The model's engine failed.
Try again; if it repeats, tell whoever runs the deployment.

# proxy

model-not-found
The proxy serves one model and was asked for another; no other answers in its place.
Use the model's alias (GET /v1/models), or start the proxy with --also-as NAME.

unknown-parameter
A parameter that the proxy does not know. It is refused, because leaving it out could change what was meant.
Leave it out of the request.

unsupported-parameter
A parameter that means something this deployment cannot do.
Leave it out of the request.

missing-parameter
A parameter is missing.
Add it.

invalid-value
A parameter's value is not one that can be sent.
Use one that the message allows.

invalid-json
The body is not JSON, is nested too deep, or says something twice.
Send one JSON object in UTF-8.

content-type
A request's body has another type than application/json.
Send application/json: a form of another site's page cannot.

request-timeout
The body did not come within its time.
Send it whole.

proxy-busy
The proxy answers as many requests as it takes at once.
Try again in a moment.

api-key
The proxy was started with a key, and the request does not bring it.
Send Authorization: Bearer KEY.

host
The Host header is not this proxy's own address: a web page may be behind it.
Use the address that the proxy printed.

origin
A web page of another site asked.
Nothing, unless it was yours: use a program, or the proxy's own page.

not-found
No such route, or a receipt that is no longer kept.
The routes are in docs/proxy.md.

method-not-allowed
The route is there, and takes another method.
Use POST.

internal
The proxy failed in a way that nobody foresaw.
Report it, with what the proxy was asked for in general terms.
"""


def _read() -> dict[str, tuple[str, str, str]]:
    rows: dict[str, tuple[str, str, str]] = {}
    group = ""
    for paragraph in _TABLE.strip().split("\n\n"):
        if paragraph.startswith("# "):
            group = paragraph[2:]
            continue
        code, meaning, action = paragraph.split("\n")
        if code in rows:
            raise ValueError(f"codes: {code!r} stands twice")
        rows[code] = (group, meaning, action)
    return rows


CLIENT_CODES: Mapping[str, tuple[str, str, str]] = MappingProxyType(_read())
"""Code: group, meaning, what to do. A code that evidence has too (`too-large`, `purpose`) stands there."""
