package derive

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/rule"
)

// YAML is the draft as a configuration file: variables, an identity with the
// credentials, the macro. It holds the recorded credentials.
func (d *Draft) YAML() ([]byte, error) { return encode(d.Node()) }

// HiddenYAML is YAML without the values of credentials: ${env:…} stands in their
// places. env has them, by what the environment calls them.
func (d *Draft) HiddenYAML() (text []byte, env map[string]string, err error) {
	root := d.Node()
	_, env = HideSecrets(root)
	text, err = encode(root)
	return text, env, err
}

// MacroYAML is the macro alone, as it stands in the list of a configuration.
func (d *Draft) MacroYAML() ([]byte, error) { return encode(member(d.Node(), "macros").Content[0]) }

// Rename gives a variable another name, wherever it stands.
func (d *Draft) Rename(from, to string) {
	used := regexp.MustCompile(`(\{\{(?:[a-z0-9_]+:)*)` + regexp.QuoteMeta(from) + `\}\}`)
	for i := range d.Variables {
		if d.Variables[i].Name == from {
			d.Variables[i].Name = to
		}
	}
	for i := range d.Steps {
		s := &d.Steps[i]
		s.Request = used.ReplaceAllString(s.Request, "${1}"+to+"}}")
		for j := range s.Uses {
			if s.Uses[j].Token == from {
				s.Uses[j].Token = to
			}
		}
	}
}

// HideSecrets moves the secrets of the identity of what Node returned into the
// environment, and returns its name. A user's name is none.
func HideSecrets(root *yaml.Node) (identity string, env map[string]string) {
	env = make(map[string]string)
	identities := member(root, "identities")
	if identities == nil || len(identities.Content) < 2 {
		return "", env
	}
	identity = identities.Content[0].Value
	secrets := member(identities.Content[1], "variables")
	for i := 0; secrets != nil && i+1 < len(secrets.Content); i += 2 {
		name, value := secrets.Content[i].Value, secrets.Content[i+1]
		if name == "USER" {
			continue
		}
		key := envName(identity + "_" + name)
		env[key] = strings.ReplaceAll(value.Value, plainReference, "${")
		*value = *text("${env:" + key + "}")
	}
	return identity, env
}

func envName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, s)
}

// member is the value of a key of a mapping; nil: it has none.
func member(m *yaml.Node, key string) *yaml.Node {
	for i := 0; m != nil && i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	return nil
}

func encode(root *yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	w, err := yaml.NewDumper(&b, yaml.WithLineWidth(-1))
	if err == nil {
		err = w.Dump(root)
	}
	if err == nil {
		err = w.Close()
	}
	return b.Bytes(), err
}

// Node is what YAML writes, for whoever adds more to it: a mapping with the keys
// of a configuration file.
func (d *Draft) Node() *yaml.Node {
	root := mapping()
	var plain, secret []Variable
	for _, v := range d.Variables {
		if v.Secret {
			secret = append(secret, v)
		} else {
			plain = append(plain, v)
		}
	}
	if len(plain) > 0 {
		set(root, "variables", variables(plain))
	}
	if len(secret) > 0 {
		who := mapping()
		set(who, "variables", variables(secret))
		identities := mapping()
		set(identities, d.Identity(), who)
		set(root, "identities", identities)
	}
	m := mapping()
	set(m, "name", text(d.Name))
	steps := &yaml.Node{Kind: yaml.SequenceNode}
	for i := range d.Steps {
		steps.Content = append(steps.Content, d.Steps[i].node())
	}
	set(m, "steps", steps)
	set(root, "macros", &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{m}})
	return root
}

// Identity is a name for whom the credentials belong to: the user's, where that
// can be one.
func (d *Draft) Identity() string {
	user, _ := d.Lookup("USER")
	user, _, _ = strings.Cut(user, "@")
	for _, c := range user {
		if c >= unicode.MaxASCII || !isWord(byte(c)) && c != '-' && c != '.' {
			return "recorded"
		}
	}
	if user == "" || len(user) > 40 || user == "anonymous" {
		return "recorded"
	}
	return user
}

// plainReference has a value that an application wrote read no file and nothing of
// the environment: it is "${" in a configuration.
const plainReference = "${text:$}{"

func variables(list []Variable) *yaml.Node {
	m := mapping()
	for _, v := range list {
		set(m, v.Name, text(strings.ReplaceAll(v.Value, "${", plainReference)))
	}
	return m
}

func (s *Step) node() *yaml.Node {
	m := mapping()
	set(m, "name", text(s.Name))
	request := text(s.Request)
	request.Style = yaml.LiteralStyle
	set(m, "request", request)
	if len(s.Extract) > 0 {
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for _, x := range s.Extract {
			e := mapping()
			e.Style = yaml.FlowStyle
			set(e, "token_name", text(x.Token))
			set(e, "source", SourceNode(&x.Source))
			list.Content = append(list.Content, e)
		}
		set(m, "extract", list)
	}
	if s.Expect != "" {
		set(m, "expect", text(s.Expect))
	}
	return m
}

// SourceNode writes a source as configurations have it.
func SourceNode(s *rule.Source) *yaml.Node {
	m := mapping()
	m.Style = yaml.FlowStyle
	for _, k := range []struct{ key, value string }{{"type", s.Type}, {"name", s.Name}, {"path", s.Path}, {"regex", s.Regex}, {"selector", s.Selector},
		{"attribute", s.Attribute}, {"xpath", s.XPath}, {"param", s.Param}, {"start", s.Start}, {"end", s.End}} {
		if k.value != "" {
			set(m, k.key, text(k.value))
		}
	}
	if s.Match > 1 {
		set(m, "match", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(s.Match)})
	}
	if len(s.Decode) == 1 {
		set(m, "decode", text(s.Decode[0]))
	} else if len(s.Decode) > 1 {
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, word := range s.Decode {
			list.Content = append(list.Content, text(word))
		}
		set(m, "decode", list)
	}
	return m
}

func mapping() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode} }

func text(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

func set(m *yaml.Node, key string, value *yaml.Node) {
	m.Content = append(m.Content, text(key), value)
}
