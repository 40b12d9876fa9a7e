package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
)

// job is some flows to judge, by one goroutine.
type job struct {
	spans []span // in the order of the search
	next  int64  // where a search goes on after the job
	first bool   // it makes progress whatever the time
	last  bool   // nothing comes after it
	done  chan struct{}

	// The result, which may be read when done is closed.
	found        []*Stored // with refs to the bodies that were not read
	late         bool      // the time was over: next was set to where
	blocks       int64     // signatures that were looked at for the job
	rows, bodies int64
	damaged      int64
	err          error
}

// span is ids from low to high.
type span struct{ low, high int64 }

// blocksOf are the numbers of the first and the last block between ids.
func blocksOf(low, high int64) (first, last int64) { return low / blockFlows, high / blockFlows }

// jobs cuts what is to be looked at into jobs and gives them out until give is
// false.
func (x *search) jobs(ctx context.Context, give func(*job) bool) error {
	if x.plan.Blocks.All() {
		x.allJobs(give)
		return nil
	}
	first, last := blocksOf(x.low, x.high)
	size, begun := firstBlocks, true
	for more := true; more; {
		page, err := x.candidates(ctx, first, last)
		if err != nil {
			return err
		}
		more = page.more
		// A page has a job at least, to tell how far the search has come.
		for done := false; !done; {
			n := min(size, len(page.blocks))
			j := &job{done: make(chan struct{}), first: begun, blocks: page.looked}
			for _, b := range page.blocks[:n] {
				x.add(j, b)
			}
			page.blocks, page.looked = page.blocks[n:], 0
			if done = len(page.blocks) == 0; done {
				j.last = !more
				j.next = x.edge(x.clip(page.first, page.last))
				j.late = len(j.spans) == 0 && !j.last && time.Now().After(x.deadline)
			} else {
				j.next = x.edge(j.spans[len(j.spans)-1])
			}
			size, begun = min(2*size, mostBlocks), false
			late := j.late // the job is another goroutine's when it is given
			if !give(j) || late {
				return nil
			}
		}
		if x.o.OldestFirst {
			first = page.last + 1
		} else {
			last = page.first - 1
		}
	}
	return nil
}

// allJobs is jobs for a query that signatures say nothing about.
func (x *search) allJobs(give func(*job) bool) {
	low, high := x.low, x.high
	for size, first := int64(firstBlocks), true; low <= high; size, first = min(2*size, mostBlocks), false {
		part := span{low, high}
		if x.o.OldestFirst {
			part.high = min(high, (low/blockFlows+size)*blockFlows-1)
			low = part.high + 1
		} else {
			part.low = max(low, (high/blockFlows-size+1)*blockFlows)
			high = part.low - 1
		}
		if !give(&job{spans: []span{part}, next: x.edge(part), first: first, last: low > high, done: make(chan struct{})}) {
			return
		}
	}
}

// edge is the cursor behind a span.
func (x *search) edge(part span) int64 {
	if x.o.OldestFirst {
		return part.high
	}
	return part.low
}

// clip is the ids of blocks that are looked at.
func (x *search) clip(first, last int64) span {
	return span{max(x.low, first*blockFlows), min(x.high, (last+1)*blockFlows-1)}
}

// add has a job look into a block too.
func (x *search) add(j *job, block int64) {
	part := x.clip(block, block)
	if n := len(j.spans); n > 0 {
		switch before := &j.spans[n-1]; {
		case before.high+1 == part.low:
			before.high = part.high
			return
		case part.high+1 == before.low:
			before.low = part.low
			return
		}
	}
	j.spans = append(j.spans, part)
}

// page is what signatures say about blocks.
type page struct {
	blocks      []int64 // those that the query may be true of
	first, last int64   // between which was looked
	looked      int64   // how many there are
	more        bool    // there may be others
}

// candidates reads signatures between two blocks, those of a page.
func (x *search) candidates(ctx context.Context, first, last int64) (p page, err error) {
	columns, order := "NULL, NULL", "DESC"
	requests, responses := x.plan.Blocks.Reads()
	switch {
	case requests && responses:
		columns = "request, response"
	case requests:
		columns = "request, NULL"
	case responses:
		columns = "NULL, response"
	}
	if x.o.OldestFirst {
		order = "ASC"
	}
	rows, err := x.s.read.QueryContext(ctx, x.s.dialect.sql(`SELECT block, `+columns+` FROM blocks WHERE block >= ? AND block <= ? ORDER BY block `+order+` LIMIT ?`),
		first, last, signedBlocks)
	if err != nil {
		return page{}, err
	}
	p.first, p.last = first, last
	err = each(rows, func() error {
		var block int64
		var request, response sql.RawBytes
		if err := rows.Scan(&block, &request, &response); err != nil {
			return err
		}
		if p.looked++; p.looked == signedBlocks {
			if x.o.OldestFirst {
				p.last = block
			} else {
				p.first = block
			}
			p.more = first < p.first || p.last < last
		}
		unknown := requests && request == nil || responses && response == nil
		if unknown || x.plan.Blocks.May(request, response) {
			p.blocks = append(p.blocks, block)
		}
		return nil
	})
	return p, err
}

