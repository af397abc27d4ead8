// Package app puts the parts together: it is the only package that knows all of
// them. New opens and wires, Run runs until its context ends and then stops in
// order (no new requests, nothing left to commit, nothing in hand, lease given
// back), Close releases.
package app

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/waypost-gateway/waypost/internal/api"
	"github.com/waypost-gateway/waypost/internal/config"
	"github.com/waypost-gateway/waypost/internal/delivery"
	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/dialect/standard"
	"github.com/waypost-gateway/waypost/internal/directory"
	"github.com/waypost-gateway/waypost/internal/egress"
	"github.com/waypost-gateway/waypost/internal/httpserver"
	"github.com/waypost-gateway/waypost/internal/ingest"
	"github.com/waypost-gateway/waypost/internal/media"
	"github.com/waypost-gateway/waypost/internal/metrics"
	"github.com/waypost-gateway/waypost/internal/node"
	"github.com/waypost-gateway/waypost/internal/platform"
	"github.com/waypost-gateway/waypost/internal/retention"
	"github.com/waypost-gateway/waypost/internal/secret"
	"github.com/waypost-gateway/waypost/internal/settings"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Options of an App.
type Options struct {
	Config  config.Config
	Log     *slog.Logger
	Stdout  io.Writer // where a newly made admin token is shown, once
	Version string
}

// App is a whole gateway.
type App struct {
	log       *slog.Logger
	store     store.Store
	egress    *egress.Client
	node      *node.Node
	directory *directory.Directory
	engine    *delivery.Engine
	committer *ingest.Committer
	retention *retention.Keeper
	handler   http.Handler
	server    *httpserver.Server
	memory    idleMemory
}

// New opens the store, wires the parts and starts to listen; requests are
// answered once Run runs. Its errors say what to mend.
func New(ctx context.Context, options Options) (*App, error) {
	a := &App{log: options.Log}
	if err := a.open(ctx, options); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *App) open(ctx context.Context, options Options) error {
	c := &options.Config
	ring, err := openKeys(c)
	if err != nil {
		return err
	}
	box, err := secret.NewBox(ring.keys...)
	if err != nil {
		return err
	}
	linkKeys, err := deriveKeys(ring.keys, "media links")
	if err != nil {
		return err
	}
	toldKeys, err := deriveKeys(ring.keys, "keys that are told again")
	if err != nil {
		return err
	}
	if a.store, err = openStore(ctx, c, box, a.log); err != nil {
		return err
	}
	if err := checkKey(ctx, a.store, box, ring); err != nil {
		return err
	}
	a.retention = openRetention(c, a.store, a.log)
	a.retention.Prepare(ctx)
	a.node = node.New(a.store, node.Options{
		Log:     a.log,
		Refresh: func(ctx context.Context) error { return a.directory.CatchUp(ctx) },
	})
	if err := a.node.Join(ctx); err != nil {
		return err
	}
	if err := putConfiguredSources(ctx, c, a.store, a.node); err != nil {
		return err
	}
	adminDigest, err := adminDigest(ctx, c, a.store, options.Stdout)
	if err != nil {
		return err
	}
	if a.egress, err = openEgress(c, options.Version); err != nil {
		return err
	}
	a.directory = directory.New(a.store, a.log)
	if err := a.directory.CatchUp(ctx); err != nil {
		return err
	}
	a.memory.giveBack(allocated()) // reading very many endpoints takes several times what they do
	a.handler = a.wire(c, secrets{adminDigest, linkKeys, toldKeys, box})
	a.server, err = httpserver.New(ctx, httpserver.Options{
		Address:        c.Listen,
		Handler:        a.handler,
		Log:            a.log,
		Direct:         []string{"/ingest/"},
		TrustedProxies: c.TrustedProxies,
		Quiet:          []string{"GET /healthz", "GET /readyz", "GET /metrics"},
		DrainTimeout:   c.ShutdownTimeout,
	})
	return err
}

// secrets are what only some of the parts may know.
type secrets struct {
	adminDigest [32]byte
	linkKeys    [][]byte // of links to media
	toldKeys    [][]byte // that keys which are told again are derived from
	box         *secret.Box
}

