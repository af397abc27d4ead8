package httpserver

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// everything makes every plain POST one that is served directly.
var everything = []string{"/"}

// bothWays runs a test on net/http's server and without it.
func bothWays(t *testing.T, test func(t *testing.T, direct []string)) {
	t.Helper()
	for name, direct := range map[string][]string{"net-http": nil, "direct": everything} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, direct)
		})
	}
}

// echo answers with what it was asked.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	w.Header().Set("X-Asked", "yes")
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(w, "%s %s %s %s %d %q %v", r.Method, r.URL, r.Host, r.Header.Get("X-A"), r.ContentLength, body, err)
})

// TestTheSameAnswerBothWays sends requests of all kinds, one after the other, on
// one connection.
func TestTheSameAnswerBothWays(t *testing.T) {
	t.Parallel()
	const post = "POST /in/a?b=%20c HTTP/1.1\r\nHost: x:1\r\n"
	requests := []string{
		post + "Content-Length: 5\r\nx-a: 1\r\n\r\nhello",
		post + "content-length:0\r\nConnection: Keep-Alive\r\n\r\n",
		post + "Content-Length: 100000\r\nX-A:\t2 \r\n\r\n" + strings.Repeat("x", 100_000),
		post + "Content-Length: 2\r\n\r\nhi\r\n", // an end of line too many
		post + "Content-Length: 2\r\n\r\nhi",
		post + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
		post + "Content-Length: 2\r\n\r\nhi",
		"GET /in/x HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
		post + "Content-Length: 2\r\nConnection: close\r\n\r\nhi",
	}
	for _, pipelined := range []bool{false, true} {
		var got [2][]string
		for i, direct := range [][]string{nil, {"/in/"}} {
			r := start(t, Options{Handler: echo, Direct: direct})
			conn := r.raw(t, "")
			from := bufio.NewReader(conn)
			if pipelined {
				go io.WriteString(conn, strings.Join(requests, ""))
			}
			for _, request := range requests {
				if !pipelined {
					if _, err := io.WriteString(conn, request); err != nil {
						t.Fatal(err)
					}
				}
				response, err := http.ReadResponse(from, nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil || response.Header.Get("X-Request-Id") == "" || response.Header.Get("Date") == "" {
					t.Errorf("got %v, %v", response.Header, err)
				}
				got[i] = append(got[i], fmt.Sprint(response.Status, response.Header["Content-Type"], response.Header["X-Asked"], response.Close, string(body)))
			}
			if rest, err := io.ReadAll(from); err != nil || len(rest) > 0 {
				t.Errorf("the connection ended with %q, %v", rest, err)
			}
		}
		if diff := cmp.Diff(got[0], got[1]); diff != "" {
			t.Errorf("-net/http +direct:\n%s", diff)
		}
	}
}

// TestAConnectionIsHandedOverWhole: in the middle of a body, and of a head.
func TestAConnectionIsHandedOverWhole(t *testing.T) {
	t.Parallel()
	r := start(t, Options{Handler: echo, Direct: []string{"/in/"}})
	for _, parts := range [][]string{
		{"POST /i", "x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"},
		{"POST /in/x HTTP/1.1\r\nHost: x\r\nExpect: ", "nothing\r\nContent-Length: 2\r\n\r\n", "hi"},
		{"POST /in/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nh", "i\r\n0\r\n\r\n"},
		{"POST /in/x HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", bufferSize), "\r\nContent-Length: 2\r\n\r\nh", "i"},
	} {
		conn := r.raw(t, "")
		for _, part := range parts {
			if _, err := io.WriteString(conn, part); err != nil {
				t.Fatal(err)
			}
			runtime.Gosched()
		}
		got := answer(t, bufio.NewReader(conn))
		if strings.Contains(parts[1], "nothing") {
			if got.status != http.StatusExpectationFailed {
				t.Errorf("got %+v", got)
			}
		} else if got.status != http.StatusAccepted || !strings.HasSuffix(got.body, `"hi" <nil>`) {
			t.Errorf("got %+v", got)
		}
	}
}

