package httpql

// Field is something that a query can ask about.
type Field uint8

// The fields, each with what a [Record] is asked for. Those that say
// "derived" are computed from others, so that every record agrees on them; no
// record is asked for them.
const (
	noField Field = iota

	RowID // Int: the number of the stored row

	ReqHead        // Bytes: start line and fields up to the empty line; only asked of records, not in the language
	ReqBody        // Bytes: without transfer and content codings
	ReqRaw         // derived: ReqHead, then ReqBody
	ReqLen         // derived: the length of ReqRaw in bytes
	ReqHost        // Bytes: without port
	ReqPort        // Int: of the connection
	ReqTLS         // Int: 1 or 0
	ReqMethod      // Bytes: as sent
	ReqPath        // Bytes: as sent, without the query
	ReqQuery       // Bytes: as sent, without "?"
	ReqExt         // derived from ReqPath: from the last dot of its last segment on, or empty
	ReqCreatedAt   // Int: milliseconds since 1970-01-01T00:00:00Z
	ReqHeader      // Int, Item: the header lines in order; in the language req.header["name"]
	ReqHeaderName  // derived from ReqHeader
	ReqHeaderValue // derived from ReqHeader

	RespHead        // extension; Bytes: as ReqHead
	RespBody        // Bytes: as ReqBody
	RespRaw         // derived: RespHead, then RespBody
	RespLen         // derived: the length of RespRaw in bytes
	RespCode        // Int: the status code
	RespRoundtrip   // Int: milliseconds from the request to the response's head
	RespHeader      // Int, Item: as ReqHeader
	RespHeaderName  // derived from RespHeader
	RespHeaderValue // derived from RespHeader
	RespRedirect    // extension; derived: the first Location value if the code is 3xx, or empty

	Source // derived from FlowTool: its published name

	FlowTool          // extension; Bytes
	FlowIdentity      // extension; Bytes
	FlowNode          // extension; Bytes: empty while the flow is not stored, and where no fleet has the project
	FlowRule          // extension; Int, Item: the names of the rules that did something, as the trace has them
	FlowDuration      // extension; Int: milliseconds from start to end
	SessionState      // extension; Bytes: empty without a session
	SessionGeneration // extension; Int: 0 without a session
	TraceAction       // extension; Int, Item: the actions in the trace

	numFields
)

// operand is what a field is compared with.
type operand uint8

const (
	takesNothing operand = iota // not in the language
	takesText
	takesNumber
	takesDate
	takesBool
	takesNamed // header["name"], then text
	takesName  // source:"…"
)

// access is how the value of a field is got from a record.
type access uint8

const (
	asBytes    access = iota // Record.Bytes
	asInt                    // Record.Int
	asRaw                    // head and body
	asLen                    // their length
	asExt                    // part of the path
	asRedirect               // Location
	asSource                 // published name of the tool
	asItems                  // values of a list
	asNames                  // names of a list
	asNamed                  // values of a list that have the name
)

type fieldSpec struct {
	name   string
	takes  operand
	access access
	of     Field // where it is read from, if not from itself
	needs  Needs
}

