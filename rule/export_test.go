package rule

// Span is the text that a target would replace, as it stands in the request.
func Span(t *Target, m *Message) ([]byte, bool) { return t.find(m) }
