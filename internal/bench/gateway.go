package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/waypost-gateway/waypost/internal/app"
	"github.com/waypost-gateway/waypost/internal/config"
	"github.com/waypost-gateway/waypost/internal/ingest"
	"github.com/waypost-gateway/waypost/internal/logging"
	"github.com/waypost-gateway/waypost/internal/meta"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// gatewayConfig is what is set of a gateway; the rest is as it comes.
type gatewayConfig struct {
	Data     string `json:"data"`
	Database string `json:"database"`
	InFlight int    `json:"in_flight"` // 0: as it comes
	CA       string `json:"ca,omitempty"`
	Profiles string `json:"profiles,omitempty"` // directory for a CPU profile
	// Retain is how long what is settled is kept; 0: as it comes.
	Retain time.Duration `json:"retain,omitempty"`
}

const adminToken = "bench-token"

// runGateway is a whole gateway, as `waypost serve` runs it.
func runGateway(ctx context.Context, c *conversation) (err error) {
	var set gatewayConfig
	if err := c.begin(&set); err != nil {
		return err
	}
	started := time.Now()
	if set.Profiles != "" {
		stop, err := profile(set.Profiles)
		if err != nil {
			return err
		}
		defer stop()
	}
	settings := config.Default()
	app.TuneMemory(int64(settings.Memory))
	settings.Listen, settings.Data, settings.Database, settings.AdminToken = "127.0.0.1:0", set.Data, set.Database, adminToken
	settings.MetaAppSecret = []config.Secret{appSecret}
	settings.EgressAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	settings.EgressCA = set.CA
	if set.InFlight > 0 {
		settings.InFlight = set.InFlight
	}
	if age := config.Age(set.Retain); age > 0 {
		settings.RetainBodies, settings.RetainAttempts, settings.RetainEvents = age, age, age
	}
	file, err := os.OpenFile(filepath.Join(set.Data, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	lines := logging.NewWriter(file) // as waypost serve logs
	defer func() { err = errors.Join(err, lines.Flush()) }()
	log := slog.New(lines.Handler(slog.NewTextHandler(lines, nil)))
	a, err := app.New(ctx, app.Options{Config: settings, Log: log, Stdout: io.Discard, Version: "bench"})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-ended, a.Close())
	}()
	g := &gateway{handler: a.Handler(), committer: a.Committer()}
	if err := poll(ctx, time.Millisecond, g.ready); err != nil {
		return err
	}
	if err := c.say(answer{Address: a.Addr(), Ready: time.Since(started).Seconds()}); err != nil {
		return err
	}
	return c.serve(g.reply)
}

// profile writes this process's CPU profile to a file in the directory.
func profile(dir string) (stop func(), err error) {
	file, err := os.CreateTemp(dir, "gateway-*.pprof")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = file.Close() // what is missing of a profile shows
	}, nil
}

type gateway struct {
	handler   http.Handler
	committer *ingest.Committer
	bodies    [][]byte // of what "feed" feeds, and their signatures
	signed    []string
	arrivals  [][]store.Arrival // what "commit" commits
}

func (g *gateway) ready() (bool, error) {
	recorder := httptest.NewRecorder()
	g.handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/readyz", nil)) //nolint:noctx // answered in this process
	return recorder.Code == http.StatusOK, nil
}

func (g *gateway) reply(r request) (a answer, err error) {
	switch r.Do {
	case "prepare":
		g.bodies, g.signed = make([][]byte, r.Events), make([]string, r.Events)
		err = parallel(clients, r.Events, func(i int) error {
			g.bodies[i] = payload(r, i, time.Time{})
			g.signed[i] = sign(g.bodies[i])
			return nil
		})
	case "feed":
		err = parallel(senders, r.Events, func(i int) error { return g.feed(g.bodies[i], g.signed[i:i+1]) })
	case "prepare commit":
		g.arrivals, err = arrivals(r)
	case "commit":
		err = parallel(senders, r.Events, func(i int) error {
			_, err := g.committer.Commit(context.Background(), g.arrivals[i])
			return err
		})
	default:
		g.gauges(&a)
	}
	return a, err
}

// arrivals are what ingest makes of the run's requests: the events taken apart,
// with owners and what they are owed to.
func arrivals(r request) ([][]store.Arrival, error) {
	tenant, err := waypost.ParseTenantID(r.Tenant)
	if err != nil {
		return nil, err
	}
	number, err := waypost.ParseNumberID(r.Number)
	if err != nil {
		return nil, err
	}
	endpoint, err := waypost.ParseEndpointID(r.Endpoint)
	if err != nil {
		return nil, err
	}
	all := make([][]store.Arrival, r.Events)
	return all, parallel(clients, r.Events, func(i int) error {
		items, err := meta.Split(payload(r, i, time.Time{}))
		if err != nil {
			return err
		}
		item := &items[0]
		all[i] = []store.Arrival{{
			Event: waypost.Event{
				Type: item.Type, State: waypost.EventRouted, TenantID: tenant, NumberID: number, Form: waypost.FormCloud,
				PhoneNumberID: item.PhoneNumberID, WABAID: item.WABAID, Body: item.Body, OccurredAt: item.OccurredAt,
			},
			DedupeKey: item.DedupeKey(0),
			Owed:      []store.Owing{{Endpoint: endpoint}},
		}}
		return nil
	})
}

// feed hands a request to the handler.
func (g *gateway) feed(body []byte, signature []string) error {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "/ingest/meta/default", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header["X-Hub-Signature-256"] = signature
	answer := &discard{header: http.Header{}, status: http.StatusOK}
	if g.handler.ServeHTTP(answer, request); answer.status != http.StatusOK {
		return fmt.Errorf("ingest answered %d", answer.status)
	}
	return nil
}

// discard is the least that a handler can answer to.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

// gauges reads what the gateway tells of itself.
func (g *gateway) gauges(a *answer) {
	recorder := httptest.NewRecorder()
	g.handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil)) //nolint:noctx // answered in this process
	lines := bufio.NewScanner(recorder.Body)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue
		}
		switch name {
		case "waypost_delivery_in_memory", "waypost_delivery_results_unwritten":
			a.Working += int64(value)
		case "waypost_ingest_commits":
			a.Commits = int64(value)
		case "waypost_rows_forgotten":
			a.Forgotten = int64(value)
		}
	}
}
