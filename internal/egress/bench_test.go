package egress

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// The benchmarks send a hook of usual size to a sink in the same process, with
// Send and with a bare http.Client on the same transport, to show what Send
// costs on top.

var hook = bytes.Repeat([]byte("x"), 1500)

func sink(b *testing.B) string {
	b.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		io.WriteString(w, `{"status":"ok"}`)
	}))
	b.Cleanup(server.Close)
	return server.URL + "/webhooks/in"
}

func hookHeader() http.Header {
	return http.Header{"Content-Type": {"application/json"}, "X-Signature": {"sha256=0123456789abcdef"}}
}

func BenchmarkSend(b *testing.B) {
	c := newClient(b, Options{})
	url := sink(b)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			ctx, cancel := context.WithTimeout(b.Context(), 5*time.Second)
			a := c.Send(ctx, Request{URL: url, Header: hookHeader(), Body: hook})
			cancel()
			if a.Err != nil {
				b.Error(a.Err)
			}
		}
	})
}

func BenchmarkBareClient(b *testing.B) {
	c := newClient(b, Options{})
	bare := &http.Client{Transport: c.transport}
	url := sink(b)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			ctx, cancel := context.WithTimeout(b.Context(), 5*time.Second)
			request, _ := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(hook))
			request.Header = hookHeader()
			response, err := bare.Do(request)
			if err != nil {
				b.Error(err)
			} else {
				_, _ = io.ReadAll(response.Body)
				response.Body.Close()
			}
			cancel()
		}
	})
}
