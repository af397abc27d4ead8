package egress

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
)

const (
	bufferSize = 8 << 10
	maxHead    = 64 << 10 // of an answer, with the interim answers' before it
	maxTrailer = 1 << 10
	maxLine    = 1 << 10  // of a chunk's size, with what else is in its line
	maxExcess  = 16 << 10 // bytes of chunking that no data justifies
)

// protocolError is an answer that is not proper HTTP. Its text quotes nothing
// of what came.
type protocolError string

func (e protocolError) Error() string { return string(e) }

// framing is how the end of a body is known.
type framing uint8

const (
	noBody framing = iota
	counted
	chunked
	untilEnd
)

// reader takes in one HTTP/1.1 answer. It is strict: what two readers could
// take for different things (a line without CR, a folded line, two lengths) is
// no answer at all. Its buffer serves the request before.
type reader struct {
	src      io.Reader
	buf      []byte
	from, to int // what was read and not used yet: buf[from:to]
	budget   int // what heads, and then the trailer, may still have

	framing framing
	left    int64 // of the counted body, or of the chunk
	excess  int64
	ended   bool // the body did
	closing bool // no other answer comes on this connection

	array [bufferSize]byte
}

var readers = sync.Pool{New: func() any { return new(reader) }}

func newReader(src io.Reader) *reader {
	r := readers.Get().(*reader)
	r.src, r.buf, r.from, r.to, r.budget = src, r.array[:], 0, 0, maxHead
	r.framing, r.left, r.excess, r.ended, r.closing = noBody, 0, 0, false, false
	return r
}

func (r *reader) release() {
	r.src, r.buf = nil, nil
	readers.Put(r)
}

// spent reports that the answer is over, that nothing came after it, and that
// its connection may carry another.
func (r *reader) spent() bool { return r.ended && !r.closing && r.from == r.to }

// answer takes in the head of the final answer; the body is for Read.
func (r *reader) answer() (status int, header Header, err error) {
	for {
		head, err := r.head()
		if err != nil {
			return 0, "", err
		}
		status = int(head[9]-'0')*100 + int(head[10]-'0')*10 + int(head[11]-'0')
		if status/100 == 1 && status != http.StatusSwitchingProtocols {
			continue
		}
		header = headerOf(head)
		if err := r.frame(status, head[7] == '0', header); err != nil {
			return 0, "", err
		}
		return status, header, nil
	}
}

// head is the next head, with every line checked.
func (r *reader) head() (string, error) {
	for start := 0; ; {
		end, err := r.newline(start, r.budget)
		if err != nil {
			return "", err
		}
		line := r.buf[r.from+start : r.from+end-1]
		if start == 0 {
			err = checkStatusLine(line)
		} else if len(line) > 0 {
			err = checkField(line)
		}
		if err != nil {
			return "", err
		}
		start = end + 1
		if len(line) == 0 {
			head := string(r.buf[r.from : r.from+start])
			r.from += start
			r.budget -= start
			return head, nil
		}
	}
}

