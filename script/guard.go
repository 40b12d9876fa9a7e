package script

import (
	"strings"
	"time"

	"github.com/dop251/goja"
)

// The engine interrupts a script between two of its operations, never inside of
// one. What a single operation can do without end, or build without measure, is
// therefore wrapped here, or taken away.

// withoutBound are the globals that no check could bound.
func withoutBound() []string {
	return []string{"eval", "Proxy", "BigInt", "BigInt64Array", "BigUint64Array", "SharedArrayBuffer", "WeakRef", "FinalizationRegistry"}
}

// views are the globals that hold bytes or numbers. Those that the text of a
// script does not mention are taken away: making each costs time.
func views() []string {
	return []string{"ArrayBuffer", "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array", "Int32Array",
		"Uint32Array", "Float32Array", "Float64Array"}
}

// callable is a function of the engine.
type callable = goja.Callable

// guard makes the world safe before the script begins.
func (n *run) guard() {
	g := n.js.GlobalObject()
	for _, name := range withoutBound() {
		_ = g.Delete(name)
	}
	n.guardFunctions(g)
	n.guardArrays(g)
	n.guardTexts(g)
	n.guardRegexes(g)
	n.guardJSON(g)
	n.array8 = n.guardView(g, "Uint8Array")
	for _, name := range views() {
		switch {
		case name == "Uint8Array":
		case strings.Contains(n.program.text, name):
			n.guardView(g, name)
		default:
			_ = g.Delete(name)
		}
	}
}

func (n *run) prototype(g *goja.Object, name string) *goja.Object {
	return g.Get(name).(*goja.Object).Get("prototype").(*goja.Object)
}

// wrap replaces a function of an object; check looks at a call before it is
// done, and throws. A function that the text of the script does not mention is
// taken away, which costs less.
func (n *run) wrap(o *goja.Object, name string, check function) {
	if !n.program.mentions(name) {
		_ = o.Delete(name)
		return
	}
	was, ok := goja.AssertFunction(o.Get(name))
	if !ok {
		return
	}
	n.replace(o, name, func(c goja.FunctionCall) goja.Value {
		check(c)
		return n.invoke(was, c)
	})
}

