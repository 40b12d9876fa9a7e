package macro

import (
	"bytes"
	"fmt"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
)

// Repeat sends a step's request again and again while its answer says that
// there is nothing yet.
type Repeat struct {
	While   *httpql.Query // true of an answer after which the request is sent again
	Every   time.Duration // between an answer and the next request
	Timeout time.Duration // of all of it; then the last answer is judged
}

// slowDown is by how much the pause grows when the answer asks for that (RFC
// 8628 §3.5).
const slowDown = 5 * time.Second

// again reports whether the step's request is to be sent once more, and waits
// until it is time. waited is the time that was spent on waiting so far.
func (r *run) again(s *Step, pause, waited *time.Duration) (bool, *StepError) {
	if s.Repeat == nil || len(r.steps) == 0 {
		return false, nil
	}
	answer := &r.steps[len(r.steps)-1]
	record := &flow.Record{Flow: answer.Flow, ResponseBody: answer.Body, ResponsePresence: httpql.Known}
	if s.Repeat.While.Match(record) != httpql.True {
		return false, nil
	}
	if bytes.Contains(answer.Body, []byte(`"slow_down"`)) {
		*pause += slowDown
	}
	if *waited += *pause; *waited > s.Repeat.Timeout {
		return false, &StepError{Kind: Unanswered, Want: fmt.Sprintf("another answer within %s", s.Repeat.Timeout), Got: describe(answer), Status: answer.Response.Status()}
	}
	if err := r.pause(*pause); err != nil {
		return false, &StepError{Kind: Transport, Want: "an answer", Got: "the end of the run", Cause: err}
	}
	return true, nil
}
