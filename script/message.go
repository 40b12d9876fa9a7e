package script

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/dop251/goja"

	"github.com/holdfast-proxy/holdfast/wire"
)

// provide puts the functions for scripts into the world.
func (n *run) provide() {
	n.lazy("request", func() goja.Value {
		if n.call.Request == nil {
			return goja.Null()
		}
		return n.requestObject()
	})
	n.lazy("response", func() goja.Value {
		if n.call.Response == nil {
			return goja.Null()
		}
		return n.responseObject()
	})
	n.lazy("variables", n.variablesObject)
	n.lazy("jar", n.jarObject)
	n.lazy("crypto", n.cryptoObject)
	n.lazy("console", n.consoleObject)
	g := n.js.GlobalObject()
	n.method(g, "log", n.log)
	n.method(g, "fetch", n.fetch)
	n.method(g, "btoa", n.btoa)
	n.method(g, "atob", n.atob)
}

// edited notes an edit, for the trace.
func (n *run) edited(what string) {
	for _, had := range n.edits {
		if had == what {
			return
		}
	}
	n.edits = append(n.edits, what)
}

// mayEdit throws where the message is only to be read, and reports whether the
// place may be edited.
func (n *run) mayEdit(can bool, what, place string) bool {
	if !can {
		n.throw("the %s can only be read here", what)
	}
	if place != "" && n.call.Keeps != nil && n.call.Keeps(place) {
		n.say(place + " is left as the client wrote it")
		return false
	}
	return true
}

// fail throws what an edit refused.
func (n *run) fail(err error) {
	if err != nil {
		n.throw("%s", err.Error())
	}
}

func (n *run) requestObject() goja.Value {
	c := n.call
	o := n.js.NewObject()
	can := c.EditRequest != nil
	edit := func() *wire.Request {
		c.Request = c.EditRequest()
		return c.Request
	}
	str := func(b []byte) goja.Value { return n.js.ToValue(text(b)) }
	n.property(o, "method", func() goja.Value { return str(c.Request.Method()) }, func(v goja.Value) {
		if m := n.data(v, "method"); n.mayEdit(can, "request", "") && !bytes.Equal(m, c.Request.Method()) {
			n.fail(checkWord(m))
			n.fail(edit().SetMethod(m))
			n.edited("method")
		}
	})
	n.property(o, "url", func() goja.Value { return n.js.ToValue(c.Origin.URL([]byte(text(pathQuery(c.Request))))) }, nil)
	n.property(o, "host", func() goja.Value { return str(c.Request.Host()) }, nil)
	n.property(o, "version", func() goja.Value { return str(c.Request.Version()) }, nil)
	target := func(name, path, query string) {
		if strings.ContainsAny(path, " ?#\t\r\n\x00") || strings.ContainsAny(query, " #\t\r\n\x00") {
			n.throw("%s holds a character that cannot stand there; encode it with encodeURIComponent", name)
		}
		whole := string(c.Request.Target())
		prefix := strings.TrimSuffix(whole, string(pathQuery(c.Request)))
		now := prefix + path
		if query != "" {
			now += "?" + query
		}
		if now != whole {
			n.fail(edit().SetTarget([]byte(now)))
			n.edited(name)
		}
	}
	n.property(o, "path", func() goja.Value { return str(c.Request.Path()) }, func(v goja.Value) {
		if p := n.word(v, "path"); n.mayEdit(can, "request", "") {
			target("path", p, string(c.Request.Query()))
		}
	})
	n.property(o, "query", func() goja.Value { return str(c.Request.Query()) }, func(v goja.Value) {
		if q := n.word(v, "query"); n.mayEdit(can, "request", "") {
			target("query", string(c.Request.Path()), q)
		}
	})
	headers := n.headersObject("request", func() *wire.Head { return &c.Request.Head }, func() *wire.Head {
		if !can {
			return nil
		}
		return &edit().Head
	})
	n.property(o, "headers", func() goja.Value { return headers }, nil)
	body := n.bodyObject("request", c.RequestBody)
	n.property(o, "body", func() goja.Value { return body }, nil)
	return o
}

func (n *run) responseObject() goja.Value {
	c := n.call
	o := n.js.NewObject()
	can := c.EditResponse != nil
	edit := func() *wire.Response {
		c.Response = c.EditResponse()
		return c.Response
	}
	n.property(o, "status", func() goja.Value { return n.js.ToValue(c.Response.Status()) }, func(v goja.Value) {
		code := int(v.ToInteger())
		if code < 200 || code > 999 {
			n.throw("a status is a number from 200 to 999")
		}
		if n.mayEdit(can, "response", "") && code != c.Response.Status() {
			n.fail(edit().SetStatus(code))
			n.edited("status")
		}
	})
	n.property(o, "reason", func() goja.Value { return n.js.ToValue(text(c.Response.Reason())) }, nil)
	n.property(o, "version", func() goja.Value { return n.js.ToValue(text(c.Response.Version())) }, nil)
	headers := n.headersObject("response", func() *wire.Head { return &c.Response.Head }, func() *wire.Head {
		if !can {
			return nil
		}
		return &edit().Head
	})
	n.property(o, "headers", func() goja.Value { return headers }, nil)
	body := n.bodyObject("response", c.ResponseBody)
	n.property(o, "body", func() goja.Value { return body }, nil)
	return o
}

