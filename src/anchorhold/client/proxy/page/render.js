// One status into the page. A part is only built anew when what it shows has changed: focus and opened rows stay.

import {
  CLAIMS, ends, GROUPS, NO_HOPS, NO_RECEIPTS, OUTCOMES, PLATFORMS, QUANTUM, STANDING, TASKS, title, utc, when,
} from "./words.js";

const shown = new Map();

export function show(about, status) {
  part("state", [about], () => state(about));
  part("problem", status && [status.code, status.message, status.hint], (box) => problem(box, status), status !== null && status.code !== null);
  part("facts", status && moments(status), (box) => facts(box, status));
  part("values", status && [status.deployment, status.session, status.proxy], (box) => values(box, status));
  byId("exact").hidden = status === null;
  part("claims", status && GROUPS.map(([kind]) => status[kind]), (box) => claims(box, status));
  part("hops", status && [status.hops], (box) => hops(box, status));
  receipts(byId("receipts"), status);
  byId("asof").textContent = status === null ? "No status now." : `${about.headline} since ${utc(status.since)}.`;
  document.title = `${about.headline}${status ? ` · ${status.deployment.name}` : ""} · Anchorhold proxy`;
}

function part(id, data, build, wanted = true) {
  const key = JSON.stringify(data);
  if (shown.get(id) === key) return;
  const box = byId(id);
  if (id === "problem") box.hidden = !wanted;
  if (id !== "state") box.replaceChildren();
  if (data !== null && wanted) build(box);
  shown.set(id, key);
}

function state(about) {
  document.documentElement.dataset.tone = about.tone;
  byId("shape").setAttribute("href", `#shape-${about.shape}`);
  byId("headline").textContent = about.headline;
  byId("lead").textContent = about.lead;
  byId("sends").textContent = about.sends;
}

function problem(box, { code, message, hint }) {
  box.append(
    el("p", {}, message ?? ""),
    hint === null ? "" : el("p", {}, el("strong", {}, "Next: "), hint),
    el("p", { class: "code-line" }, "Code ", el("code", {}, code), ", explained by ", el("code", {}, `anchorhold explain ${code}`)),
  );
}

// What the facts are built from. Times are told as a person says them, so that they change once a minute and not oftener.
function moments({ deployment, session, verified_at: verified, counters }) {
  const now = Date.now();
  const told = [verified && when(verified, now), session && ends(session.epoch_end, now), session && session.leases.map((one) => ends(one.not_after, now))];
  return [deployment, session, counters, told];
}

// Built once: a button under somebody's finger or focus is not replaced.
export function point() {
  const base = `${location.origin}/v1`;
  byId("point").append(...pair("Point clients at", el("code", {}, base), copy(base)));
}

function facts(box, { deployment, session, verified_at: verified, counters }) {
  const now = Date.now();
  box.append(
    ...pair("Deployment", deployment.name),
    ...pair("Model", el("code", {}, deployment.alias)),
    ...pair("Last verified", verified === null ? "Never yet" : `${when(verified, now)}, ${utc(verified)}`));
  if (session !== null) {
    box.append(
      ...pair("Platform", PLATFORMS[session.platform] ?? session.platform),
      ...pair("Release", session.release ?? "none named: measurements are pinned by hand in the trust file"),
      ...pair("Channel key", ends(session.epoch_end, now)),
      ...pair("Leave to serve", ...session.leases.map((one) => el("span", { class: "line" },
        `${one.source}, held by ${one.custodian}: ${ends(one.not_after, now)}${one.asserted ? ", by the enclave’s own word" : ""}; keystore ${one.keystore}${one.asserted ? "" : " (asserted)"}`))),
      ...pair("Purposes", session.purposes.join(", ")));
  }
  box.append(
    ...pair("Gateway", el("code", {}, deployment.gateway), el("span", { class: "line soft" }, "Sees ciphertext. Trusted for nothing.")),
    ...pair("Since the start", `${counters.answered} answered, ${counters.failed} ended in an error, ${counters.resealed} sealed again`));
}

function values(box, { deployment, session, proxy }) {
  const rows = [["Model (D)", deployment.model], ["Configuration (C)", deployment.configuration]];
  if (session !== null) {
    rows.push(["Enclave boot", session.boot], ["Its serve statement", session.statement], ["Channel key id", session.key_id]);
    for (const [index, value] of Object.entries(session.measurements)) {
      if (!/^0*$/.test(value)) rows.push([`Measurement ${index}`, value]);
    }
  }
  for (const [name, value] of [...rows, ["Proxy version", proxy]]) box.append(...pair(name, el("code", {}, value)));
}

