package rule

import (
	"bytes"
	"strconv"
	"strings"
	"sync"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/wire"
)

// MaxScopeBody is how long a request body can be, in bytes, for scopes to ask
// about it.
const MaxScopeBody = 64 << 10

// view is a flow as scopes see it. What more than one of them asks for is kept;
// memory comes from the pool where there is one.
type view struct {
	flow *flow.Flow
	room *room
	pool *sync.Pool

	hasURL  bool
	project *Project // the last one that was asked
	inside  bool     // what it said
}

// room is memory for one request.
type room struct {
	url    []byte
	port   [5]byte
	record flow.Record
}

const (
	urlRoom    = 512  // bytes of a new buffer
	maxURLRoom = 4096 // larger ones are not kept
)

func (v *view) memory() *room {
	if v.room == nil && v.pool != nil {
		v.room, _ = v.pool.Get().(*room)
	}
	if v.room == nil {
		v.room = &room{url: make([]byte, 0, urlRoom)}
	}
	return v.room
}

// done gives the memory back.
func (v *view) done() {
	if v.room != nil && v.pool != nil && cap(v.room.url) <= maxURLRoom {
		v.room.record = flow.Record{} // which holds on to the flow
		v.pool.Put(v.room)
	}
	v.room, v.hasURL = nil, false
}

// request is the request, which records of flows may lack.
func (v *view) request() *wire.Request {
	if v.flow.Request == nil {
		return new(wire.Request)
	}
	return v.flow.Request
}

// pathQuery is the path and query of the request's target as they stand there.
func (v *view) pathQuery() []byte {
	if v.flow.Request == nil {
		return nil
	}
	return pathQuery(v.flow.Request)
}

func pathQuery(req *wire.Request) []byte {
	target := req.Target()
	if len(target) > 0 && target[0] == '/' || string(req.Method()) == "CONNECT" {
		return target
	}
	i := bytes.Index(target, []byte("://"))
	if i < 0 {
		return target
	}
	rest := target[i+3:]
	if i = bytes.IndexAny(rest, "/?#"); i < 0 {
		return nil
	}
	return rest[i:]
}

// file is the path without the query; "/" where there is none.
func (v *view) file() []byte {
	path := v.pathQuery()
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	if len(path) == 0 {
		path = append(v.memory().port[:0], '/')
	}
	return path
}

// port is the port in digits.
func (v *view) port() []byte {
	return strconv.AppendUint(v.memory().port[:0], uint64(v.flow.Origin.Port), 10)
}

// fullURL is scheme://host[:port]/path?query.
func (v *view) fullURL() []byte {
	room := v.memory()
	if v.hasURL {
		return room.url
	}
	o := &v.flow.Origin
	b := append(room.url[:0], o.Scheme()...)
	b = append(b, "://"...)
	if strings.IndexByte(o.Host, ':') >= 0 {
		b = append(append(append(b, '['), o.Host...), ']')
	} else {
		b = append(b, o.Host...)
	}
	if o.Port != 0 && o.Port != defaultPort(o.TLS) {
		b = strconv.AppendUint(append(b, ':'), uint64(o.Port), 10)
	}
	path := v.pathQuery()
	if len(path) == 0 || path[0] != '/' {
		b = append(b, '/')
	}
	room.url, v.hasURL = append(b, path...), true
	return room.url
}

func defaultPort(tls bool) uint16 {
	if tls {
		return 443
	}
	return 80
}

// body is the request's body where scopes can ask about it: see MaxScopeBody.
func (v *view) body() ([]byte, bool) {
	if coding, ok := v.request().Get("content-encoding"); ok && string(coding) != "identity" {
		return nil, false
	}
	return v.flow.Peek(MaxScopeBody)
}

// asks asks a condition about the request. The body is looked at only when the
// rest does not decide.
func (v *view) asks(q *httpql.Query) httpql.Truth {
	record := &v.memory().record
	*record = flow.Record{Flow: v.flow}
	truth := q.Match(record)
	if truth != httpql.Unknown || q.Needs()&httpql.NeedRequestBody == 0 {
		return truth
	}
	body, ok := v.body()
	if !ok {
		return httpql.Unknown
	}
	record.RequestBody, record.RequestPresence = body, httpql.Known
	return q.Match(record)
}
