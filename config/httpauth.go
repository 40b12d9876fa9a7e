package config

import (
	"crypto/tls"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
)

const (
	tableAuth         = "auth"
	tableIdentityAuth = "auth of an identity"
)

// authCertificate is the type of auth that is a client certificate.
const authCertificate = "client_certificate"

// HostAuth is the HTTP authentication of an identity at some hosts.
type HostAuth struct {
	Hosts flow.HostPatterns
	Auth  *rule.Auth
}

type authDraft struct {
	n                          *yaml.Node
	typ                        word
	username, password, domain word
	hosts                      flow.HostPatterns
	certificate                *tls.Certificate
}

func authFields() []field[authDraft] {
	return []field[authDraft]{
		{"type", "write one of " + strings.Join(flow.AuthSchemes(), ", "), choice("type of auth", flow.AuthSchemes(), func(a *authDraft) *word { return &a.typ })},
		{"username", "", single("username", func(a *authDraft) *word { return &a.username })},
		{"password", "", single("password", func(a *authDraft) *word { return &a.password })},
		{"domain", "", single("domain", func(a *authDraft) *word { return &a.domain })},
	}
}

func authWords() []string { return append(flow.AuthSchemes(), authCertificate) }

func identityAuthFields() []field[authDraft] {
	fields := authFields()
	fields[0] = field[authDraft]{"type", "write one of " + strings.Join(authWords(), ", "), choice("type of auth", authWords(), func(a *authDraft) *word { return &a.typ })}
	return append(fields,
		field[authDraft]{"hosts", "", hosts("hosts", func(a *authDraft) *flow.HostPatterns { return &a.hosts })},
		field[authDraft]{"certificate", "", func(d *decoder, n *yaml.Node, a *authDraft) {
			var c certificateDraft
			if object(d, n, tableCertificate, certificateFields(), &c) {
				a.certificate = d.certificate(n, &c)
			}
		}})
}

// auth makes the reader of a key that holds one.
func auth[T any](into func(*T) **authDraft) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, t *T) {
		a := authDraft{n: n}
		if object(d, n, tableAuth, authFields(), &a) {
			*into(t) = &a
		}
	}
}

// identityAuths reads a list of them, or one alone.
func identityAuths(d *decoder, n *yaml.Node, i *identityDraft) {
	one := func(n *yaml.Node) {
		a := authDraft{n: n}
		if object(d, n, tableIdentityAuth, identityAuthFields(), &a) {
			i.auths = append(i.auths, a)
		}
	}
	if n.Kind == yaml.MappingNode {
		one(n)
		return
	}
	d.list(n, "auth", one)
}

// authOf compiles what a password is for; macroName is "" outside of macros.
func (d *decoder) authOf(a *authDraft, macroName string, index int, names *names) *rule.Auth {
	if a == nil || !a.typ.given() {
		return nil
	}
	if !a.username.given() || !a.password.given() {
		d.errorAt(a.n, "add username: and password:, such as \"{{USER}}\" and \"{{PASS}}\"", "%s needs a username and a password", a.typ.s)
		return nil
	}
	if a.domain.given() && a.typ.s != flow.AuthNTLM {
		d.errorAt(a.domain.n, "take it out", "only ntlm has a domain")
		return nil
	}
	if a.typ.s == flow.AuthBasic && strings.Contains(a.username.s, ":") {
		d.errorAt(a.username.n, "take the colon out (RFC 7617 §2)", "a username of basic has no colon")
		return nil
	}
	username := a.username
	username.s = d.expand(username)
	password := a.password
	password.s = d.expandAs(password, inPassword, nil)
	out := &rule.Auth{Scheme: a.typ.s, Username: d.template(username, macroName, index, names), Password: d.template(password, macroName, index, names)}
	if a.domain.given() && out.Username != nil {
		domain := a.domain
		domain.s = d.expand(domain) + `\` + username.s
		out.Username = d.template(domain, macroName, index, names)
	}
	if out.Username == nil || out.Password == nil {
		return nil
	}
	return out
}

// identityAuth compiles the auths of an identity: certificates become ways to
// their hosts.
func (d *decoder) identityAuth(i *identityDraft, names *names, ways *Ways) (all []HostAuth) {
	for k := range i.auths {
		a := &i.auths[k]
		switch {
		case a.typ.s == authCertificate && a.certificate == nil && !hasKey(a.n, "certificate"):
			d.errorAt(a.n, "add certificate: {pem: FILE, key: FILE} or {pkcs12: FILE, password: …}", "client_certificate needs a certificate")
		case a.typ.s == authCertificate && slices.ContainsFunc([]word{a.username, a.password, a.domain}, word.given):
			d.errorAt(a.n, "take username, password and domain out", "a client certificate has no username")
		case a.typ.s == authCertificate:
			ways.Origins = append(ways.Origins, Origin{Hosts: a.hosts, Identities: []string{i.name}, Certificate: a.certificate})
		case a.certificate != nil:
			d.errorAt(a.n, "write type: client_certificate, or take it out", "only client_certificate has a certificate")
		case len(a.hosts) == 0 && a.typ.given() && !hasKey(a.n, "hosts"):
			d.errorAt(a.n, "say which hosts are sent it: hosts: [shop.example]", "a password is for certain hosts only")
		default:
			if auth := d.authOf(a, "", 0, names); auth != nil {
				for _, name := range auth.Names() {
					if !names.isVariable(name) {
						d.errorAt(a.n, "define it under variables:, or put the auth into the rule", "auth of an identity knows variables only, and %s is none", name)
					}
				}
				all = append(all, HostAuth{Hosts: a.hosts, Auth: auth})
			}
		}
	}
	return all
}
