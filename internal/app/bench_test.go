package app_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
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
	case "crowd":
		runCrowd()
	case "generator":
		runGenerator()
	default:
		pgtest.Main(m)
	}
}

const (
	benchEvents  = 40_000
	benchClients = 64
	benchRounds  = 5
)

// BenchmarkRatios measures what the gateway delivers against what a bare client
// delivers to the same sink, in turns, so that all see the same noise: a signed
// 1.5 KB Meta request in (over HTTP, or handed to the handler in-process), on
// disk, a signed hook out, its outcome recorded. The sink, and the generator of
// the full path, are processes of their own on the same machine. It reports
// medians over the rounds; run it with -benchtime 1x. See docs/performance.md.
func BenchmarkRatios(b *testing.B) {
	for _, store := range benchStores {
		b.Run(store.name, func(b *testing.B) { ratios(b, store.database(b), 1, benchClients) })
		b.Run(store.name+"-16-endpoints", func(b *testing.B) { ratios(b, store.database(b), 16, 0) })
	}
}

// BenchmarkPath runs one kind of run alone, for a profile of it.
func BenchmarkPath(b *testing.B) {
	for _, store := range benchStores {
		b.Run(store.name+"/inprocess", func(b *testing.B) { path(b, store.database(b), inProcess) })
		b.Run(store.name+"/full", func(b *testing.B) { path(b, store.database(b), overHTTP) })
	}
}

var benchStores = []struct {
	name     string
	database func(testing.TB) string
}{
	{"sqlite", func(testing.TB) string { return "" }},
	{"postgres", pgtest.URL},
}

func ratios(b *testing.B, database string, endpoints, inFlight int) {
	sink := startSink(b)
	gateway := startBenchGateway(b, database, sink, endpoints, inFlight)
	kinds := []struct {
		name string
		run  func() measure
		runs []measure
	}{
		{name: "ceiling", run: func() measure { return sink.measure(b, bareClient(sink.url+"/bare"), nil) }},
		{name: "inprocess", run: func() measure { return gateway.measure(b, sink, inProcess) }},
		{name: "full", run: func() measure { return gateway.measure(b, sink, overHTTP) }},
	}
	for i := range kinds {
		kinds[i].run() // opens connections, fills caches
	}
	for b.Loop() {
		for range benchRounds {
			for i := range kinds {
				kinds[i].runs = append(kinds[i].runs, kinds[i].run())
			}
		}
	}
	for i := range kinds {
		report(b, kinds[i].name, kinds[i].runs, kinds[0].runs)
	}
}

func path(b *testing.B, database string, feed func(testing.TB, *benchGateway) feeder) {
	sink := startSink(b)
	gateway := startBenchGateway(b, database, sink, 1, benchClients)
	var runs []measure
	for b.Loop() {
		runs = append(runs, gateway.measure(b, sink, feed))
	}
	report(b, "path", runs, runs)
}

// measure is one run: events a second, CPU microseconds per event of all
// processes of the run but a database server, and those of the gateway (or the
// bare client) alone; and how many events a commit held.
type measure struct{ rate, cpu, own, batch float64 }

