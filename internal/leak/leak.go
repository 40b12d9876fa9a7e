// Package leak ends the tests of a package with the proof that they have left no
// goroutine. It is for TestMain alone.
//
// goleak gives goroutines less than half a second to end. What ends by itself,
// such as the goroutines of a connection that was closed, needs more of that on
// a machine that does many other things: here it has a minute, of which a
// machine with nothing else to do needs nothing.
//
// It looks once, when all tests have run. It says which goroutines are left,
// not which test left them: run the tests one by one for that.
package leak

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines have to end.
const patience = time.Minute

// Main runs the tests of a package, and ends the process: with a code other than
// 0 where a test failed or a goroutine is left.
func Main(m *testing.M) { goleak.VerifyTestMain(patient{m}) }

// patient are tests that take as long as their goroutines.
type patient struct{ *testing.M }

// Run is what goleak calls before it looks for the last time.
func (p patient) Run() int {
	code := p.M.Run()
	for began := time.Now(); code == 0 && time.Since(began) < patience && goleak.Find() != nil; {
	}
	return code
}
