package config_test

import (
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/config"
)

func TestHistory(t *testing.T) {
	for src, want := range map[string]config.History{
		"rules: []\n":                       {Mode: "full", MaxBody: 1 << 20},
		"rules: []\nhistory: {mode: off}\n": {Mode: "off", MaxBody: 1 << 20},
		"rules: []\nhistory: {mode: heads, keep: 720h, max_size: 10GiB, max_body: 1KiB}\n": {Mode: "heads", Keep: 720 * time.Hour, MaxSize: 10 << 30, MaxBody: 1 << 10},
	} {
		file, _, err := config.Parse("rules.yaml", []byte(src), config.Options{})
		if err != nil || file.History != want {
			t.Errorf("%s%v: %+v", src, err, file.History)
		}
	}
	if _, _, err := config.Parse("rules.yaml", []byte("rules: []\nhistory: {mode: some}\n"), config.Options{}); err == nil {
		t.Error("a mode that there is not was taken")
	}
}