func specs() [numFields]fieldSpec {
	const (
		req  = NeedRequest
		resp = NeedResponse
	)
	return [numFields]fieldSpec{
		RowID:          {"row.id", takesNumber, asInt, RowID, NeedRow},
		ReqHead:        {"req.head", takesNothing, asBytes, ReqHead, req},
		ReqBody:        {"req.body", takesText, asBytes, ReqBody, req | NeedRequestBody},
		ReqRaw:         {"req.raw", takesText, asRaw, ReqHead, req | NeedRequestBody},
		ReqLen:         {"req.len", takesNumber, asLen, ReqHead, req | NeedRequestBody},
		ReqHost:        {"req.host", takesText, asBytes, ReqHost, req},
		ReqPort:        {"req.port", takesNumber, asInt, ReqPort, req},
		ReqTLS:         {"req.tls", takesBool, asInt, ReqTLS, req},
		ReqMethod:      {"req.method", takesText, asBytes, ReqMethod, req},
		ReqPath:        {"req.path", takesText, asBytes, ReqPath, req},
		ReqQuery:       {"req.query", takesText, asBytes, ReqQuery, req},
		ReqExt:         {"req.ext", takesText, asExt, ReqPath, req},
		ReqCreatedAt:   {"req.created_at", takesDate, asInt, ReqCreatedAt, req},
		ReqHeader:      {"req.header", takesNamed, asNamed, ReqHeader, req},
		ReqHeaderName:  {"req.header.name", takesText, asNames, ReqHeader, req},
		ReqHeaderValue: {"req.header.value", takesText, asItems, ReqHeader, req},

		RespHead:        {"resp.head", takesText, asBytes, RespHead, resp},
		RespBody:        {"resp.body", takesText, asBytes, RespBody, resp | NeedResponseBody},
		RespRaw:         {"resp.raw", takesText, asRaw, RespHead, resp | NeedResponseBody},
		RespLen:         {"resp.len", takesNumber, asLen, RespHead, resp | NeedResponseBody},
		RespCode:        {"resp.code", takesNumber, asInt, RespCode, resp},
		RespRoundtrip:   {"resp.roundtrip", takesNumber, asInt, RespRoundtrip, resp},
		RespHeader:      {"resp.header", takesNamed, asNamed, RespHeader, resp},
		RespHeaderName:  {"resp.header.name", takesText, asNames, RespHeader, resp},
		RespHeaderValue: {"resp.header.value", takesText, asItems, RespHeader, resp},
		RespRedirect:    {"resp.redirect", takesText, asRedirect, RespHeader, resp},

		Source: {"source", takesName, asSource, FlowTool, req},

		FlowTool:          {"flow.tool", takesText, asBytes, FlowTool, req},
		FlowIdentity:      {"flow.identity", takesText, asBytes, FlowIdentity, req},
		FlowNode:          {"flow.node", takesText, asBytes, FlowNode, req},
		FlowRule:          {"flow.rule", takesText, asItems, FlowRule, NeedTrace},
		FlowDuration:      {"flow.duration", takesNumber, asInt, FlowDuration, NeedEnd},
		SessionState:      {"session.state", takesText, asBytes, SessionState, NeedSession},
		SessionGeneration: {"session.generation", takesNumber, asInt, SessionGeneration, NeedSession},
		TraceAction:       {"trace.action", takesText, asItems, TraceAction, NeedTrace},
	}
}

func (f Field) spec() fieldSpec {
	if f >= numFields {
		return fieldSpec{}
	}
	return specs()[f]
}

// String is the field as it is written, without operator.
func (f Field) String() string { return f.spec().name }

// String is the operator as it is written.
func (o Op) String() string {
	if o > Nregex {
		return ""
	}
	return [...]string{"", "eq", "ne", "gt", "gte", "lt", "lte", "cont", "ncont", "like", "nlike", "regex", "nregex"}[o]
}

// Content reports whether the field is text of the messages in which anything may
// stand, credentials too: heads, bodies, paths, queries, values of headers. The
// rest is numbers, lengths, times, hosts, methods, names, and what is known of
// the flow.
func (f Field) Content() bool {
	switch f {
	case ReqHead, ReqBody, ReqRaw, ReqPath, ReqQuery, ReqExt, ReqHeader, ReqHeaderValue,
		RespHead, RespBody, RespRaw, RespHeader, RespHeaderValue, RespRedirect:
		return true
	}
	return false
}

// fits reports whether the operator goes with what the field takes.
func (o Op) fits(t operand) bool {
	switch t {
	case takesText, takesNamed:
		return o == Eq || o == Ne || o >= Cont && o <= Nregex
	case takesNumber:
		return o >= Eq && o <= Lte
	case takesDate:
		return o == Lt || o == Gt
	case takesBool:
		return o == Eq || o == Ne
	case takesName:
		return o == Eq
	}
	return false
}

// negative reports an operator that denies another one.
func (o Op) negative() bool { return o == Ne || o == Ncont || o == Nlike || o == Nregex }
