// Package learn makes a working configuration of one recorded login, by asking
// the application, and proves that it holds the session. It is what `holdfast
// learn` and `holdfast doctor` do.
//
//	result, err := learn.Run(ctx, recording.Exchanges, learn.Options{Proxy: holdfast.Config{Home: dir}})
//	os.WriteFile("shop.yaml", result.Config, 0o600)
//	result.Report.Write(os.Stderr)
//
// # How it learns
//
//  1. Package macro/derive makes a login of the recording, and proves it by
//     running it twice.
//  2. What later requests of the recording carry of what the login brought are
//     the session's tokens; cookies are the jar's business.
//  3. Requests that only read are asked again: with the session, without it,
//     and with one that is broken, each twice. What is the same in both and
//     tells live from dead is how death shows: a status, a redirect, a text.
//     A sign that a live answer might have too is confirmed by a request that
//     tells; where nothing tells, a probe is proposed.
//  4. A refresh, recorded or that of OAuth 2.0, is run.
//  5. The configuration is put together, and a real Holdfast runs with it: it
//     logs in, is used, its session is spoilt, and it has to recover.
//
// Each of these is a [Claim] that is proved or not, with what to add by hand.
//
// # What it will not do
//
// It never sends a recorded write, save those of the login, unless
// [Options.Writes] allows one; it never sends what looks like a logout. It sends
// at most [Options.MaxRequests] requests, [Options.Rate] of them a second. Reports
// hold no values of tokens, cookies and credentials; configurations do.
package learn
