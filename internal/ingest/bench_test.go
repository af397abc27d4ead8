package ingest_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/dialect/metacloud"
	"github.com/waypost-gateway/waypost/internal/directory"
	"github.com/waypost-gateway/waypost/internal/httpserver"
	"github.com/waypost-gateway/waypost/internal/ingest"
	"github.com/waypost-gateway/waypost/internal/metrics"
	"github.com/waypost-gateway/waypost/internal/signature"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// BenchmarkIngest is the way in over real connections, with a store that answers
// at once. The client is part of what is measured; it does as little as it can.
func BenchmarkIngest(b *testing.B) {
	for _, senders := range []int{1, 64} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) { benchmarkIngest(b, senders) })
	}
}

func benchmarkIngest(b *testing.B, senders int) {
	address := serve(b)
	request := signedRequest()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range senders {
		all.Go(func() {
			if err := send(b.Context(), address, request, &left); err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
}

// serve runs all that a request meets on its way to the store.
func serve(b *testing.B) (address string) {
	b.Helper()
	ids, err := waypost.NewIDs(0, 0, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	known := directory.New(settled{}, nil)
	if err := known.CatchUp(b.Context()); err != nil {
		b.Fatal(err)
	}
	committer := ingest.NewCommitter(atOnce{}, noEngine{}, oneNode{ids})
	in := ingest.New(ingest.Options{
		Directory: directory.NewRouter(known, []dialect.Dialect{metacloud.New()}),
		Committer: committer,
		Observer:  metrics.New(),
		Log:       slog.New(slog.DiscardHandler),
	})
	server, err := httpserver.New(b.Context(), httpserver.Options{
		Address: "127.0.0.1:0", Handler: in.Handler(), Direct: []string{"/ingest/"},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(b.Context()))
	var parts sync.WaitGroup
	parts.Go(func() { _ = committer.Run(ctx) })
	parts.Go(func() { _ = server.Run(ctx) })
	b.Cleanup(func() { stop(); parts.Wait() })
	return server.Addr()
}

// send posts the request and waits for its answer, over and over.
func send(ctx context.Context, address string, request []byte, left *atomic.Int64) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for left.Add(-1) >= 0 {
		if _, err := conn.Write(request); err != nil {
			return err
		}
		for answer := ""; answer != "ok\n"; {
			line, err := answers.ReadSlice('\n')
			if err != nil || answer == "" && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
				return fmt.Errorf("answered %q, %w", line, err)
			}
			answer = string(line)
		}
	}
	return nil
}

func signedRequest() []byte {
	body := []byte(`{"object":"whatsapp_business_account","entry":[{"id":"301956482217730","changes":[{"value":{"messaging_product":"whatsapp",` +
		`"metadata":{"display_phone_number":"15550140000","phone_number_id":"2084177300000000"},` +
		`"contacts":[{"profile":{"name":"Maren Holt"},"wa_id":"447700900361"}],` +
		`"messages":[{"from":"447700900361","id":"wamid.BENCH000000000000","timestamp":"1767571200","type":"text","text":{"body":"` +
		strings.Repeat("The parcel is at the door. ", 40) + `"}}]},"field":"messages"}]}]}`)
	return fmt.Appendf(nil, "POST /ingest/meta/default HTTP/1.1\r\nHost: gateway\r\nUser-Agent: bench\r\n"+
		"Content-Type: application/json\r\nX-Hub-Signature-256: %s\r\nContent-Length: %d\r\n\r\n%s",
		signature.Meta("secret", body), len(body), body)
}

// settled is a store whose settings never change: one source, and one number with
// one endpoint.
type settled struct{}

func (settled) Changes(context.Context, int64) (store.Changes, error) {
	return store.Changes{
		Revision:  1,
		Tenants:   []waypost.Tenant{{ID: 1}},
		Sources:   []waypost.Source{{ID: 1, Kind: waypost.SourceMeta, Name: "default", Secrets: []waypost.Secret{"secret"}}},
		Numbers:   []waypost.Number{{ID: 1, TenantID: 1, PhoneNumberID: "2084177300000000"}},
		Endpoints: []waypost.Endpoint{{ID: 1, TenantID: 1, NumberID: 1, Dialect: "meta", URL: "http://receiver"}},
	}, nil
}
func (settled) Revision(context.Context) (int64, error) { return 1, nil }
func (settled) Notices() <-chan store.Notice            { return nil }

// atOnce accepts everything.
type atOnce struct{}

func (atOnce) Accept(_ context.Context, _ waypost.NodeID, batch []store.Arrival) ([]store.Receipt, error) {
	receipts := make([]store.Receipt, len(batch))
	for i := range batch {
		receipts[i].Event = batch[i].Event.ID
	}
	return receipts, nil
}

// noEngine has no room.
type noEngine struct{}

func (noEngine) Reserve(waypost.EndpointID) store.Place { return store.InTable }
func (noEngine) Unreserve(waypost.EndpointID)           {}
func (noEngine) Start([]store.Owed)                     {}
func (noEngine) Wake(waypost.EndpointID)                {}

type oneNode struct{ ids *waypost.IDs }

func (oneNode) ID() waypost.NodeID { return 1 }
func (n oneNode) NextID() int64    { return n.ids.Next() }

// BenchmarkCommit is a crowd of requests that come again as soon as they are
// answered, and a store that answers at once.
func BenchmarkCommit(b *testing.B) {
	for _, senders := range []int{1, 64, 128} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			ids, err := waypost.NewIDs(0, 0, time.Now)
			if err != nil {
				b.Fatal(err)
			}
			committer := ingest.NewCommitter(atOnce{}, noEngine{}, oneNode{ids})
			ctx, stop := context.WithCancel(b.Context())
			var run, all sync.WaitGroup
			run.Go(func() { _ = committer.Run(ctx) })
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			for range senders {
				all.Go(func() {
					arrivals := make([]store.Arrival, 1)
					for left.Add(-1) >= 0 {
						if _, err := committer.Commit(b.Context(), arrivals); err != nil {
							b.Error(err)
						}
					}
				})
			}
			all.Wait()
			b.StopTimer()
			commits, events := committer.Commits()
			b.ReportMetric(float64(events)/float64(commits), "events/commit")
			stop()
			run.Wait()
		})
	}
}
