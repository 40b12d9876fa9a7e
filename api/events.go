package api

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/control"
)

// How often a stream says what has been counted, where that has changed, and
// that it is still there, where nothing has.
const (
	countEvery = time.Second
	stillEvery = 15 * time.Second
)

// stream sends events as they come (the event stream of the HTML standard),
// until the client goes away or does not keep up.
func stream(w http.ResponseWriter, r *http.Request, desk *control.Desk) {
	listener := desk.Events().Listen()
	if listener == nil {
		newProblem(http.StatusServiceUnavailable, CodeListeners, "As many listen to events as may", "End another listener first").write(w)
		return
	}
	defer listener.Close()
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	send := func(text string) bool {
		rc.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, err := io.WriteString(w, text)
		return err == nil && rc.Flush() == nil
	}
	emit := func(e control.Event) bool {
		raw, err := json.Marshal(e)
		if err != nil {
			return false
		}
		return send(fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.ID, e.Type, raw))
	}
	told := holdfast.Totals{}
	count := func() bool {
		now := desk.Proxy().Totals()
		if now == told {
			return true
		}
		told = now
		e, err := control.NewEvent("totals", now)
		return err == nil && emit(e)
	}
	if !send("retry: 2000\n\n") {
		return
	}
	counting, still := time.NewTicker(countEvery), time.NewTicker(stillEvery)
	defer counting.Stop()
	defer still.Stop()
	for ok := count(); ok; {
		select {
		case <-r.Context().Done():
			return
		case e, more := <-listener.C:
			if !more {
				if listener.TooSlow() {
					if e, err := control.NewEvent("dropped", control.WarningEvent{Text: "events came faster than they were read; ask for the present state, and listen again"}); err == nil {
						emit(e)
					}
				}
				return
			}
			ok = emit(e)
		case <-counting.C:
			ok = count()
		case <-still.C:
			ok = send(": still here\n\n")
		}
	}
}

// quiet drops what net/http has to say about clients.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
