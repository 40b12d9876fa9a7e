package convert

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

var curlBegin = regexp.MustCompile(`^\s*(?:\$\s+)?(?:\S*[/\\])?curl(?:\.exe)?(?:\s|$)`)

func isCurl(text []byte) bool { return curlBegin.Match(text) }

// ParseCurl reads a curl command line, or several that follow each other, as
// browsers copy them for a shell or for cmd.exe. Options that change nothing
// about the request are passed over; others that are not carried over are named
// in Lost. Data that curl would read from a file is lost.
func ParseCurl(text string) (*Recording, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("%w: the command line is longer than %d MiB", ErrFormat, MaxText>>20)
	}
	commands, err := curlWords(text)
	if err != nil {
		return nil, fmt.Errorf("the curl command line cannot be read: %w", err)
	}
	out := &Recording{Format: FormatCurl}
	for _, words := range commands {
		if len(words) == 0 {
			continue
		}
		c := &curlCommand{out: out}
		if err := c.read(words[1:]); err != nil {
			return nil, fmt.Errorf("the curl command line cannot be read: %w", err)
		}
	}
	if len(out.Exchanges) == 0 {
		return nil, fmt.Errorf("%w: the curl command line names no URL", ErrFormat)
	}
	return out, nil
}

// curlCommand is one request of a command line, up to --next.
type curlCommand struct {
	out      *Recording
	urls     []string
	method   string
	fields   []pair
	removed  map[string]bool // by -H 'Name:'
	data     []string
	query    []string // --url-query
	parts    []formPart
	isForm   bool
	isJSON   bool
	inQuery  bool // -G
	head     bool // -I
	user     string
	scheme   string // of credentials: basic, digest …
	bearer   string
	agent    string
	referer  string
	cookies  []string
	encoding bool
	globOff  bool
	lost     []string
}

// curlQuiet are the options that change nothing about the request; those with
// true take a value.
func curlQuiet(name string) (takesValue, quiet bool) {
	switch name {
	case "silent", "show-error", "verbose", "include", "fail", "fail-with-body", "progress-bar", "no-buffer", "no-progress-meter",
		"http1.1", "http2", "http3", "http2-prior-knowledge", "http1.0", "parallel", "remote-name", "remote-header-name", "styled-output",
		"no-keepalive", "tcp-nodelay", "path-as-is", "ipv4", "ipv6", "disable", "no-styled-output", "create-dirs", "tlsv1.2", "tlsv1.3":
		return false, true
	case "output", "output-dir", "write-out", "max-time", "connect-timeout", "retry", "retry-delay", "retry-max-time", "dump-header", "stderr", "trace",
		"trace-ascii", "cookie-jar", "limit-rate", "keepalive-time", "speed-limit", "speed-time", "max-filesize":
		return true, true
	}
	return false, false
}

// curlLost are options that would change what is sent, or how, and are not
// carried over; those with true take a value.
func curlLost(name string) (takesValue, known bool) {
	switch name {
	case "location", "location-trusted", "digest", "ntlm", "negotiate", "anyauth", "globoff", "compressed-ssh", "raw", "junk-session-cookies", "proxy-insecure", "ssl":
		return false, true
	case "proxy", "proxy-user", "resolve", "connect-to", "cert", "key", "cacert", "capath", "cert-type", "key-type", "pass", "ciphers", "upload-file", "interface", "range",
		"continue-at", "time-cond", "max-redirs", "config", "socks5", "socks5-hostname", "socks4", "socks4a", "noproxy", "unix-socket", "aws-sigv4", "tls-max", "request-target",
		"proxy-header", "preproxy", "local-port", "dns-servers", "doh-url", "netrc-file", "proto", "proto-redir", "variable", "expect100-timeout", "quote", "hostpubmd5":
		return true, true
	}
	return false, false
}

