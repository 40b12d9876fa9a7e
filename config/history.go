package config

import (
	"time"

	"go.yaml.in/yaml/v4"
)

// Defaults of history.
const (
	DefaultHistory        = "full"
	DefaultHistoryMaxBody = 1 << 20
)

const tableHistory = "history"

// History says what is kept of flows, where there is a project for them.
type History struct {
	Mode    string        // off, heads or full
	Keep    time.Duration // how long; 0: for ever
	MaxSize int64         // bytes of the project; 0: as much as comes
	MaxBody int64         // bytes of one body, as it stood on the wire
}

type historyDraft struct {
	History
	mode word
}

func newHistoryDraft() historyDraft {
	return historyDraft{History: History{Mode: DefaultHistory, MaxBody: DefaultHistoryMaxBody}}
}

func historyKeys() []field[fileDraft] {
	return []field[fileDraft]{{"history", "", func(d *decoder, n *yaml.Node, f *fileDraft) {
		if object(d, n, tableHistory, historyFields(), &f.history); f.history.mode.given() {
			f.history.Mode = f.history.mode.s
		}
	}}}
}

func historyFields() []field[historyDraft] {
	return []field[historyDraft]{
		{"mode", "", choice("mode", []string{"off", "heads", "full"}, func(h *historyDraft) *word { return &h.mode })},
		{"keep", "", duration("keep", time.Minute, 10*365*24*time.Hour, func(h *historyDraft) *time.Duration { return &h.Keep })},
		{"max_size", "", size("max_size", 1<<20, 1<<50, func(h *historyDraft) *int64 { return &h.MaxSize })},
		{"max_body", "", size("max_body", 1, 1<<30, func(h *historyDraft) *int64 { return &h.MaxBody })},
	}
}
