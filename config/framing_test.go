package config_test

import (
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/wire"
)

func TestFramingNamesAPolicy(t *testing.T) {
	for src, want := range map[string]wire.Policy{
		"rules: []\n":                   wire.Strict,
		"framing: strict\nrules: []\n":  wire.Strict,
		"framing: lenient\nrules: []\n": wire.Lenient,
		"framing: raw\nrules: []\n":     wire.Raw,
	} {
		file, _, err := config.Parse("f.yaml", []byte(src), config.Options{})
		if err != nil || file.Framing != want {
			t.Errorf("%q: %v, %v", src, file, err)
		}
	}
	_, _, err := config.Parse("f.yaml", []byte("framing: loose\nrules: []\n"), config.Options{})
	if err == nil || !strings.Contains(err.Error(), "f.yaml:1:10") || !strings.Contains(err.Error(), "write one of strict, lenient, raw") {
		t.Errorf("%v", err)
	}
}
