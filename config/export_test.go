package config

import (
	"slices"
	"time"

	"github.com/holdfast-proxy/holdfast/rule"
)

// Tables lists every mapping of the format with its keys.
func Tables() map[string][]string {
	all := map[string][]string{}
	for table, keys := range tables() {
		for _, key := range keys {
			all[table] = append(all[table], key.name)
		}
	}
	return all
}

// Words lists the words that keys can be set to.
func Words() []string {
	return slices.Concat(rule.CheckTypes(), rule.PresetNames(), kindNames(sourceKinds()), kindNames(targetKinds()),
		urlsWords(), rule.ActionNames(), pickWords(), triggerWords(), cookieModes(), paramPlaces(), lookPlaces(), meansWords(), ifValidWords(), passBackWords(), resendWords(), onFailureWords(), framingWords(), redirectWords(), authWords(), grantWords(), clientAuthWords(), matchWords(), []string{lifetimeLearn}, whenBusyWords(), decodeWords(),
		[]string{"add", "skip", "host", "url", "regex", rule.ProtocolAny, rule.ProtocolHTTP, rule.ProtocolHTTPS}, listenerKinds())
}

// ParseSize is parseSize.
func ParseSize(s string) (int64, bool) { return parseSize(s) }

// FormatSize is formatSize.
func FormatSize(n int64) string { return formatSize(n) }

// FormatDuration is formatDuration.
func FormatDuration(d time.Duration) string { return formatDuration(d) }

// Suggest is suggest.
func Suggest(s string, known []string) string { return suggest(s, known) }
