"""Codes of documents, policies, statements and releases. Three lines each: the code, its meaning, what to do."""

EVIDENCE = """
# verdict, proved

document-read
The bytes are an attestation document in the exact form.
Nothing: this holds.

signature-holds
The document's leaf certificate signed exactly these bytes, with ES384.
Nothing: this holds.

chain-holds
The certificates lead to a root you trust, each valid at the time of judgement.
Nothing: this holds.

platform-accepted
Root and registers give a platform that your policy takes.
Nothing: this holds.

debug-off
The enclave is not in debug mode: its memory is closed to the parent.
Nothing: this holds.

measurements-accepted
The registers match, whole, a measurement set of the releases named.
Nothing: this holds.

configuration-accepted
Register 16, the deployment configuration, is the one your policy pins.
Nothing: this holds.

age-within
The document is no older than your policy allows, by your own clock.
Nothing: this holds.

nonce-equal
The document holds exactly your nonce, so it was made for you.
Nothing: this holds.

live
The document was judged at the present, by your own clock.
Nothing: this holds.

witnessed
A witness saw the document while its leaf certificate was valid (grade T3).
Nothing: this holds.

# verdict, asserted

bounded
A witness saw the document after its leaf ended, before its issuers did (grade T2).
Ask for a checkpoint cosigned while the leaf was valid.

not-before
A third party's nonce shows that the document is not older than it (grade T1); nothing bounds how new it is.
Ask for a witnessed checkpoint as well.

own-word
Only the document itself dates it (grade T0): whoever stole a leaf key can back-date.
Ask for a witnessed checkpoint, or judge a fresh document with --at now and your nonce.

stated
The time of judgement is the one you named; nothing shows that the document is from then.
Know where your time comes from, or bring a witnessed checkpoint.

age-only
Your policy lets freshness rest on the age, so a replay within it is not ruled out.
Give a nonce of your own where you can ask for a document.

# verdict, not checked

unproved
What this stands on was not proved, so its word was not repeated.
See the claims above it, the first that failed.

no-policy
No policy was given: what runs there was not judged.
Give one with --policy (docs/schema/policy.schema.json).

not-pinned
Your policy does not pin register 16, so the deployment configuration was not judged.
Pin 16 in every set if the enclave is one of this project.

debug-hidden
Debug mode shows the image registers as zero, so they could not be compared; the others agree.
Never send anything confidential to this enclave.

kept-document
The document is judged at a past time, where an age says nothing.
See the claim `time`.

no-nonce
No nonce was given to compare, so a replay is not ruled out.
Ask for a document with a fresh nonce of yours and give it with --nonce.

# verdict, failed

nonce-absent
Your policy requires a nonce and the document holds none: it can be replayed for as long as its age allows.
Ask for a document with a nonce of yours.

# document

unreadable
The bytes do not begin as a document, or end inside its envelope.
Check that it is the NSM's raw output, not hex, base64 or JSON.

malformed
Bytes that are not in the form the specification gives; the message says where.
Ask for it again from its maker; do not repair it by hand.

not-canonical
A value is written in another way than the one allowed, so two readers could differ about it.
Have its maker encode it again; it was changed or made by other software.

too-large
An input is over its limit; the message names both.
Do not raise the limit: real inputs are far below it.

algorithm
A signature, certificate or seal is of an algorithm that this format does not allow.
Refuse it: an algorithm is never negotiated here.

signature
A signature does not verify under the key it names: the bytes were changed, or somebody else signed.
Refuse it and get it again from its source.

chain
The certificates do not form a path to the root: issuer, usage, constraint or signature is wrong.
Refuse it: genuine documents carry their whole chain.

wrong-root
The document's first certificate is not a root that you trust.
For a simulated stack name its root with --dangerous-simulated-root; else refuse it.

expired
A certificate had ended at the time of judgement; a leaf lives three hours.
Ask for a new document; a kept one is judged at its own time (--at doc).

not-yet-valid
A certificate had not begun at the time of judgement, by more than the leeway.
Check your clock; if it is right, refuse the document.

identity
Leaf certificate, module id and registers do not name the same enclave or instance.
Refuse it: a genuine document agrees with its leaf.

platform
A genuine document of a platform that your policy does not take.
Refuse it, or name the platform in the policy if you meant it.

debug
The enclave is in debug mode, or registers 0, 1, 2 are missing: its parent can read its memory.
Start it without debug mode. --dangerous-allow-debug accepts it, as a limit, for development.

measurement
A register differs from every accepted set, or is absent; the message shows the closest.
If it is a release you mean to accept, check its statement and put it into the policy; else refuse it.

stale
The document is older than your policy allows.
Ask for a new one.

from-the-future
The document's time is ahead of your clock by more than the leeway.
Check your clock; if it is right, refuse the document.

nonce
The document does not hold exactly your nonce: it may be a replay.
Ask for a new document with your nonce.

mismatch
A value differs from the one expected; the message shows both.
Find out which of the two is right; never accept the one that was sent because it was sent.

evidence
Evidence that does not hold; the message says why.
Refuse it.

# policy and statements

policy
The policy would accept more than its author can have meant, or is not in the published form.
Correct it (docs/schema/policy.schema.json).

user-data
The document does not bind the statement that came with it.
Refuse both: the statement is not the enclave's.

public-key
The document's public key is not the one its statement names, or there should be none.
Refuse it: somebody else's key may be in it.

statement-kind
A statement of another kind than this acceptor takes.
Refuse it: a statement made for one purpose is never taken for another.

# release statements

list
A release list that may not be used; the message says which rule it breaks.
Get the current list from its publisher.
"""
