package bench

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// growth fills a store with settled and owed rows, by accepting and delivering
// them, and compares the gateway on it with one on an empty store. Then it lets
// the owed ones go, and has the settled ones forgotten.
func growth(ctx context.Context, s *stage) error {
	b, err := s.basic(ctx, false)
	if err != nil {
		return err
	}
	if _, err := b.gateway.endpoint(ctx, b.gateway.tenant, b.number, "meta", b.sink.url("ok", 0, 1)); err != nil {
		return err
	}
	g, err := s.grown(ctx, b.sink)
	if err != nil {
		return err
	}
	if err := s.restarts(ctx, g); err != nil {
		return err
	}
	kinds := []*kind{
		{name: "empty", run: s.through(path{gateway: b.gateway, sink: b.sink, feeder: b.generator, numbers: 1, hooks: 1})},
		{name: "grown", run: s.through(path{gateway: g.site, sink: b.sink, feeder: g.generator, numbers: 1, hooks: 1})},
	}
	if err := s.turns(ctx, kinds...); err != nil {
		return err
	}
	s.add(fmt.Sprintf("%d settled and %d owed", s.options.Settled, s.options.Owed), kinds[1].against(kinds[0], "an empty store")...)
	for _, part := range []func(context.Context, *grown) error{s.lists, s.draining, s.pruning} {
		if err := part(ctx, g); err != nil {
			return err
		}
	}
	return s.idle(ctx, b.gateway, b.sink)
}

// grown is a gateway with many rows. One number's events are received; those of
// a second are owed to an endpoint that is paused.
type grown struct {
	*site
	sink      *receiver
	generator *child
	paused    string
}

func (s *stage) grown(ctx context.Context, sink *receiver) (*grown, error) {
	site, err := s.gateway(ctx, clients, sink.ca)
	if err != nil {
		return nil, err
	}
	g := &grown{site: site, sink: sink}
	for i, way := range []string{"ok", "heavy"} {
		number, err := g.number(ctx, g.tenant, i)
		if err != nil {
			return nil, err
		}
		if g.paused, err = g.endpoint(ctx, g.tenant, number, "meta", sink.url(way, i, 1)); err != nil {
			return nil, err
		}
	}
	if err := g.act(ctx, g.paused, "pause"); err != nil {
		return nil, err
	}
	if err := s.fillStore(ctx, g.site); err != nil {
		return nil, err
	}
	return g, s.restart(ctx, g)
}

// act pauses or resumes an endpoint.
func (g *site) act(ctx context.Context, endpoint, verb string) error {
	var ignored map[string]any
	return g.call(ctx, http.MethodPost, "/api/v1/endpoints/"+endpoint+"/"+verb, "", &ignored)
}

// restart starts the gateway anew, with a generator that knows its address.
func (s *stage) restart(ctx context.Context, g *grown) (err error) {
	if g.generator != nil {
		if err := s.end(g.generator); err != nil {
			return err
		}
	}
	if err := s.end(g.child); err != nil {
		return err
	}
	if err := s.start(ctx, g.site); err != nil {
		return err
	}
	g.generator, _, err = s.launch(ctx, "generator", generatorConfig{Address: g.address})
	return err
}

