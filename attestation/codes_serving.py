"""Codes of what comes after a document: channel, leases, model, transcript; in the form of `codes_evidence.py`."""

SERVING = """
# channel

channel
A frame that cannot belong to this exchange.
Ask again over a new channel; if it repeats, somebody between changes frames.

out-of-order
An event that this state of the exchange does not have.
Ask again over a new channel.

record
A record does not open under this exchange's key, counter and place: changed, moved, or another's.
Ask again; if it repeats, somebody between changes records.

truncated
The stream ended before its final record: what was shown is no answer and has no receipt.
Ask again.

unknown-key
The request was sealed to none of the channel keys that are open now.
Ask again: the client fetches the current key and verifies it.

slot
A slot does not open: sealed to another key, statement, header or place, or changed.
Ask again over a new channel.

same-boot
Two of the gateway's names show evidence of one and the same enclave: it counts once.
Nothing where one enclave is enough; otherwise ask whoever runs the gateway.

epoch-over
The channel key's time is over.
Ask again: the client verifies the next key.

commitment
Header, request or answer is not the one that was committed to.
Refuse the answer.

receipt
The receipt does not fit the exchange it came with; the message shows both values.
Refuse the answer and keep the receipt as evidence.

credential
A tenant credential that does not hold: signature, form or key.
Ask the authority for a new one.

credential-model
The credential is for another model.
Ask for a credential for this model.

credential-purpose
The purpose asked for is not in the credential.
Ask for one that holds it, or name a purpose it has.

credential-adapter
The adapter asked for is not in the credential.
Ask the authority for a credential that lists it.

credential-expired
The credential has ended.
Ask the authority for a new one.

purpose
The purpose asked for is not one that the deployment serves, or that a lease grants now.
Name one of those the message shows.

tenant
A lease does not cover this tenant, or its credential or signature does not hold for this request.
Ask the authority for a credential for this model and purpose, and whether the tenant is revoked.

# leases and configuration

lease-expired
A lease has ended: the leave to serve is over.
Nothing to repair: the enclave renews it, or has stopped serving.

lease-mismatch
A lease for another boot, model, source or request.
Refuse it: it was not given to this enclave.

lease-missing
A source that must have leased shows no lease.
Refuse the enclave: not every custodian agreed to it.

ttl
A lease time below what production allows.
Correct the deployment configuration.

sources
The shares are not from the sources that the configuration names.
Check the deployment configuration against the model's manifest.

# model

not-allowed
Something that a model folder may not hold; the message names it.
Remove it, or seal another model.

file-name
A file that is not on the list of model files, or of an adapter's two.
Remove it from the folder; an adapter is sealed with --base.

adapter-settings
The adapter's settings ask for what is not served, or for what nobody knows; the message names the setting.
Make a plain LoRA adapter: low-rank products on listed projections, everything else at its neutral value.

adapter-tensor
The adapter holds a tensor that is none of lora_A and lora_B of a listed projection.
Save it with PEFT anew, without modules of its own.

adapter-pair
The adapter holds one of lora_A and lora_B without the other.
Save it with PEFT anew.

adapter-shape
A tensor of the adapter has another shape or type than its rank says.
Save it with PEFT anew, as F32, F16 or BF16.

adapter-target
The adapter names a projection in its settings for which it holds no tensor.
Name in target_modules what was trained, and nothing else.

base
What is an adapter, and for which model, differs from what is expected; the message shows both values.
Serve a model, and seal an adapter with --base for exactly that model.

id
A name that is not 1 to 64 plain characters.
Give another name.

architecture
A model of a type that is not on the list.
Serve a model of an architecture that the message names.

encoder
An encoder without encoder.json, a recipe in it other than the one there is, or one beside a model that embeds nothing.
State in encoder.json the pooling 'mean', normalise true and the most tokens of one text; seal again.

index
The tensor index names files that are not there, or holds more than it may.
Rebuild the index with the files.

template
A chat template over its limit, or not UTF-8.
Shorten or re-encode it.

depth
A JSON file nested deeper than allowed.
Refuse the folder: real model files are flat.

code
A setting that would run code out of the model folder.
Remove the setting: no code of a model runs here.

quantiser
A quantiser that is not on the list.
Seal the model without it.

reference
A setting refers to a file outside the folder.
Bring the file into the folder, or remove the setting.

safetensors
A tensor file whose header does not describe its bytes.
Get the file again from its source.

tensor-index
The tensors read are not those that the sealed index lists.
Refuse the model: it is not the one that was sealed.

body
A sealed file that does not open, or ends early.
Get the sealed model again from its publisher.

body-hash
A sealed file is not the one that the manifest names.
Get it again from its publisher.

body-size
A sealed file has another size than the manifest says.
Get it again from its publisher.

body-names
The sealed files are not named as the manifest demands.
Seal the model again with this release.

files
The folder does not hold exactly the files of the manifest.
Get the sealed model again, whole.

format
A manifest or signature of another format or version.
Use the release that made it, or seal again.

model
A model of another digest D than the one expected.
Refuse it, or pin the new digest if you meant it.

manifest-digest
The signature is over another manifest.
Get manifest and signature again, together.

signed-file
The signature names another file than the manifest.
Refuse it: it was made for something else.

share
A key share that does not fit: form, count or check value.
Ask its custodian again; if it repeats, compare the manifests.

model-key
The shares do not give the model's key.
Check that every custodian has the shares of this sealing.

# transcript

head-signature
The second signature that is due over the chain head is absent.
Refuse the record.

evidence-missing
An entry names evidence that this copy does not hold.
Ask the operator for the attachment.
"""
