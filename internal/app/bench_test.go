package app_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/app"
	"github.com/waypost-gateway/waypost/internal/config"
	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

// roleVariable makes this test binary run as another process of a measurement.
const roleVariable = "WAYPOST_BENCH_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "sink":
		runSink()
	case "generator":
		runGenerator()
	default:
		pgtest.Main(m)
	}
}

const (
	benchEvents  = 20_000
	benchClients = 64
	benchRounds  = 2
)

// BenchmarkRatios measures what the gateway delivers against what a bare client
// delivers to the same sink, in turns, so that both see the same noise: a signed
// 1.5 KB Meta request in (over HTTP, or handed to the handler in-process), on
// disk, a signed hook out, its outcome recorded. The sink, and the generator of
// the full path, are processes of their own on the same machine. It reports
// medians over the rounds; run it with -benchtime 1x.
func BenchmarkRatios(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { ratios(b, "") })
	b.Run("postgres", func(b *testing.B) { ratios(b, pgtest.URL(b)) })
}

func ratios(b *testing.B, database string) {
	sink := startSink(b)
	gateway := startBenchGateway(b, database, sink)
	for b.Loop() {
		var ceiling, inProcess, full []measure
		for range benchRounds {
			ceiling = append(ceiling, sink.measure(b, func() { bareClient(b, sink.url+"/bare") }))
			inProcess = append(inProcess, sink.measure(b, func() { gateway.inProcess(b) }))
			full = append(full, sink.measure(b, func() { gateway.overHTTP(b) }))
		}
		report(b, "ceiling", ceiling, ceiling)
		report(b, "inprocess", inProcess, ceiling)
		report(b, "full", full, ceiling)
	}
}

// measure is one run: events a second, and CPU microseconds per event of all
// processes of the run.
type measure struct{ rate, cpu float64 }

