package script_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dlclark/regexp2/v2"

	"github.com/holdfast-proxy/holdfast/internal/leak"
	"github.com/holdfast-proxy/holdfast/script"
)

func TestMain(m *testing.M) { leak.Main(m) }

func compile(t testing.TB, src string) *script.Program {
	t.Helper()
	p, err := script.Compile(script.Source{Name: "test.js", Text: src})
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return p
}

// What never ends, or wants all the memory, ends by the limit that it is to
// meet. The time is long where another limit is meant.
func TestLimits(t *testing.T) {
	const timed, memory, regex = "it ran for longer than 1s", "memory grew by more than 16 MiB while it ran", "one match of a regex took longer than 500ms"
	for name, c := range map[string]struct{ src, want string }{
		"endless loop":         {"while (true) {}", timed},
		"caught":               {"while (true) try { while (true) {} } catch (e) {}", timed},
		"finally":              {"try { while (true) {} } finally { while (true) {} }", timed},
		"endless list":         {"let a = []; while (true) a.push('x'.repeat(1e6))", memory},
		"doubling":             {"let s = 'x'; while (true) s += s", memory},
		"doubling wide":        {"let s = 'ж'; while (true) s += s", memory},
		"templates":            {"let s = 'x'; while (true) s = `${s}${s}`", memory},
		"long array":           {"new Array(1e9).fill(0)", "too long"},
		"array by length":      {"let a = []; a.length = 4e9; a.fill(0)", "too long"},
		"array-like":           {"Array.prototype.fill.call({length: 2**52}, 0)", "too long"},
		"spread":               {"let a = []; a.length = 4e9; [...a]", "too long"},
		"apply":                {"Math.max.apply(null, {length: 4e9})", "too long"},
		"from":                 {"Array.from({length: 1e9})", "too long"},
		"hidden constructor":   {"new [].constructor(1e9)", "too long"},
		"subclass":             {"class A extends Array {}; new A(1e9).fill(1)", "too long"},
		"repeat":               {"'x'.repeat(2**30)", "repeat makes a text of more than"},
		"repeat of nothing":    {"''.repeat(Infinity)", "RangeError"},
		"pad":                  {"'x'.padStart(2**30)", "padStart makes a text of more than"},
		"join":                 {"Array(1000).fill('x'.repeat(1e6)).join()", "join makes a text of more than"},
		"String of arrays":     {"let a = Array(1000).fill('x'.repeat(1e6)); String([a, a])", "join makes a text of more than"},
		"flat":                 {"let a = Array(1000).fill(0), b = Array(1000).fill(a); Array(1000).fill(b).flat(9)", "flat makes more than"},
		"concat":               {"let a = []; a.length = 6e5; [].concat(a, a)", "concat makes more than"},
		"concat of texts":      {"let s = 'x'.repeat(1e6); s.concat(s, s, s)", "concat makes a text of more than"},
		"replaceAll":           {"'a'.repeat(1e4).replaceAll('a', 'b'.repeat(1e6))", "replaceAll makes a text of more than"},
		"replace $&":           {"'a'.repeat(1e4).replace(/a+/, '$&'.repeat(1e4))", "replace makes a text of more than"},
		"stringify":            {"let a = 'x'.repeat(1e5); for (let i = 0; i < 20; i++) a = [a, a]; JSON.stringify(a)", "JSON.stringify"},
		"stringify deep":       {"let o = {}; for (let i = 0; i < 1e4; i++) o = {o}; JSON.stringify(o)", "JSON.stringify"},
		"parse deep":           {"JSON.parse('['.repeat(1e6))", "nests deeper"},
		"array buffer":         {"new ArrayBuffer(2**40)", "too long"},
		"typed array":          {"new Float64Array(2**33)", "too long"},
		"recursion":            {"function f() { return f() } f()", "more than 500 calls"},
		"recursion by natives": {"let f = () => [1].map(f); f()", "more than 500 calls"},
		"eval":                 {"eval('1')", "eval is not defined"},
		"Function":             {"(() => {}).constructor('return 1')()", "scripts compile no text"},
		"generator":            {"Object.getPrototypeOf(function* () {}).constructor('1')", "scripts compile no text"},
		"BigInt":               {"BigInt(2)", "BigInt is not defined"},
		"regex":                {"/(?=a)(a+)+$/.test('a'.repeat(50) + 'b')", regex},
		"regex by replace":     {"('a'.repeat(50) + 'b').replace(/(?=a)(a+)+$/g, '')", regex},
		"regex by match":       {"('a'.repeat(50) + 'b').match(/(?=a)(a+)+$/)", regex},
		"regex by matchAll":    {"[...('a'.repeat(50) + 'b').matchAll(/(?=a)(a+)+$/g)]", regex},
		"regex by split":       {"('a'.repeat(50) + 'b').split(/(?=a)(a+)+$/)", regex},
		"regex by search":      {"('a'.repeat(50) + 'b').search(/(?=a)(a+)+$/)", regex},
		"regex by exec":        {"/(?=a)(a+)+$/.exec('a'.repeat(50) + 'b')", regex},
		"regex pattern":        {"new RegExp('('.repeat(1e6))", "a regex has at most"},
		"regex by literal":     {"new (/x/.constructor)('('.repeat(1e6))", "a regex has at most"},
		"long promise":         {"new Promise(() => {})", "never settles"},
	} {
		t.Run(name, func(t *testing.T) {
			defer regexp2.StopTimeoutClock()
			l := script.Limits{Time: time.Minute, Memory: 16 << 20}
			if c.want == timed {
				l.Time = time.Second // the next script is given no more
			}
			r := script.NewRunner(l)
			defer r.Close()
			_, err := r.Run(context.Background(), compile(t, c.src), &script.Call{})
			var failed *script.RunError
			if !errors.As(err, &failed) || !strings.Contains(err.Error(), c.want) || failed.Place != "test.js:1" && c.want != "never settles" {
				t.Errorf("%v, want %q", err, c.want)
			}
			if failed != nil && failed.Limit != (c.want == timed || c.want == memory || c.want == regex || strings.HasPrefix(c.want, "more than")) {
				t.Errorf("%v: by a limit: %v", err, failed.Limit)
			}
			// The runner goes on.
			if out, err := r.Run(context.Background(), compile(t, "1 + 1"), &script.Call{}); err != nil || out.Value != "2" {
				t.Errorf("the next script: %v", err)
			}
		})
	}
}

func BenchmarkEmpty(b *testing.B) {
	r := script.NewRunner(script.Limits{})
	defer r.Close()
	p := compile(b, "crypto.hmac('sha256', 'k', 'data')")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Run(context.Background(), p, &script.Call{}); err != nil {
			b.Fatal(err)
		}
	}
}
