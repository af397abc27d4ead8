package faults_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestReceiversMisbehave has one endpoint for each way a receiver can fail, all
// beside healthy ones. Each failure is told apart, each ladder runs to its end,
// the healthy endpoints notice nothing and memory stays bounded.
func TestReceiversMisbehave(t *testing.T) {
	t.Parallel()
	s := newScene(t, newGateway(t, gatewayOptions{}))
	l := s.load(t)

	elsewhere := newReceiver(t, newLedger("/redirected"))
	var redirected atomic.Int64
	elsewhere.at("/redirected", func(http.ResponseWriter, *http.Request, []int) int { redirected.Add(1); return 200 })
	var flood atomic.Int64 // bytes the receiver of the large answer could write
	bad := []struct {
		name, url string
		reason    string
		status    int
		delivered bool
	}{
		{name: "refuses the connection", url: refusing(t), reason: "connect"},
		{name: "hangs before headers", url: raw(t, func(c net.Conn) { hang(c) }), reason: "timeout"},
		{name: "never reads the request", url: raw(t, func(c net.Conn) { hold(c) }), reason: "timeout"},
		{name: "trickles the header", url: raw(t, func(c net.Conn) { readRequest(c); trickle(c, "HTTP/1.1 200 OK\r\nX-Long: ") }), reason: "timeout"},
		{name: "trickles the body", url: raw(t, func(c net.Conn) {
			readRequest(c)
			trickle(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
		}), reason: "timeout", status: 200},
		{name: "answers 1 GiB", url: raw(t, func(c net.Conn) { readRequest(c); flood.Store(gigabyte(c)) }), reason: "ok", status: 200, delivered: true},
		{name: "closes before the answer", url: raw(t, func(c net.Conn) { readRequest(c) }), reason: "reset"},
		{name: "closes within the header", url: raw(t, func(c net.Conn) { readRequest(c); say(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n") }), reason: "reset"},
		{name: "closes within the body", url: raw(t, func(c net.Conn) { readRequest(c); say(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf") }), reason: "reset", status: 200},
		{name: "resets the connection", url: raw(t, func(c net.Conn) { readRequest(c); reset(c) }), reason: "reset"},
		{name: "redirects", url: answeringServer(t, http.StatusFound, http.Header{"Location": {elsewhere.URL + "/redirected"}}), reason: "redirect", status: 302},
		{name: "redirects for good", url: answeringServer(t, http.StatusPermanentRedirect, http.Header{"Location": {elsewhere.URL + "/redirected"}}), reason: "redirect", status: 308},
		{name: "has a certificate nobody knows", url: selfSigned(t), reason: "tls"},
		{name: "speaks no TLS", url: strings.Replace(s.receiver.URL, "http:", "https:", 1) + "/plain", reason: "tls"},
		{name: "breaks off the TLS handshake", url: strings.Replace(raw(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }), "http:", "https:", 1), reason: "tls|reset|connect"},
		{name: "floods with 1xx", url: raw(t, func(c net.Conn) { readRequest(c); repeatedly(c, "HTTP/1.1 102 Processing\r\n\r\n") }), reason: "protocol|timeout"},
		{name: "is not HTTP", url: raw(t, func(c net.Conn) { readRequest(c); say(c, "220 mail.example.com ESMTP\r\n") }), reason: "protocol"},
		{name: "sends endless headers", url: raw(t, func(c net.Conn) {
			readRequest(c)
			say(c, "HTTP/1.1 200 OK\r\n")
			repeatedly(c, "X-More: "+strings.Repeat("x", 1000)+"\r\n")
		}), reason: "protocol"},
		{name: "gives a body length twice", url: raw(t, func(c net.Conn) {
			readRequest(c)
			say(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")
		}), reason: "protocol"},
		{name: "breaks the chunks", url: raw(t, func(c net.Conn) {
			readRequest(c)
			say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
		}), reason: "protocol|reset", status: 200},
		{name: "fails", url: answeringServer(t, http.StatusInternalServerError, nil), reason: "status", status: 500},
	}
	ids := make([]string, len(bad))
	for i, b := range bad {
		ids[i] = s.call(t, http.MethodPost, "/api/v1/endpoints", fmt.Sprintf(
			`{"tenant_id":%q,"dialect":"meta","url":%q,"events":["whatsapp.status.*"],"policy":{"timeout":"1s","schedule":["200ms"]}}`,
			s.tenant, b.url))["id"].(string)
	}
	s.awaitSettings(t)
	probes := s.take(8) // too few failures for a breaker to trip
	if status := s.nodes[0].ingest(t.Context(), statuses(probes)); status != http.StatusOK {
		t.Fatalf("ingest answered %d", status)
	}
	s.accept(probes)
	event := s.list(t, "/api/v1/events?type=whatsapp.status.delivered")[0]["id"].(string)

	s.awaitAccepted(t, pick(100, 2000)) // the healthy ones go on meanwhile
	for i, b := range bad {
		t.Run(b.name, func(t *testing.T) {
			want := "exhausted"
			if b.delivered {
				want = "delivered"
			}
			within(t, 60*time.Second, func() error {
				if ended := s.list(t, "/api/v1/deliveries?endpoint_id="+ids[i]+"&state="+want); len(ended) != len(probes) {
					return fmt.Errorf("%d deliveries are %s, want %d", len(ended), want, len(probes))
				}
				return nil
			})
			s.checkAttempts(t, s.deliveryOf(t, event, ids[i]), b.reason, b.status, b.delivered)
		})
	}
	l.stop(t)
	if n := redirected.Load(); n > 0 {
		t.Errorf("%d redirects were followed", n)
	}
	if n := flood.Load(); n > 64<<20 {
		t.Errorf("%d MiB of an answer of 1 GiB were read", n>>20)
	}
	s.awaitEverything(t)
	s.expectOnce(t)
	for _, path := range allPaths {
		// In the load's pace a healthy endpoint is never behind by long.
		if lag := s.lag(path); lag > 5*time.Second {
			t.Errorf("%s, which is healthy, had to wait %v for an event", path, lag)
		}
	}
	peak := s.nodes[0].peakMemory(t)
	if peak > 512<<20 {
		t.Errorf("the node used %d MiB", peak>>20)
	}
	s.report(t, fmt.Sprintf("%d receivers that misbehave beside healthy ones, SQLite", len(bad)),
		fmt.Sprintf("healthy endpoints waited %s at most; peak memory %d MiB", brief(max(s.lag(pathMain), s.lag(pathMeta))), peak>>20))
}

// statuses is a webhook that tells of messages that were delivered.
func statuses(numbers []int) []byte {
	var list strings.Builder
	for i, number := range numbers {
		if i > 0 {
			list.WriteByte(',')
		}
		fmt.Fprintf(&list, `{"id":%q,"status":"delivered","timestamp":"1767571200","recipient_id":"447700900361"}`, messageID(number))
	}
	return fmt.Appendf(nil, `{"object":"whatsapp_business_account","entry":[{"id":%q,"changes":[{"value":{"messaging_product":"whatsapp",`+
		`"metadata":{"display_phone_number":%q,"phone_number_id":%q},"statuses":[%s]},"field":"messages"}]}]}`,
		wabaID, phone, phoneNumberID, list.String())
}

func (s *scene) deliveryOf(t *testing.T, event, endpoint string) map[string]any {
	t.Helper()
	for _, delivery := range s.call(t, http.MethodGet, "/api/v1/events/"+event, "")["deliveries"].([]any) {
		if d := delivery.(map[string]any); d["endpoint_id"] == endpoint {
			return d
		}
	}
	t.Fatalf("event %s has no delivery to %s", event, endpoint)
	return nil
}

// checkAttempts checks what the API tells of each request: two that failed, or
// one that was received.
func (s *scene) checkAttempts(t *testing.T, delivery map[string]any, reasons string, status int, delivered bool) {
	t.Helper()
	outcomes := []string{"retry", "exhausted"}
	if delivered {
		outcomes = []string{"delivered"}
	}
	attempts := delivery["attempts"].([]any)
	if len(attempts) != len(outcomes) {
		t.Fatalf("%d attempts are listed, want %d: %v", len(attempts), len(outcomes), attempts)
	}
	for i, a := range attempts {
		attempt := a.(map[string]any)
		if !strings.Contains("|"+reasons+"|", "|"+attempt["reason"].(string)+"|") {
			t.Errorf("attempt %d has reason %v (%v), want %s", i+1, attempt["reason"], attempt["error"], reasons)
		}
		if int(attempt["status"].(float64)) != status {
			t.Errorf("attempt %d has status %v, want %d", i+1, attempt["status"], status)
		}
		if attempt["outcome"] != outcomes[i] {
			t.Errorf("attempt %d has outcome %v, want %s", i+1, attempt["outcome"], outcomes[i])
		}
		if took := attempt["duration_ms"].(float64); took > 3000 {
			t.Errorf("attempt %d took %v ms under a limit of 1 s", i+1, took)
		}
	}
}

// peakMemory is the most memory the process has had resident.
func (n *node) peakMemory(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.process.Pid))
	if err != nil {
		return 0 // not this system
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kilobytes << 10
		}
	}
	return 0
}

// raw is a server that is given each connection as it is. The connection is
// closed when serve returns.
func raw(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

func readRequest(c net.Conn) {
	if request, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		_, _ = io.Copy(io.Discard, request.Body) // whatever came of it
	}
}

// hang reads what comes and never answers, until the other end has gone.
func hang(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// hold does not even read; it looks now and then whether the other end has gone.
func hold(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(1 << 10) // a wish
	}
	<-time.After(5 * time.Second)
}

func say(c net.Conn, text string) { _, _ = io.WriteString(c, text) }

// trickle says the beginning and then one byte at a time.
func trickle(c net.Conn, beginning string) {
	say(c, beginning)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		<-tick.C
		if _, err := io.WriteString(c, "x"); err != nil {
			return
		}
	}
}

func repeatedly(c net.Conn, text string) {
	for {
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
	}
}

// gigabyte answers with a body of 1 GiB and tells how much of it was taken.
func gigabyte(c net.Conn) (taken int64) {
	say(c, "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
	chunk := make([]byte, 64<<10)
	for taken < 1<<30 {
		n, err := c.Write(chunk)
		taken += int64(n)
		if err != nil {
			break
		}
	}
	return taken
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // closing resets
	}
}

// refusing is an address where nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	return "http://" + freeAddress(t)
}

func answeringServer(t *testing.T, status int, header http.Header) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // whatever came of it
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func selfSigned(t *testing.T) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = quiet
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// quiet is for servers whose clients are meant to fail.
var quiet = log.New(io.Discard, "", 0)
