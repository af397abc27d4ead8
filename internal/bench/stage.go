package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// stage is what one scenario on one store has set up.
type stage struct {
	options  Options
	dir      string
	scenario string
	store    string
	report   *Report

	children []*child
	sequence int   // messages sent so far, so that no id comes twice
	made     int   // directories made
	servers  []int // process ids of database servers
	foreign  foreignMeter
}

// clear stops every process of the scenario.
func (s *stage) clear() error {
	var errs []error
	for i := len(s.children) - 1; i >= 0; i-- {
		errs = append(errs, s.children[i].stop())
	}
	s.children = nil
	return errors.Join(errs...)
}

func (s *stage) launch(ctx context.Context, role string, config any) (*child, answer, error) {
	c, ready, err := launch(ctx, s.options.Executable, role, config)
	if err == nil {
		s.children = append(s.children, c)
	}
	return c, ready, err
}

// end stops one process before the rest.
func (s *stage) end(c *child) error {
	for i := range s.children {
		if s.children[i] == c {
			s.children = append(s.children[:i], s.children[i+1:]...)
			break
		}
	}
	return c.stop()
}

// take hands out message numbers that were not used before.
func (s *stage) take(n int) (first int) {
	first = s.sequence
	s.sequence += n
	return first
}

func (s *stage) newDir() (string, error) {
	s.made++
	dir := filepath.Join(s.dir, s.scenario+"-"+s.store+"-"+strconv.Itoa(s.made))
	return dir, os.MkdirAll(dir, 0o700)
}

func (s *stage) add(name string, figures ...Figure) {
	s.report.Results = append(s.report.Results, Result{
		Scenario: s.scenario, Store: s.store, Case: name, Figures: figures, Foreign: s.foreign.take(),
	})
}

// receiver is a sink that runs.
type receiver struct {
	*child
	port string
	ca   string
}

func (s *stage) receiver(ctx context.Context, addresses int, tls bool) (*receiver, error) {
	config := sinkConfig{Addresses: addresses}
	if tls {
		dir, err := s.newDir()
		if err != nil {
			return nil, err
		}
		config.CA = filepath.Join(dir, "ca.pem")
	}
	c, ready, err := s.launch(ctx, "sink", config)
	return &receiver{child: c, port: ready.Address, ca: config.CA}, err
}

// url is where the sink takes hooks; way is "ok", "fail" or "hang".
func (r *receiver) url(way string, i, addresses int) string {
	scheme := "http"
	if r.ca != "" {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s:%s/%s/%d", scheme, sinkHost(i%max(1, addresses)), r.port, way, i)
}

// site is a gateway that runs.
type site struct {
	*child
	address string
	config  gatewayConfig
	server  int // process id of its database server; 0: none
	tenant  string
	ready   float64
	owing   bool // it always has something to do: endpoints that refuse
}

// gateway starts one on a fresh store.
func (s *stage) gateway(ctx context.Context, inFlight int, ca string) (*site, error) {
	dir, err := s.newDir()
	if err != nil {
		return nil, err
	}
	g := &site{config: gatewayConfig{Data: dir, InFlight: inFlight, CA: ca, Profiles: s.options.Profiles}}
	if s.store == "postgres" {
		if g.config.Database, g.server, err = s.options.Postgres(ctx); err != nil {
			return nil, err
		}
		if !slices.Contains(s.servers, g.server) {
			s.servers = append(s.servers, g.server)
		}
	}
	if err := s.start(ctx, g); err != nil {
		return nil, err
	}
	g.tenant, err = g.create(ctx, "/api/v1/tenants", map[string]any{"name": "bench"})
	return g, err
}

// start starts a gateway on the store that it has.
func (s *stage) start(ctx context.Context, g *site) (err error) {
	var ready answer
	g.child, ready, err = s.launch(ctx, "gateway", g.config)
	g.address, g.ready = ready.Address, ready.Ready
	return err
}

// number makes the ith number of a tenant.
func (g *site) number(ctx context.Context, tenant string, i int) (string, error) {
	return g.create(ctx, "/api/v1/numbers", map[string]any{
		"tenant_id": tenant, "phone": "1555" + fmt.Sprintf("%0*d", numberDigits, i),
		"phone_number_id": numberPrefix + fmt.Sprintf("%0*d", numberDigits, i),
	})
}

func (g *site) endpoint(ctx context.Context, tenant, number, dialect, url string) (string, error) {
	return g.create(ctx, "/api/v1/endpoints", map[string]any{
		"tenant_id": tenant, "number_id": number, "dialect": dialect, "url": url,
	})
}

func (g *site) create(ctx context.Context, path string, body any) (string, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	var made struct{ ID string }
	err = g.call(ctx, http.MethodPost, path, string(text), &made)
	return made.ID, err
}

// call calls the management API.
func (g *site) call(ctx context.Context, method, path, body string, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+g.address+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+adminToken)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s answered %s: %s", method, path, response.Status, answer)
	}
	return json.Unmarshal(answer, into)
}