func TestAPanicIsAnsweredDirectly(t *testing.T) {
	t.Parallel()
	r := start(t, Options{Direct: everything, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/half" {
			_, _ = io.WriteString(w, "half")
		}
		panic("boom")
	})})
	conn := r.raw(t, "")
	from := bufio.NewReader(conn)
	for range 2 {
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
		if got, want := answer(t, from), (answered{500, `{"error":"internal error"}` + "\n", false}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	io.WriteString(conn, "POST /half HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
	if rest, err := io.ReadAll(from); len(rest) > 0 {
		t.Errorf("half an answer was sent: %q, %v", rest, err)
	}
}

func TestABodyCutOffIsAnError(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, direct []string) {
		failed := make(chan error, 1)
		r := start(t, Options{Direct: direct, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			failed <- err
		})})
		conn := r.raw(t, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; err == nil {
			t.Error("the body came to an end")
		}
	})
}

// TestClientsOfManyKinds has net/http's client meet our side.
func TestClientsOfManyKinds(t *testing.T) {
	t.Parallel()
	r := start(t, Options{Handler: echo, Direct: everything})
	for _, size := range []int{0, 1, bufferSize, 3 << 20} {
		response, err := http.Post("http://"+r.Addr()+"/a", "text/plain", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusAccepted || strings.Count(string(body), "x") != size {
			t.Errorf("%d bytes: %s, %v", size, response.Status, err)
		}
	}
}

// FuzzParse: what we take for a request, net/http takes for the same, whatever
// request came before it on the connection.
func FuzzParse(f *testing.F) {
	const plain = "POST /in/a?b=c HTTP/1.1\r\nHost: y\r\nContent-Length: 3\r\nX-A: 0\r\nX-A: 0\r\nX-B: 0\r\n"
	for _, head := range []string{
		plain,
		"POST /in/a?b=c HTTP/1.1\r\nHost: y\r\nContent-Length: 4\r\nX-A: 0\r\nX-A:\t1 \r\nX-C: 0\r\nX-D: 0\r\n",
		"POST /in/a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nX-A: 1\r\nx-a:2\r\n",
		"POST /in/a?b=c HTTP/1.1\r\nContent-Length: 3\r\nHost: y\r\n",
		"POST /in/a?b=c HTTP/1.1\r\nHost: y\r\nContent-Length: \r\n",
		"POST /in/a?b=c HTTP/1.1\r\nHost: y\r\nContent-Length: 3\r\nX-A: \x01\r\n",
		"POST /in/a?b=c HTTP/1.1\r\nHost: y\r\nContent-Length: 3\r\nX-A\r\n",
		"POST /in/a?b=c HTTP/1.1\r\nHost: y\r\nContent-Length: 3\r\n\r\n",
		"POST /%zz HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n",
		"POST  HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n",
		"POST // HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: 2\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 2\r\n",
		"POST / HTTP/1.1\r\nHost: x\nContent-Length: 2\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\n Content-Length: 2\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nPragma: no-cache\r\nContent-Length: 2\r\nConnection: keep-alive\r\n",
	} {
		f.Add("", head)
		f.Add(plain, head)
		f.Add(head, plain)
		f.Add(head, head)
	}
	f.Fuzz(func(t *testing.T, before, head string) {
		p := parser{template: httptest.NewRequest(http.MethodPost, "/", nil)}
		p.parse([]byte(before))
		ours, length := p.parse([]byte(head))
		if ours == nil {
			if head == plain {
				t.Fatalf("a plain request is not ours after %q", before)
			}
			return
		}
		theirs, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head + "\r\n")))
		if err != nil {
			t.Fatalf("we read %q; net/http: %v", head, err)
		}
		type request struct {
			URL    *url.URL
			Target string
			Host   string
			Header http.Header
			Length int64
			Odd    bool
		}
		want := request{theirs.URL, theirs.RequestURI, theirs.Host, theirs.Header, theirs.ContentLength, theirs.Close || theirs.TransferEncoding != nil}
		got := request{ours.URL, ours.RequestURI, ours.Host, ours.Header, length, false}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q after %q\n-net/http +ours:\n%s", head, before, diff)
		}
	})
}

// BenchmarkParse reads heads as one sender sends them: the signature differs, and
// sometimes the length.
func BenchmarkParse(b *testing.B) {
	p := parser{template: httptest.NewRequest(http.MethodPost, "/", nil)}
	var heads [2][]byte
	for i := range heads {
		heads[i] = fmt.Appendf(nil, "POST /ingest/meta/default HTTP/1.1\r\nHost: gateway.example\r\nAccept: */*\r\nUser-Agent: facebookexternalua\r\n"+
			"Content-Type: application/json\r\nX-Hub-Signature-256: sha256=%064d\r\nContent-Length: %d\r\n", i, 1500+i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if r, _ := p.parse(heads[i%2]); r == nil {
			b.Fatal("a plain request is not ours")
		}
	}
}
