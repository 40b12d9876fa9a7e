// Package testenv is the world outside Holdfast for tests, benchmarks and the
// demo: a real origin whose sessions die, and a recorder of exact bytes.
//
// An [Origin] describes a server by one struct whose zero value works; its
// Start method listens on a loopback port. The server speaks HTTP/1.1 or
// HTTP/2, with or without TLS, and knows three people: emilys/emilyspass,
// alice/alicepass and bob/bobpass.
//
//	origin, err := testenv.Origin{TLS: true, DieAfter: 5}.Start()
//	defer origin.Close()
//	… send requests to origin.URL, trusting origin.CAPEM() …
//	origin.KillAll()
//	origin.Stats().Logins
//
// Four shapes of login stand side by side. A session belongs to the shape
// that made it; a dead one looks different in each:
//
//	/auth/login /auth/me /auth/products /auth/refresh /auth/logout
//	             JSON Web Tokens as DummyJSON has them: 401 {"message":"Token Expired!"}
//	/api/login /api/refresh /api/items
//	             JSON with access_token: 401 {"error":"unauthorized"}
//	/oauth/token /oauth/userinfo
//	             RFC 6749 and RFC 6750: 401 with WWW-Authenticate
//	/login /account /account/email /logout
//	             an HTML form, a cookie and CSRF tokens: 302 to /login
//
// Any live session of any shape opens these, whose dead answers are the ones
// that real applications confuse proxies with:
//
//	/as/401 /as/403 /as/422   that status; 403 without a body
//	/as/302                   a redirect to /login
//	/as/form                  200 with the login form
//	/as/list                  200 with an empty list
//	/ws                       a WebSocket that echoes: 401 at the handshake, with ?dead=403
//	                          or 302 that; a session that dies later closes it with 4401,
//	                          with ?dead=open one that is dead already does too
//	/shelf/file?size=N        401; N bytes, in ranges too, with an ETag
//	/shelf/moved?n=N&size=S   401; N redirects to /shelf/file, a POST's to /shelf/drop; &code= is their status
//	/shelf/drop               401; counts and hashes what is posted or put
//	/guarded/…                401; what Origin.Guarded answers
//	/guarded/call.… /only.…   200 with grpc-status 16, in trailers or in the head; likewise
//	/late?gate=G              401; a live answer is judged at once, sent when G opens
//
// And these know nothing of sessions:
//
//	/whoami            who the origin takes the request for
//	/echo              the request as JSON (names canonical; see Recorder for bytes)
//	/forbidden         403 for everybody, which no login can cure
//	/status?code=N     that status
//	/big?size=N        N bytes, with Content-Length unless &chunked=1
//	/sink              counts and hashes what is posted
//	/stream?events=N   server-sent events; with &gate=G event i waits for gate G.i
//	/hold?gate=G       waits for gate G
//
// # When a session has died
//
// A session is what one login or one refresh gave out. It is live until its
// time is up (AccessTTL, CookieTTL), or it has served DieAfter protected
// requests, or it is killed. It is the current one of its identity and shape
// until the next is given out. A session counts in Died, once, when it is
// current and is noticed not to live any more: by Kill, by a protected
// request that is answered dead, or by the next login or refresh. A login or
// refresh while the current session is live counts it in Replaced instead;
// nobody needed that one. So at every moment, in all and per identity,
//
//	Logins + Refreshes == Died + Replaced + Current
//
// and a client that logs in only when it must has Replaced == 0. With
// ManySessions every session is a current one, and none is replaced.
//
// # What makes tests exact
//
// Nothing here sleeps. The origin's clock is a field; an answer is held at a
// gate that the test opens, and [Server.WaitHeld] says when requests have
// arrived there. All counters change under one lock.
//
// The package does not judge Holdfast: it counts, and tests compare. It keeps
// to what is measured on real servers, but it is not hardened and must only
// be reachable by its tests.
package testenv
