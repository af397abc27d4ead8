package app_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/app"
	"github.com/waypost-gateway/waypost/internal/app/apptest"
	"github.com/waypost-gateway/waypost/internal/config"
	"github.com/waypost-gateway/waypost/internal/secret"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlite"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// What is stated of memory (docs/reliability.md), for each thing that there may
// be. The test reads from the gateway's own figures how many there are.
const (
	perDelivery = 1 << 10  // in a node's hand, besides its event's body
	perResult   = 4 << 10  // that is not written yet
	perRequest  = 48 << 10 // in flight to an endpoint: connection, hook, answer
	perEndpoint = 8 << 10  // settings, index, lane
	fixed       = 24 << 20 // all that there is one of, and the test itself
)

// typicalSlowdown is how many times longer the typical request that brings a
// webhook in may take while a backlog drains on the same processors and disk. It
// waits for the writes that are under way; on a machine of its own that is a few
// times as long, on one that is busy with other things many.
const typicalSlowdown = 50

// refusals is of how many requests one may be asked to come again meanwhile: on a
// machine that is too busy to write, the store may be late.
const refusals = 20

// backlogScale is how much is owed in the test, and to how many endpoints: half
// of them answer late, a quarter refuse connections, a quarter never answer.
type backlogScale struct{ endpoints, owed int }

func theBacklog() backlogScale {
	if os.Getenv("WAYPOST_FAULTS") == "long" {
		return backlogScale{1000, 1_000_000}
	}
	return backlogScale{100, 10_000}
}

// TestMemoryAndIngestUnderABacklog starts the whole gateway on a table of owed
// deliveries and checks that what it takes in memory is what is stated, that it
// goes on taking in, and that this takes not much longer than it does on an empty
// table. It is not parallel: it measures the process.
func TestMemoryAndIngestUnderABacklog(t *testing.T) {
	scale := theBacklog()
	crowd := startCrowd(t)

	empty := seed(t, crowd, backlogScale{scale.endpoints, 0})
	g, halt := startQuietly(t, empty)
	idle := heapInUse()
	without := latencies(t, g, new(ingested))
	halt()

	start := time.Now()
	c := seed(t, crowd, scale)
	t.Logf("%d deliveries to %d endpoints written in %.1f s", scale.owed, scale.endpoints, time.Since(start).Seconds())
	start = time.Now()
	g, halt = startQuietly(t, c)
	defer halt()
	ready := time.Since(start)
	// The receivers that never answer have been met, and the others too.
	apptest.Within(t, time.Minute, func() bool {
		return gauge(t, g, "waypost_delivery_in_flight_slow") > 0 && delivered(t, g) > 0
	})
	drained := delivered(t, g)
	var during ingested
	with := latencies(t, g, &during)
	if drained = delivered(t, g) - drained; drained == 0 {
		t.Error("the backlog did not drain meanwhile: nothing was measured")
	}

	var most uint64
	stop := make(chan struct{})
	var feeding sync.WaitGroup
	feeding.Go(func() {
		for i := 1_000_000; ; i++ {
			select {
			case <-stop:
				return
			default:
				during.post(t, g, i)
			}
		}
	})
	for range 8 {
		used, bound := heapInUse(), idle+stated(t, g, scale)
		if used > bound {
			t.Errorf("%.1f MiB are in use, %.1f are stated for what is there", mebi(used), mebi(bound))
		}
		most = max(most, used)
	}
	close(stop)
	feeding.Wait()
	before, after := quantile(without, 0.5), quantile(with, 0.5)
	t.Logf("%d owed: ready in %.2f s, %.1f MiB in use at most; typical ingest %.2f ms while %.0f were delivered (empty table: %.2f ms), one in twenty over %.2f ms (%.2f ms)",
		scale.owed, ready.Seconds(), mebi(most), after, drained, before, quantile(with, 0.95), quantile(without, 0.95))
	if refused, all := during.refused.Load(), during.all.Load(); refused > all/refusals {
		t.Errorf("of %d requests %d were asked to come again", all, refused)
	}
	if after > typicalSlowdown*before {
		t.Errorf("the typical request takes %.1f times as long as on an empty table", after/before)
	}
}

func mebi(bytes uint64) float64 { return float64(bytes) / (1 << 20) }

