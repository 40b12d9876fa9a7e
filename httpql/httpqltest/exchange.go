package httpqltest

import (
	"bytes"
	"time"

	"github.com/holdfast-proxy/holdfast/httpql"
)

// Exchange is a recorded exchange, and a [httpql.Record] of it. Heads end with
// their empty line; bodies have no codings.
type Exchange struct {
	ID string // its name in the script

	Request      []byte // head; nil for none
	RequestBody  []byte
	Response     []byte // head; nil for none
	ResponseBody []byte

	// ResponsePending: there may still be a response. RequestCut and
	// ResponseCut: the body is only a beginning. Live: the exchange has not
	// ended. Evaluators of stored exchanges are not asked about such ones.
	ResponsePending, RequestCut, ResponseCut, Live bool

	Row        int64 // 0: not stored
	Port       int64
	TLS        bool
	Created    time.Time
	Roundtrip  time.Duration
	Duration   time.Duration
	Tool       string
	Identity   string
	Node       string
	State      string
	Generation int64
	Rules      []string
	Actions    []string
}

var _ httpql.Record = (*Exchange)(nil)

// Stored reports whether everything about the exchange is known.
func (x *Exchange) Stored() bool {
	return !x.ResponsePending && !x.RequestCut && !x.ResponseCut && !x.Live
}

// words are those of the start line, the last of which may hold spaces.
func words(head []byte) [3][]byte {
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	var w [3][]byte
	w[0], line, _ = bytes.Cut(line, []byte(" "))
	w[1], w[2], _ = bytes.Cut(line, []byte(" "))
	return w
}

// field is the field line i, or with i < 0 nothing; n is how many there are.
func field(head []byte, i int) (name, value []byte, n int) {
	_, rest, _ := bytes.Cut(head, []byte("\r\n"))
	for ; len(rest) > 2; n++ {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		if n == i {
			name, value, _ = bytes.Cut(line, []byte(":"))
			value = bytes.TrimSpace(value)
		}
	}
	return name, value, n
}

func presence(there, pending bool) httpql.Presence {
	switch {
	case there:
		return httpql.Known
	case pending:
		return httpql.Pending
	}
	return httpql.Missing
}

func (x *Exchange) request() httpql.Presence { return presence(x.Request != nil, false) }

func (x *Exchange) response() httpql.Presence {
	return presence(x.Response != nil, x.ResponsePending)
}

// Bytes implements [httpql.Record].
func (x *Exchange) Bytes(f httpql.Field) ([]byte, httpql.Presence) {
	path, query, _ := bytes.Cut(words(x.Request)[1], []byte("?"))
	switch f {
	case httpql.ReqHead:
		return x.Request, x.request()
	case httpql.ReqBody:
		return x.RequestBody, presence(x.Request != nil && !x.RequestCut, x.RequestCut)
	case httpql.ReqHost:
		_, _, n := field(x.Request, -1)
		for i := range n {
			if name, value, _ := field(x.Request, i); bytes.EqualFold(name, []byte("host")) {
				host, _, _ := bytes.Cut(value, []byte(":"))
				return host, x.request()
			}
		}
		return nil, x.request()
	case httpql.ReqMethod:
		return words(x.Request)[0], x.request()
	case httpql.ReqPath:
		return path, x.request()
	case httpql.ReqQuery:
		return query, x.request()
	case httpql.RespHead:
		return x.Response, x.response()
	case httpql.RespBody:
		return x.ResponseBody, presence(x.Response != nil && !x.ResponseCut, x.ResponseCut || x.ResponsePending)
	case httpql.FlowTool:
		return []byte(x.Tool), httpql.Known
	case httpql.FlowIdentity:
		return []byte(x.Identity), httpql.Known
	case httpql.FlowNode:
		return []byte(x.Node), httpql.Known
	case httpql.SessionState:
		return []byte(x.State), httpql.Known
	}
	panic("internal error: httpqltest: a record is asked for the text " + f.String())
}

// Int implements [httpql.Record].
func (x *Exchange) Int(f httpql.Field) (int64, httpql.Presence) {
	ended := presence(!x.Live, true)
	switch f {
	case httpql.RowID:
		return x.Row, presence(x.Row != 0, false)
	case httpql.ReqPort:
		return x.Port, x.request()
	case httpql.ReqTLS:
		if x.TLS {
			return 1, x.request()
		}
		return 0, x.request()
	case httpql.ReqCreatedAt:
		return x.Created.UnixMilli(), x.request()
	case httpql.ReqHeader:
		_, _, n := field(x.Request, -1)
		return int64(n), x.request()
	case httpql.RespCode:
		code := int64(0)
		for _, c := range words(x.Response)[1] {
			code = code*10 + int64(c-'0')
		}
		return code, x.response()
	case httpql.RespRoundtrip:
		return x.Roundtrip.Milliseconds(), x.response()
	case httpql.RespHeader:
		_, _, n := field(x.Response, -1)
		return int64(n), x.response()
	case httpql.FlowRule:
		return int64(len(x.Rules)), ended
	case httpql.FlowDuration:
		return x.Duration.Milliseconds(), ended
	case httpql.SessionGeneration:
		return x.Generation, httpql.Known
	case httpql.TraceAction:
		return int64(len(x.Actions)), ended
	}
	panic("internal error: httpqltest: a record is asked for the number " + f.String())
}

// Item implements [httpql.Record].
func (x *Exchange) Item(f httpql.Field, i int) (name, value []byte) {
	switch f {
	case httpql.ReqHeader:
		name, value, _ = field(x.Request, i)
		return name, value
	case httpql.RespHeader:
		name, value, _ = field(x.Response, i)
		return name, value
	case httpql.FlowRule:
		return nil, []byte(x.Rules[i])
	case httpql.TraceAction:
		return nil, []byte(x.Actions[i])
	}
	panic("internal error: httpqltest: a record is asked for the values of " + f.String())
}