func (n *run) replace(o *goja.Object, name string, f function) {
	_ = o.DefineDataProperty(name, n.js.ToValue(f), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
}

// invoke calls a function of the engine, unless the run has ended.
func (n *run) invoke(f callable, c goja.FunctionCall) goja.Value {
	n.alive()
	v, err := f(c.This, c.Arguments...)
	if err != nil {
		panic(err)
	}
	return v
}

// alive ends what an operation does that runs on when the run is to end.
func (n *run) alive() {
	if n.stopped.Load() {
		n.throw("%s", n.reason().Error()) // catching it helps nobody
	}
}

// bounded refuses an array, or what looks like one, that is too long.
func (n *run) bounded(v goja.Value) int64 {
	o, ok := v.(*goja.Object)
	if !ok {
		return 0
	}
	length := o.Get("length")
	if length == nil {
		return 0
	}
	size := length.ToInteger()
	if size > maxElements {
		n.rangeError("an array of %d elements is too long for one operation; %d are allowed", size, maxElements)
	}
	return size
}

// guardFunctions takes away what compiles text, which may nest too deeply for
// the engine, and bounds lists of arguments.
func (n *run) guardFunctions(g *goja.Object) {
	no := n.js.ToValue(func(goja.ConstructorCall) *goja.Object { n.throw("scripts compile no text"); return nil })
	proto := n.prototype(g, "Function")
	_ = g.DefineDataProperty("Function", no, goja.FLAG_FALSE, goja.FLAG_FALSE, goja.FLAG_FALSE)
	_ = proto.DefineDataProperty("constructor", no, goja.FLAG_FALSE, goja.FLAG_FALSE, goja.FLAG_FALSE)
	for _, kind := range kindsOfFunctions {
		if v, err := n.js.RunProgram(kind); err == nil {
			_ = v.(*goja.Object).DefineDataProperty("constructor", no, goja.FLAG_FALSE, goja.FLAG_FALSE, goja.FLAG_FALSE)
		}
	}
	n.wrap(proto, "apply", func(c goja.FunctionCall) goja.Value { n.bounded(c.Argument(1)); return nil })
	reflect := g.Get("Reflect").(*goja.Object)
	n.wrap(reflect, "apply", func(c goja.FunctionCall) goja.Value { n.bounded(c.Argument(2)); return nil })
	n.wrap(reflect, "construct", func(c goja.FunctionCall) goja.Value { n.bounded(c.Argument(1)); return nil })
}

// kindsOfFunctions give the prototypes of functions that no global names.
var kindsOfFunctions = []*goja.Program{
	goja.MustCompile("", "Object.getPrototypeOf(async function () {})", true),
	goja.MustCompile("", "Object.getPrototypeOf(function* () {})", true),
}

// constructor replaces a global by one that checks its arguments. It is the
// only way to the old one.
func (n *run) constructor(g *goja.Object, name string, check func(args []goja.Value), static ...string) *goja.Object {
	was := g.Get(name).(*goja.Object)
	build, _ := goja.AssertConstructor(was)
	now := n.js.ToValue(func(c goja.ConstructorCall) *goja.Object {
		n.alive()
		check(c.Arguments)
		o, err := build(c.NewTarget, c.Arguments...)
		if err != nil {
			panic(err)
		}
		return o
	}).(*goja.Object)
	proto := was.Get("prototype").(*goja.Object)
	_ = now.DefineDataProperty("prototype", proto, goja.FLAG_FALSE, goja.FLAG_FALSE, goja.FLAG_FALSE)
	_ = now.DefineDataProperty("name", n.js.ToValue(name), goja.FLAG_FALSE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	for _, key := range static {
		if v := was.Get(key); v != nil {
			_ = now.DefineDataProperty(key, v, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
		}
	}
	_ = now.SetPrototype(was.Prototype())
	_ = proto.DefineDataProperty("constructor", now, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	_ = g.DefineDataProperty(name, now, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	return now
}

// guardView bounds what a buffer or a view of one holds.
func (n *run) guardView(g *goja.Object, name string) *goja.Object {
	view := n.constructor(g, name, func(args []goja.Value) {
		if len(args) == 0 {
			return
		}
		if o, ok := args[0].(*goja.Object); ok {
			if o.ClassName() != "ArrayBuffer" {
				n.bounded(o)
			}
			return
		}
		if size := args[0].ToInteger(); size > int64(n.limits.maxText()) {
			n.rangeError("%s of %d elements is too long; %d are allowed", name, size, n.limits.maxText())
		}
	}, "isView", "BYTES_PER_ELEMENT")
	if parent := view.Prototype(); parent != nil && name == "Uint8Array" { // %TypedArray%
		n.wrap(parent, "from", func(c goja.FunctionCall) goja.Value { n.bounded(c.Argument(0)); return nil })
	}
	return view
}

func (n *run) guardArrays(g *goja.Object) {
	array := n.constructor(g, "Array", func(args []goja.Value) {
		if len(args) == 1 && args[0].ExportType() != nil {
			if _, object := args[0].(*goja.Object); !object && args[0].ToNumber().ToFloat() > maxElements {
				n.rangeError("an array of that length is too long; %d elements are allowed", maxElements)
			}
		}
	}, "isArray", "from", "of")
	n.wrap(array, "from", func(c goja.FunctionCall) goja.Value { n.bounded(c.Argument(0)); return nil })
	proto := array.Get("prototype").(*goja.Object)
	for _, name := range []string{"at", "copyWithin", "entries", "every", "fill", "filter", "find", "findIndex", "findLast", "findLastIndex",
		"forEach", "includes", "indexOf", "keys", "lastIndexOf", "map", "pop", "push", "reduce", "reduceRight", "reverse", "shift", "slice", "some",
		"sort", "splice", "toLocaleString", "toReversed", "toSorted", "toSpliced", "unshift", "with"} {
		n.wrap(proto, name, func(c goja.FunctionCall) goja.Value { n.bounded(c.This); return nil })
	}
	values, _ := goja.AssertFunction(proto.Get("values"))
	n.replace(proto, "values", func(c goja.FunctionCall) goja.Value { n.bounded(c.This); return n.invoke(values, c) })
	_ = proto.DefineDataPropertySymbol(goja.SymIterator, proto.Get("values"), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	n.wrap(proto, "concat", func(c goja.FunctionCall) goja.Value {
		total := n.bounded(c.This)
		for _, v := range c.Arguments {
			if total += n.bounded(v); total > maxElements {
				n.rangeError("concat makes more than %d elements", maxElements)
			}
		}
		return nil
	})
	n.wrap(proto, "flat", func(c goja.FunctionCall) goja.Value {
		depth := int64(1)
		if given(c.Argument(0)) {
			depth = c.Argument(0).ToInteger()
		}
		left := int64(maxElements)
		n.flatten(c.This, depth, 0, &left)
		return nil
	})
	n.wrap(proto, "flatMap", func(c goja.FunctionCall) goja.Value { n.bounded(c.This); return nil })
	n.replace(proto, "join", n.join)
}

// flatten counts what flat would make.
func (n *run) flatten(v goja.Value, depth int64, level int, left *int64) {
	size := n.bounded(v)
	if *left -= size; *left < 0 || level > maxNesting {
		n.rangeError("flat makes more than %d elements, or goes deeper than %d", maxElements, maxNesting)
	}
	if depth < 0 {
		return
	}
	o, ok := v.(*goja.Object)
	if !ok {
		return
	}
	for i := range size {
		if inner, ok := o.Get(index(i)).(*goja.Object); ok && inner.ClassName() == "Array" {
			n.flatten(inner, depth-1, level+1, left)
		}
	}
}

// join is Array.prototype.join with a bound on what it makes.
func (n *run) join(c goja.FunctionCall) goja.Value {
	o := c.This.ToObject(n.js)
	size := n.bounded(o)
	if n.joins++; n.joins > maxNesting {
		n.joins = 0
		n.rangeError("arrays stand inside each other deeper than %d", maxNesting)
	}
	defer func() { n.joins-- }()
	for _, open := range n.joining {
		if open == o {
			return n.js.ToValue("") // as browsers do for an array inside of itself
		}
	}
	n.joining = append(n.joining, o)
	defer func() { n.joining = n.joining[:len(n.joining)-1] }()
	between := n.str(n.js.ToValue(","))
	if given(c.Argument(0)) {
		between = n.str(c.Argument(0))
	}
	var out goja.StringBuilder
	made := 0
	for i := range size {
		n.alive()
		if i > 0 {
			out.WriteString(between)
			made += between.Length()
		}
		if v := o.Get(index(i)); given(v) {
			s := n.str(v)
			made += s.Length()
			n.roomFor(made, "join")
			out.WriteString(s)
		}
		n.roomFor(made, "join")
	}
	return out.String()
}

// roomFor refuses a text that is too long.
func (n *run) roomFor(length int, what string) {
	if length > n.limits.maxText() || length < 0 {
		n.rangeError("%s makes a text of more than %d characters", what, n.limits.maxText())
	}
}

// guardRegexes bounds patterns and texts, and finds out which match was given
// up: the engine takes that for none.
func (n *run) guardRegexes(g *goja.Object) {
	regex := n.constructor(g, "RegExp", func(args []goja.Value) {
		if len(args) > 0 {
			n.pattern(args[0])
		}
	})
	proto := regex.Get("prototype").(*goja.Object)
	exec, _ := goja.AssertFunction(proto.Get("exec"))
	n.replace(proto, "exec", func(c goja.FunctionCall) goja.Value {
		n.alive()
		s := n.str(c.Argument(0))
		if s.Length() > maxRegex {
			n.rangeError("a regex looks at %d characters at most", maxRegex)
		}
		began := time.Now()
		v, err := exec(c.This, s)
		if time.Since(began) >= regexTime {
			n.stop(&limitError{"one match of a regex took longer than " + regexTime.String()})
		}
		if err != nil {
			panic(err)
		}
		return v
	})
	n.replace(proto, "test", func(c goja.FunctionCall) goja.Value { // that of the engine does not ask exec
		found, ok := goja.AssertFunction(c.This.ToObject(n.js).Get("exec"))
		if !ok {
			n.throw("test is called on no regex")
		}
		return n.js.ToValue(!goja.IsNull(n.invoke(found, c)))
	})
	n.wrap(proto, "compile", func(c goja.FunctionCall) goja.Value { n.pattern(c.Argument(0)); return nil })
}

// pattern refuses a regex that is too long to be compiled.
func (n *run) pattern(v goja.Value) {
	if _, object := v.(*goja.Object); !object && given(v) && len(v.String()) > maxPattern {
		n.rangeError("a regex has at most %d characters", maxPattern)
	}
}
