// Every sentence of the page. Plain words, none of them stronger than what the proxy has checked.

export const STATES = {
  "starting": {
    tone: "waiting", shape: "waiting", headline: "Verifying",
    lead: "The proxy is asking the enclave for evidence. Nothing has been proved yet.",
    sends: "Requests are not sent until the evidence has been verified.",
  },
  "verified": {
    tone: "verified", shape: "verified", headline: "Verified",
    lead: "This proxy has checked the enclave's evidence itself and it agrees with your trust file. Prompts and answers are readable here and inside the enclave, and encrypted in between.",
    sends: "Requests are sealed to this enclave and sent.",
  },
  "verified-simulated": {
    tone: "simulated", shape: "simulated", headline: "Simulation only",
    lead: "Every check passed, but under a toy root: no hardware stands behind it. Whoever runs the machine can read everything. Send nothing here that must stay confidential.",
    sends: "Requests are sealed to the simulated enclave and sent.",
  },
  "refused": {
    tone: "refused", shape: "refused", headline: "Refused",
    lead: "What was shown in place of good evidence does not agree with your trust file.",
    sends: "Nothing is sent. Each request is answered with the error below.",
  },
  "lease-ended": {
    tone: "refused", shape: "ended", headline: "Lease ended",
    lead: "The leave to serve this model is over: whoever holds its key did not renew it, or revoked it.",
    sends: "Nothing is sent until a new lease has been verified.",
  },
  "gateway-away": {
    tone: "away", shape: "away", headline: "Gateway away",
    lead: "Nobody answers at the gateway's address. That says nothing about the enclave, good or bad.",
    sends: "Nothing is sent. The proxy tries again with the next request.",
  },
};

// The page's own two: about the proxy, not from it. What was shown before is taken down.
export const SILENT = {
  tone: "away", shape: "away", headline: "No answer from the proxy",
  lead: "The proxy on this machine does not answer, so nothing on this page would be current.",
  sends: "Nothing is known about requests now.",
};
export const UNREADABLE = {
  tone: "refused", shape: "refused", headline: "Status not understood",
  lead: "The proxy answered with a status that this page cannot read or that contradicts itself. It is not shown.",
  sends: "Nothing is known about requests now.",
};

export const GROUPS = [
  ["proved", "Proved", "Follows from signatures and digests that this proxy has checked itself, under the root and the values in your trust file."],
  ["asserted", "Asserted", "Somebody’s word. It may be signed, but nothing else stands behind it."],
  ["not_proved", "Not proved", "No check here shows these. Do not rely on them."],
];

// Names of claims by code; the words beside them are the proxy's.
export const CLAIMS = {
  "enclave": "Evidence, signed and fresh", "software": "The software you accept", "configuration": "The configuration you pinned",
  "model": "The model you pinned", "channel": "A channel to it alone", "enclaves": "Several enclaves", "release": "An accepted release", "lease": "Leave to serve",
  "kms-lease": "Leave to serve, by its own word", "keystore": "Where its key lies", "same-custodian": "One custodian, not two", "answers": "Whether answers are true",
  "this-machine": "This machine", "traffic": "That you are using it", "simulated": "Simulated", "nothing-verified": "Nothing is verified",
};

export const STANDING = { "proved": "Proved", "asserted": "Asserted", "not-checked": "Not checked" };
export const TASKS = { chat: "Chat", complete: "Completion", embed: "Embeddings" };
export const OUTCOMES = { stop: "answered in full", length: "answered, cut at its length limit" };
export const PLATFORMS = {
  "nitro-enclave": "AWS Nitro Enclave", "nitro-tpm": "AWS instance with NitroTPM", "simulated": "Simulated, no hardware",
};
export const QUANTUM = { true: "post-quantum", false: "not post-quantum", null: "post-quantum: unknown" };

export const NO_HOPS = "None is known while nothing is verified.";
export const NO_RECEIPTS = "None yet. An answer without one is an error, not an answer.";

export function title(name) {
  const words = name.replaceAll("-", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

export function utc(ms) {
  return new Date(ms).toISOString().replace("T", " ").replace(/\.\d+Z$/, " UTC");
}

// No finer than a minute: what changes every second is not read.
export function span(ms) {
  const minutes = Math.round(Math.abs(ms) / 60000);
  if (minutes < 1) return "less than a minute";
  const [count, unit] = minutes < 90 ? [minutes, "minute"] : minutes < 2880 ? [Math.round(minutes / 60), "hour"] : [Math.round(minutes / 1440), "day"];
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

export function when(ms, at) {
  return ms <= at ? `${span(at - ms)} ago` : `in ${span(ms - at)}`;
}

export function ends(ms, at) {
  return ms <= at ? `ended ${span(at - ms)} ago; verified anew before anything is sent` : `ends in ${span(ms - at)}`;
}