function claims(box, status) {
  for (const [kind, name, meaning] of GROUPS) {
    if (status[kind].length === 0) continue;
    const heading = el("h3", {}, name, " ", el("span", { class: "count" }, String(status[kind].length)));
    const items = status[kind].map((one) => el("li", {},
      el("h4", {}, CLAIMS[one.code] ?? title(one.code)), el("p", {}, one.words), el("p", { class: "rests" }, el("code", {}, one.code))));
    box.append(el("div", { class: `group ${kind}` }, el("div", { class: "meaning" }, heading, el("p", {}, meaning)), el("ul", {}, ...items)));
  }
}

function hops(box, status) {
  const all = status.hops ?? [];
  if (all.length === 0) box.append(el("li", { class: "none" }, NO_HOPS));
  for (const one of all) {
    const quantum = one.key_exchange === "none" ? "" : QUANTUM[one.post_quantum] ?? QUANTUM.null;
    const list = el("dl", {},
      ...pair("Ends at", one.ends_at),
      ...pair("Key exchange", el("code", {}, one.key_exchange), " ", el("span", { class: "quantum" }, quantum)),
      // A standing that this page does not know counts as not checked: never as more.
      ...pair("Standing", el("span", { class: `tag ${one.status}` }, STANDING[one.status] ?? STANDING["not-checked"])));
    box.append(el("li", {}, el("h3", {}, one.between), el("p", {}, one.detail), list));
  }
}

// Rows are kept by id: one that a person has opened stays open while new ones come in above it.
function receipts(box, status) {
  const wanted = status === null ? [] : status.receipts;
  const rows = new Map([...box.children].map((row) => [row.dataset.id, row]));
  const next = wanted.map((one) => rows.get(one.id) ?? receipt(one));
  if (next.length === 0 && status !== null) next.push(rows.get("none") ?? el("li", { class: "none", "data-id": "none" }, NO_RECEIPTS));
  if (next.length === box.children.length && next.every((row, at) => row === box.children[at])) return;
  for (const row of [...box.children]) if (!next.includes(row)) row.remove();
  next.forEach((row, at) => {
    if (box.children[at] !== row) box.insertBefore(row, box.children[at] ?? null);
  });
}

function receipt(one) {
  const made = one.completion_tokens ? ` + ${one.completion_tokens}` : "";
  const tokens = one.prompt_tokens === null ? "" : `${one.prompt_tokens}${made} tokens`;
  const outcome = Object.hasOwn(OUTCOMES, one.outcome) ? OUTCOMES[one.outcome] : null;
  const head = el("summary", {},
    el("span", { class: "what" }, TASKS[one.task] ?? one.task),
    el("span", {}, outcome ?? "refused by the enclave: ", outcome ? "" : el("code", {}, one.outcome)),
    el("span", {}, tokens),
    el("time", { datetime: new Date(one.at).toISOString() }, utc(one.at)));
  const list = el("dl", { class: "values" },
    ...pair("Purpose", one.purpose),
    ...pair("Sequence number in its boot", String(one.sequence)),
    ...pair("Model (D)", el("code", {}, one.model)),
    ...pair("Serve statement of the enclave that answered", el("code", {}, one.statement)),
    ...pair("Commitment, as the log has it", el("code", {}, one.commitment)),
    ...pair("Run tag", el("code", {}, one.tag)));
  const link = el("a", { href: `receipts/${encodeURIComponent(one.id)}`, download: "receipt.cbor" }, "Save this receipt");
  const file = el("p", {}, link, " for ", el("code", {}, "anchorhold audit verify --receipt"));
  return el("li", { "data-id": one.id }, el("details", {}, head, list, file));
}

function copy(text) {
  const button = el("button", { type: "button", class: "copy" }, "Copy");
  button.setAttribute("aria-label", `Copy ${text}`);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not copied";
    }
  });
  return button;
}

function pair(name, ...content) {
  return [el("dt", {}, name), el("dd", {}, ...content)];
}

function byId(id) {
  return document.getElementById(id);
}

// The one way anything gets into the page. Strings become text nodes: no part of a status is ever parsed as markup.
function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((one) => one !== ""));
  return made;
}
