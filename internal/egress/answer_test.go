package egress

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// malformed is what is refused as a whole: no status is taken from it.
var malformed = map[string]string{
	"no HTTP":                       "220 mail ready\r\n\r\n",
	"an empty status line":          "\r\nHTTP/1.1 200 OK\r\n\r\n",
	"HTTP/2":                        "HTTP/2.0 200 OK\r\n\r\n",
	"HTTP/0.9":                      "HTTP/0.9 200 OK\r\n\r\n",
	"two spaces":                    "HTTP/1.1  200 OK\r\n\r\n",
	"no status":                     "HTTP/1.1\r\n\r\n",
	"a status of two digits":        "HTTP/1.1 20 OK\r\n\r\n",
	"a status of four digits":       "HTTP/1.1 2000 OK\r\n\r\n",
	"a status below 100":            "HTTP/1.1 099 OK\r\n\r\n",
	"a signed status":               "HTTP/1.1 +20 OK\r\n\r\n",
	"a control character":           "HTTP/1.1 200 O\x00K\r\n\r\n",
	"bare LF after the status":      "HTTP/1.1 200 OK\n\r\n",
	"bare LF after a header":        "HTTP/1.1 200 OK\r\nA: b\n\r\n",
	"bare LF at the end":            "HTTP/1.1 200 OK\r\nA: b\r\n\n",
	"bare CR in a value":            "HTTP/1.1 200 OK\r\nA: b\rContent-Length: 1\r\n\r\n",
	"a folded line":                 "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
	"a folded first line":           "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
	"a header without colon":        "HTTP/1.1 200 OK\r\nA\r\n\r\n",
	"a header without name":         "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
	"a space before the colon":      "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
	"a name that is no token":       "HTTP/1.1 200 OK\r\nA(b): c\r\n\r\n",
	"a null in a value":             "HTTP/1.1 200 OK\r\nA: b\x00\r\n\r\n",
	"two lengths":                   "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
	"a list of lengths":             "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na",
	"a negative length":             "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
	"a signed length":               "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
	"a hexadecimal length":          "HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\na",
	"an empty length":               "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
	"a huge length":                 "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n",
	"a bad length without body":     "HTTP/1.1 204 No Content\r\nContent-Length: x\r\n\r\n",
	"length and transfer encoding":  "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"both in HTTP/1.0":              "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
	"two transfer encodings":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"a list of transfer encodings":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	"an unknown transfer encoding":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
	"an interim answer that is bad": "HTTP/1.1 103 Early Hints\r\nA\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
	"interim answers without end":   strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", maxHead/20),
	"a long header":                 "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", maxHead) + "\r\n\r\n",
	"many headers":                  "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", maxHead/6+1) + "\r\n",
}

const chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

// malformedBody is what is refused once the head has been taken.
var malformedBody = map[string]string{
	"no size":                    chunkedHead + "\r\n",
	"a size that is none":        chunkedHead + "xyz\r\n",
	"a negative size":            chunkedHead + "-1\r\n\r\n",
	"a signed size":              chunkedHead + "+1\r\na\r\n0\r\n\r\n",
	"a prefixed size":            chunkedHead + "0x1\r\na\r\n0\r\n\r\n",
	"a size in front of a space": chunkedHead + " 1\r\na\r\n0\r\n\r\n",
	"a huge size":                chunkedHead + "8000000000000000\r\na",
	"a size that wraps":          chunkedHead + "10000000000000001\r\na\r\n0\r\n\r\n",
	"bare LF after the size":     chunkedHead + "1\na\r\n0\r\n\r\n",
	"bare CR in an extension":    chunkedHead + "1;a\rb\r\na\r\n0\r\n\r\n",
	"bare LF after the chunk":    chunkedHead + "1\r\na\n0\r\n\r\n",
	"a chunk that is longer":     chunkedHead + "1\r\nab\r\n0\r\n\r\n",
	"a long extension":           chunkedHead + "1;" + strings.Repeat("a", maxLine) + "\r\na\r\n0\r\n\r\n",
	"little data in extensions":  chunkedHead + strings.Repeat("1;"+strings.Repeat("a", 1000)+"\r\na\r\n", 20) + "0\r\n\r\n",
	"a bad trailer":              chunkedHead + "1\r\na\r\n0\r\nA\r\n\r\n",
	"bare LF after the trailer":  chunkedHead + "1\r\na\r\n0\r\n\n",
	"a trailer without end":      chunkedHead + "0\r\n" + strings.Repeat("A: b\r\n", maxTrailer/4),
}

