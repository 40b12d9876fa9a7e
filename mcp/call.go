package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/control/params"
	"github.com/holdfast-proxy/holdfast/flow"
)

// handle answers one call of a tool. An error is one of the protocol: the call
// was cancelled.
func (s *Server) handle(ctx context.Context, req *sdk.CallToolRequest, t *tool) (result *sdk.CallToolResult, err error) {
	defer func() {
		if bug := recover(); bug != nil {
			s.warn(fmt.Sprintf("internal error in the tool %s: %v\n%s", t.name, bug, debug.Stack()))
			result, err = refused(errors.New("bug")), nil
		}
	}()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return refused(&flow.Error{Reason: control.ReasonRuns, Detail: fmt.Sprintf("%d calls are under way, the most that may.", maxCalls), Next: "Wait for one to end, and call again."}), nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.open, cancel)()
	c, err := read(t, req.Params.Arguments)
	if err == nil {
		result, err = s.do(ctx, req, c)
	}
	switch {
	case err == nil:
		return result, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return refused(err), nil
}

// call is what a client asked for, checked.
type call struct {
	action *action
	values map[string]any
	wait   time.Duration
}

// read makes a call of the arguments.
func read(t *tool, raw json.RawMessage) (*call, error) {
	values := map[string]any{}
	if len(bytes.TrimSpace(raw)) > 0 {
		if err := json.Unmarshal(raw, &values); err != nil {
			return nil, &flow.Error{Reason: control.ReasonParameter, Detail: "The arguments are no JSON object.", Next: "Give an object with the parameter action."}
		}
	}
	name, given := values["action"].(string)
	if _, there := values["action"]; !there && len(t.actions) == 1 {
		name, given = t.actions[0].name, true
	}
	c := &call{action: t.find(name), values: values, wait: defaultWait * time.Second}
	if !given || c.action == nil {
		return nil, &flow.Error{Reason: control.ReasonParameter, Detail: fmt.Sprintf("The tool %s has no action %q.", t.name, params.Clip(name)), Next: "Give as action one of: " + t.names() + "."}
	}
	delete(values, "action")
	if err := c.takeWait(); err != nil {
		return nil, err
	}
	if c.action.asks {
		if values["reveal"] != true {
			return nil, &flow.Error{Reason: control.ReasonHidden, Detail: fmt.Sprintf("The action %s of %s gives nothing but secrets.", c.action.name, t.name), Next: "If they are needed, call it with reveal true, where Holdfast was started with --reveal-secrets."}
		}
		delete(values, "reveal")
	}
	for name, value := range values {
		if _, known := c.action.set.Field(name); !known {
			return nil, &flow.Error{Reason: control.ReasonParameter, Detail: fmt.Sprintf("The action %s of %s takes no parameter %q.", c.action.name, t.name, params.Clip(name)), Next: "It takes: " + or(c.action.takes(), "none") + "."}
		}
		if value == nil { // which models write for what is absent
			delete(values, name)
		}
	}
	if f, there := c.action.set.Field("identity"); there && f.Needed && values["identity"] == nil {
		values["identity"] = "-"
	}
	if c.action.set.Lists() && values["limit"] == nil {
		values["limit"] = float64(listed)
	}
	_, faults := c.action.set.Decode(values)
	if most, ok := values["body"].(float64); ok && c.action.op.Name == "flow.get" && most > maxBody {
		faults = append(faults, params.Fault{Where: "body", What: fmt.Sprintf("is more than %d; go on with offset", maxBody)})
	}
	if len(faults) > 0 {
		return nil, faulty(&c.action.op, faults)
	}
	return c, nil
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// takeWait takes the parameter that actions have here alone.
func (c *call) takeWait() error {
	value, there := c.values["wait"]
	if !c.action.op.Runs || !there {
		return nil
	}
	delete(c.values, "wait")
	seconds, ok := value.(float64)
	if value != nil && (!ok || seconds < 0 || seconds > maxWait) {
		return faulty(&c.action.op, []params.Fault{{Where: "wait", What: fmt.Sprintf("is no number of seconds from 0 to %d", maxWait)}})
	}
	if value != nil {
		c.wait = time.Duration(seconds * float64(time.Second))
	}
	return nil
}

// do does a call, and answers it.
func (s *Server) do(ctx context.Context, req *sdk.CallToolRequest, c *call) (*sdk.CallToolResult, error) {
	op := &c.action.op
	if op.Runs {
		return s.follow(ctx, req, c)
	}
	for {
		raw, err := s.caller.Call(ctx, op, c.values)
		if err != nil {
			return nil, err
		}
		result, err := answer(op, raw)
		var large *tooLarge
		if !errors.As(err, &large) {
			return result, err
		}
		limit, list := c.values["limit"].(float64)
		if !list || limit < 2 || op.Danger != control.Read {
			return nil, &flow.Error{Reason: ReasonTooLarge, Detail: fmt.Sprintf("The answer has %d bytes; %d may be.", large.bytes, maxAnswer), Next: "Ask for less, or for a part; the API and the command line have the whole."}
		}
		c.values["limit"] = float64(int(limit / 2)) // a page that fits; its next goes on
	}
}

// ReasonTooLarge is the code of an answer that would be too large.
const ReasonTooLarge = "answer_too_large"

// follow waits for a run that an operation began, tells how it goes, and ends it
// with the call.
func (s *Server) follow(ctx context.Context, req *sdk.CallToolRequest, c *call) (*sdk.CallToolResult, error) {
	raw, err := s.caller.Call(ctx, &c.action.op, c.values)
	if err != nil {
		return nil, err
	}
	ask := map[string]any{"wait": float64(pollEvery)}
	if c.values["reveal"] == true {
		ask["reveal"] = true
	}
	var run control.Run
	began := time.Now()
	for {
		if err := json.Unmarshal(raw, &run); err != nil {
			return nil, err
		}
		report(ctx, req, &run, time.Since(began))
		if run.State != control.RunGoing || time.Since(began) >= c.wait {
			break
		}
		ask["id"] = run.ID
		raw, err = s.caller.Call(ctx, s.operations["run.get"], ask)
		if ctx.Err() != nil {
			s.cancel(ctx, run.ID)
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, err
		}
	}
	result, err := answer(&c.action.op, raw)
	var large *tooLarge
	if errors.As(err, &large) {
		return nil, &flow.Error{Reason: ReasonTooLarge, Detail: fmt.Sprintf("The run %s is %s; its report has %d bytes, and %d may be.", run.ID, run.State, large.bytes, maxAnswer), Next: "See it on the command line, with holdfast macro test."}
	}
	if err != nil {
		return nil, err
	}
	if run.State == control.RunGoing {
		result.Content = append(result.Content, &sdk.TextContent{Text: fmt.Sprintf("It goes on. Ask for its end with the tool macros: action get_run, id %s, wait 50.", run.ID)})
	}
	result.IsError = run.State == control.RunFailed || run.State == control.RunCancelled
	return result, nil
}

// cancel ends a run whose call is over.
func (s *Server) cancel(ctx context.Context, id string) {
	ctx, end := context.WithTimeout(context.WithoutCancel(ctx), cancelWait)
	defer end()
	if _, err := s.caller.Call(ctx, s.operations["run.cancel"], map[string]any{"id": id}); err != nil {
		s.warn(fmt.Sprintf("the run %s of a call that was cancelled could not be ended: %v", id, err))
	}
}

// report tells a client that asked for it how a run goes. Progress is in
// seconds: how many requests there will be nobody knows.
func report(ctx context.Context, req *sdk.CallToolRequest, run *control.Run, after time.Duration) {
	token := req.Params.GetProgressToken()
	if token == nil {
		return
	}
	// That a client has gone away shows at the end of the call.
	_ = req.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{ProgressToken: token, Progress: after.Seconds(),
		Message: fmt.Sprintf("%s %s: %d requests sent", run.ID, run.State, run.Requests)})
}
