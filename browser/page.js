// What the package asks of a page. It runs in the page and sees what a script
// of the page could see; it returns plain values only.
(function (op, a) {
  const flat = s => (s || "").replace(/\s+/g, " ").trim();
  const bare = s => flat(s).replace(/[\s*:]+$/, "");

  // roots are the documents and open shadow roots of the page, and of frames
  // that its origin may look into; at most 200.
  function roots() {
    const all = [document];
    for (let i = 0; i < all.length && all.length < 200; i++) {
      for (const el of all[i].querySelectorAll("*")) {
        if (el.shadowRoot) all.push(el.shadowRoot);
        if (el.tagName === "IFRAME" || el.tagName === "FRAME") {
          try { if (el.contentDocument) all.push(el.contentDocument); } catch (e) {}
        }
      }
    }
    return all;
  }

  function within(root, sel) {
    const all = css => Array.from(root.querySelectorAll(css));
    if (sel.startsWith("text=")) {
      const want = flat(sel.slice(5));
      return all("button, a, summary, label, [role=button], [role=link], [role=tab], [role=menuitem], input[type=submit], input[type=button], input[type=image]")
        .filter(el => flat(el.innerText || el.value || el.alt) === want);
    }
    if (sel.startsWith("label=")) {
      const want = bare(sel.slice(6));
      const found = all("label").filter(el => bare(el.innerText) === want).map(el => el.control || el.querySelector("input, select, textarea")).filter(Boolean);
      return found.concat(all("input, select, textarea, [contenteditable]").filter(el => [el.ariaLabel, el.placeholder].some(t => t && bare(t) === want)));
    }
    return all(sel);
  }

  function shown(el) {
    if (el.tagName === "INPUT" && el.type === "hidden") return false;
    const style = el.ownerDocument.defaultView.getComputedStyle(el);
    return el.getClientRects().length > 0 && style.visibility !== "hidden";
  }

  // find is the first element that is shown, else the first.
  function find(sel) {
    let first = null;
    for (const root of roots()) {
      for (const el of within(root, sel)) {
        if (shown(el)) return el;
        first = first || el;
      }
    }
    return first;
  }

  // middle is where an element is in the window, frames added up.
  function middle(el) {
    const r = el.getBoundingClientRect();
    let x = r.left + r.width / 2, y = r.top + r.height / 2;
    for (let w = el.ownerDocument.defaultView; w.frameElement; w = w.parent) {
      const f = w.frameElement.getBoundingClientRect();
      x += f.left + w.frameElement.clientLeft;
      y += f.top + w.frameElement.clientTop;
    }
    return [x, y];
  }

  function covered(el) {
    const r = el.getBoundingClientRect();
    let at = el.getRootNode().elementFromPoint(r.left + r.width / 2, r.top + r.height / 2);
    return !at || !(el === at || el.contains(at) || at.contains(el) || (el.labels && Array.from(el.labels).some(l => l.contains(at))));
  }

  function changed(el) {
    el.dispatchEvent(new Event("input", {bubbles: true, composed: true}));
    el.dispatchEvent(new Event("change", {bubbles: true}));
  }

  // set goes past the setters that frameworks put on an element.
  function set(el, name, value) {
    let proto = Object.getPrototypeOf(el), d;
    while (proto && !(d = Object.getOwnPropertyDescriptor(proto, name))) proto = Object.getPrototypeOf(proto);
    if (d && d.set) d.set.call(el, value); else el[name] = value;
  }

  // ready is an element that can be used: shown, and not disabled.
  function ready(sel) {
    const el = find(sel);
    if (!el) return [null, "not there"];
    if (!shown(el)) return [null, "not visible"];
    if (el.disabled || el.ariaDisabled === "true") return [null, "disabled"];
    el.scrollIntoView({block: "center", inline: "center", behavior: "instant"});
    return [el, ""];
  }

  const stored = (session, key) => { try { return (session ? sessionStorage : localStorage).getItem(key); } catch (e) { return null; } };
  const ops = {
    where() { const n = performance.getEntriesByType("navigation")[0]; return {url: location.href, title: document.title, status: n && n.responseStatus || 0}; },
    click() {
      const [el, why] = ready(a.selector);
      if (!el) return {why};
      if (covered(el)) { if (a.force) { el.click(); return {done: true}; } return {why: "covered by something"}; }
      const [x, y] = middle(el);
      return {x, y};
    },
    focus() {
      const [el, why] = ready(a.selector);
      if (!el) return {why};
      el.focus();
      if (el.isContentEditable) el.ownerDocument.getSelection().selectAllChildren(el);
      else if (el.select) el.select();
      if (el.readOnly) return {why: "read-only"};
      return {};
    },
    filled() { // -1: not; the field may have gone with its page
      const el = find(a.selector);
      return el ? (el.isContentEditable ? el.innerText : el.value || "").length : -1;
    },
    set() { const el = find(a.selector); if (el) { set(el, "value", a.value); changed(el); } return {}; },
    select() {
      const [el, why] = ready(a.selector);
      if (!el) return {why};
      const option = Array.from(el.options || []).find(o => o.value === a.value || flat(o.text) === flat(a.value));
      if (!option) return {why: "without that option"};
      if (el.multiple) option.selected = true; else set(el, "value", option.value);
      changed(el);
      return {};
    },
    check() {
      const el = find(a.selector); // boxes are often hidden behind their label
      if (!el) return {why: "not there"};
      if (el.disabled) return {why: "disabled"};
      if (!el.checked) el.click();
      return el.checked ? {} : {why: "not checked after a click"};
    },
    mark() {
      return {
        url: location.href, title: document.title,
        selector: !!a.selector && (el => !!el && shown(el))(find(a.selector)),
        text: !!a.text && flat(document.body && document.body.innerText).includes(flat(a.text)),
        local: !!a.local && stored(false, a.local) !== null, session: !!a.session && stored(true, a.session) !== null,
        refused: (a.refused || []).find(s => { const el = find(s); return el && shown(el); }) || "",
      };
    },
    keys() { try { return Object.keys(localStorage).slice(0, 200); } catch (e) { return []; } },
    stored() { return stored(a.session, a.key); },
  };
  return ops[op]();
})