// TestMalformedAnswers sends each over a connection and sees that it is
// refused, and the connection dropped, without waiting for more.
func TestMalformedAnswers(t *testing.T) {
	t.Parallel()
	check := func(answers map[string]string, status int) {
		for name, answer := range answers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dropped := make(chan struct{})
				address := listen(t, func(conn net.Conn) {
					readRequest(conn)
					io.WriteString(conn, answer)
					untilClosed(conn)
					close(dropped)
				})
				ctx := within(t, 5*time.Second)
				a := newClient(t, Options{}).Send(ctx, Request{URL: "http://" + address})
				if a.Reason != waypost.ReasonProtocol || a.Status != status {
					t.Errorf("got %q, status %d, %v", a.Reason, a.Status, a.Err)
				}
				select {
				case <-dropped:
				case <-ctx.Done():
					t.Error("the connection was not dropped")
				}
			})
		}
	}
	check(malformed, 0)
	check(malformedBody, 200)
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	type got struct {
		Status int
		Body   string
		Kept   bool
		Header http.Header
	}
	tests := map[string]struct {
		text string
		want got
	}{
		"counted": {
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-odd:  a b\t\r\n\r\nhi",
			got{200, "hi", true, http.Header{"Content-Length": {"2"}, "X-Odd": {"a b"}}},
		},
		"without reason":  {"HTTP/1.1 500\r\nContent-Length: 0\r\n\r\n", got{500, "", true, http.Header{"Content-Length": {"0"}}}},
		"the same length": {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", got{200, "a", true, http.Header{"Content-Length": {"1", "1"}}}},
		"no content":      {"HTTP/1.1 204 No Content\r\n\r\n", got{204, "", true, http.Header{}}},
		"no body though it has a length": {
			"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
			got{304, "", true, http.Header{"Content-Length": {"7"}}},
		},
		"until the end": {"HTTP/1.1 200 OK\r\n\r\nhi", got{200, "hi", false, http.Header{}}},
		"several values": {
			"HTTP/1.1 200 OK\r\nA: 1\r\na: 2\r\nB: 3\r\nA: 4\r\nContent-Length: 0\r\n\r\n",
			got{200, "", true, http.Header{"A": {"1", "2", "4"}, "B": {"3"}, "Content-Length": {"0"}}},
		},
		"to be closed": {
			"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n",
			got{200, "", false, http.Header{"Connection": {"x, Close"}, "Content-Length": {"0"}}},
		},
		"HTTP/1.0": {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", got{200, "a", false, http.Header{"Content-Length": {"1"}}}},
		"HTTP/1.0, kept": {
			"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
			got{200, "a", true, http.Header{"Connection": {"keep-alive"}, "Content-Length": {"1"}}},
		},
		"HTTP/1.0 knows no chunks": {
			"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			got{200, "0\r\n\r\n", false, http.Header{"Transfer-Encoding": {"chunked"}}},
		},
		"surplus": {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", got{200, "a", false, http.Header{"Content-Length": {"1"}}}},
		"another answer at once": {
			"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 500 No\r\n\r\n",
			got{204, "", false, http.Header{}},
		},
		"interim answers": {
			"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
			got{200, "", true, http.Header{"Content-Length": {"0"}}},
		},
		"switching": {"HTTP/1.1 101 Switching Protocols\r\n\r\nxyz", got{101, "", false, http.Header{}}},
		"chunks": {
			chunkedHead + "2;a=b\r\nab\r\nA  \r\n0123456789\r\n000\r\nTrailer: x\r\n\r\n",
			got{200, "ab0123456789", true, http.Header{"Transfer-Encoding": {"chunked"}}},
		},
		"no chunk": {chunkedHead + "0\r\n\r\n", got{200, "", true, http.Header{"Transfer-Encoding": {"chunked"}}}},
		"small chunks": {
			chunkedHead + strings.Repeat("1\r\na\r\n", 4000) + "0\r\n\r\n",
			got{200, strings.Repeat("a", 4000), true, http.Header{"Transfer-Encoding": {"chunked"}}},
		},
		"a head larger than the buffer": {
			"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", 3*bufferSize) + "\r\nContent-Length: 1\r\n\r\na",
			got{200, "a", true, http.Header{"A": {strings.Repeat("b", 3*bufferSize)}, "Content-Length": {"1"}}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, src := range []io.Reader{strings.NewReader(tt.text), iotest.OneByteReader(strings.NewReader(tt.text))} {
				o := takeIn(src)
				if o.err != nil {
					t.Fatal(o.err)
				}
				kept := o.spent
				if _, one := src.(*strings.Reader); !one {
					kept = kept && tt.want.Kept // what comes later can't be known
				}
				if diff := cmp.Diff(tt.want, got{o.status, string(o.body), kept, o.header}); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

// outcome is what a reader makes of some text.
type outcome struct {
	status int
	header http.Header
	body   []byte
	spent  bool
	err    error
}

func takeIn(src io.Reader) (o outcome) {
	r := newReader(src)
	defer r.release()
	var header Header
	o.status, header, o.err = r.answer()
	o.header = parsed(header)
	if o.err == nil && !r.ended {
		o.body, o.err = readBody(r, headCap, defaultMaxBody)
	}
	o.spent = r.spent()
	return o
}

// parsed is a header as net/http has it.
func parsed(header Header) http.Header {
	h := http.Header{}
	for name, value := range header.fields() {
		h.Add(name, value)
	}
	return h
}

// takeInWithNetHTTP is the same with net/http's reader.
func takeInWithNetHTTP(src io.Reader) (o outcome) {
	buffered := bufio.NewReader(src)
	for {
		response, err := http.ReadResponse(buffered, &http.Request{Method: http.MethodPost}) //nolint:bodyclose // nothing is behind it
		if err != nil {
			return outcome{err: err}
		}
		o.status, o.header = response.StatusCode, response.Header
		if o.status/100 == 1 && o.status != http.StatusSwitchingProtocols {
			continue
		}
		if o.status != http.StatusSwitchingProtocols {
			o.body, o.err = readBody(response.Body, headCap, defaultMaxBody)
		}
		return o
	}
}

// comparable leaves out of a header what net/http edits.
func comparable(h http.Header) http.Header {
	h = h.Clone()
	for _, name := range []string{"Connection", "Content-Length", "Trailer", "Transfer-Encoding"} {
		delete(h, name)
	}
	if slices.Equal(h["Cache-Control"], []string{"no-cache"}) && h["Pragma"] != nil {
		delete(h, "Cache-Control") // made of Pragma
	}
	return h
}

// FuzzAnswer holds the reader against net/http's: what ours takes, theirs takes
// for the same. The other way round does not hold, for ours is stricter.
func FuzzAnswer(f *testing.F) {
	for _, answers := range []map[string]string{malformed, malformedBody} {
		for _, answer := range answers {
			f.Add([]byte(answer))
		}
	}
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"))
	f.Add([]byte("HTTP/1.0 200 OK\r\nPragma: no-cache\r\n\r\nhi"))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\n" + chunkedHead + "2;a=b\r\nhi\r\n0\r\nA: b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		ours, theirs := takeIn(bytes.NewReader(text)), takeInWithNetHTTP(bytes.NewReader(text))
		slow := takeIn(iotest.OneByteReader(bytes.NewReader(text)))
		if slow.status != ours.status || !bytes.Equal(slow.body, ours.body) || fmt.Sprint(slow.err) != fmt.Sprint(ours.err) {
			t.Errorf("at once %d %q %v, byte by byte %d %q %v", ours.status, ours.body, ours.err, slow.status, slow.body, slow.err)
		}
		if ours.err != nil {
			return
		}
		if theirs.err != nil || theirs.status != ours.status || !bytes.Equal(theirs.body, ours.body) {
			t.Errorf("%.500q: ours %d %.100q, net/http's %d %.100q %v", text, ours.status, ours.body, theirs.status, theirs.body, theirs.err)
		}
		if diff := cmp.Diff(comparable(theirs.header), comparable(ours.header)); diff != "" {
			t.Errorf("%.500q: header (-net/http +ours):\n%s", text, diff)
		}
	})
}

// parrot answers each request with its body, byte for byte, and closes.
func parrot(tb testing.TB) (address string) {
	return listen(tb, func(conn net.Conn) {
		request, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		body, _ := io.ReadAll(request.Body)
		_, _ = conn.Write(body)
	})
}

// TestAgainstNetHTTP sends the same answers, good and bad, to both ways of
// sending and compares what comes out. They differ where ours is meant to:
// parts marked strict are refused by ours alone, and an answer that was cut off
// is a broken connection to us where net/http may take the last line for whole.
func TestAgainstNetHTTP(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{})
	c.transport.DisableKeepAlives = true
	c.pool.perHost = 0
	url := "http://" + parrot(t)
	rapid.Check(t, func(rt *rapid.T) {
		text, strict, cut := drawAnswer(rt)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		r := Request{URL: url, Body: []byte(text)}
		ours, theirs := c.Send(ctx, r), c.sendWithNetHTTP(ctx, r)
		if strict && ours.Reason == waypost.ReasonProtocol {
			return
		}
		if cut && ours.Reason == waypost.ReasonReset && theirs.Reason == waypost.ReasonProtocol {
			return
		}
		type part struct {
			Status int
			Reason waypost.Reason
			Body   string
			Header http.Header
		}
		if diff := cmp.Diff(
			part{theirs.Status, theirs.Reason, string(theirs.Body), comparable(parsed(theirs.Header))},
			part{ours.Status, ours.Reason, string(ours.Body), comparable(parsed(ours.Header))},
		); diff != "" {
			rt.Errorf("%q (-net/http +ours):\n%s", text, diff)
		}
	})
}

// sendWithNetHTTP is Send as it would be without a connection of ours.
func (c *Client) sendWithNetHTTP(ctx context.Context, r Request) Answer {
	t, h, err := c.prepare(r)
	if err != nil {
		return Answer{Err: err, Reason: err.reason}
	}
	return c.transported(ctx, time.Now(), http.MethodPost, t, h, r.Body, headCap)
}

// piece is a part of an answer; net/http takes a strict one and we do not.
type piece struct {
	text   string
	strict bool
}

var (
	statusLines = []piece{
		{text: "HTTP/1.1 200 OK"},
		{text: "HTTP/1.1 200 OK"},
		{text: "HTTP/1.1 202"},
		{text: "HTTP/1.1 204 No Content"},
		{text: "HTTP/1.1 304 Not Modified"},
		{text: "HTTP/1.1 404 "},
		{text: "HTTP/1.1 503 Größe"},
		{text: "HTTP/1.1 999 x"},
		{text: "HTTP/1.0 200 OK"},
		{text: "HTTP/1.1 20 OK"},
		{text: "HTTP/1.1"},
		{text: "HTTX/1.1 200 OK"},
		{text: "HTTP/1.1 2x0 OK"},
		{text: "HTTP/1.1 -20 OK"},
		{text: "HTTP/2.0 200 OK", strict: true},
		{text: "HTTP/1.1  200 OK", strict: true},
		{text: "HTTP/1.1 099 OK", strict: true},
		{text: "HTTP/1.1 200 O\x01K", strict: true},
	}
	headerLines = []piece{
		{text: "Content-Type: text/plain"},
		{text: "content-type:text/html"},
		{text: "X-Space: \t a b \t"},
		{text: "X-Empty:"},
		{text: "X-Bytes: \xff\xfe"},
		{text: "Connection: close"},
		{text: "Connection: keep-alive"},
		{text: "Retry-After: 120"},
		{text: "Pragma: no-cache"},
		{text: "no colon"},
		{text: ": no name"},
		{text: "(x): y"},
		{text: "X-Null: a\x00b"},
		{text: "X Y: z", strict: true},
		{text: "X-Folded: a\r\n b", strict: true},
		{text: "X-Bare: a\nX-More: b", strict: true},
	}
	// What is said of a body of 5 bytes.
	bodies = []piece{
		{text: "Content-Length: 5\r\n\r\nhello"},
		{text: "\r\nhello"},
		{text: "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
		{text: "Transfer-Encoding: Chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX-Trailer: z\r\n\r\n"},
		{text: "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"},
		{text: "Content-Length: 5\r\n\r\nhel"},
		{text: "Content-Length: 5\r\n\r\nhello and more"},
		{text: "Transfer-Encoding: chunked\r\n\r\n5\r\nhel"},
		{text: "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"},
		{text: "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"},
		{text: "Content-Length: -5\r\n\r\nhello"},
		{text: "Content-Length: +5\r\n\r\nhello"},
		{text: "Content-Length: 5,5\r\n\r\nhello"},
		{text: "Content-Length: 99999999999999999999\r\n\r\nhello"},
		{text: "Content-Length: \r\n\r\nhello"},
		{text: "Transfer-Encoding: gzip\r\n\r\nhello"},
		{text: "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{text: "Transfer-Encoding: chunked\r\n\r\nxx\r\nhello\r\n0\r\n\r\n"},
		{text: "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"},
		{text: "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n"},
		{text: "Transfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n"},
		{text: "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", strict: true},
		{text: "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello", strict: true},
	}
	interims = []piece{
		{},
		{},
		{},
		{text: "HTTP/1.1 100 Continue\r\n\r\n"},
		{text: "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"},
		{text: "HTTP/1.1 103 Early Hints\n\n", strict: true},
	}
)

func drawAnswer(t *rapid.T) (text string, strict, cut bool) {
	var b strings.Builder
	add := func(from []piece, label, end string) {
		p := rapid.SampledFrom(from).Draw(t, label)
		b.WriteString(p.text + end)
		strict = strict || p.strict
	}
	add(interims, "interim", "")
	add(statusLines, "status line", "\r\n")
	for range rapid.IntRange(0, 3).Draw(t, "headers") {
		add(headerLines, "header", "\r\n")
	}
	add(bodies, "body", "")
	text = b.String()
	if cut = rapid.IntRange(0, 9).Draw(t, "cut") == 9; cut {
		text = text[:rapid.IntRange(0, len(text)).Draw(t, "at")]
	}
	return text, strict, cut
}