// pathQuery is the target without scheme and host.
func pathQuery(r *wire.Request) []byte {
	if len(r.Query()) == 0 && !bytes.HasSuffix(r.Target(), []byte("?")) {
		return r.Path()
	}
	return fmt.Appendf(nil, "%s?%s", r.Path(), r.Query())
}

// checkWord refuses what would end a word of the start line.
func checkWord(b []byte) error {
	if len(b) == 0 || bytes.ContainsAny(b, " \t\r\n\x00") {
		return wire.ErrUnsafe
	}
	return nil
}

// framingField reports whether a field says where the body ends; that is
// Holdfast's to write.
func framingField(name string) bool {
	return strings.EqualFold(name, "Content-Length") || strings.EqualFold(name, "Transfer-Encoding")
}

// headersObject is the fields of a head, in their order and case. edit is nil,
// or returns nil, where they can only be read.
func (n *run) headersObject(what string, head, edit func() *wire.Head) goja.Value {
	o := n.js.NewObject()
	can := func(name string) *wire.Head {
		h := (*wire.Head)(nil)
		if edit != nil {
			h = edit()
		}
		place := ""
		if what == "request" {
			place = "header:" + strings.ToLower(name)
		}
		if !n.mayEdit(h != nil, what, place) {
			return nil
		}
		if framingField(name) {
			n.throw("%s follows the body; set the body", name)
		}
		if strings.HasPrefix(name, ":") {
			n.throw("%s is no field; set method, path or status", name)
		}
		return h
	}
	n.method(o, "get", func(c goja.FunctionCall) goja.Value {
		if v, ok := head().Get(n.word(c.Argument(0), "the name")); ok {
			return n.js.ToValue(text(v))
		}
		return goja.Undefined()
	})
	n.method(o, "has", func(c goja.FunctionCall) goja.Value {
		return n.js.ToValue(head().Has(n.word(c.Argument(0), "the name")))
	})
	n.method(o, "getAll", func(c goja.FunctionCall) goja.Value {
		var all []any
		name := []byte(n.word(c.Argument(0), "the name"))
		for i := range head().NumFields() {
			if field, v := head().Field(i); bytes.EqualFold(field, name) {
				all = append(all, text(v))
			}
		}
		return n.js.NewArray(all...)
	})
	n.method(o, "list", func(goja.FunctionCall) goja.Value {
		var all []any
		for i := range head().NumFields() {
			if name, v := head().Field(i); len(name) == 0 || name[0] != ':' {
				all = append(all, n.js.NewArray(text(name), text(v)))
			}
		}
		return n.js.NewArray(all...)
	})
	n.method(o, "set", func(c goja.FunctionCall) goja.Value {
		name, value := n.word(c.Argument(0), "the name"), n.word(c.Argument(1), "the value of the header")
		if had, ok := head().Get(name); ok && string(had) == value {
			return goja.Undefined()
		}
		if h := can(name); h != nil {
			n.fail(h.Set(name, value))
			n.edited("header " + strings.ToLower(name))
		}
		return goja.Undefined()
	})
	n.method(o, "add", func(c goja.FunctionCall) goja.Value {
		name, value := n.word(c.Argument(0), "the name"), n.word(c.Argument(1), "the value of the header")
		if h := can(name); h != nil {
			n.fail(h.Add(name, value))
			n.edited("header " + strings.ToLower(name))
		}
		return goja.Undefined()
	})
	n.method(o, "remove", func(c goja.FunctionCall) goja.Value {
		name := n.word(c.Argument(0), "the name")
		if !head().Has(name) {
			return n.js.ToValue(0)
		}
		gone := 0
		if h := can(name); h != nil {
			gone = h.Del(name)
			n.edited("header " + strings.ToLower(name))
		}
		return n.js.ToValue(gone)
	})
	return o
}

// bodyObject is a payload, as text, JSON or bytes.
func (n *run) bodyObject(what string, b *Body) goja.Value {
	o := n.js.NewObject()
	get := func() []byte {
		if b == nil {
			return nil
		}
		var payload []byte
		var err error
		n.waiting(func() { payload, err = b.Get() })
		if err != nil {
			n.throw("the body of the %s cannot be had: %s", what, err.Error())
		}
		return payload
	}
	n.reader(o, get)
	n.method(o, "set", func(c goja.FunctionCall) goja.Value {
		payload := bytes.Clone(n.data(c.Argument(0), "the body"))
		if !n.mayEdit(b != nil && b.Set != nil, "body of the "+what, "") || bytes.Equal(payload, get()) {
			return goja.Undefined()
		}
		n.fail(b.Set(payload))
		n.edited("body")
		return goja.Undefined()
	})
	return o
}

// reader gives an object text, json, bytes and length.
func (n *run) reader(o *goja.Object, get func() []byte) {
	n.method(o, "text", func(goja.FunctionCall) goja.Value { return n.js.ToValue(text(get())) })
	n.method(o, "bytes", func(goja.FunctionCall) goja.Value { return n.bytes(bytes.Clone(get())) })
	n.method(o, "json", func(goja.FunctionCall) goja.Value {
		b := get()
		if !json.Valid(b) {
			n.throw("the body is no JSON")
		}
		v, err := n.parseJSON(goja.Undefined(), n.js.ToValue(text(b)))
		if err != nil {
			panic(err)
		}
		return v
	})
	n.property(o, "length", func() goja.Value { return n.js.ToValue(len(get())) }, nil)
}

// headOf is the head of an answer.
func headOf(a *Answer) func() *wire.Head { return func() *wire.Head { return &a.Response.Head } }