func curlShort(c byte) string {
	names := map[byte]string{'H': "header", 'd': "data", 'F': "form", 'b': "cookie", 'u': "user", 'X': "request", 'A': "user-agent", 'e': "referer",
		'G': "get", 'k': "insecure", 'I': "head", 's': "silent", 'S': "show-error", 'v': "verbose", 'i': "include", 'f': "fail", '#': "progress-bar",
		'N': "no-buffer", 'o': "output", 'O': "remote-name", 'w': "write-out", 'm': "max-time", 'L': "location", 'x': "proxy", 'U': "proxy-user",
		'E': "cert", 'T': "upload-file", 'r': "range", 'C': "continue-at", 'K': "config", 'c': "cookie-jar", 'D': "dump-header", 'J': "remote-header-name",
		'g': "globoff", 'j': "junk-session-cookies", 'z': "time-cond", 'y': "speed-time", 'Y': "speed-limit", 'q': "disable", '0': "http1.0", '4': "ipv4", '6': "ipv6",
		'Z': "parallel", ':': "next", 'n': "netrc"}
	return names[c]
}

func (c *curlCommand) read(words []string) error {
	plain := false // behind --
	for i := 0; i < len(words); i++ {
		w := words[i]
		value := func() (string, error) {
			if i+1 >= len(words) {
				return "", fmt.Errorf("the option %s has no value", w)
			}
			i++
			return words[i], nil
		}
		switch {
		case plain || w == "-" || !strings.HasPrefix(w, "-"):
			if w != "" {
				c.urls = append(c.urls, w)
			}
		case w == "--":
			plain = true
		case strings.HasPrefix(w, "--"):
			if err := c.option(w[2:], value); err != nil {
				return err
			}
		default:
			if err := c.cluster(w[1:], value); err != nil {
				return err
			}
		}
	}
	return c.finish()
}

// cluster reads short options behind one dash, the last of which may have its
// value behind it.
func (c *curlCommand) cluster(letters string, value func() (string, error)) error {
	for j := 0; j < len(letters); j++ {
		name := curlShort(letters[j])
		if name == "" {
			c.lost = append(c.lost, "option -"+letters[j:j+1])
			continue
		}
		taken := false
		err := c.option(name, func() (string, error) {
			taken = true
			if rest := letters[j+1:]; rest != "" {
				return rest, nil
			}
			return value()
		})
		if err != nil || taken {
			return err
		}
	}
	return nil
}

// option reads one option by its long name.
func (c *curlCommand) option(name string, value func() (string, error)) error {
	if takes, quiet := curlQuiet(name); quiet {
		if takes {
			_, err := value()
			return err
		}
		return nil
	}
	if c.flag(name) {
		return nil
	}
	if name == "next" {
		if err := c.finish(); err != nil {
			return err
		}
		*c = curlCommand{out: c.out}
		return nil
	}
	takes, known := curlLost(name)
	if known && !takes || strings.HasPrefix(name, "no-") {
		c.lost = append(c.lost, "option --"+name+lostNext(name))
		return nil
	}
	if !known && !isCurlValue(name) {
		// Whether it takes a value nobody knows: a URL behind it is found anyway.
		c.lost = append(c.lost, "option --"+oneLine(name))
		return nil
	}
	v, err := value()
	if err != nil {
		return err
	}
	if known {
		c.lost = append(c.lost, "option --"+name+lostNext(name))
		return nil
	}
	c.valued(name, v)
	return nil
}

func lostNext(name string) string {
	switch name {
	case "location", "location-trusted":
		return ": redirects are followed by steps of their own"
	case "proxy", "socks5", "socks5-hostname", "preproxy":
		return ": see upstream in the configuration"
	case "cert", "key", "cacert", "ciphers", "tls-max", "resolve", "connect-to", "interface":
		return ": see origins and resolve in the configuration"
	}
	return ""
}

