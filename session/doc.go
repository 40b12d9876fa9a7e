// Package session keeps identities logged in. It decides and never dials: it
// edits a request before it goes out, judges the answer that comes back, and
// says "recover, then send again"; the sockets are behind the functions it is
// given.
//
// The words. An identity is someone we can be logged in as. A session is the
// live login of one identity under one recovery (the list of macros that gets
// a new one): rules that name the same recovery share the session, since they
// mean the same login. An identity with a [Pool] has several, leased by clients'
// connections; each is recovered alone. A generation is a number that rises with each new
// login; every request is stamped with the one that it carries, so that a late
// 401 of an old generation is answered by sending again, not by another login.
//
// The life of a request in [Engine.Stage]:
//
//  1. No rule in scope: the flow passes untouched, nothing is allocated. A
//     request of the identity anonymous loses its credentials and passes. One
//     that would end the session ([rule.Rule.Protect]) is refused.
//  2. A token that is still missing, or a session known to be dead: it is
//     recovered first (cold start), once for everybody who waits. Where the
//     rule's probe is due, it is asked first. A session in use that is about
//     to end is recovered in the background ([rule.Proactive]).
//  3. The macros of the rules' actions run ([rule.Action]); a session that was
//     recovered meanwhile has all begin anew. The request is stamped, and the
//     actions' edits and the tokens are put in, highest priority first.
//     A place that a rule of higher priority has filled is left alone. Where
//     a token goes into the body, the body is held whole first, up to
//     Limits.EditedBody; others stream.
//  4. The answer is judged on its head; only when a condition asks about the
//     body is the body held back, up to Limits.JudgedBody and Limits.Hold.
//     What is missing from a body that was cut there is no sign of death. A
//     request that carries only values of the client's own (keep_foreign, or
//     its directive Holdfast-Keep) is not judged.
//  5. Dead: if the tokens have changed since the request was stamped, it is
//     sent again without a login. Else the rule's confirm macro is asked,
//     where there is one; alive passes the answer untouched, unless another
//     rule calls it dead. Else the session is recovered and the request sent
//     again.
//  6. Alive: the identity's jar takes the cookies, where the tool feeds it
//     ([Feed]); tokens are taken from the answer. Neither overwrites what a
//     request that started later has brought.
//
// Without a confirm macro a dead-looking answer can be about the resource and
// not about the session (a 403 for lack of permission). So that such answers do
// not cause one login after another:
//
//   - a request begins at most maxOwnRecoveries recoveries, and fewer after
//     requests whose answers no login changed;
//   - a path whose answer a new session did not change is remembered for
//     unhelpedFor, and its answer passed on; both not where the very same
//     request, without a body, was answered alive by such a session: then
//     sessions die faster than requests pass, and maxResends is the end;
//   - after maxBarren logins in a row without one live answer, dead answers are
//     passed on for distrustFor;
//   - as long as no login ever brought a live answer, one that is dead on its
//     first use counts as a failed login: a login that looks good and is not
//     ends in the lockout.
//
// A confirm macro is exact and costs less.
//
// On a WebSocket an origin can end a session by a close code
// ([rule.Rule.DeadCloseCodes]): the session of the handshake's generation is
// dead before the client sees the close, and the next request recovers it
// first. A 101 proves no login under such a rule; a message before the close
// does, or an open while.
//
// What must survive a restart goes to a [Keeper], and is durable before an
// answer that depends on it is delivered.
//
// With a [Fleet], several engines share what is kept. Before its macros run, a
// recovery waits for the lease of the identity, or for the session that the node
// brings which has it; what comes late is refused by its fence (fleet.go), and
// what others bring is taken over as it is kept (takeover.go).
//
// Another configuration has an engine of its own, which has the sessions in common
// that mean the same; what is under way ends as it began: [Engine.Next].
//
// What this package does not do: it keeps no history, resolves no names, opens
// no connection, and knows nothing of listeners. Temporary files (unlinked at
// once, mode 0600) hold request bodies that are too large for memory.
package session
