package holdfast

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/session"
)

// variable is one that was changed by hand.
type variable struct {
	Identity string `json:",omitempty"` // "": everybody's
	Name     string
	Value    *string // nil: it was taken away
	// Over is the digest of what the file said of it, "": nothing. Where the file
	// says something else since, the file counts.
	Over string `json:",omitempty"`
}

func (v *variable) same(o *variable) bool { return v.Identity == o.Identity && v.Name == o.Name }

// SetVariable is session.Engine.SetVariable, and the project keeps it. Where the
// file says something else of the variable later, the file counts.
func (h *Holdfast) SetVariable(identity string, global bool, name string, value *string) (had bool, failed *flow.Error) {
	h.changing.Lock()
	defer h.changing.Unlock()
	file := h.File()
	v := variable{Identity: identity, Name: name, Value: value}
	switch {
	case global || len(file.Identities) == 0:
		v.Identity = ""
	case identity == "": // who speaks where nobody is named: see session.Engine
		v.Identity = file.Order[0]
	}
	v.Over = saysOf(file, &v)
	kept := slices.DeleteFunc(slices.Clone(h.changed.Variables), func(o variable) bool { return v.same(&o) })
	if len(kept) >= config.MaxEntries {
		return false, &flow.Error{Status: 409, Reason: "conflict", Detail: fmt.Sprintf("%d variables were changed by hand; no more may be.", len(kept)), Next: "Write them into the configuration file, and reload it."}
	}
	if had, failed = h.Engine().SetVariable(identity, global, name, value); failed != nil {
		return had, failed
	}
	if value != nil || v.Over != "" {
		kept = append(kept, v)
	}
	h.changed.Variables = kept
	if err := h.keepChanges(); err != nil {
		h.warn("what was changed by hand holds, but cannot be kept over a restart: " + err.Error())
	}
	return had, nil
}

// saysOf is the digest of what a file says of a variable; "": nothing.
func saysOf(file *config.File, v *variable) string {
	from := file.Variables
	if v.Identity != "" {
		from = file.Identities[v.Identity].Variables
	}
	value, there := from[v.Name]
	if !there {
		return ""
	}
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:16])
}

// still are the variables of which a file says what it said when they were
// changed. Those of an identity that it does not have wait for it.
func (h *Holdfast) still(all []variable, file *config.File) []variable {
	return slices.DeleteFunc(slices.Clone(all), func(v variable) bool {
		if _, known := file.Identities[v.Identity]; v.Identity != "" && !known || saysOf(file, &v) == v.Over {
			return false
		}
		h.warn(fmt.Sprintf("the variable %q was changed by hand, and has changed in the file since: the file counts", v.Name))
		return true
	})
}

// lay puts variables that were changed by hand over those of the file.
func lay(all []variable, c *session.Config) {
	put := func(m *map[string]string, v *variable) {
		if *m = maps.Clone(*m); *m == nil {
			*m = make(map[string]string)
		}
		if delete(*m, v.Name); v.Value != nil {
			(*m)[v.Name] = *v.Value
		}
	}
	for i := range all {
		v := &all[i]
		if v.Identity == "" {
			put(&c.Variables, v)
			continue
		}
		for j := range c.Identities {
			if c.Identities[j].Name == v.Identity {
				put(&c.Identities[j].Variables, v)
			}
		}
	}
}
