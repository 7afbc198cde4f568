// Asks the proxy for its status and shows it. Text goes in as text nodes only; what cannot be read is not shown.

import { point, show } from "./render.js";
import { SILENT, STATES, UNREADABLE } from "./words.js";

const EVERY_MS = 2000;
const PATIENCE_MS = 5000; // a proxy on the same machine that takes longer is as good as away
const STATUS_VERSION = 1;

// A status of another form, or one that contradicts itself, is never shown as anything good.
function readable(status) {
  if (status === null || typeof status !== "object") return false;
  if (status.version !== STATUS_VERSION || !Object.hasOwn(STATES, status.state)) return false;
  const lists = [status.proved, status.asserted, status.not_proved, status.receipts, status.hops ?? []];
  if (!lists.every(Array.isArray) || typeof status.simulated !== "boolean") return false;
  // 1. Outside the two good states nothing is proved and nothing is sealed to.
  const good = status.state === "verified" || status.state === "verified-simulated";
  if (!good) return status.session === null && status.proved.length === 0;
  // 2. A good state says what was proved, and no reason why not.
  if (status.code !== null || status.session === null || status.proved.length === 0) return false;
  // 3. A simulation never passes for hardware, whichever of the three places says so.
  const toy = [status.simulated, status.session.simulated, status.session.platform === "simulated"];
  return toy.every((one) => one === (status.state === "verified-simulated"));
}

async function ask() {
  try {
    const answer = await fetch("status", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) return { about: UNREADABLE, status: null };
    const status = await answer.json();
    return readable(status) ? { about: STATES[status.state], status } : { about: UNREADABLE, status: null };
  } catch (error) {
    return { about: error instanceof SyntaxError ? UNREADABLE : SILENT, status: null };
  }
}

let timer = 0;
let asked = 0;

// Two may be asking at once (see below): an answer that a later question has overtaken is not shown.
async function follow() {
  asked += 1;
  const mine = asked;
  const { about, status } = await ask();
  if (mine !== asked) return;
  try {
    show(about, status);
  } catch {
    show(UNREADABLE, null);
  }
  clearTimeout(timer);
  timer = setTimeout(follow, EVERY_MS);
}

// A browser lets a hidden page ask once a minute at most: what it comes back to must not be a minute old.
addEventListener("visibilitychange", () => {
  if (!document.hidden) follow();
});
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details")) one.open = true;
});
point();
follow();