// fillStore leaves rows of both kinds behind.
func (s *stage) fillStore(ctx context.Context, g *site) error {
	const slice = 100_000
	for left := s.options.Settled; left > 0; left -= slice {
		if err := s.feedAll(ctx, g, min(left, slice), 1); err != nil {
			return err
		}
	}
	for left := s.options.Owed; left > 0; left -= slice {
		// Every other event is for the second number: those are owed.
		if err := s.feedAll(ctx, g, 2*min(left, slice), 2); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) feedAll(ctx context.Context, g *site, events, numbers int) error {
	r := request{Do: "prepare", Events: events, First: s.take(events), Numbers: numbers}
	if _, err := g.ask(r); err != nil {
		return err
	}
	r.Do = "feed"
	if _, err := g.ask(r); err != nil {
		return err
	}
	return s.settled(ctx, g)
}

// settled waits until nothing is in hand any more.
func (*stage) settled(ctx context.Context, g *site) error {
	return poll(ctx, pollEvery, func() (bool, error) {
		a, err := g.ask(request{Do: "working"})
		return a.Working == 0, err
	})
}

// lists times the event list as an operator would filter it.
func (s *stage) lists(ctx context.Context, g *grown) error {
	for name, path := range map[string]string{
		"newest events":              "/api/v1/events?limit=100",
		"events of a tenant by type": "/api/v1/events?limit=100&type=whatsapp.message.*&tenant_id=" + g.tenant,
		"held deliveries":            "/api/v1/deliveries?limit=100&state=held",
	} {
		var took []float64
		for range 3 + s.options.Pairs {
			var ignored map[string]any
			began := time.Now()
			if err := g.call(ctx, http.MethodGet, path, "", &ignored); err != nil {
				return err
			}
			took = append(took, time.Since(began).Seconds()*1e3)
		}
		s.add("list of "+name, figure("answered in", "ms", took))
	}
	return nil
}

func (s *stage) restarts(ctx context.Context, g *grown) error {
	var ready []float64
	for range 3 {
		if err := s.restart(ctx, g); err != nil {
			return err
		}
		ready = append(ready, g.ready)
	}
	s.add(fmt.Sprintf("restart with %d owed", s.options.Owed), figure("ready after", "s", ready))
	return nil
}

// besideRate is how many events come in a second while a backlog drains, and
// while old events are forgotten.
const besideRate = 5000

// draining lets the owed deliveries go and measures how long others take
// meanwhile. It begins when the endpoint has been found to bear it.
func (s *stage) draining(ctx context.Context, g *grown) error {
	if err := g.act(ctx, g.paused, "resume"); err != nil {
		return err
	}
	drained := func() (int64, error) {
		a, err := g.sink.ask(request{Do: "count"})
		return a.Refused, err
	}
	err := poll(ctx, pollEvery, func() (bool, error) {
		n, err := drained()
		return n >= int64(s.options.Owed/20), err
	})
	if err != nil {
		return err
	}
	beside := &lateKind{name: "beside a backlog that drains", ask: g.generator.ask}
	var rates []float64
	for range max(3, s.options.Pairs/2) {
		began := time.Now()
		l, err := s.lateRun(ctx, g.sink, request{Rate: besideRate, Seconds: s.options.Seconds, Numbers: 1}, beside.ask)
		if err != nil {
			return err
		}
		n, err := drained() // since the run has begun
		if err != nil {
			return err
		}
		beside.runs = append(beside.runs, l)
		rates = append(rates, float64(n)/time.Since(began).Seconds())
	}
	s.add(fmt.Sprintf("%d events/s beside a backlog that drains", besideRate), slices.Concat(
		beside.figures("accept", func(l *late) *latencies { return l.accept }),
		beside.figures("end to end", func(l *late) *latencies { return l.arrive }),
		// It is 0 for a run that a small backlog did not last into.
		[]Figure{figure("drained", "deliveries/s", rates)},
	)...)
	return s.settled(ctx, g.site)
}

// pruning has what was settled minutes ago forgotten, and compares how long
// accepting takes meanwhile with before.
func (s *stage) pruning(ctx context.Context, g *grown) error {
	const rate = 1000
	run := func(k *lateKind) error {
		l, err := s.lateRun(ctx, g.sink, request{Rate: rate, Seconds: s.options.Seconds, Numbers: 1}, g.generator.ask)
		k.runs = append(k.runs, l)
		return err
	}
	before, beside := &lateKind{name: "before"}, &lateKind{name: "beside"}
	for range max(3, s.options.Pairs/2) {
		if err := run(before); err != nil {
			return err
		}
	}
	g.config.Retain = time.Minute
	if err := s.restart(ctx, g); err != nil {
		return err
	}
	var forgotten []float64
	for range max(3, s.options.Pairs/2) {
		began := time.Now()
		first, err := g.ask(request{Do: "usage"})
		if err != nil {
			return err
		}
		if err := run(beside); err != nil {
			return err
		}
		last, err := g.ask(request{Do: "usage"})
		if err != nil {
			return err
		}
		forgotten = append(forgotten, float64(last.Forgotten-first.Forgotten)/time.Since(began).Seconds())
	}
	if slices.Max(forgotten) == 0 {
		fmt.Fprintln(s.options.Progress, "pruning: nothing was old enough yet, for events are forgotten five minutes at a time: fill the store with more")
		return nil
	}
	var ratios []float64
	for i := range beside.runs {
		ratios = append(ratios, beside.runs[i].accept.P99/before.runs[i].accept.P99)
	}
	accept := func(l *late) *latencies { return l.accept }
	s.add(fmt.Sprintf("%d events/s beside pruning", rate), slices.Concat(
		[]Figure{figure("accept p99 ratio to before", "", ratios), figure("forgotten", "rows/s", forgotten)},
		beside.figures("accept", accept), before.figures("before, accept", accept),
	)...)
	return nil
}

// idle measures what endpoints without work take.
func (s *stage) idle(ctx context.Context, g *site, sink *receiver) error {
	restarted := func() (float64, error) {
		if err := s.end(g.child); err != nil {
			return 0, err
		}
		if err := s.start(ctx, g); err != nil {
			return 0, err
		}
		a, err := g.ask(request{Do: "usage"})
		return float64(a.Resident) / 1e6, err
	}
	before, err := restarted()
	if err != nil {
		return err
	}
	number, err := g.number(ctx, g.tenant, 2)
	if err != nil {
		return err
	}
	err = parallel(settingUp, s.options.Idle, func(i int) error {
		_, err := g.endpoint(ctx, g.tenant, number, "meta", sink.url("ok", i, 1))
		return err
	})
	if err != nil {
		return err
	}
	after, err := restarted()
	if err != nil {
		return err
	}
	s.add(fmt.Sprintf("%d idle endpoints", s.options.Idle), figure("memory without", "MB", []float64{before}), figure("memory with", "MB", []float64{after}),
		figure("difference", "MB", []float64{after - before}))
	return nil
}