func report(b *testing.B, name string, runs, ceiling []measure) {
	b.Helper()
	column := func(value func(m, ceiling *measure) float64) (values []float64) {
		for i := range runs {
			values = append(values, value(&runs[i], &ceiling[i]))
		}
		return values
	}
	rateRatios := column(func(m, ceiling *measure) float64 { return m.rate / ceiling.rate })
	cpuRatios := column(func(m, ceiling *measure) float64 { return ceiling.cpu / m.cpu })
	cpu := column(func(m, _ *measure) float64 { return m.cpu })
	own := column(func(m, _ *measure) float64 { return m.own })
	batch := column(func(m, _ *measure) float64 { return m.batch })
	b.ReportMetric(median(column(func(m, _ *measure) float64 { return m.rate })), name+"/s")
	b.ReportMetric(median(cpu), name+"-cpu-us")
	if name != "ceiling" {
		b.ReportMetric(median(rateRatios), name+"-ratio")
		b.ReportMetric(median(cpuRatios), name+"-cpu-ratio")
		b.ReportMetric(median(batch), name+"-events/commit")
	}
	b.Logf("%s: rate ratios %.2f, cpu ratios %.2f, cpu us %.1f, of them in this process %.1f, events per commit %.0f",
		name, rateRatios, cpuRatios, cpu, own, batch)
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// feeder is a run that is ready to start. It gives the CPU time that getting
// ready took in other processes.
type feeder func() (otherCPU int64)

// bareClient is the ceiling: the same hooks to the same sink with nothing else
// around them.
func bareClient(url string) feeder {
	return func() int64 {
		client := &http.Transport{MaxIdleConnsPerHost: benchClients, DisableCompression: true, WriteBufferSize: 8 << 10}
		defer client.CloseIdleConnections()
		parallel(benchEvents, func(i int) {
			body := benchBody(i)
			request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, bytes.NewReader(body))
			if err != nil {
				panic(err)
			}
			request.Header["Content-Type"] = []string{"application/json"}
			request.Header["User-Agent"] = []string{"bench"}
			request.Header["X-Hub-Signature-256"] = []string{benchSign(body)}
			response, err := client.RoundTrip(request)
			if err != nil {
				panic(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
		})
		return 0
	}
}

// benchGateway is a whole gateway in this process. Each endpoint has a number of
// its own.
type benchGateway struct {
	app     *app.App
	handler http.Handler
	url     string
	numbers int
}

func startBenchGateway(b *testing.B, database string, sink *sink, endpoints, inFlight int) *benchGateway {
	b.Helper()
	app.TuneMemory(0) // as the command does; the bare client gains by it as well
	c := config.Default()
	c.Listen, c.Data, c.Database, c.AdminToken = "127.0.0.1:0", b.TempDir(), database, "bench-token"
	if inFlight > 0 {
		c.InFlight = inFlight // one endpoint stands for the many of a real installation
	}
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
	g := &benchGateway{app: a, handler: a.Handler(), url: "http://" + a.Addr(), numbers: endpoints}
	tenant := g.create(b, "/api/v1/tenants", `{"name":"bench"}`)
	for i := range endpoints {
		number := g.create(b, "/api/v1/numbers", fmt.Sprintf(`{"tenant_id":%q,"phone":"1555014%04d","phone_number_id":"20841773096%04d"}`, tenant, i, i))
		g.create(b, "/api/v1/endpoints", fmt.Sprintf(`{"tenant_id":%q,"number_id":%q,"dialect":"meta","url":%q}`, tenant, number, sink.url+"/hook"))
	}
	return g
}

// measure is a run through the gateway, until every outcome is recorded.
func (g *benchGateway) measure(b *testing.B, sink *sink, feed func(testing.TB, *benchGateway) feeder) measure {
	b.Helper()
	run := feed(b, g)
	commits, events := g.app.Commits()
	m := sink.measure(b, run, func() bool { return g.app.Unrecorded() == 0 })
	commitsNow, eventsNow := g.app.Commits()
	m.batch = float64(eventsNow-events) / float64(max(1, commitsNow-commits))
	return m
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

// inProcess hands the requests to the handler.
func inProcess(_ testing.TB, g *benchGateway) feeder {
	offset := int(benchSequence.Add(benchEvents))
	signatures := signatures(offset, g.numbers)
	return func() int64 {
		parallel(benchEvents, func(i int) {
			request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "/ingest/meta/default", bytes.NewReader(benchEvent(offset+i, g.numbers)))
			if err != nil {
				panic(err)
			}
			request.Header["X-Hub-Signature-256"] = signatures[i : i+1]
			answer := &discard{header: http.Header{}, status: http.StatusOK}
			g.handler.ServeHTTP(answer, request)
			if answer.status != http.StatusOK {
				panic(fmt.Sprintf("in-process ingest answered %d", answer.status))
			}
		})
		return 0
	}
}

// overHTTP has another process send them.
func overHTTP(b testing.TB, g *benchGateway) feeder {
	b.Helper()
	generator := exec.CommandContext(b.Context(), os.Args[0])
	generator.Env = append(os.Environ(), roleVariable+"=generator", "BENCH_ADDRESS="+g.app.Addr(),
		"BENCH_OFFSET="+strconv.Itoa(int(benchSequence.Add(benchEvents))), "BENCH_NUMBERS="+strconv.Itoa(g.numbers))
	generator.Stderr = os.Stderr
	start, startErr := generator.StdinPipe()
	output, err := generator.StdoutPipe()
	if err = errors.Join(startErr, err, generator.Start()); err != nil {
		b.Fatal(err)
	}
	var readying int64
	if _, err := fmt.Fscanln(output, &readying); err != nil {
		b.Fatal(err)
	}
	return func() int64 {
		start.Close()
		if err := generator.Wait(); err != nil {
			b.Fatal(err)
		}
		return readying
	}
}

// runGenerator posts signed events as Meta would, once its input is closed.
func runGenerator() {
	offset, offsetErr := strconv.Atoi(os.Getenv("BENCH_OFFSET"))
	numbers, err := strconv.Atoi(os.Getenv("BENCH_NUMBERS"))
	if err = errors.Join(offsetErr, err); err != nil {
		panic(err)
	}
	signatures := signatures(offset, numbers)
	connections := make(chan *rawConnection, benchClients)
	for range benchClients {
		connections <- dialRaw(os.Getenv("BENCH_ADDRESS"))
	}
	fmt.Fprintln(os.Stdout, cpuTime())
	_, _ = io.Copy(io.Discard, os.Stdin)
	parallel(benchEvents, func(i int) {
		c := <-connections
		c.post("/ingest/meta/default", signatures[i], benchEvent(offset+i, numbers))
		connections <- c
	})
}

// rawConnection speaks just enough HTTP/1.1 to post to a server that behaves,
// at a third of what net/http takes: the sender is not what is measured.
type rawConnection struct {
	net.Conn
	answers *bufio.Reader
	request []byte
}

func dialRaw(address string) *rawConnection {
	c, err := net.Dial("tcp", address)
	if err != nil {
		panic(err)
	}
	return &rawConnection{Conn: c, answers: bufio.NewReader(c)}
}

func (c *rawConnection) post(path, signature string, body []byte) {
	c.request = fmt.Appendf(c.request[:0], "POST %s HTTP/1.1\r\nHost: gateway\r\nUser-Agent: bench\r\nContent-Type: application/json\r\n"+
		"X-Hub-Signature-256: %s\r\nContent-Length: %d\r\n\r\n", path, signature, len(body))
	c.request = append(c.request, body...)
	if _, err := c.Write(c.request); err != nil {
		panic(err)
	}
	length := 0
	for first := true; ; first = false {
		line, err := c.answers.ReadSlice('\n')
		switch {
		case err != nil || first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")):
			panic(fmt.Sprintf("ingest answered %q, %v", line, err))
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			length, err = strconv.Atoi(string(bytes.TrimSpace(line[len("Content-Length: "):])))
			if err != nil {
				panic(err)
			}
		case len(line) == len("\r\n"):
			if _, err := c.answers.Discard(length); err != nil {
				panic(err)
			}
			return
		}
	}
}

// signatures are made before the clock starts: they are the sender's work.
func signatures(offset, numbers int) []string {
	all := make([]string, benchEvents)
	for i := range all {
		all[i] = benchSign(benchEvent(offset+i, numbers))
	}
	return all
}

var benchSequence atomic.Int64

const benchSecret = "bench-secret"

func benchSign(body []byte) string {
	mac := hmac.New(sha256.New, []byte(benchSecret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// benchEvent is a text message of about 1.5 KB, with an id of its own, to one of
// the numbers. Putting it together costs no more than copying it. Its time moves
// on as that of real messages does, at 20,000 a second.
func benchEvent(i, numbers int) []byte {
	body := bytes.Clone(benchTemplate)
	putDigits(body[benchTimeAt:], 1767571200+i/20_000, 10)
	putDigits(body[benchNumberAt:], i%numbers, 4)
	putDigits(body[benchIDAt:], i, 12)
	return body
}

func benchBody(i int) []byte { return benchEvent(i, 1) }

func putDigits(into []byte, n, digits int) {
	for digits--; digits >= 0; digits-- {
		into[digits] = byte('0' + n%10)
		n /= 10
	}
}

var (
	benchTemplate = []byte(`{"object":"whatsapp_business_account","entry":[{"id":"301956482217730","changes":[{"value":{"messaging_product":"whatsapp",` +
		`"metadata":{"display_phone_number":"15550140000","phone_number_id":"20841773096####"},"contacts":[{"profile":{"name":"Maren Holt"},"wa_id":"447700900361"}],` +
		`"messages":[{"from":"447700900361","id":"wamid.BENCH############","timestamp":"@@@@@@@@@@","type":"text","text":{"body":"` +
		strings.Repeat("The parcel is at the door. ", 40) + `"}}]},"field":"messages"}]}]}`)
	benchNumberAt = bytes.Index(benchTemplate, []byte("####"))
	benchTimeAt   = bytes.Index(benchTemplate, []byte("@@@@@@@@@@"))
	benchIDAt     = bytes.Index(benchTemplate, []byte("############"))
)

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

// measure times a run, from its start until the sink has had all its events and
// settled, if given, says that nothing is left to do.
func (s *sink) measure(b *testing.B, run feeder, settled func() bool) measure {
	b.Helper()
	runtime.GC()
	before, sinkCPU := s.state(b)
	own, children, start := cpuTime(), childCPUTime(), time.Now()
	children += run()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		count, cpu := s.state(b)
		if count-before >= benchEvents && (settled == nil || settled()) {
			took := time.Since(start)
			own := cpuTime() - own
			used := cpu - sinkCPU + own + childCPUTime() - children
			return measure{rate: benchEvents / took.Seconds(), cpu: perEvent(used), own: perEvent(own)}
		}
		<-tick.C
	}
}

func perEvent(nanoseconds int64) float64 { return float64(nanoseconds) / 1e3 / benchEvents }

func cpuTime() int64      { return usage(syscall.RUSAGE_SELF) }
func childCPUTime() int64 { return usage(syscall.RUSAGE_CHILDREN) }

func usage(who int) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		panic(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
