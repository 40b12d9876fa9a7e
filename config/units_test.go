package config_test

import (
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/config"
)

func TestSizes(t *testing.T) {
	cases := []struct {
		text string
		want int64 // -1: refused
	}{
		{"0", 0}, {"1", 1}, {"64MiB", 64 << 20}, {"512 KiB", 512 << 10}, {"2GiB", 2 << 30}, {"10B", 10},
		{"", -1}, {"MiB", -1}, {"-1", -1}, {"+1", -1}, {"1.5MiB", -1}, {"64MB", -1}, {"64mib", -1}, {"1 2", -1},
		{"9223372036854775807", 1<<63 - 1}, {"9223372036854775807KiB", -1}, {"99999999999999999999", -1},
	}
	for _, c := range cases {
		got, ok := config.ParseSize(c.text)
		if ok != (c.want >= 0) || ok && got != c.want {
			t.Errorf("%q is %d, %v; want %d", c.text, got, ok, c.want)
		}
	}
	for n, want := range map[int64]string{0: "0B", 1: "1B", 1024: "1KiB", 1025: "1025B", 64 << 20: "64MiB", 3 << 30: "3GiB"} {
		if got := config.FormatSize(n); got != want {
			t.Errorf("%d is written %q, want %q", n, got, want)
		}
	}
}

func TestDurationsAreWrittenShort(t *testing.T) {
	for d, want := range map[time.Duration]string{time.Second: "1s", time.Minute: "1m", time.Hour: "1h", 90 * time.Second: "1m30s", 720 * time.Hour: "720h", 10 * time.Second: "10s", 20 * time.Minute: "20m"} {
		if got := config.FormatDuration(d); got != want {
			t.Errorf("%s is written %q, want %q", d, got, want)
		}
	}
}

func TestSuggestions(t *testing.T) {
	known := []string{"name", "reauth_macro", "token_updates", "StatusCode", "type"}
	cases := []struct{ written, want string }{
		{"nmae", "name"}, {"names", "name"}, {"reauthMacro", "reauth_macro"}, {"reauth-macro", "reauth_macro"},
		{"token_update", "token_updates"}, {"statuscode", "StatusCode"}, {"Status", ""}, {"tpye", "type"},
		{"colour", ""}, {"", ""}, {"x", ""},
	}
	for _, c := range cases {
		if got := config.Suggest(c.written, known); got != c.want {
			t.Errorf("for %q: got %q, want %q", c.written, got, c.want)
		}
	}
}
