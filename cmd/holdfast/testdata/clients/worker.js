// A service worker that answers one path of the page by a request of its own.
addEventListener("install", e => e.waitUntil(skipWaiting()))
addEventListener("activate", e => e.waitUntil(clients.claim()))
addEventListener("fetch", e => {
  if (new URL(e.request.url).pathname === "/guarded/through-worker")
    e.respondWith(fetch("/as/401").then(r => r.json()).then(a => new Response("worker of " + a.identity)))
})
