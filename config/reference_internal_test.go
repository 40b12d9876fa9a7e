package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// titles are where the manual describes each table: a heading of
// docs/configuration.md.
func titles() map[string]string {
	all := map[string]string{}
	for heading, names := range map[string][]string{
		"the-file":            {tableFile},
		"identities":          {tableIdentity, tableAnonymous},
		"http-authentication": {tableAuth, tableIdentityAuth},
		"the-cookie-jar":      {tableJar},
		"macros":              {tableMacro, tableStep, tableExtraction, tableRepeat, tableRedirects, tableExec, tablePrompt},
		"browsers":            {tableBrowserLogin, tableBrowserAction, tableBrowserField, tableBrowserMark, tableProgram, tableBrowserTake, tableStored},
		"oauth-2":             {tableOAuth},
		"rules":               {tableRule},
		"scope":               {tableScope, tableProject, tableURLs},
		"validation":          {tableValidation, tableCheck, tableHeader, tableConfirm},
		"probes":              {tableProbe},
		"before-the-end":      {tableProactive},
		"token-updates":       {tableUpdate},
		"sources":             {tableSource},
		"targets":             {tableTarget},
		"actions":             {tableAction, tableUseCookies, tableSetParam, tableSetHeader, tableSession, tableAsker, tableMatch, tableInvalid, tableRunMacro, tablePostMacro, tableBrowser, tableScript, tableCode, tablePick},
		"triggers":            {tableTrigger, tableTriggerHeader},
		"presets":             {tablePreset},
		"ways-out":            {tableProxyFor, tableName},
		"origins":             {tableOrigin, tableCertificate},
		"timeouts":            {tableTimeouts},
		"throttle":            {tableThrottle},
		"ways-in":             {tableListener},
		"lockout-and-limits":  {tableLockout, tableLimits, tableScriptLimits},
		"history":             {tableHistory},
	} {
		for _, name := range names {
			all[name] = heading
		}
	}
	return all
}

// WriteReference makes docs/keys.md of the decoder. page is the manual's, whose
// order it takes; untitled are tables of which titles does not say where they
// are described.
//
// What a key takes is not written down a second time: its reader is given a
// mapping, a list and a text, and what it says to each is what is written.
func WriteReference(page string) (text string, untitled []string) {
	var b strings.Builder
	b.WriteString(`# Every key

Made from the reader of the configuration by ` + "`go test ./config -run TestReference -update`" + `, so it cannot say another thing than the reader does. What the
keys mean, and what they are when they are left out, says [the configuration file](configuration.md); each heading below leads there.

`)
	all := tables()
	order := map[string]int{}
	for name := range all {
		if titles()[name] == "" {
			untitled = append(untitled, name)
		}
		heading := regexp.MustCompile(`(?mi)^#+ ` + strings.ReplaceAll(regexp.QuoteMeta(titles()[name]), "-", "[ -]") + `$`)
		order[name] = len(page)
		if at := heading.FindStringIndex(page); at != nil {
			order[name] = at[0]
		}
	}
	names := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		if order[a] != order[b] {
			return order[a] - order[b]
		}
		return strings.Compare(a, b)
	})
	anchors := map[string]string{}
	for _, name := range names {
		anchors[name] = anchorOf(name)
	}
	for _, name := range names {
		fmt.Fprintf(&b, "## %s\n\n[What it is for](configuration.md#%s).\n\n| key | takes |\n|---|---|\n", sentence(name), titles()[name])
		for _, key := range all[name] {
			need := ""
			if key.need != "" {
				need = "; must be given"
			}
			fmt.Fprintf(&b, "| `%s` | %s%s |\n", key.name, takes(key, anchors), need)
		}
		b.WriteString("\n")
	}
	return strings.TrimSuffix(b.String(), "\n"), untitled
}

// sentence is the name of a table as a heading; a key stays as it is.
func sentence(s string) string {
	if !strings.Contains(s, " ") {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func anchorOf(s string) string {
	return regexp.MustCompile(`[^\pL\pN_ -]`).ReplaceAllString(strings.ReplaceAll(strings.ToLower(s), " ", "-"), "")
}

var (
	hasNoKey = regexp.MustCompile(`^(.*) has no key `)
	bounds   = regexp.MustCompile(`from (\S+) to (\S+)$`)
	oneOf    = regexp.MustCompile(`write one of (.*)$`)
)

// takes is what a key can be, as its reader says it.
func takes(key formatKey, anchors map[string]string) string {
	if key.read == nil {
		return "see there"
	}
	link := func(name string) string {
		if anchors[name] == "" {
			return ""
		}
		return fmt.Sprintf(" of [%s](#%s)", strings.TrimPrefix(strings.TrimPrefix(name, "a "), "an "), anchors[name])
	}
	var kinds []string
	if ok, table := offered(key, "{zzz: 1}", "is a mapping"); ok || table != "" {
		kinds = append(kinds, "mapping"+link(table))
	}
	if ok, table := offered(key, "[{zzz: 1}]", "is a list"); ok || table != "" {
		kinds = append(kinds, "list"+link(table))
	} else if ok, _ := offered(key, "[zzz]", "is a list"); ok {
		kinds = append(kinds, "list")
	}
	if text := scalar(key); text != "" {
		kinds = append(kinds, text)
	}
	if len(kinds) == 0 {
		return "see there"
	}
	return strings.Join(slices.Compact(kinds), ", or ")
}

// offered reports whether a reader takes such a value, and the name of the
// table that it looks for its keys in.
func offered(key formatKey, value, kind string) (ok bool, table string) {
	problems := probe(key, value)
	for _, p := range problems {
		if m := hasNoKey.FindStringSubmatch(p.What); m != nil {
			return true, m[1]
		}
	}
	return len(problems) == 0, ""
}

// scalar is what a reader takes that is written on one line.
func scalar(key formatKey) string {
	problems := probe(key, "zzz zzz")
	for _, p := range problems {
		within := ""
		if m := bounds.FindStringSubmatch(p.Next); m != nil {
			within = fmt.Sprintf(" from %s to %s", m[1], m[2])
		}
		switch {
		case strings.Contains(p.What, "is true or false"):
			return "true, false"
		case strings.Contains(p.What, "is a time"):
			return "time" + within
		case strings.Contains(p.What, "is a size"):
			return "size" + within
		case strings.Contains(p.What, "is a whole number"), strings.Contains(p.What, "is a number"):
			return "number" + within
		}
		if m := oneOf.FindStringSubmatch(p.Next); m != nil {
			return "`" + strings.ReplaceAll(m[1], ", ", "`, `") + "`"
		}
		if strings.Contains(p.What, "this is a text") || strings.Contains(p.What, "needs the key") {
			return ""
		}
	}
	return "text"
}

// probe gives a reader a value.
func probe(key formatKey, value string) (problems []Problem) {
	src := []byte("zzz: " + value + "\n")
	text := newText("probe", src)
	root, problems := parseTree(text, src)
	if len(problems) > 0 || root.Kind != yaml.MappingNode {
		return problems
	}
	d := &decoder{text: text, options: Options{Env: func(string) (string, bool) { return "", true }}}
	// Where nobody has prepared what is read into, a value that was accepted
	// cannot be put anywhere.
	defer func() {
		if recover() != nil {
			problems = d.problems
		}
	}()
	key.read(d, root.Content[1])
	return d.problems
}