// statements read rows, and packs. For PostgreSQL they are not prepared here:
// its driver does that, and behind a pooler the next use may be on another
// connection.
type statements struct {
	rows  string
	args  []any     // of rows, behind the first two, which are the span
	packs *sql.Stmt // nil: none is prepared
}

func (s *statements) close() {
	if s.packs != nil {
		s.packs.Close()
	}
}

func (x *search) prepare(ctx context.Context) error {
	order := "DESC"
	if x.o.OldestFirst {
		order = "ASC"
	}
	x.statements = statements{
		rows: x.s.dialect.sql(`SELECT ` + rowColumns + ` FROM flows WHERE id >= ? AND id <= ? AND ` + x.plan.Where + ` ORDER BY id ` + order + ` LIMIT ?`),
		args: append(append([]any(nil), x.plan.Args...), batchRows),
	}
	if x.s.dialect.numbered {
		return nil
	}
	var err error
	x.packs, err = x.s.read.PrepareContext(ctx, readPack)
	return err
}

// judge does a job.
func (x *search) judge(ctx context.Context, j *job) {
	for _, part := range j.spans {
		for part.low <= part.high {
			if ctx.Err() != nil {
				j.err = ctx.Err()
				return
			}
			if !j.first && time.Now().After(x.deadline) {
				j.late, j.last, j.next = true, false, x.before(part)
				return
			}
			j.first = false
			last, err := x.batch(ctx, j, part)
			if err != nil {
				j.err = err
				return
			}
			if last == 0 || len(j.found) > x.o.Limit {
				break // there is no other row, or no need for one
			}
			if x.o.OldestFirst {
				part.low = last + 1
			} else {
				part.high = last - 1
			}
		}
	}
}

// before is the cursor in front of a span.
func (x *search) before(part span) int64 {
	if x.o.OldestFirst {
		return part.low - 1
	}
	return part.high + 1
}

// batch judges the first rows of a span. last is the last of them, 0 where that
// was all.
func (x *search) batch(ctx context.Context, j *job, part span) (last int64, err error) {
	rows, err := x.s.read.QueryContext(ctx, x.statements.rows, append([]any{part.low, part.high}, x.statements.args...)...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var some []row
	size := 0
	for size < batchBytes && rows.Next() {
		var r row
		if err := r.scan(rows); err != nil {
			return 0, err
		}
		size += len(r.content)
		some = append(some, r)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	rows.Close() // the packs want a connection
	all := size < batchBytes && len(some) < batchRows
	contents := unpacker{s: x.s, packs: x.statements.packs}
	var flows []*Stored
	n := 0
	for size = 0; n < len(some) && size < batchBytes; n++ {
		r := &some[n]
		last = r.id
		stored, damage, err := contents.open(ctx, r, false)
		if err != nil {
			return 0, err
		}
		size += contents.read
		contents.read = 0
		if damage != nil { // the others can be searched all the same
			j.damaged++
			continue
		}
		if stored != nil {
			size += int(stored.kept())
			flows = append(flows, stored)
		}
	}
	j.rows += int64(n)
	if all && n == len(some) {
		last = 0
	}
	return last, x.ask(ctx, j, flows)
}

// ask judges flows, in their order: by what is there first, and where that does
// not tell, by the bodies that stand elsewhere, some at a time.
func (x *search) ask(ctx context.Context, j *job, all []*Stored) error {
	answers := make([]httpql.Truth, len(all))
	for i, stored := range all {
		answers[i] = x.match(stored, stored.partial())
	}
	for i := 0; i < len(all); {
		var some []*Stored
		begin := i
		for size := int64(0); i < len(all) && size < batchBytes; i++ {
			if answers[i] == httpql.Unknown && len(all[i].refs) > 0 {
				some = append(some, all[i])
				size += all[i].elsewhere()
			}
		}
		if err := x.s.readBodies(ctx, some); err != nil {
			return err
		}
		j.bodies += int64(len(some))
		for k, stored := range all[begin:i] {
			if answers[begin+k] == httpql.Unknown {
				answers[begin+k] = x.match(stored, stored.Record())
			}
			if answers[begin+k] == httpql.True && len(j.found) <= x.o.Limit {
				stored.detach()
				j.found = append(j.found, stored)
			}
		}
		clear(all[begin:i])
	}
	return nil
}

func (x *search) match(stored *Stored, r *flow.Record) httpql.Truth {
	if x.o.See == nil {
		return x.o.Query.Match(r)
	}
	return x.o.Query.Match(x.o.See(stored, r))
}

// elsewhere is how many bytes the bodies have that were not read yet.
func (f *Stored) elsewhere() (n int64) {
	for i := range f.refs {
		n += f.refs[i].body.Size
	}
	return n
}

// partial is a record in which the bodies that were not read yet are still to
// come.
func (f *Stored) partial() *flow.Record {
	r := f.Record()
	for i := range f.refs {
		switch body := f.refs[i].body; body {
		case f.sent():
			r.RequestBody, r.RequestPresence = nil, httpql.Pending
		case f.Response:
			r.ResponseBody, r.ResponsePresence = nil, httpql.Pending
			if body.Trailers == nil {
				r.Trailers, r.TrailersPending = nil, true
			}
		}
	}
	return r
}
