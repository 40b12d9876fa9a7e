package testenv

import (
	"compress/gzip"
	"net/http"
	"strings"
)

// packing compresses an answer of text, whoever writes it. Its length is not
// known beforehand then, so it comes in chunks.
type packing struct {
	http.ResponseWriter
	began bool
	to    *gzip.Writer // nil: as it is
}

// packed is w, or one that compresses where the origin and the client do so.
// The caller ends it.
func (s *Server) packed(w http.ResponseWriter, r *http.Request) (answer http.ResponseWriter, end func()) {
	if !s.origin.Gzip || r.Method == http.MethodHead || !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		return w, func() {}
	}
	p := &packing{ResponseWriter: w}
	return p, p.end
}

func (p *packing) WriteHeader(status int) {
	kind := p.Header().Get("Content-Type")
	text := strings.HasPrefix(kind, "application/json") || strings.HasPrefix(kind, "text/") && !strings.HasPrefix(kind, "text/event-stream")
	if text && status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified && p.Header().Get("Content-Encoding") == "" {
		p.Header().Set("Content-Encoding", "gzip")
		p.Header().Add("Vary", "Accept-Encoding")
		p.Header().Del("Content-Length")
		p.to = gzip.NewWriter(p.ResponseWriter)
	}
	p.began = true
	p.ResponseWriter.WriteHeader(status)
}

func (p *packing) Write(b []byte) (int, error) {
	if !p.began {
		p.WriteHeader(http.StatusOK)
	}
	if p.to != nil {
		return p.to.Write(b)
	}
	return p.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (p *packing) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *packing) end() {
	if p.to != nil {
		_ = p.to.Close() // the client may have gone, which is its business
	}
}
