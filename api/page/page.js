"use strict";
// The cookie says that this browser was let in, the key that this page asks: it is
// kept where pages of other ports do not reach, which a cookie is not.
const place = "holdfast-key";

async function exchange(once) {
  const answer = await fetch("/open", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({once})});
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.detail + " " + said.next);
  localStorage.setItem(place, said.key);
}

async function ask(path) {
  const answer = await fetch("/api/v1" + path, {headers: {"Holdfast-Page": localStorage.getItem(place) || ""}});
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.detail + " " + said.next);
  return said;
}

async function show() {
  const once = new URLSearchParams(location.hash.slice(1)).get("once");
  if (once) {
    history.replaceState(null, "", "/"); // before anything else: it shall not stay there
    await exchange(once);
  }
  const status = await ask("/status");
  const page = await ask("/sessions");
  document.getElementById("said").textContent = `Version ${status.version}. Listening: ${status.listeners.join(", ")}.`;
  const table = document.getElementById("sessions");
  for (const s of page.items) {
    const row = table.tBodies[0].insertRow();
    for (const text of [s.identity, s.state, s.generation, (s.rules || []).join(", ")]) row.insertCell().textContent = text ?? "";
  }
  table.hidden = false;
}

show().catch(e => { document.getElementById("said").textContent = e.message; }).finally(() => { document.body.dataset.done = "yes"; });
