// What a person does in a page, told by the binding holdfastRecord as JSON: {do,
// selector, value, secret}. What is typed as a password never leaves the page.
(function () {
  if (window.holdfastRecording || typeof holdfastRecord !== "function") return;
  window.holdfastRecording = true;
  const flat = s => (s || "").replace(/\s+/g, " ").trim();
  const bare = s => flat(s).replace(/[\s*:]+$/, "");
  const quoted = s => '"' + s.replace(/["\\]/g, "\\$&") + '"';
  const drawn = s => /\d{3}|[0-9a-f]{8}|^:|[:.]r\d/.test(s); // an id that is another the next time

  // selector names an element by what stays: its id, name, label or words.
  function selector(el) {
    const root = el.getRootNode(), tag = el.tagName.toLowerCase();
    const alone = s => { try { return root.querySelectorAll(s).length === 1 && root.querySelector(s) === el; } catch (e) { return false; } };
    const tries = [];
    if (el.id && !drawn(el.id)) tries.push("#" + CSS.escape(el.id));
    for (const a of ["data-testid", "data-test", "data-cy"]) if (el.getAttribute(a)) tries.push("[" + a + "=" + quoted(el.getAttribute(a)) + "]");
    if (el.name && !drawn(el.name)) tries.push(tag + "[name=" + quoted(el.name) + "]");
    if (el.type === "password") tries.push("input[type=password]");
    const found = tries.find(alone);
    if (found) return found;
    const label = bare(el.labels && el.labels[0] && el.labels[0].innerText || el.ariaLabel || el.placeholder);
    if (label && label.length < 60 && /^(INPUT|SELECT|TEXTAREA)$/.test(el.tagName)) return "label=" + label;
    const words = flat(el.innerText || (/^(submit|button)$/.test(el.type) ? el.value : ""));
    if (words && words.length < 60 && !/^(INPUT|SELECT|TEXTAREA)$/.test(el.tagName) || words && /^(submit|button)$/.test(el.type)) return "text=" + words;
    if (/^(submit)$/.test(el.type) && alone(tag + "[type=submit]")) return tag + "[type=submit]";
    const path = [];
    for (let e = el; e && e.tagName && path.length < 8; e = e.parentElement) {
      if (e !== el && e.id && !drawn(e.id)) { path.unshift("#" + CSS.escape(e.id)); break; }
      let n = 1;
      for (let s = e.previousElementSibling; s; s = s.previousElementSibling) if (s.tagName === e.tagName) n++;
      path.unshift(e.tagName.toLowerCase() + ":nth-of-type(" + n + ")");
    }
    return path.join(" > ");
  }

  // secret names the variable that a field's value is.
  function secret(el) {
    const hint = [el.autocomplete, el.name, el.id, el.type, el.ariaLabel, el.placeholder, el.labels && el.labels[0] && el.labels[0].innerText].join(" ").toLowerCase();
    if (el.type === "password") return "PASS";
    if (/one-time-code|\botp|totp|2fa|mfa|\bcode\b|passcode/.test(hint)) return "totp";
    if (/user|login|e-?mail|account|identifier/.test(hint)) return "USER";
    return "";
  }

  function tell(what, el, value) {
    const name = el && what === "fill" ? secret(el) : "";
    holdfastRecord(JSON.stringify({do: what, selector: el ? selector(el) : "", value: name ? "" : value || "", secret: name}));
  }

  const at = e => e.composedPath()[0];
  const text = el => el.tagName === "TEXTAREA" || el.tagName === "INPUT" && !/^(checkbox|radio|submit|button|image|file|hidden|reset)$/.test(el.type);
  addEventListener("input", e => { const el = at(e); if (text(el)) tell("fill", el, el.value); }, true);
  addEventListener("change", e => {
    const el = at(e);
    if (el.tagName === "SELECT") tell("select", el, el.value);
    else if (/^(checkbox|radio)$/.test(el.type) && el.checked) tell("check", el, "");
    else if (text(el) && el.value) tell("fill", el, el.value); // of a password manager
  }, true);
  addEventListener("keydown", e => { const el = at(e); if (e.key === "Enter" && el.tagName === "INPUT" && text(el)) tell("press", el, "Enter"); }, true);
  addEventListener("click", e => {
    const el = at(e).closest && at(e).closest("button, a, summary, [role=button], [role=link], [role=tab], [role=menuitem], input[type=submit], input[type=button], input[type=image]");
    if (!el || e.detail === 0 && document.activeElement !== el) return; // Enter in a form clicks its button
    tell("click", el, "");
  }, true);
})()
