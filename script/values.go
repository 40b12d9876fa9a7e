package script

import (
	"strings"
	"unicode/utf8"

	"github.com/dop251/goja"
)

// text is bytes as the script sees them: UTF-8 where they are, else each byte
// one character.
func text(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(rune(c))
	}
	return s.String()
}

// bytesOf is what an ArrayBuffer, or a view of one, holds.
func bytesOf(v goja.Value) ([]byte, bool) {
	o, ok := v.(*goja.Object)
	if !ok {
		return nil, false
	}
	switch b := o.Export().(type) {
	case goja.ArrayBuffer:
		return b.Bytes(), true
	case []byte:
		return b, true
	}
	return nil, false
}

// data is an argument that is text or bytes. It may share memory with the
// script.
func (n *run) data(v goja.Value, what string) []byte {
	if v == nil || goja.IsUndefined(v) || goja.IsNull(v) {
		n.throw("%s is missing", what)
	}
	if b, ok := bytesOf(v); ok {
		return b
	}
	if _, ok := v.(*goja.Object); ok {
		n.throw("%s is a text or a Uint8Array", what)
	}
	return []byte(v.String())
}

// word is an argument that is text.
func (n *run) word(v goja.Value, what string) string { return string(n.data(v, what)) }

// bytes is a Uint8Array.
func (n *run) bytes(b []byte) goja.Value {
	v, err := n.js.New(n.array8, n.js.ToValue(n.js.NewArrayBuffer(b)))
	if err != nil {
		panic(err)
	}
	return v
}

// str is a value as the language makes a text of it.
func (n *run) str(v goja.Value) goja.String {
	if s, ok := v.ToString().(goja.String); ok {
		return s
	}
	return n.js.ToValue(v.String()).(goja.String) // numbers, true and false stay what they are
}

// given is whether an argument is there.
func given(v goja.Value) bool { return v != nil && !goja.IsUndefined(v) && !goja.IsNull(v) }

type function = func(goja.FunctionCall) goja.Value

// method gives an object a function.
func (n *run) method(o *goja.Object, name string, f function) {
	_ = o.DefineDataProperty(name, n.js.ToValue(f), goja.FLAG_FALSE, goja.FLAG_FALSE, goja.FLAG_TRUE)
}

// property gives an object something that is read, and set where set is not
// nil.
func (n *run) property(o *goja.Object, name string, get func() goja.Value, set func(goja.Value)) {
	setter := goja.Value(nil)
	if set != nil {
		setter = n.js.ToValue(func(c goja.FunctionCall) goja.Value { set(c.Argument(0)); return goja.Undefined() })
	} else {
		setter = n.js.ToValue(func(goja.FunctionCall) goja.Value { n.throw("%s can only be read", name); return nil })
	}
	_ = o.DefineAccessorProperty(name, n.js.ToValue(func(goja.FunctionCall) goja.Value { return get() }), setter, goja.FLAG_FALSE, goja.FLAG_TRUE)
}

// lazy gives the global object something that is made when it is first used.
func (n *run) lazy(name string, make func() goja.Value) {
	var made goja.Value
	_ = n.js.GlobalObject().DefineAccessorProperty(name, n.js.ToValue(func(goja.FunctionCall) goja.Value {
		if made == nil {
			made = make()
		}
		return made
	}), nil, goja.FLAG_TRUE, goja.FLAG_TRUE)
}
