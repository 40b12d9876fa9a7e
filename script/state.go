package script

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dop251/goja"

	"github.com/holdfast-proxy/holdfast/jar"
)

// Bounds of what a script sets.
const (
	maxVariables = 100
	maxVariable  = 1 << 20 // bytes of a value
	maxName      = 64      // bytes
)

func (n *run) lookup(name string) (string, bool) {
	if v, ok := n.set[name]; ok {
		return v, true
	}
	if n.call.Lookup == nil {
		return "", false
	}
	return n.call.Lookup(name)
}

func (n *run) variablesObject() goja.Value {
	o := n.js.NewObject()
	n.method(o, "get", func(c goja.FunctionCall) goja.Value {
		if v, ok := n.lookup(n.word(c.Argument(0), "the name")); ok {
			return n.js.ToValue(text([]byte(v)))
		}
		return goja.Undefined()
	})
	n.method(o, "has", func(c goja.FunctionCall) goja.Value {
		_, ok := n.lookup(n.word(c.Argument(0), "the name"))
		return n.js.ToValue(ok)
	})
	n.method(o, "set", func(c goja.FunctionCall) goja.Value {
		name, value := n.word(c.Argument(0), "the name"), n.word(c.Argument(1), "the value of the variable")
		switch {
		case !n.call.SetsVariables:
			n.throw("variables can only be read here: return the value")
		case name == "" || len(name) > maxName || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.") != "":
			n.throw("the name of a variable is made of letters, digits, _, - and ., at most %d of them", maxName)
		case value == "":
			n.throw("a variable cannot be empty")
		case len(value) > maxVariable || len(n.set) >= maxVariables:
			n.rangeError("a script sets at most %d variables of %d bytes", maxVariables, maxVariable)
		}
		if n.set == nil {
			n.set = make(map[string]string)
		}
		n.set[name] = value
		return goja.Undefined()
	})
	return o
}

// address is where the cookies of the request go.
func (n *run) address() jar.URL {
	u := jar.URL{Secure: n.call.Origin.TLS, Host: n.call.Origin.Host, Path: "/"}
	if n.call.Request != nil {
		u.Path = string(n.call.Request.Path())
	}
	return u
}

func (n *run) jarObject() goja.Value {
	j := n.call.Jar
	if j == nil {
		return goja.Null()
	}
	o := n.js.NewObject()
	n.method(o, "get", func(c goja.FunctionCall) goja.Value {
		cookie, ok := j.Find(n.address(), n.word(c.Argument(0), "the name"), n.call.Now())
		if !ok {
			return goja.Undefined()
		}
		return n.js.ToValue(text([]byte(cookie.Value)))
	})
	n.method(o, "list", func(goja.FunctionCall) goja.Value {
		var all []any
		for _, cookie := range j.Cookies(n.address(), n.call.Now()) {
			all = append(all, n.js.NewArray(text([]byte(cookie.Name)), text([]byte(cookie.Value))))
		}
		return n.js.NewArray(all...)
	})
	n.method(o, "set", func(c goja.FunctionCall) goja.Value {
		u := n.address()
		cookie := jar.Cookie{Name: n.word(c.Argument(0), "the name"), Value: n.word(c.Argument(1), "the value of the cookie"),
			Domain: u.Host, HostOnly: true, Path: "/", Secure: u.Secure, Order: n.call.Order()}
		if options, ok := c.Argument(2).(*goja.Object); ok {
			n.cookieOptions(&cookie, options)
		}
		if _, err := j.Put(cookie, n.call.Now()); err != nil {
			n.throw("%s", err.Error())
		}
		n.edited("jar " + cookie.Name)
		return goja.Undefined()
	})
	n.method(o, "delete", func(c goja.FunctionCall) goja.Value {
		name, gone := n.word(c.Argument(0), "the name"), 0
		for {
			cookie, ok := j.Find(n.address(), name, n.call.Now())
			if !ok {
				break
			}
			if _, ok = j.Delete(cookie.ID, n.call.Order()); !ok {
				break
			}
			gone++
		}
		if gone > 0 {
			n.edited("jar " + name)
		}
		return n.js.ToValue(gone)
	})
	return o
}

