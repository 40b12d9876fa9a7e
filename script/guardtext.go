package script

import (
	"strconv"
	"strings"

	"github.com/dop251/goja"
)

func index(i int64) string { return strconv.FormatInt(i, 10) }

// guardTexts bounds what makes a long text out of a short one.
func (n *run) guardTexts(g *goja.Object) {
	_ = g.Get("String").(*goja.Object).Delete("raw")
	proto := n.prototype(g, "String")
	repeat, _ := goja.AssertFunction(proto.Get("repeat"))
	n.replace(proto, "repeat", func(c goja.FunctionCall) goja.Value {
		s, times := n.str(c.This), c.Argument(0).ToFloat()
		if times > 0 {
			n.roomFor(int(min(times*float64(s.Length()), 1<<50)), "repeat")
		}
		if plain := s.String(); times >= 0 && times <= float64(n.limits.maxText()) && len(plain) == s.Length() { // that of the engine takes its time for each
			return n.js.ToValue(strings.Repeat(plain, int(times)))
		}
		return n.invoke(repeat, c)
	})
	for _, name := range []string{"padStart", "padEnd"} {
		n.wrap(proto, name, func(c goja.FunctionCall) goja.Value {
			n.roomFor(int(min(c.Argument(0).ToFloat(), 1<<50)), name)
			return nil
		})
	}
	n.wrap(proto, "concat", func(c goja.FunctionCall) goja.Value {
		total := n.str(c.This).Length()
		for _, v := range c.Arguments {
			total += n.str(v).Length()
			n.roomFor(total, "concat")
		}
		return nil
	})
	for _, name := range []string{"match", "matchAll", "search"} {
		n.wrap(proto, name, func(c goja.FunctionCall) goja.Value { n.pattern(c.Argument(0)); return nil })
	}
	for _, name := range []string{"replace", "replaceAll"} {
		n.guardReplace(proto, name)
	}
	split, _ := goja.AssertFunction(proto.Get("split"))
	n.replace(proto, "split", func(c goja.FunctionCall) goja.Value {
		if given(c.Argument(1)) {
			return n.invoke(split, c)
		}
		c.Arguments = []goja.Value{c.Argument(0), n.js.ToValue(maxElements + 1)}
		v := n.invoke(split, c)
		n.bounded(v)
		return v
	})
}

// guardReplace counts what a text that stands for many matches comes to.
func (n *run) guardReplace(proto *goja.Object, name string) {
	was, _ := goja.AssertFunction(proto.Get(name))
	n.replace(proto, name, func(c goja.FunctionCall) goja.Value {
		if _, callback := goja.AssertFunction(c.Argument(1)); !callback && len(c.Arguments) > 1 {
			by := n.str(c.Argument(1))
			c.Arguments = append([]goja.Value(nil), c.Arguments...)
			if _, object := c.Argument(0).(*goja.Object); !object && name == "replaceAll" && n.str(c.This).Length() > maxElements &&
				strings.Count(c.This.String(), c.Argument(0).String()) > maxElements {
				n.rangeError("replaceAll finds more than %d places", maxElements)
			}
			if long := int64(n.str(c.This).Length()+1) * int64(by.Length()+1); long > int64(n.limits.maxText()) {
				c.Arguments[1] = n.js.ToValue(n.substitution(by.String(), name))
			}
		}
		return n.invoke(was, c)
	})
}

