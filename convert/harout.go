package convert

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfast-proxy/holdfast/wire"
)

type harOutPair struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type harOutPost struct {
	MimeType string `json:"mimeType"`
	Text     string `json:"text"`
	Encoding string `json:"encoding,omitempty"` // as of content, which HAR 1.2 forgot here
}

type harOutContent struct {
	Size     int    `json:"size"`
	MimeType string `json:"mimeType"`
	Text     string `json:"text,omitempty"`
	Encoding string `json:"encoding,omitempty"`
}

type harOutRequest struct {
	Method      string       `json:"method"`
	URL         string       `json:"url"`
	HTTPVersion string       `json:"httpVersion"`
	Cookies     []harOutPair `json:"cookies"`
	Headers     []harOutPair `json:"headers"`
	QueryString []harOutPair `json:"queryString"`
	PostData    *harOutPost  `json:"postData,omitempty"`
	HeadersSize int          `json:"headersSize"`
	BodySize    int          `json:"bodySize"`
}

type harOutResponse struct {
	Status      int           `json:"status"`
	StatusText  string        `json:"statusText"`
	HTTPVersion string        `json:"httpVersion"`
	Cookies     []harOutPair  `json:"cookies"`
	Headers     []harOutPair  `json:"headers"`
	Content     harOutContent `json:"content"`
	RedirectURL string        `json:"redirectURL"`
	HeadersSize int           `json:"headersSize"`
	BodySize    int           `json:"bodySize"`
}

type harOutEntry struct {
	Started  time.Time      `json:"startedDateTime"`
	Time     int            `json:"time"`
	Request  harOutRequest  `json:"request"`
	Response harOutResponse `json:"response"`
	Cache    struct{}       `json:"cache"`
	Timings  struct {
		Send    int `json:"send"`
		Wait    int `json:"wait"`
		Receive int `json:"receive"`
	} `json:"timings"`
}

// WriteHAR writes exchanges as HAR 1.2. It holds secrets: passwords, tokens and
// cookies as they were sent. version is that of the program.
func WriteHAR(out io.Writer, version string, exchanges []Exchange) error {
	w := bufio.NewWriter(out)
	head, err := json.Marshal(version)
	if err != nil {
		return err
	}
	w.WriteString(`{"log":{"version":"1.2","creator":{"name":"Holdfast","version":` + string(head) + `},"entries":[`)
	for i := range exchanges {
		if i > 0 {
			w.WriteByte(',')
		}
		w.WriteByte('\n')
		raw, err := json.Marshal(harOutOf(&exchanges[i]))
		if err != nil {
			return err
		}
		w.Write(raw)
	}
	w.WriteString("\n]}}\n")
	return w.Flush()
}

func harOutOf(x *Exchange) *harOutEntry {
	e := &harOutEntry{Started: x.Time}
	e.Request = harOutRequest{Method: string(x.Request.Method()), URL: x.URL, HTTPVersion: "HTTP/1.1", Cookies: []harOutPair{},
		Headers: headPairs(&x.Request.Head), QueryString: []harOutPair{}, HeadersSize: -1, BodySize: len(x.RequestBody)}
	if len(x.RequestBody) > 0 {
		media := string(x.Request.Combined("Content-Type"))
		e.Request.PostData = &harOutPost{MimeType: media}
		e.Request.PostData.Text, e.Request.PostData.Encoding = asText(x.RequestBody)
	}
	e.Response = harOutResponse{Cookies: []harOutPair{}, Headers: []harOutPair{}, HTTPVersion: "HTTP/1.1", HeadersSize: -1, BodySize: -1}
	if r := x.Response; r != nil {
		location, _ := r.Get("Location")
		e.Response.Status, e.Response.StatusText, e.Response.Headers = r.Status(), string(r.Reason()), headPairs(&r.Head)
		e.Response.RedirectURL = string(location)
		e.Response.Content = harOutContent{Size: len(x.ResponseBody), MimeType: string(r.Combined("Content-Type"))}
		e.Response.Content.Text, e.Response.Content.Encoding = asText(x.ResponseBody)
		if x.BodyMissing && len(x.ResponseBody) == 0 {
			e.Response.Content.Size = 1 // HAR says by a size without a text that there was more
		}
	}
	return e
}

func headPairs(h *wire.Head) []harOutPair {
	out := []harOutPair{}
	for i := range h.NumFields() {
		name, value := h.Field(i)
		if len(name) == 0 || strings.HasPrefix(string(name), ":") {
			continue
		}
		out = append(out, harOutPair{string(name), strings.ToValidUTF8(string(value), "\ufffd")})
	}
	return out
}

func asText(body []byte) (text, encoding string) {
	if utf8.Valid(body) {
		return string(body), ""
	}
	return base64.StdEncoding.EncodeToString(body), "base64"
}