// measure is one run.
type measure struct {
	rate    float64 // events a second
	cpu     float64 // microseconds of CPU time per event, of all processes but a database server's
	server  float64 // of the database server
	own     float64 // of the gateway, or of the bare client
	written float64 // bytes per event
	batch   float64 // events per commit
	peak    float64 // bytes of memory of the gateway at most, so far
}

// totals are what the processes of a run have used so far.
type totals struct {
	all, own, server, written, commits, peak int64
}

func (s *stage) totals(actor *child, g *site, others ...*child) (totals, error) {
	var t totals
	for _, c := range append([]*child{actor}, others...) {
		a, err := c.ask(request{Do: "usage"})
		if err != nil {
			return t, err
		}
		t.all += a.CPU
		if c == actor {
			t.own, t.written, t.commits, t.peak = a.CPU, a.Written, a.Commits, a.Peak
		}
	}
	if g != nil {
		cpu, written := serverUsage(g.server)
		t.server = cpu
		t.written += written
	}
	return t, nil
}

// used is the CPU time of all processes of the scenario so far, in nanoseconds.
func (s *stage) used() (int64, error) {
	var all int64
	for _, c := range s.children {
		a, err := c.ask(request{Do: "usage"})
		if err != nil {
			return 0, err
		}
		all += a.CPU
	}
	for _, server := range s.servers {
		cpu, _ := serverUsage(server)
		all += cpu
	}
	return all, nil
}

// run times what start does, from its start until the sink has had hooks and the
// gateway, if there is one, has everything on record.
func (s *stage) run(ctx context.Context, events, hooks int, sink *receiver, actor *child, g *site, feeder *child, start func() error) (measure, error) {
	if _, err := sink.ask(request{Do: "reset"}); err != nil {
		return measure{}, err
	}
	others := []*child{sink.child}
	if feeder != nil && feeder != actor {
		others = append(others, feeder)
	}
	before, err := s.totals(actor, g, others...)
	if err != nil {
		return measure{}, err
	}
	s.foreign.begin()
	began := time.Now()
	if err := start(); err != nil {
		return measure{}, err
	}
	if err := sink.await(ctx, hooks); err != nil {
		return measure{}, err
	}
	if g != nil && !g.owing {
		recorded := func() (bool, error) {
			a, err := g.ask(request{Do: "working"})
			return a.Working == 0, err
		}
		if err := poll(ctx, 5*time.Millisecond, recorded); err != nil {
			return measure{}, err
		}
	}
	took := time.Since(began)
	after, err := s.totals(actor, g, others...)
	if err != nil {
		return measure{}, err
	}
	s.foreign.end(after.all - before.all + after.server - before.server)
	n := float64(events)
	return measure{
		rate:    n / took.Seconds(),
		cpu:     float64(after.all-before.all) / 1e3 / n,
		own:     float64(after.own-before.own) / 1e3 / n,
		server:  float64(after.server-before.server) / 1e3 / n,
		written: float64(after.written-before.written) / n,
		batch:   n / float64(max(1, after.commits-before.commits)),
		peak:    float64(after.peak),
	}, nil
}

// foreignMeter watches how much CPU time programs that are not ours take.
type foreignMeter struct {
	busy          int64
	at            time.Time
	foreign, wall int64
}

func (m *foreignMeter) begin() { m.busy, m.at = machineBusy(), time.Now() }

func (m *foreignMeter) end(ours int64) {
	m.foreign += max(0, machineBusy()-m.busy-ours)
	m.wall += int64(time.Since(m.at))
}

// take gives the share of the machine, in percent of one CPU, and begins anew.
func (m *foreignMeter) take() float64 {
	share := 0.0
	if m.wall > 0 {
		share = 100 * float64(m.foreign) / float64(m.wall)
	}
	*m = foreignMeter{}
	return share
}