// substitution gives each match its replacement, $1 and the like filled in, and
// counts what they come to.
func (n *run) substitution(by, name string) function {
	made := 0
	return func(c goja.FunctionCall) goja.Value {
		n.alive()
		if !strings.Contains(by, "$") {
			made += len(by)
			n.roomFor(made, name)
			return n.js.ToValue(by)
		}
		groups := c.Arguments
		for len(groups) > 1 { // the position, the text and named groups stand behind them
			last := groups[len(groups)-1]
			groups = groups[:len(groups)-1]
			if last.ExportType() != nil && last.ExportType().Kind().String() == "int64" {
				break
			}
		}
		var out strings.Builder
		for i := 0; i < len(by); i++ {
			if by[i] != '$' || i+1 == len(by) {
				out.WriteByte(by[i])
				continue
			}
			i++
			switch d := by[i]; {
			case d == '$':
				out.WriteByte('$')
			case d == '&':
				out.WriteString(c.Argument(0).String())
			case d >= '1' && d <= '9' && int(d-'0') < len(groups):
				if v := groups[d-'0']; given(v) {
					out.WriteString(v.String())
				}
			case d == '`' || d == '\'' || d == '<':
				n.rangeError("a replacement of that size takes $$, $& and $1 to $9 only; write a function")
			default:
				out.WriteByte('$')
				out.WriteByte(d)
			}
			n.roomFor(made+out.Len(), name)
		}
		made += out.Len()
		return n.js.ToValue(out.String())
	}
}

// guardJSON bounds how deep JSON is, and how much a value comes to as JSON in
// which the same object stands many times.
func (n *run) guardJSON(g *goja.Object) {
	o := g.Get("JSON").(*goja.Object)
	parse, _ := goja.AssertFunction(o.Get("parse"))
	n.parseJSON = func(this goja.Value, args ...goja.Value) (goja.Value, error) {
		if len(args) > 0 {
			s := n.str(args[0])
			n.roomFor(s.Length(), "JSON.parse")
			if tooDeep(s.String()) {
				n.rangeError("the JSON nests deeper than %d", maxNesting)
			}
		}
		return parse(this, args...)
	}
	stringify, _ := goja.AssertFunction(o.Get("stringify"))
	n.stringify = func(this goja.Value, args ...goja.Value) (goja.Value, error) {
		var value, by, space goja.Value = goja.Undefined(), goja.Undefined(), goja.Undefined()
		for i, into := range []*goja.Value{&value, &by, &space} {
			if i < len(args) {
				*into = args[i]
			}
		}
		return stringify(this, value, n.js.ToValue(n.replacer(by)), space)
	}
	for name, f := range map[string]goja.Callable{"parse": n.parseJSON, "stringify": n.stringify} {
		n.replace(o, name, func(c goja.FunctionCall) goja.Value { return n.invoke(f, c) })
	}
}

// replacer counts what JSON.stringify writes, and does what the script's own
// replacer would.
func (n *run) replacer(by goja.Value) function {
	callback, _ := goja.AssertFunction(by)
	var only map[string]bool
	if list, ok := by.(*goja.Object); ok && callback == nil && list.ClassName() == "Array" {
		only = make(map[string]bool)
		for i := range n.bounded(list) {
			only[list.Get(index(i)).String()] = true
		}
	}
	var open []goja.Value // the objects that the present one stands in
	made, nodes := 0, 0
	return func(c goja.FunctionCall) goja.Value {
		n.alive()
		for len(open) > 0 && open[len(open)-1] != c.This {
			open = open[:len(open)-1]
		}
		v := c.Argument(1)
		if callback != nil {
			v = n.invoke(callback, c)
		}
		if holder, ok := c.This.(*goja.Object); ok && only != nil && len(open) > 0 && holder.ClassName() != "Array" && !only[c.Argument(0).String()] {
			return goja.Undefined()
		}
		if nodes++; nodes > maxElements || len(open) > maxNesting {
			n.rangeError("JSON.stringify writes at most %d values, %d deep", maxElements, maxNesting)
		}
		made += n.str(c.Argument(0)).Length() + 4 + 10*len(open)
		if s, ok := v.(goja.String); ok {
			made += s.Length()
		}
		n.roomFor(made, "JSON.stringify")
		if _, ok := v.(*goja.Object); ok {
			open = append(open, v)
		}
		return v
	}
}

// tooDeep reports whether brackets nest deeper than is read.
func tooDeep(s string) bool {
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			if depth++; depth > maxNesting {
				return true
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return false
}
