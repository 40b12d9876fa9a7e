package redact

// maxName is how long a name is, at most, in bytes.
const maxName = 64

// table is what names are compared with, after their punctuation is taken out
// and with small letters.
type table struct {
	harmless []string      // ends of names of what is about a credential, and none
	parts    [256][]string // in a name wherever they stand, by their first letter
	ends     []string      // in a name at its end: too short to be looked for elsewhere
	not      []string      // names that end so, and are none
	words    []string      // between punctuation, or capital letters
}

func names() *table {
	t := &table{
		harmless: []string{"type", "url", "uri", "endpoint"},
		ends:     []string{"pass", "auth", "session", "sid", "otp"},
		not:      []string{"bypass", "compass"},
		words:    []string{"pass", "pw", "pin", "otp", "totp", "sid", "auth", "oauth", "session"},
	}
	for _, part := range []string{"passw", "passphrase", "passcode", "pwd", "secret", "token", "apikey", "accesskey", "authkey", "privatekey", "credential", "sessionid", "sessid",
		"csrf", "xsrf", "jwt", "authorization", "assertion", "codeverifier", "samlresponse"} {
		t.parts[part[0]] = append(t.parts[part[0]], part)
	}
	return t
}

// known is the table: it never changes.
var known = names()

// Name reports whether what has this name is a credential.
func Name(name []byte) bool {
	if len(name) < 2 || len(name) > maxName {
		return false
	}
	var plainBuf, wordBuf [maxName]byte
	plain, word := plainBuf[:0], wordBuf[:0]
	isWord := false
	end := func() {
		isWord = isWord || in(known.words, word)
		word = word[:0]
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c >= 'A' && c <= 'Z':
			if i > 0 && name[i-1] >= 'a' && name[i-1] <= 'z' {
				end()
			}
			c += 'a' - 'A'
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c >= 0x80:
		case c == '%' && i+2 < len(name): // an escaped bracket
			i += 2
			end()
			continue
		default:
			end()
			continue
		}
		plain, word = append(plain, c), append(word, c)
	}
	end()
	return !ends(known.harmless, plain) && (isWord || has(plain) || ends(known.ends, plain) && !in(known.not, plain))
}

func has(plain []byte) bool {
	for i, c := range plain {
		for _, part := range known.parts[c] {
			if len(plain)-i >= len(part) && string(plain[i:i+len(part)]) == part {
				return true
			}
		}
	}
	return false
}

func ends(all []string, name []byte) bool {
	for _, s := range all {
		if len(name) >= len(s) && string(name[len(name)-len(s):]) == s {
			return true
		}
	}
	return false
}

func in(all []string, name []byte) bool {
	for _, s := range all {
		if string(name) == s {
			return true
		}
	}
	return false
}
