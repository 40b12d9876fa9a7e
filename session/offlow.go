package session

import "github.com/holdfast-proxy/holdfast/flow"

// StateOf is the state of the session that a flow has passed through Stage with,
// that of its first rule: unknown, alive, dead, recovering or locked; "" where no
// rule was for it. It may be asked until the flow's memory is used again.
func StateOf(f *flow.Flow) string {
	x, ok := f.RuleMemory.(*exchange)
	if !ok || x.flow != f || x.id != f.ID || len(x.sessions) == 0 {
		return ""
	}
	return x.sessions[0].status().State
}