func report(b *testing.B, name string, runs, ceiling []measure) {
	b.Helper()
	var rates, rateRatios, cpuRatios []float64
	for i := range runs {
		rates = append(rates, runs[i].rate)
		rateRatios = append(rateRatios, runs[i].rate/ceiling[i].rate)
		cpuRatios = append(cpuRatios, ceiling[i].cpu/runs[i].cpu)
	}
	b.ReportMetric(median(rates), name+"/s")
	if name != "ceiling" {
		b.ReportMetric(median(rateRatios), name+"-ratio")
		b.ReportMetric(median(cpuRatios), name+"-cpu-ratio")
	}
	b.Logf("%s: rate ratios %.2f, cpu ratios %.2f", name, rateRatios, cpuRatios)
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

func bareClient(b *testing.B, url string) {
	b.Helper()
	client := &http.Transport{MaxIdleConnsPerHost: benchClients, DisableCompression: true, WriteBufferSize: 8 << 10}
	defer client.CloseIdleConnections()
	parallel(benchEvents, func(i int) {
		body := benchBody(i)
		request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			panic(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("User-Agent", "bench")
		request.Header.Set("X-Hub-Signature-256", benchSign(body))
		response, err := client.RoundTrip(request)
		if err != nil {
			panic(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
	})
}

// benchGateway is a whole gateway in this process with one endpoint.
type benchGateway struct {
	app     *app.App
	handler http.Handler
	url     string
}

func startBenchGateway(b *testing.B, database string, sink *sink) *benchGateway {
	b.Helper()
	c := config.Default()
	c.Listen, c.Data, c.Database, c.AdminToken = "127.0.0.1:0", b.TempDir(), database, "bench-token"
	c.InFlight = benchClients // one endpoint stands for the many of a real installation
	c.MetaAppSecret, c.EgressAllow = []config.Secret{benchSecret}, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	a, err := app.New(b.Context(), app.Options{Config: c, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), Stdout: io.Discard, Version: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		a.Close()
	})
	g := &benchGateway{app: a, handler: a.Handler(), url: "http://" + a.Addr()}
	tenant := g.create(b, "/api/v1/tenants", `{"name":"bench"}`)
	number := g.create(b, "/api/v1/numbers", fmt.Sprintf(`{"tenant_id":%q,"phone":"15550142077","phone_number_id":"208417730961245"}`, tenant))
	g.create(b, "/api/v1/endpoints", fmt.Sprintf(`{"tenant_id":%q,"number_id":%q,"dialect":"meta","url":%q}`, tenant, number, sink.url+"/hook"))
	return g
}

func (g *benchGateway) create(b *testing.B, path, body string) string {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), http.MethodPost, g.url+path, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer bench-token")
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	_, after, found := strings.Cut(string(answer), `"id":"`)
	if err != nil || response.StatusCode != http.StatusCreated || !found {
		b.Fatalf("%s answered %s: %s", path, response.Status, answer)
	}
	id, _, _ := strings.Cut(after, `"`)
	return id
}

// discard is the least a handler can answer to.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

func (g *benchGateway) inProcess(b *testing.B) {
	b.Helper()
	offset := int(benchSequence.Add(benchEvents))
	parallel(benchEvents, func(i int) {
		body := benchBody(offset + i)
		request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "/ingest/meta/default", bytes.NewReader(body))
		if err != nil {
			panic(err)
		}
		request.Header["X-Hub-Signature-256"] = []string{benchSign(body)}
		answer := &discard{header: http.Header{}, status: http.StatusOK}
		g.handler.ServeHTTP(answer, request)
		if answer.status != http.StatusOK {
			panic(fmt.Sprintf("in-process ingest answered %d", answer.status))
		}
	})
}

func (g *benchGateway) overHTTP(b *testing.B) {
	b.Helper()
	offset := int(benchSequence.Add(benchEvents))
	generator := exec.CommandContext(b.Context(), os.Args[0])
	generator.Env = append(os.Environ(), roleVariable+"=generator", "BENCH_URL="+g.url+"/ingest/meta/default", "BENCH_OFFSET="+strconv.Itoa(offset))
	generator.Stderr = os.Stderr
	if err := generator.Run(); err != nil {
		b.Fatal(err)
	}
}

// runGenerator posts signed events as Meta would.
func runGenerator() {
	offset, err := strconv.Atoi(os.Getenv("BENCH_OFFSET"))
	if err != nil {
		panic(err)
	}
	url := os.Getenv("BENCH_URL")
	client := &http.Transport{MaxIdleConnsPerHost: 2 * benchClients, DisableCompression: true, WriteBufferSize: 8 << 10}
	parallel(benchEvents, func(i int) {
		body := benchBody(offset + i)
		request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			panic(err)
		}
		request.Header["X-Hub-Signature-256"] = []string{benchSign(body)}
		response, err := client.RoundTrip(request)
		if err != nil {
			panic(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			panic("ingest answered " + response.Status)
		}
	})
}

var benchSequence atomic.Int64

const benchSecret = "bench-secret"

func benchSign(body []byte) string {
	mac := hmac.New(sha256.New, []byte(benchSecret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

var benchText = strings.Repeat("The parcel is at the door. ", 40)

// benchBody is a text message of about 1.5 KB with an id of its own.
func benchBody(i int) []byte {
	return fmt.Appendf(make([]byte, 0, 1600), `{"object":"whatsapp_business_account","entry":[{"id":"301956482217730","changes":[{"value":{"messaging_product":"whatsapp",`+
		`"metadata":{"display_phone_number":"15550142077","phone_number_id":"208417730961245"},"contacts":[{"profile":{"name":"Maren Holt"},"wa_id":"447700900361"}],`+
		`"messages":[{"from":"447700900361","id":"wamid.BENCH%012d","timestamp":"1767571200","type":"text","text":{"body":%q}}]},"field":"messages"}]}]}`, i, benchText)
}

// parallel calls do(0) to do(n-1) from as many goroutines as there are clients.
func parallel(n int, do func(i int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range benchClients {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				do(int(i))
			}
		})
	}
	workers.Wait()
}

// sink is a receiver in a process of its own that answers at once and counts.
type sink struct{ url string }

func startSink(b *testing.B) *sink {
	b.Helper()
	process := exec.CommandContext(b.Context(), os.Args[0])
	process.Env = append(os.Environ(), roleVariable+"=sink")
	process.Stderr = os.Stderr
	output, err := process.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := process.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = process.Process.Kill(); _ = process.Wait() })
	var address string
	if _, err := fmt.Fscanln(output, &address); err != nil {
		b.Fatal(err)
	}
	return &sink{url: "http://" + address}
}

func runSink() {
	var count atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /count", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%d %d", count.Load(), cpuTime())
	})
	mux.HandleFunc("POST /", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		count.Add(1)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stdout, listener.Addr())
	panic(http.Serve(listener, mux)) //nolint:gosec // a sink of a measurement on loopback
}

// state is how many requests the sink has had and the CPU time it has used.
func (s *sink) state(b *testing.B) (count, cpu int64) {
	b.Helper()
	response, err := http.Get(s.url + "/count")
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := fmt.Fscanf(response.Body, "%d %d", &count, &cpu); err != nil {
		b.Fatal(err)
	}
	return count, cpu
}

// measure times a run, from its start until the sink has had all its events.
func (s *sink) measure(b *testing.B, run func()) measure {
	b.Helper()
	before, sinkCPU := s.state(b)
	ownCPU, start := cpuTime()+childCPUTime(), time.Now()
	run()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		count, cpu := s.state(b)
		if count-before >= benchEvents {
			took := time.Since(start)
			used := cpu - sinkCPU + cpuTime() + childCPUTime() - ownCPU
			return measure{rate: benchEvents / took.Seconds(), cpu: float64(used) / 1e3 / benchEvents}
		}
		<-tick.C
	}
}

func cpuTime() int64      { return usage(syscall.RUSAGE_SELF) }
func childCPUTime() int64 { return usage(syscall.RUSAGE_CHILDREN) }

func usage(who int) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		panic(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