func (c *curlCommand) flag(name string) bool {
	switch name {
	case "get":
		c.inQuery = true
	case "insecure":
		c.out.Insecure = true
	case "head":
		c.head = true
	case "compressed":
		c.encoding = true
	case "globoff":
		c.globOff = true
	case "basic":
		c.scheme = ""
	default:
		return false
	}
	return true
}

func isCurlValue(name string) bool {
	switch name {
	case "header", "data", "data-ascii", "data-raw", "data-binary", "data-urlencode", "json", "form", "form-string", "cookie", "user", "request",
		"user-agent", "referer", "url", "oauth2-bearer", "url-query":
		return true
	}
	return false
}

func (c *curlCommand) valued(name, v string) {
	switch name {
	case "url":
		c.urls = append(c.urls, v)
	case "request":
		c.method = v
	case "header":
		c.header(v)
	case "user-agent":
		c.agent = v
	case "referer":
		c.referer = strings.TrimSuffix(v, ";auto")
	case "user":
		c.user = v
	case "oauth2-bearer":
		c.bearer = v
	case "cookie":
		if !strings.Contains(v, "=") {
			c.lost = append(c.lost, "the cookies of a file (--cookie)")
			return
		}
		c.cookies = append(c.cookies, v)
	case "url-query":
		c.query = append(c.query, c.encoded(v))
	case "form", "form-string":
		c.form(v, name == "form-string")
	default:
		c.posted(name, v)
	}
}

func (c *curlCommand) header(v string) {
	if strings.HasPrefix(v, "@") {
		c.lost = append(c.lost, "the headers of a file (--header @…)")
		return
	}
	name, value, ok := strings.Cut(v, ":")
	switch {
	case ok && strings.TrimSpace(value) == "":
		if c.removed == nil {
			c.removed = make(map[string]bool)
		}
		c.removed[strings.ToLower(strings.TrimSpace(name))] = true
	case ok:
		c.fields = append(c.fields, pair{strings.TrimSpace(name), strings.TrimSpace(value)})
	case strings.HasSuffix(v, ";"):
		c.fields = append(c.fields, pair{strings.TrimSuffix(v, ";"), ""})
	default:
		c.lost = append(c.lost, "a header without a colon")
	}
}

func (c *curlCommand) posted(name, v string) {
	c.isJSON = c.isJSON || name == "json"
	switch {
	case name == "data-urlencode":
		v = c.encoded(v)
	case name != "data-raw" && strings.HasPrefix(v, "@"):
		c.lost = append(c.lost, "the content of a file (--"+name+" @…)")
		v = ""
	}
	if name == "json" && len(c.data) > 0 {
		c.data[len(c.data)-1] += v
		return
	}
	c.data = append(c.data, v)
}

// encoded is what --data-urlencode makes of its value.
func (c *curlCommand) encoded(v string) string {
	name, content, named := strings.Cut(v, "=")
	if at := strings.IndexByte(v, '@'); at >= 0 && (!named || at < len(name)) {
		c.lost = append(c.lost, "the content of a file (--data-urlencode @…)")
		if at == 0 {
			return ""
		}
		return v[:at] + "="
	}
	switch {
	case !named:
		return percent(v)
	case name == "":
		return percent(content)
	}
	return name + "=" + percent(content)
}