// wire builds what works on the open store, and gives what serves all of it.
func (a *App) wire(c *config.Config, secrets secrets) http.Handler {
	meters := metrics.New()
	dialects := dialects(c)
	links := media.NewLinks(c.PublicURL, secrets.linkKeys...)
	var vault *platform.Vault // made of ingest, which is made of all below
	service := settings.New(settings.Options{
		Store:     a.store,
		Directory: a.directory,
		Dialects:  dialects,
		IDs:       a.node.NextID,
		Trusted:   a.egress.Trusted,
		Forbidden: a.egress.CheckHost,
		Fetch:     a.egress.Get,
		OnWork:    func(id waypost.EndpointID) { a.engine.Wake(id) },
		Publish: func(ctx context.Context, tenant waypost.TenantID, number waypost.NumberID, eventType string, data json.RawMessage, key string) (waypost.EventID, error) {
			return vault.Publish(ctx, tenant, number, eventType, data, key)
		},
		InFlight:   c.InFlight,
		KeySecrets: secrets.toldKeys,
		Log:        a.log,
	})
	a.engine = delivery.New(delivery.Config{
		Queue:     a.store,
		Directory: a.directory,
		Dialects:  byID(dialects),
		Sender:    a.egress,
		States:    service,
		MediaURL:  mediaURL(c, links),
		Open:      func(event *waypost.Event) (*waypost.Event, error) { return vault.Open(event) },
		Strain:    func() float64 { return a.committer.Strain() },
		Log:       a.log,
		Observer:  meters,
		Now:       a.node.Now,
		Limits: delivery.Limits{
			InFlight:        c.InFlight,
			FastSlots:       c.FastSlots,
			SlowSlots:       c.SlowSlots,
			ShutdownTimeout: c.ShutdownTimeout,
		},
	})
	a.gauges(meters)
	a.directory.OnChange(func(endpoints []waypost.EndpointID) {
		for _, id := range endpoints {
			a.engine.EndpointChanged(id)
		}
		a.engine.Rescan()
	})
	a.directory.OnDue(func(endpoints []waypost.EndpointID) {
		for _, id := range endpoints {
			a.engine.Wake(id)
		}
	})
	a.committer = ingest.NewCommitter(a.store, a.engine, a.node)
	in := ingest.New(ingest.Options{
		Directory:  directory.NewRouter(a.directory, dialects),
		Committer:  a.committer,
		Observer:   meters,
		OnAccepted: func(ctx context.Context, event waypost.Event) error { return service.Follow(ctx, &event) },
		Memory:     int64(c.IngestMemory),
		Refuse:     a.retention.Full,
		Log:        a.log,
	})
	vault = platform.NewVault(secrets.box, in)

	mux := http.NewServeMux()
	mux.Handle("/ingest/", in.Handler())
	mux.Handle("/api/", api.New(api.Options{Settings: service, Records: a.store, Publisher: vault, TokenDigest: secrets.adminDigest, Log: a.log}))
	mux.Handle("GET /media/{token}", media.NewServer(media.Options{
		Links: links, Number: a.directory.Number, Opener: a.egress, Graph: graphBase(c), Log: a.log,
	}))
	mux.Handle("/schemas/", standard.SchemaHandler())
	mux.Handle("GET /metrics", meters.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", a.readyz)
	mountDialects(mux, dialects, service)
	return hostDialects(c.DialectHosts, dialects, service, before(mux, "/ingest/", in.Handler()))
}

// gauges shows what the engine has in hand, and how much room there is.
func (a *App) gauges(meters *metrics.Metrics) {
	for name, gauge := range map[string]struct {
		help string
		read func(delivery.Gauges) float64
	}{
		"waypost_delivery_lanes":             {"Endpoints with work in memory.", func(g delivery.Gauges) float64 { return float64(g.Lanes) }},
		"waypost_delivery_lanes_waiting":     {"Endpoints with work that wait for a slot.", func(g delivery.Gauges) float64 { return float64(g.WaitingLanes) }},
		"waypost_delivery_in_memory":         {"Deliveries in this node's hand.", func(g delivery.Gauges) float64 { return float64(g.InMemory) }},
		"waypost_delivery_in_memory_bytes":   {"Bytes of their events' bodies.", func(g delivery.Gauges) float64 { return float64(g.MemoryBytes) }},
		"waypost_delivery_in_flight_fast":    {"Requests in flight to endpoints that answer quickly.", func(g delivery.Gauges) float64 { return float64(g.FastInFlight) }},
		"waypost_delivery_in_flight_slow":    {"Requests in flight to endpoints that do not.", func(g delivery.Gauges) float64 { return float64(g.SlowInFlight) }},
		"waypost_delivery_results_unwritten": {"Results that are not written to the store yet.", func(g delivery.Gauges) float64 { return float64(g.Unrecorded) }},
	} {
		meters.Gauge(name, gauge.help, func() float64 { return gauge.read(a.engine.Gauges()) })
	}
	meters.Gauge("waypost_nodes", "Nodes with a live lease, this one included, as last heard.", func() float64 {
		return float64(a.node.Members())
	})
	for name, gauge := range map[string]struct {
		help string
		read func(retention.Gauges) float64
	}{
		"waypost_disk_used_bytes":          {"Bytes that the data takes.", func(g retention.Gauges) float64 { return float64(g.Used) }},
		"waypost_disk_free_bytes":          {"Bytes there is room for; -1 if that can't be told.", func(g retention.Gauges) float64 { return float64(g.Free) }},
		"waypost_disk_pressure":            {"How short the room is: 0 not, 1 forgetting ahead of time, 2 refusing webhooks.", func(g retention.Gauges) float64 { return float64(g.Level) }},
		"waypost_rows_forgotten":           {"Rows that this node has forgotten since it started, for their age or for want of room: bodies, attempts, events, keys. Of days that go whole, as far as the database's statistics tell.", func(g retention.Gauges) float64 { return float64(g.Forgotten) }},
		"waypost_oldest_event_age_seconds": {"Age of the oldest event that is kept.", func(g retention.Gauges) float64 { return g.OldestAge.Seconds() }},
	} {
		meters.Gauge(name, gauge.help, func() float64 { return gauge.read(a.retention.Gauges()) })
	}
	meters.Gauge("waypost_ingest_commits", "Commits since the start; waypost_events_total by it is how many events share one.", func() float64 {
		commits, _ := a.committer.Commits()
		return float64(commits)
	})
}

// graphVersion is the version of the Graph API that we speak.
const graphVersion = "v24.0"

func graphBase(c *config.Config) string {
	return strings.TrimSuffix(c.GraphURL, "/") + "/" + graphVersion
}

// mediaURL gives links where there is a base for them and a token to follow
// them with.
func mediaURL(c *config.Config, links *media.Links) func(*waypost.Event, *waypost.Number) func(string) string {
	return func(event *waypost.Event, number *waypost.Number) func(string) string {
		if c.PublicURL == "" || number.AccessToken == "" {
			return nil
		}
		expires := event.ReceivedAt().Add(media.Lifetime)
		return func(mediaID string) string { return links.URL(number.ID, mediaID, expires) }
	}
}

func byID(dialects []dialect.Dialect) func(string) dialect.Dialect {
	known := make(map[string]dialect.Dialect, len(dialects))
	for _, d := range dialects {
		known[d.Info().ID] = d
	}
	return func(id string) dialect.Dialect { return known[id] }
}

// Addr is the address listened on, host:port.
func (a *App) Addr() string { return a.server.Addr() }

// Handler is everything the gateway serves.
func (a *App) Handler() http.Handler { return a.handler }

// Committer is where events go in that are taken apart already.
func (a *App) Committer() *ingest.Committer { return a.committer }

// Run serves until ctx ends, or a part fails that the rest can't do without.
func (a *App) Run(ctx context.Context) error {
	a.log.Info("waypost is up", "address", a.Addr())
	err := runInOrder(ctx,
		a.memory.watch,
		a.retention.Run,
		a.directory.Run,
		func(ctx context.Context) error { return a.node.Run(ctx, a.engine) },
		a.committer.Run,
		a.server.Run,
	)
	a.log.Info("waypost is down")
	return err
}

// Close releases what New opened.
func (a *App) Close() error {
	var errs []error
	if a.server != nil {
		if err := a.server.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if a.egress != nil {
		a.egress.Close()
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	return errors.Join(errs...)
}

// readyTimeout bounds the question to the store.
const readyTimeout = 2 * time.Second

// readyz is 200 while the gateway can do its whole job: commit, and deliver.
func (a *App) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := errors.Join(a.store.Ping(ctx), a.engine.Ready()); err != nil {
		a.log.Warn("not ready", "error", err)
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ready\n")
}
