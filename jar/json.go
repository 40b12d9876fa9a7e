package jar

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// The names and versions of the two JSON documents. A reader refuses versions
// that it does not know.
const (
	fileFormat      = "holdfast-cookies"
	fileVersion     = 1
	snapshotFormat  = "holdfast-jar"
	snapshotVersion = 1
)

// text is a string of any bytes. JSON strings are Unicode, cookies are not:
// what is not UTF-8 becomes {"base64": "…"}.
type text string

type encodedText struct {
	Base64 []byte `json:"base64"`
}

func (t text) MarshalJSON() ([]byte, error) {
	if !utf8.ValidString(string(t)) {
		return json.Marshal(encodedText{[]byte(t)})
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(string(t))
	return bytes.TrimRight(b.Bytes(), "\n"), err
}

func (t *text) UnmarshalJSON(src []byte) error {
	if len(src) > 0 && src[0] == '{' {
		var e encodedText
		if err := json.Unmarshal(src, &e); err != nil {
			return fmt.Errorf("want a string or {%q: …}: %w", "base64", err)
		}
		*t = text(e.Base64)
		return nil
	}
	return json.Unmarshal(src, (*string)(t))
}

// jsonCookie is a cookie in both documents.
type jsonCookie struct {
	Name        text      `json:"name"`
	Value       text      `json:"value"`
	Domain      text      `json:"domain"`
	HostOnly    bool      `json:"host_only"`
	Path        text      `json:"path"`
	Secure      bool      `json:"secure"`
	HTTPOnly    bool      `json:"http_only"`
	Partitioned bool      `json:"partitioned,omitempty"`
	SameSite    SameSite  `json:"same_site,omitempty"`
	Expires     time.Time `json:"expires,omitzero"`
	Created     time.Time `json:"created,omitzero"`
	Source      Source    `json:"source,omitempty"`
	Raw         text      `json:"raw,omitempty"`
}

func toJSON(c *Cookie) jsonCookie {
	return jsonCookie{
		Name: text(c.Name), Value: text(c.Value), Domain: text(c.Domain), HostOnly: c.HostOnly, Path: text(c.Path),
		Secure: c.Secure, HTTPOnly: c.HTTPOnly, Partitioned: c.Partitioned, SameSite: c.SameSite,
		Expires: c.Expires, Created: c.Created, Source: c.Source, Raw: text(c.Raw),
	}
}

func (c *jsonCookie) cookie() Cookie {
	return Cookie{
		Name: string(c.Name), Value: string(c.Value), Domain: string(c.Domain), HostOnly: c.HostOnly, Path: string(c.Path),
		Secure: c.Secure, HTTPOnly: c.HTTPOnly, Partitioned: c.Partitioned, SameSite: c.SameSite,
		Expires: c.Expires, Created: c.Created, Source: c.Source, Raw: string(c.Raw),
	}
}

// cookieFile is what EncodeJSON writes.
type cookieFile struct {
	Format  string       `json:"format"`
	Version int          `json:"version"`
	Cookies []jsonCookie `json:"cookies"`
}

// EncodeJSON writes cookies for people and other jars:
//
//	{"format": "holdfast-cookies", "version": 1, "cookies": [{
//	  "name": "sid", "value": "…", "domain": "shop.example", "host_only": true,
//	  "path": "/", "secure": true, "http_only": true, "partitioned": false,
//	  "same_site": "strict" | "lax" | "none", "expires": RFC 3339, "created": RFC 3339,
//	  "source": "response" | "request" | "hand" | "file", "raw": the Set-Cookie value}]}
//
// What is absent is false, empty, or, for expires, no end. A string that is
// not UTF-8 is written as {"base64": "…"}. IDs and order numbers are left out,
// see [Jar.Import].
func EncodeJSON(cookies []Cookie) ([]byte, error) {
	f := cookieFile{Format: fileFormat, Version: fileVersion, Cookies: make([]jsonCookie, len(cookies))}
	for i := range cookies {
		f.Cookies[i] = toJSON(&cookies[i])
	}
	return marshal(f)
}

// DecodeJSON reads what EncodeJSON wrote. It checks the form, not the cookies:
// that is done by [Jar.Import]. Unknown keys are an error.
func DecodeJSON(src []byte) ([]Cookie, error) {
	var f cookieFile
	if err := unmarshal(src, &f); err != nil {
		return nil, fmt.Errorf("cookies: %w", err)
	}
	if f.Format != fileFormat || f.Version != fileVersion {
		return nil, fmt.Errorf("cookies: format %q version %d is unknown; want %q version %d",
			f.Format, f.Version, fileFormat, fileVersion)
	}
	out := make([]Cookie, len(f.Cookies))
	for i := range f.Cookies {
		out[i] = f.Cookies[i].cookie()
	}
	return out, nil
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}

func unmarshal(src []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(src))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errors.New("something follows the document; remove it")
	}
	return nil
}