// startQuietly starts a gateway that keeps no log, which would be in the way of
// measuring.
func startQuietly(t *testing.T, c config.Config) (g *apptest.Gateway, halt func()) {
	t.Helper()
	a, err := app.New(t.Context(), app.Options{Config: c, Log: slog.New(slog.DiscardHandler), Stdout: io.Discard, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	g = &apptest.Gateway{App: a, URL: "http://" + a.Addr(), Config: c}
	apptest.Within(t, time.Minute, func() bool { status, _ := g.Do(t, http.MethodGet, "/readyz", nil, ""); return status == http.StatusOK })
	return g, func() {
		cancel()
		if err := errors.Join(<-ended, a.Close()); err != nil {
			t.Error(err)
		}
	}
}

// stated is what may be in use for what is there now.
func stated(t *testing.T, g *apptest.Gateway, scale backlogScale) uint64 {
	t.Helper()
	return uint64(gauge(t, g, "waypost_delivery_in_memory_bytes")+
		gauge(t, g, "waypost_delivery_in_memory")*perDelivery+
		gauge(t, g, "waypost_delivery_results_unwritten")*perResult+
		(gauge(t, g, "waypost_delivery_in_flight_fast")+gauge(t, g, "waypost_delivery_in_flight_slow"))*perRequest) +
		uint64(scale.endpoints)*perEndpoint + fixed
}

// heapInUse is what is reachable.
func heapInUse() uint64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// gauge reads one of the gateway's figures.
func gauge(t *testing.T, g *apptest.Gateway, name string) float64 {
	t.Helper()
	value, found := figure(t, g, name)
	if !found {
		t.Fatalf("there is no figure %s", name)
	}
	return value
}

// figure is gauge for those that come into being with their first count.
func figure(t *testing.T, g *apptest.Gateway, name string) (value float64, found bool) {
	t.Helper()
	_, text := g.Do(t, http.MethodGet, "/metrics", nil, "")
	_, rest, found := strings.Cut(text, "\n"+name+" ")
	if !found {
		return 0, false
	}
	word, _, _ := strings.Cut(rest, "\n")
	value, err := strconv.ParseFloat(word, 64)
	if err != nil {
		t.Fatal(err)
	}
	return value, true
}

// delivered is how many deliveries were received so far.
func delivered(t *testing.T, g *apptest.Gateway) float64 {
	t.Helper()
	count, _ := figure(t, g, `waypost_delivery_attempts_total{dialect="meta",outcome="delivered",reason="ok"}`)
	return count
}

// latencies posts webhooks, a few at a time, and gives how long each took, in
// milliseconds, in order.
func latencies(t *testing.T, g *apptest.Gateway, n *ingested) []float64 {
	t.Helper()
	const senders, each = 4, 75
	took := make([]float64, senders*each)
	var sending sync.WaitGroup
	for s := range senders {
		sending.Go(func() {
			for i := s * each; i < (s+1)*each; i++ {
				start := time.Now()
				n.post(t, g, i)
				took[i] = float64(time.Since(start).Microseconds()) / 1000
			}
		})
	}
	sending.Wait()
	slices.Sort(took)
	return took
}

// ingested counts what was asked to come again, and all there was.
type ingested struct{ refused, all atomic.Int64 }

// post sends a webhook until it is taken in, as its sender would.
func (n *ingested) post(t *testing.T, g *apptest.Gateway, i int) {
	t.Helper()
	n.all.Add(1)
	status := g.Ingest(t, backlogBody(i, i%10))
	for ; status == http.StatusServiceUnavailable; status = g.Ingest(t, backlogBody(i, i%10)) {
		n.refused.Add(1)
		<-time.After(50 * time.Millisecond)
	}
	if status != http.StatusOK {
		t.Errorf("ingest answered %d", status)
	}
}

func quantile(sorted []float64, share float64) float64 {
	return sorted[int(share*float64(len(sorted)-1))]
}

// backlogBody is a message of about 1 KB to one of the numbers.
func backlogBody(i, number int) []byte {
	return fmt.Appendf(nil, `{"object":"whatsapp_business_account","entry":[{"id":"301956482217730","changes":[{"value":{"messaging_product":"whatsapp",`+
		`"metadata":{"display_phone_number":"1555%07d","phone_number_id":"208%012d"},"messages":[{"from":"447700900361","id":"wamid.%012d",`+
		`"timestamp":"1767571200","type":"text","text":{"body":%q}}]},"field":"messages"}]}]}`, number, number, i, strings.Repeat("The parcel is at the door. ", 25))
}

// seed makes a data directory with an endpoint to each number, in turn slow,
// refusing, slow and hanging, and with deliveries that are owed.
func seed(t *testing.T, crowd crowd, scale backlogScale) config.Config {
	t.Helper()
	c := config.Default()
	c.Listen, c.Data = "127.0.0.1:0", t.TempDir()
	c.AdminToken, c.MetaAppSecret = apptest.AdminToken, []config.Secret{apptest.AppSecret}
	c.EgressAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	c.ShutdownTimeout = 2 * time.Second
	key, err := secret.LoadOrMakeKey(filepath.Join(c.Data, "secret.key"))
	if err != nil {
		t.Fatal(err)
	}
	box, err := secret.NewBox(key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), sqlite.Options{Dir: c.Data, Sealer: box})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(seedStore(t.Context(), s, crowd, scale), s.Close())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func seedStore(ctx context.Context, s store.Store, crowd crowd, scale backlogScale) error {
	now := time.Now()
	node, slot, floor, err := s.Join(ctx, time.Hour, now)
	if err != nil {
		return err
	}
	ids, err := waypost.NewIDs(slot, floor, time.Now)
	if err != nil {
		return err
	}
	tenant := waypost.Tenant{ID: waypost.TenantID(ids.Next()), Name: "crowd", CreatedAt: now}
	if err := s.CreateTenant(ctx, tenant); err != nil {
		return err
	}
	endpoints := make([]waypost.Endpoint, scale.endpoints)
	for i := range endpoints {
		number := waypost.Number{
			ID: waypost.NumberID(ids.Next()), TenantID: tenant.ID, CreatedAt: now,
			Phone: fmt.Sprintf("1555%07d", i), PhoneNumberID: fmt.Sprintf("208%012d", i),
		}
		endpoints[i] = waypost.Endpoint{
			ID: waypost.EndpointID(ids.Next()), TenantID: tenant.ID, NumberID: number.ID, Dialect: "meta",
			Secrets: []waypost.SigningSecret{{Value: "hook-secret"}},
			URL:     crowd.urls[i%len(crowd.urls)], State: waypost.EndpointActive, CreatedAt: now, UpdatedAt: now,
		}
		if err := errors.Join(s.CreateNumber(ctx, number), s.CreateEndpoint(ctx, endpoints[i])); err != nil {
			return err
		}
	}
	const batch = 1000
	arrivals := make([]store.Arrival, 0, batch)
	for i := range scale.owed {
		to := i % len(endpoints)
		arrivals = append(arrivals, store.Arrival{
			Event: waypost.Event{
				ID: waypost.EventID(ids.Next()), TenantID: tenant.ID, NumberID: endpoints[to].NumberID, State: waypost.EventRouted,
				Type: "whatsapp.message.text", Form: waypost.FormCloud, Body: backlogBody(i, to),
			},
			Owed: []store.Owing{{Endpoint: endpoints[to].ID}},
		})
		if len(arrivals) == batch || i == scale.owed-1 {
			if _, err := s.Accept(ctx, node, arrivals); err != nil {
				return err
			}
			arrivals = arrivals[:0]
		}
	}
	return s.Leave(ctx, node, now)
}

// crowd is receivers of all sorts, in a process of their own.
type crowd struct{ urls []string }

func startCrowd(t *testing.T) crowd {
	t.Helper()
	process := exec.CommandContext(t.Context(), os.Args[0])
	process.Env = append(os.Environ(), roleVariable+"=crowd")
	process.Stderr = os.Stderr
	output, err := process.StdoutPipe()
	if err = errors.Join(err, process.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = process.Process.Kill(); _ = process.Wait() })
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + strings.TrimSpace(line)
	return crowd{[]string{base + "/slow", "http://127.0.0.1:1/", base + "/slow", base + "/hang"}}
}

func runCrowd() {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /slow", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-time.After(200 * time.Millisecond)
	})
	mux.HandleFunc("POST /hang", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stdout, listener.Addr())
	panic(http.Serve(listener, mux)) //nolint:gosec // receivers of a test on loopback
}
