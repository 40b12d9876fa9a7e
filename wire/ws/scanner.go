package ws

// A Scanner finds the frames in a stream that comes in pieces of any size. Its
// zero value is ready. It keeps the begun head of a frame, and nothing else.
type Scanner struct {
	header Header
	head   [MaxHeader]byte
	begun  int    // bytes of head
	passed uint64 // bytes of the payload
	inside bool   // within a payload
	err    error
}

// A Piece is a part of a frame: a slice of what was given to Next.
type Piece struct {
	// Header is the frame's; nil while its head is not complete, and for
	// everything behind a broken one. It is valid until the next call.
	Header *Header
	Raw    []byte // as it came: head, payload or both
	// Payload is the part of Raw that is payload, masked as it came.
	Payload []byte
	Offset  uint64 // of Payload in the frame's payload
	First   bool   // the head is complete with this piece
	Last    bool   // the frame is
}

// Next takes the next piece off p, which must not be empty, and returns the
// rest. A frame without payload is one piece, first and last.
func (s *Scanner) Next(p []byte) (Piece, []byte) {
	if s.err != nil {
		return Piece{Raw: p}, nil
	}
	var piece Piece
	used := 0
	if !s.inside {
		n, size, err := s.readHead(p)
		if s.err = err; err != nil || size == 0 {
			return Piece{Raw: p}, nil
		}
		used, piece.First = n, true
		s.inside, s.passed = true, 0
	}
	n := uint64(len(p) - used)
	if left := s.header.Length - s.passed; n > left {
		n = left
	}
	end := used + int(n)
	piece.Header, piece.Raw, piece.Payload, piece.Offset = &s.header, p[:end], p[used:end], s.passed
	s.passed += n
	if s.passed == s.header.Length {
		piece.Last, s.inside = true, false
	}
	return piece, p[end:]
}

// readHead returns how many bytes of p belong to the head, whose size is 0
// when it is not complete.
func (s *Scanner) readHead(p []byte) (used, size int, err error) {
	if s.begun == 0 {
		s.header, size, err = ParseHeader(p)
		if size == 0 && err == nil {
			s.begun = copy(s.head[:], p)
		}
		return size, size, err
	}
	before := s.begun
	s.begun += copy(s.head[s.begun:], p)
	s.header, size, err = ParseHeader(s.head[:s.begun])
	if size == 0 || err != nil {
		return 0, size, err
	}
	s.begun = 0
	return size - before, size, nil
}

// Between reports whether the stream stands between two frames.
func (s *Scanner) Between() bool { return !s.inside && s.begun == 0 && s.err == nil }

// Err is why no frame is found any more: ErrLength.
func (s *Scanner) Err() error { return s.err }
