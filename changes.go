package holdfast

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/store"
)

// changes are what was changed by hand. They lie over the file, and the project
// has them.
type changes struct {
	given   *config.File // what they lie over, as it was given
	trusted *config.File // the newest that was no change: what it uses of this machine, changes may use
	Entries []config.Entry
	// Variables are those that were given a value, or taken away.
	Variables []variable `json:",omitempty"`
	// Text took the place of a whole file, of which Of is the digest.
	Text    *string `json:",omitempty"`
	Of      string  `json:",omitempty"`
	version uint64  // of the row
}

// The row of the changes in a project.
const (
	keptConfig  = "config"
	keptChanges = "changes"
)

// storeWait is how long a change waits for the project.
const storeWait = 10 * time.Second

func digestOf(f *config.File) string {
	sum := sha256.Sum256(f.Source())
	return hex.EncodeToString(sum[:16])
}

// takeChanges has what the project keeps lie over the file that New was given.
// Where that does not go, the file counts, and a person is told.
func (h *Holdfast) takeChanges() error {
	c := &h.changed
	c.given, c.trusted = h.config.File, h.config.File
	defer func() { c.Variables = h.still(c.Variables, h.config.File) }()
	if h.config.Store == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeWait)
	defer cancel()
	rows, err := h.config.Store.Load(ctx, keptConfig, keptChanges)
	if err != nil {
		return fmt.Errorf("what was changed by hand cannot be read: %w", err)
	}
	for _, r := range rows {
		if c.version = max(c.version, r.Version); len(r.Value) == 0 {
			continue
		}
		if err := json.Unmarshal(r.Value, c); err != nil {
			return fmt.Errorf("what was changed by hand cannot be read: %w", err)
		}
	}
	if c.Text != nil && c.Of != digestOf(c.given) {
		h.warn("the configuration file has changed since another one was put in its place by hand: the file counts")
		c.Text, c.Entries = nil, nil
	}
	if c.Text != nil {
		put, _, err := config.Parse(c.given.Name, []byte(*c.Text), config.Options{Only: h.only(c)})
		if err == nil && len(fixed(c.given, put)) > 0 {
			err = &RestartError{fixed(c.given, put)}
		}
		if err != nil {
			h.warn("the configuration that was put by hand is of no use any more, and the file counts: " + err.Error())
			c.Text, c.Entries = nil, nil
			return nil
		}
		c.given, h.config.File = put, put
	}
	with, dropped, err := c.given.With(c.Entries, h.only(c))
	if err != nil {
		h.warn("what was changed by hand does not go with the file, and is left out; see holdfast rule list: " + err.Error())
		return nil
	}
	h.sayDropped(dropped)
	c.Entries = without(c.Entries, dropped)
	h.config.File = with
	return nil
}

// only is the file whose programs, files and variables of the environment changes
// may use; nil: all.
func (h *Holdfast) only(c *changes) *config.File {
	if h.config.TrustChanges {
		return nil
	}
	return c.trusted
}

func (h *Holdfast) warn(text string) {
	if h.config.Warn != nil {
		h.config.Warn(text)
	}
}

func (h *Holdfast) sayDropped(dropped []config.Entry) {
	for _, e := range dropped {
		h.warn(fmt.Sprintf("%s %q was changed by hand, and has changed in the file since: the file counts", e.Kind, e.Name))
	}
}

func without(all, dropped []config.Entry) []config.Entry {
	return slices.DeleteFunc(slices.Clone(all), func(e config.Entry) bool { return slices.Contains(dropped, e) })
}

// Reload has another configuration hold from now on: requests that begin later
// live by it, and those under way by the one that they began with. Sessions go on
// that mean the same under both; see session.Engine.Next. What was changed by
// hand lies over it, but for what it says otherwise than the file before. An error,
// of which config.Errors and *RestartError are, leaves everything as it was. Any
// goroutine may call it.
func (h *Holdfast) Reload(file *config.File) (*Reloaded, error) {
	h.changing.Lock()
	defer h.changing.Unlock()
	next := h.changed
	next.given, next.trusted, next.Text, next.Of = file, file, nil, ""
	return h.alter(next)
}

// Put has the text of a configuration take the place of the file and of all that
// was changed by hand, as Reload does; the project keeps it, until the file
// changes or is reloaded. It runs no program and reads no file and no variable of
// the environment that the file does not, unless Config.TrustChanges says so.
func (h *Holdfast) Put(text string) (*Reloaded, error) {
	h.changing.Lock()
	defer h.changing.Unlock()
	file, _, err := config.Parse(h.config.File.Name, []byte(text), config.Options{Only: h.only(&h.changed)})
	if err != nil {
		return nil, err
	}
	next := h.changed
	if next.Text == nil {
		next.Of = digestOf(next.given)
	}
	next.given, next.Text, next.Entries = file, &text, nil
	return h.alter(next)
}

// Edit is a change of one macro or rule, or a new variable.
type Edit struct {
	Kind string // config.EntryMacro, config.EntryRule or config.EntryVariable
	// Identity is whose variable it is, "" everybody's; Name is then its name, and
	// Text its value.
	Identity string
	// Name is what there is; "": it is new.
	Name string
	// Text is what takes its place, in the form of a configuration; "" deletes it.
	Text string
}

// Change creates, changes or deletes macros and rules and creates variables, all
// of them or none, as Reload does, and keeps them in the project. They lie over the
// file: where the file says something else of them later, it counts. Of this
// machine they use what Put may. The error is a *flow.Error, or what Reload
// returns.
func (h *Holdfast) Change(edits ...Edit) (*Reloaded, error) {
	h.changing.Lock()
	defer h.changing.Unlock()
	return h.apply(edits...)
}