// percent encodes as curl does: all but RFC 3986's unreserved, and a space as
// forms do.
func percent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else if c == ' ' {
			b.WriteByte('+')
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func (c *curlCommand) form(v string, literal bool) {
	c.isForm = true
	name, content, ok := strings.Cut(v, "=")
	if !ok {
		c.lost = append(c.lost, "a --form without an equals sign")
		return
	}
	part := formPart{name: name, content: content}
	if !literal {
		fromFile := strings.HasPrefix(content, "@") || strings.HasPrefix(content, "<")
		for _, key := range []string{";type=", ";filename="} {
			if i := strings.Index(part.content, key); i >= 0 {
				word, rest, _ := strings.Cut(part.content[i+len(key):], ";")
				if rest != "" {
					rest = ";" + rest
				}
				part.content = part.content[:i] + rest
				if key == ";type=" {
					part.media = word
				} else {
					part.file = strings.Trim(word, `"`)
				}
			}
		}
		if fromFile {
			c.lost = append(c.lost, "the content of a file (--form "+oneLine(name)+"=@…)")
			if content[0] == '@' && part.file == "" {
				part.file = part.content[strings.LastIndexAny(part.content, `/\@`)+1:]
			}
			part.content = ""
		}
	}
	c.parts = append(c.parts, part)
}

// boundary is that of bodies made from --form: always the same, so that the same
// command line makes the same request.
const boundary = "------------------------holdfastformboundary"

// finish makes an exchange for each URL.
func (c *curlCommand) finish() error {
	if len(c.urls) == 0 {
		return errors.New("it names no URL")
	}
	body, fields := c.content()
	method := c.method
	if method == "" {
		switch {
		case c.head:
			method = "HEAD"
		case body != nil:
			method = "POST"
		default:
			method = "GET"
		}
	}
	for _, raw := range c.urls {
		if !strings.Contains(raw, "://") {
			raw = "http://" + raw
		}
		if !c.globOff && strings.ContainsAny(raw, "{}") || strings.Count(raw, "[") > 1 {
			c.lost = append(c.lost, "the pattern in the URL: it is taken as it stands")
		}
		number := len(c.out.Exchanges) + 1
		x := Exchange{Entry: number, RequestBody: body}
		var err error
		if x.Request, x.URL, err = newRequest(method, c.address(raw), fields); err != nil {
			return err
		}
		for _, what := range c.lost {
			c.out.lose(number, "%s", what)
		}
		if !c.out.add(x) {
			return nil
		}
	}
	return nil
}

// address is the URL with what -G and --url-query add.
func (c *curlCommand) address(raw string) string {
	add := c.query
	if c.inQuery {
		add = append(add[:len(add):len(add)], c.data...)
	}
	if len(add) == 0 {
		return raw
	}
	raw, _, _ = strings.Cut(raw, "#")
	sign := "?"
	if strings.Contains(raw, "?") {
		sign = "&"
	}
	return raw + sign + strings.Join(add, "&")
}

// content is the body and the fields, in the order in which curl writes them.
func (c *curlCommand) content() (body []byte, fields []pair) {
	add := func(name, value string) {
		if !has(c.fields, name) && !c.removed[strings.ToLower(name)] {
			fields = append(fields, pair{name, value})
		}
	}
	if c.bearer != "" {
		add("Authorization", "Bearer "+c.bearer)
	} else if c.user != "" {
		user := c.user
		if !strings.Contains(user, ":") {
			c.lost = append(c.lost, "the password that curl would ask for (--user)")
			user += ":"
		}
		add("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user)))
	}
	if c.agent != "" {
		add("User-Agent", c.agent)
	}
	switch {
	case c.isJSON:
		add("Content-Type", "application/json")
		add("Accept", "application/json")
	default:
		add("Accept", "*/*")
	}
	if c.encoding {
		add("Accept-Encoding", "deflate, gzip, br, zstd")
	}
	if c.referer != "" {
		add("Referer", c.referer)
	}
	if len(c.cookies) > 0 {
		add("Cookie", strings.Join(c.cookies, "; "))
	}
	switch {
	case c.inQuery:
	case c.isForm:
		var b bytes.Buffer
		for _, p := range c.parts {
			p.write(&b, boundary)
		}
		b.WriteString("--" + boundary + "--\r\n")
		body = b.Bytes()
		if !has(c.fields, "Content-Type") {
			add("Content-Type", "multipart/form-data; boundary="+boundary)
		}
	case c.data != nil:
		body = []byte(strings.Join(c.data, "&"))
		if !c.isJSON {
			add("Content-Type", "application/x-www-form-urlencoded")
		}
	}
	return body, append(fields, c.fields...)
}