func (n *run) cookieOptions(cookie *jar.Cookie, o *goja.Object) {
	if v := o.Get("domain"); given(v) {
		cookie.Domain, cookie.HostOnly = strings.TrimPrefix(v.String(), "."), false
	}
	if v := o.Get("path"); given(v) {
		cookie.Path = v.String()
	}
	if v := o.Get("secure"); given(v) {
		cookie.Secure = v.ToBoolean()
	}
	if v := o.Get("httpOnly"); given(v) {
		cookie.HTTPOnly = v.ToBoolean()
	}
	if v := o.Get("maxAge"); given(v) {
		cookie.Expires = n.call.Now().Add(time.Duration(v.ToInteger()) * time.Second).UTC()
	}
}

// maxLine bounds one line of the log, in bytes.
const maxLine = 1000

func (n *run) log(c goja.FunctionCall) goja.Value {
	words := make([]string, len(c.Arguments))
	for i, v := range c.Arguments {
		words[i] = n.logged1(v)
	}
	n.say(strings.Join(words, " "))
	return goja.Undefined()
}

// logged1 is a value in the log: an object as JSON, bytes as their number.
func (n *run) logged1(v goja.Value) string {
	o, ok := v.(*goja.Object)
	if !ok {
		return v.String()
	}
	if b, ok := bytesOf(v); ok {
		return fmt.Sprintf("(%d bytes)", len(b))
	}
	if o.ClassName() == "Error" {
		return n.words(v)
	}
	if s, err := n.stringify(goja.Undefined(), v); err == nil && given(s) {
		return s.String()
	}
	return n.words(v)
}

// say writes a line of the log, as far as there is room. What may be secret is
// taken out before it is cut.
func (n *run) say(line string) {
	if n.call.Log == nil || n.cut {
		return
	}
	if most := n.limits.maxText(); len(line) > most { // of which nobody sees more
		line = line[:most]
	}
	line = n.redact(line)
	room := n.limits.Log - n.logged
	if len(line) > room {
		n.cut = true
		n.call.Log(fmt.Sprintf("the log is full: more than %d bytes (limits.script.log)", n.limits.Log))
		line = line[:max(room, 0)]
	}
	if len(line) > maxLine {
		line = line[:maxLine] + "…"
	}
	n.logged += len(line)
	if line = strings.ToValidUTF8(line, ""); line != "" && utf8.ValidString(line) {
		n.call.Log(line)
	}
}

func (n *run) consoleObject() goja.Value {
	o := n.js.NewObject()
	for _, name := range []string{"log", "info", "warn", "error", "debug"} {
		n.method(o, name, n.log)
	}
	return o
}

// fetch sends a request and waits for the answer.
func (n *run) fetch(c goja.FunctionCall) goja.Value {
	if n.call.Fetch == nil {
		n.throw("fetch is not to be had here")
	}
	f := &Fetch{Method: "GET", URL: n.word(c.Argument(0), "the URL"), Cookies: true}
	if o, ok := c.Argument(1).(*goja.Object); ok {
		n.fetchOptions(f, o)
	}
	if n.fetches++; n.fetches > n.limits.Fetches {
		n.stop(&limitError{fmt.Sprintf("more than %d fetches (limits.script.fetches)", n.limits.Fetches)})
		n.throw("too many fetches")
	}
	var answer *Answer
	var err error
	n.waiting(func() { answer, err = n.call.Fetch(n.ctx, f) })
	if err != nil {
		n.throw("fetch: %s", n.redact(err.Error()))
	}
	return n.answerObject(answer)
}

func (n *run) fetchOptions(f *Fetch, o *goja.Object) {
	if v := o.Get("method"); given(v) {
		f.Method = v.String()
	}
	if v := o.Get("body"); given(v) {
		f.Body = n.data(v, "the body of fetch")
		if f.Method == "GET" && !given(o.Get("method")) {
			f.Method = "POST"
		}
	}
	if v := o.Get("cookies"); given(v) {
		f.Cookies = v.ToBoolean()
	}
	headers, ok := o.Get("headers").(*goja.Object)
	if !ok {
		return
	}
	for _, name := range headers.Keys() {
		f.Headers = append(f.Headers, [2]string{name, headers.Get(name).String()})
	}
}

func (n *run) answerObject(a *Answer) goja.Value {
	o := n.js.NewObject()
	status := a.Response.Status()
	_ = o.Set("url", a.URL)
	_ = o.Set("status", status)
	_ = o.Set("ok", status >= 200 && status < 300)
	_ = o.Set("truncated", a.Cut)
	_ = o.Set("headers", n.headersObject("answer", headOf(a), nil))
	n.reader(o, func() []byte { return a.Body })
	return o
}