// apply is Change. changing is held.
func (h *Holdfast) apply(edits ...Edit) (*Reloaded, error) {
	next := h.changed
	next.Entries = slices.Clone(next.Entries)
	for _, e := range edits {
		if err := h.edit(&next, e); err != nil {
			return nil, err
		}
	}
	return h.alter(next)
}

// edit notes one edit.
func (h *Holdfast) edit(c *changes, e Edit) error {
	if e.Kind == config.EntryVariable {
		return h.editVariable(c, e)
	}
	now := h.File()
	name := e.Name
	if e.Text != "" {
		var err error
		if name, err = config.Named(e.Kind, e.Text); err != nil {
			return err
		}
	}
	_, there := now.EntryText(e.Kind, name)
	switch {
	case e.Name != "" && !there:
		return &flow.Error{Status: 404, Reason: "not_found", Detail: fmt.Sprintf("There is no %s %q.", e.Kind, name), Next: "List them to see their names; one that a preset or a rule makes of another cannot be changed alone."}
	case e.Name != "" && e.Name != name:
		return &flow.Error{Status: 422, Reason: "parameter_invalid", Detail: fmt.Sprintf("The text is of a %s %q, and %q is to be changed.", e.Kind, name, e.Name), Next: "Create the one and delete the other, or correct the name."}
	case e.Name == "" && there:
		return &flow.Error{Status: 409, Reason: "conflict", Detail: fmt.Sprintf("There is a %s %q already.", e.Kind, name), Next: "Update it, or give this one another name."}
	}
	if needed := now.Needs(name); e.Kind == config.EntryMacro && e.Text == "" && len(needed) > 0 {
		return &flow.Error{Status: 409, Reason: "conflict", Detail: fmt.Sprintf("The macro %q is needed by the rules %s.", name, strings.Join(needed, ", ")), Next: "Change or delete these first."}
	}
	over := c.given.Over(e.Kind, name)
	c.Entries = slices.DeleteFunc(c.Entries, func(o config.Entry) bool { return o.Kind == e.Kind && o.Name == name })
	if e.Text != "" || over != "" {
		c.Entries = append(c.Entries, config.Entry{Kind: e.Kind, Name: name, Text: e.Text, Over: over})
	}
	if e.Text == "" {
		c.dropUnused()
	}
	return nil
}

// dropUnused forgets the variables of macros that are gone: another login with
// other credentials may have their names. The file gets along without them.
func (c *changes) dropUnused() {
	var texts strings.Builder
	for _, e := range c.Entries {
		if e.Kind != config.EntryVariable {
			texts.WriteString(e.Text)
		}
	}
	c.Entries = slices.DeleteFunc(c.Entries, func(e config.Entry) bool {
		return e.Kind == config.EntryVariable && !strings.Contains(texts.String(), e.Name)
	})
}

// editVariable notes a new variable. Values are taken as they are: what would have
// a file read or the environment, as a configuration may, is refused.
func (h *Holdfast) editVariable(c *changes, e Edit) error {
	now := h.File()
	_, there := now.Variables[e.Name]
	if e.Identity != "" {
		who, known := now.Identities[e.Identity]
		if !known {
			return &flow.Error{Status: 404, Reason: flow.ReasonIdentity, Detail: fmt.Sprintf("There is no identity %q.", e.Identity), Next: "Name one that the configuration has."}
		}
		_, own := who.Variables[e.Name]
		there = there || own
	}
	switch {
	case there:
		return &flow.Error{Status: 409, Reason: "conflict", Detail: fmt.Sprintf("There is a variable %q already.", e.Name), Next: "Give this one another name."}
	case strings.Contains(e.Text, "${"):
		return &flow.Error{Status: 422, Reason: "parameter_invalid", Detail: fmt.Sprintf("The value of %s has ${ in it, which a configuration would read as a reference.", e.Name), Next: "Write the variable into the configuration file, taken from ${env:NAME}."}
	}
	c.Entries = slices.DeleteFunc(c.Entries, func(o config.Entry) bool { return o.Kind == e.Kind && o.Name == e.Name && o.Identity == e.Identity })
	c.Entries = append(c.Entries, config.Entry{Kind: e.Kind, Name: e.Name, Text: e.Text, Identity: e.Identity})
	return nil
}

// alter has other changes hold, and keeps them. changing is held.
func (h *Holdfast) alter(next changes) (*Reloaded, error) {
	file, dropped, err := next.given.With(next.Entries, h.only(&next))
	if err != nil {
		return nil, err
	}
	next.Entries = without(next.Entries, dropped)
	next.Variables = h.still(next.Variables, file)
	before := h.changed
	out, err := h.change(file, next.Variables)
	if err != nil {
		return nil, err
	}
	h.changed = next
	h.sayDropped(dropped)
	if next.Text == before.Text && slices.Equal(next.Entries, before.Entries) && len(next.Variables) == len(before.Variables) {
		return out, nil
	}
	if err := h.keepChanges(); err != nil {
		h.warn("what was changed by hand holds, but cannot be kept over a restart: " + err.Error())
	}
	return out, nil
}

func (h *Holdfast) keepChanges() error {
	c := &h.changed
	if h.config.Store == nil {
		return nil
	}
	var value []byte
	if c.Text != nil || len(c.Entries)+len(c.Variables) > 0 {
		var err error
		if value, err = json.Marshal(c); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeWait)
	defer cancel()
	c.version = max(c.version+1, uint64(time.Now().UnixMicro()))
	err := h.config.Store.Save(ctx, store.Row{Kind: keptConfig, Owner: keptChanges, Name: keptChanges, Version: c.version, Value: value})
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("the project cannot be written")
	}
	return err
}
