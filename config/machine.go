package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// machineUse is something of this machine that a configuration reaches for: what it is
// for, and which. The same thing for something else is another use: the key of a
// certificate is no text to send.
type machineUse struct{ what, name string }

// What of the machine is used for.
const (
	useProgram     = "run the program"
	useBrowser     = "run the browser"
	useScript      = "read the script"
	useCookies     = "read the cookies in"
	useCertificate = "read the certificate or key in"
	useEnv         = "read the environment variable"
	useFile        = "read the file"
)

// inPassword and inTOTP tell references in values that are not sent as they are.
const (
	inPassword = " for a password:"
	inTOTP     = " for one-time codes:"
)

// may reports whether the configuration may have the use, and notes it; see
// Options.Only. It is asked before anything is opened or looked up, so that a
// refusal tells nothing of the machine.
func (d *decoder) may(n *yaml.Node, offset int, what, name string) bool {
	u := machineUse{what, name}
	if only := d.options.Only; only != nil && !slices.Contains(only.uses, u) {
		shown, _, _ := strings.Cut(name, "\x00") // arguments of a program may be secret
		d.errorIn(n, offset, "write it into the configuration file of holdfast serve and reload that, or start it with --api-trusted",
			"only a configuration file may %s %s: what comes by the API may do so where the file does the very same", what, shorten(shown))
		return false
	}
	if !slices.Contains(d.uses, u) {
		d.uses = append(d.uses, u)
	}
	return true
}
