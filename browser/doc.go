// Package browser makes logins in a real Chromium, through a proxy: by a
// sequence of actions that nobody sees, or with a person before a window.
//
// [Runner.Login] starts a browser with a profile of its own, which is deleted
// afterwards, sends all of its traffic through [Login.Proxy], does the actions
// of a [macro.Browser], waits until its Until says that somebody is logged in,
// and hands over cookies and what was asked for from the pages' storage. What
// goes over the wire is the proxy's to look at.
//
// # Bounds
//
// An identity has one browser at a time, and all together [Config.AtOnce];
// others wait. A login ends after [macro.Browser.Timeout]. It looks at up to
// [maxPages] pages: the newest is the one that actions are done in, which is
// how a login in a pop-up window works. Dialogs of pages (alert, confirm, prompt,
// beforeunload) are accepted at once where nobody sees them. The browser's
// processes and its profile are gone when Login returns, whatever happened.
//
// # Trust
//
// The browser accepts the certificates of one authority besides its own ones,
// by its key ([Config.SPKI]), for this profile only. It is spoken to through a
// pipe: no port is opened for that. As root it runs without its sandbox.
//
// Errors are *macro.StepError and name the action, the selector, the page's
// address without its query, and its title; never a value.
//
// What it does not do: it solves no puzzles, hides from nobody, and looks into
// no frames of other origins.
package browser
