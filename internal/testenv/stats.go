package testenv

// Anonymous is the name under which requests count that carry no token or
// cookie which the origin gave out.
const Anonymous = "anonymous"

// Counts are what happened so far. The package documentation says when a
// session has died.
type Counts struct {
	Requests int // all
	Served   int // protected requests of live sessions

	// Dead answers to protected requests, for whatever reason, and of those:
	DeadAnswers  int
	NoCredential int // there was none in the request
	Foreign      int // one that this origin never gave out, or has forgotten
	Stale        int // one of a session that had been replaced, or a cookie value older than one used since

	Logins       int // successful; by password or client credentials
	FailedLogins int

	Refreshes       int // successful
	FailedRefreshes int
	BurntRefreshes  int // of those: with a refresh token that had been used up
	RevokedGrants   int // by ReuseRevokes

	Died     int // sessions that were current and are noticed dead
	Replaced int // sessions that were current and live when the next was given out
	Current  int // sessions that are current and not noticed dead
	Logouts  int // that ended a session

	Conflicts int // 409, by OneAtATime

	Writes      int // that took effect
	Duplicates  int // of those: with an idempotency id that had taken effect before
	CSRFRefused int // posts without a CSRF token that was good
	CSRFReused  int // of those: with one that had been used up
	// CSRFRepeated counts posts to /account/email with a CSRF token that stood
	// in an earlier one, whatever became of the two.
	CSRFRepeated int
	Forbidden    int // answers of /forbidden
}

// Stats are the counts in all and per identity: its own name for everybody
// who has one, [Anonymous] for the rest. Every count of the total stands
// under exactly one of the names.
type Stats struct {
	Counts
	Connections int // accepted
	Identities  map[string]Counts
}