// newline finds the LF that ends the line which starts at an offset in what was
// read, and reads on as long as there is none within limit.
func (r *reader) newline(start, limit int) (int, error) {
	for seen := start; ; {
		i := bytes.IndexByte(r.buf[r.from+seen:r.to], '\n')
		end := seen + i
		if i < 0 {
			end = r.to - r.from
		}
		switch {
		case end > limit:
			return 0, protocolError("a line or the head is too long")
		case i >= 0 && (end == start || r.buf[r.from+end-1] != '\r'):
			return 0, protocolError("a line ends without CR")
		case i >= 0:
			return end, nil
		}
		seen = end
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
}

// fill reads more, and makes room for it before.
func (r *reader) fill() error {
	switch {
	case r.from == r.to:
		r.from, r.to = 0, 0
	case r.to < len(r.buf):
	case r.from > 0:
		r.to = copy(r.buf, r.buf[r.from:])
		r.from = 0
	default:
		r.buf = append(r.buf, make([]byte, len(r.buf))...)
	}
	n, err := r.src.Read(r.buf[r.to:])
	r.to += n
	switch {
	case n > 0:
		return nil // an error comes again
	case err == nil:
		return io.ErrNoProgress
	}
	return err
}

// checkStatusLine wants "HTTP/1.x NNN" and perhaps a reason.
func checkStatusLine(line []byte) error {
	const shape = "HTTP/1.x NNN"
	ok := len(line) >= len(shape) && string(line[:7]) == shape[:7] && isDigit(line[7]) && line[8] == ' ' &&
		'1' <= line[9] && line[9] <= '9' && isDigit(line[10]) && isDigit(line[11]) &&
		(len(line) == len(shape) || line[12] == ' ') && isText(line[len(shape):])
	if !ok {
		return protocolError("the status line is malformed")
	}
	return nil
}

func checkField(line []byte) error {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || !isToken(line[:colon]) || !isText(line[colon+1:]) {
		return protocolError("a header line is malformed")
	}
	return nil
}

// headerOf is what stands between the status line and the empty line of a
// checked head.
func headerOf(head string) Header {
	return Header(head[strings.IndexByte(head, '\n')+1 : len(head)-len("\r\n")])
}

// frame finds out where the body ends and whether the connection lives on.
func (r *reader) frame(status int, http10 bool, h Header) error {
	f, err := h.framing()
	switch {
	case err != nil:
		return err
	case f.encodings == 0:
	case f.length >= 0:
		return protocolError("the body has both a length and a transfer encoding")
	case http10: // which knows no such thing
		f.encodings = 0
	case f.encodings > 1 || !f.chunked:
		return protocolError("the transfer encoding is unknown")
	}
	switch {
	case status/100 == 1, status == http.StatusNoContent, status == http.StatusNotModified:
		r.ended = true
	case f.encodings > 0:
		r.framing = chunked
	case f.length >= 0:
		r.framing, r.left, r.ended = counted, f.length, f.length == 0
	default:
		r.framing = untilEnd
	}
	r.closing = r.framing == untilEnd || status == http.StatusSwitchingProtocols || f.closes || http10 && !f.keepsAlive
	return nil
}

// framingFields are what a header says of the body's end and of the connection.
type framingFields struct {
	length             int64 // -1: there is none
	encodings          int
	chunked            bool // an encoding is
	closes, keepsAlive bool
}

func (h Header) framing() (framingFields, error) {
	f := framingFields{length: -1}
	former := "" // length
	for name, value := range h.fields() {
		switch {
		case isNamed(name, "Content-Length"):
			if f.length >= 0 && value != former {
				return f, protocolError("the answer has two lengths")
			}
			n, err := strconv.ParseUint(value, 10, 63)
			if err != nil {
				return f, protocolError("the length is malformed")
			}
			f.length, former = int64(n), value
		case isNamed(name, "Transfer-Encoding"):
			f.encodings++
			f.chunked = strings.EqualFold(value, "chunked")
		case isNamed(name, "Connection"):
			f.closes = f.closes || hasToken(value, "close")
			f.keepsAlive = f.keepsAlive || hasToken(value, "keep-alive")
		}
	}
	return f, nil
}

// Read reads the body, and gives io.EOF together with its last bytes where the
// end is known.
func (r *reader) Read(p []byte) (n int, err error) {
	if r.framing == chunked && r.left == 0 && !r.ended {
		if err := r.chunk(); err != nil {
			return 0, unexpected(err)
		}
	}
	if r.ended {
		return 0, io.EOF
	}
	if r.framing == untilEnd {
		n, err = r.take(p)
		r.ended = errors.Is(err, io.EOF)
		return n, err
	}
	n, err = r.take(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	switch {
	case err != nil || r.left > 0:
		return n, unexpected(err)
	case r.framing == chunked:
		return n, unexpected(r.endChunk())
	}
	r.ended = true
	return n, io.EOF
}

func (r *reader) endChunk() error {
	line, err := r.line(len("\r\n"))
	if err == nil && len(line) > 0 {
		err = protocolError("a chunk is longer than it said")
	}
	return err
}

// unexpected is for an end that comes before the body's.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// take gives some of what was read, or reads.
func (r *reader) take(p []byte) (int, error) {
	if r.from == r.to {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.buf[r.from:r.to])
	r.from += n
	return n, nil
}

func (r *reader) line(limit int) ([]byte, error) {
	end, err := r.newline(0, limit)
	if err != nil {
		return nil, err
	}
	line := r.buf[r.from : r.from+end-1]
	r.from += end + 1
	return line, nil
}

// chunk begins the next chunk, or ends the body after the last. Extensions are
// passed over, but a sender can't hide much behind little data with them.
func (r *reader) chunk() error {
	line, err := r.line(maxLine)
	if err != nil {
		return err
	}
	if !isText(line) {
		return protocolError("a chunk's size is malformed")
	}
	size, _, _ := bytes.Cut(line, []byte(";"))
	size = bytes.TrimRight(size, " \t")
	if len(size) == 0 || len(size) > 16 || !isHex(size) {
		return protocolError("a chunk's size is malformed")
	}
	n, err := strconv.ParseUint(string(size), 16, 63)
	if err != nil {
		return protocolError("a chunk is too large")
	}
	r.left = int64(n)
	r.excess = max(0, r.excess+int64(len(line))-14-2*min(r.left, maxHead))
	if r.excess > maxExcess {
		return protocolError("chunks have too little data")
	}
	if r.left == 0 {
		r.budget = maxTrailer
		return r.trailer()
	}
	return nil
}

// trailer passes over what follows the last chunk.
func (r *reader) trailer() error {
	for {
		line, err := r.line(r.budget)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			r.ended = true
			return nil
		}
		r.budget -= len(line)
		if err := checkField(line); err != nil {
			return err
		}
	}
}

// hasToken looks for a token in a header's list.
func hasToken(list, token string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(textproto.TrimString(part), token) {
			return true
		}
	}
	return false
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isHex(text []byte) bool {
	for _, c := range text {
		if !isDigit(c) && (c|0x20 < 'a' || 'f' < c|0x20) {
			return false
		}
	}
	return true
}

// isText reports whether a line's text has no control characters but tabs.
func isText[T string | []byte](text T) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isToken reports whether a text can be the name of a header.
func isToken[T string | []byte](text T) bool {
	for i := range len(text) {
		if !tokenBytes[text[i]] {
			return false
		}
	}
	return len(text) > 0
}

var tokenBytes = func() (table [256]bool) {
	for c := range byte(0x7f) {
		table[c] = isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
	}
	return table
}()
