package httpserver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// refuse answers without a look at the body.
var refuse = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, "later")
})

// answered is what an answer says, and whether the connection ends with it.
type answered struct {
	status int
	body   string
	last   bool
}

func answer(t *testing.T, from *bufio.Reader) answered {
	t.Helper()
	response, err := http.ReadResponse(from, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered{response.StatusCode, string(body), response.Close}
}

// TestAnAnswerBeforeTheBodyArrives has clients that listen only when they have
// sent everything, as some do.
func TestAnAnswerBeforeTheBodyArrives(t *testing.T) {
	t.Parallel()
	const size = 6 << 20
	for name, tt := range map[string]struct {
		head   string
		direct []string
	}{
		"with its length": {fmt.Sprintf("Content-Length: %d\r\n\r\n", size), nil},
		"in one chunk":    {fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", size), nil},
		"direct":          {fmt.Sprintf("Content-Length: %d\r\n\r\n", size), everything},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, Options{Handler: refuse, Direct: tt.direct})
			conn := r.raw(t, "POST / HTTP/1.1\r\nHost: x\r\n"+tt.head)
			if _, err := io.WriteString(conn, strings.Repeat("x", size)+"\r\n0\r\n\r\n"); err != nil {
				t.Fatalf("the body was not taken: %v", err)
			}
			from := bufio.NewReader(conn)
			if got, want := answer(t, from), (answered{503, "later", true}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if _, err := from.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("the connection ended with %v", err)
			}
		})
	}
}

func TestASmallBodyUnreadKeepsTheConnection(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, direct []string) {
		r := start(t, Options{Handler: refuse, Direct: direct})
		const request = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
		conn := r.raw(t, request)
		from := bufio.NewReader(conn)
		for range 2 {
			if got, want := answer(t, from), (answered{503, "later", false}); got != want {
				t.Fatalf("got %+v, want %+v", got, want)
			}
			if _, err := io.WriteString(conn, request); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestABodyThatNobodyWantsIsNotWaitedFor has clients that never send it.
func TestABodyThatNobodyWantsIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		header string
		linger time.Duration
		direct []string
	}{
		"a client that stops":                {"", 50 * time.Millisecond, nil},
		"a client that stops, direct":        {"", 50 * time.Millisecond, everything},
		"a client that waits for a go-ahead": {"Expect: 100-continue\r\n", time.Hour, everything},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, Options{Handler: refuse, LingerTimeout: tt.linger, Direct: tt.direct})
			conn := r.raw(t, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n"+tt.header+"\r\n")
			from := bufio.NewReader(conn)
			if got, want := answer(t, from), (answered{503, "later", true}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if _, err := from.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("the connection ended with %v", err)
			}
		})
	}
}

func TestIdleConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, direct []string) {
		r := start(t, Options{MaxConnections: 2, Handler: refuse, Direct: direct})
		closed := make(chan error, 4)
		for range 4 {
			from := bufio.NewReader(r.raw(t, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"))
			answer(t, from)
			go func() {
				_, err := from.ReadByte()
				closed <- err
			}()
		}
		for range 2 {
			if err := <-closed; !errors.Is(err, io.EOF) {
				t.Errorf("an idle connection ended with %v", err)
			}
		}
		if n := r.connections(); n != 2 {
			t.Errorf("%d connections are open", n)
		}
	})
}

func (r running) connections() int {
	all := r.front.connections
	all.mu.Lock()
	defer all.mu.Unlock()
	return len(all.open)
}

func TestBusyConnectionsAreWaitedFor(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}, 3), make(chan struct{})
	r := start(t, Options{MaxConnections: 2, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-release
	})})
	var conns []net.Conn
	for range 3 {
		conns = append(conns, r.raw(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	}
	<-entered
	<-entered
	if n := r.connections(); n != 2 {
		t.Errorf("%d connections are taken", n)
	}
	close(release)
	for _, conn := range conns {
		if got := answer(t, bufio.NewReader(conn)); got.status != http.StatusOK {
			t.Errorf("got %+v", got)
		}
	}
}

func TestStoppingWhileFull(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	r := start(t, Options{MaxConnections: 1, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-release
	})})
	r.raw(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	r.raw(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	for !r.front.waits.Load() {
		runtime.Gosched()
	}
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	close(release)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
