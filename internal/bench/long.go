package bench

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

const pollEvery = 5 * time.Millisecond

const (
	manyEndpoints = 10_000
	sinkAddresses = 100
	hangingShare  = 10 // one in
)

// isolation compares the healthy endpoints' latency with and without others that
// hang, and with and without a tenant that has 100 times the others' traffic.
func isolation(ctx context.Context, s *stage) error {
	sink, err := s.receiver(ctx, sinkAddresses, false)
	if err != nil {
		return err
	}
	const rate = 2000
	var kinds []*lateKind
	for _, hanging := range []bool{false, true} {
		g, err := s.gateway(ctx, 0, "")
		if err != nil {
			return err
		}
		way := func(i int) string {
			if hanging && i%hangingShare == 0 {
				return "hang"
			}
			return "ok"
		}
		if err := g.numbersWithEndpoints(ctx, manyEndpoints, sink, way); err != nil {
			return err
		}
		generator, _, err := s.launch(ctx, "generator", generatorConfig{Address: g.address})
		if err != nil {
			return err
		}
		kinds = append(kinds, &lateKind{name: fmt.Sprintf("hanging %t", hanging), ask: generator.ask})
	}
	if err := s.isolationTurns(ctx, sink, kinds, rate); err != nil {
		return err
	}
	s.add("10 % of 10,000 endpoints hang", kinds[1].compare(kinds[0])...)
	if err := s.clear(); err != nil {
		return err
	}
	return noisyTenant(ctx, s)
}

// isolationTurns has the second kind's endpoints hang.
func (s *stage) isolationTurns(ctx context.Context, sink *receiver, kinds []*lateKind, rate float64) error {
	for round := -1; round < max(3, s.options.Pairs/2); round++ {
		for i, k := range kinds {
			r := request{Rate: rate, Seconds: max(2, s.options.Seconds), Numbers: manyEndpoints, Hanging: i * hangingShare}
			l, err := s.lateRun(ctx, sink, r, k.ask)
			if err != nil {
				return err
			}
			if round >= 0 {
				k.runs = append(k.runs, l)
			}
		}
	}
	return nil
}

func (k *lateKind) compare(other *lateKind) []Figure {
	var ratios []float64
	for i := range k.runs {
		ratios = append(ratios, k.runs[i].arrive.P99/other.runs[i].arrive.P99)
	}
	arrive := func(l *late) *latencies { return l.arrive }
	return slices.Concat([]Figure{figure("healthy p99 ratio", "", ratios)},
		k.figures("healthy end to end", arrive), other.figures("alone end to end", arrive))
}

// noisyTenant has 100 numbers of small tenants, and one tenant beside them.
func noisyTenant(ctx context.Context, s *stage) error {
	const small, rate = 100, 40
	sink, err := s.receiver(ctx, sinkAddresses, false)
	if err != nil {
		return err
	}
	g, err := s.gateway(ctx, 0, "")
	if err != nil {
		return err
	}
	if err := g.numbersWithEndpoints(ctx, small, sink, func(int) string { return "ok" }); err != nil {
		return err
	}
	noisy, err := g.create(ctx, "/api/v1/tenants", map[string]any{"name": "noisy"})
	if err != nil {
		return err
	}
	number, err := g.number(ctx, noisy, small)
	if err != nil {
		return err
	}
	if _, err := g.endpoint(ctx, noisy, number, "meta", sink.url("heavy", small, sinkAddresses)); err != nil {
		return err
	}
	generator, _, err := s.launch(ctx, "generator", generatorConfig{Address: g.address})
	if err != nil {
		return err
	}
	alone := &lateKind{name: "alone", ask: generator.ask}
	beside := &lateKind{name: "beside", ask: generator.ask}
	for round := -1; round < max(3, s.options.Pairs/2); round++ {
		for _, k := range []*lateKind{alone, beside} {
			r := request{Rate: rate, Seconds: 2 * s.options.Seconds, Numbers: small}
			if k == beside {
				r.Rate, r.Heavy = rate*101, 1
			}
			l, err := s.lateRun(ctx, sink, r, k.ask)
			if err != nil {
				return err
			}
			if round >= 0 {
				k.runs = append(k.runs, l)
			}
		}
	}
	s.add("a tenant with 100 times the traffic", beside.compare(alone)...)
	return nil
}

// numbersWithEndpoints makes many, a few at a time.
func (g *site) numbersWithEndpoints(ctx context.Context, n int, sink *receiver, way func(i int) string) error {
	return inParallel(16, n, func(i int) error {
		number, err := g.number(ctx, g.tenant, i)
		if err != nil {
			return err
		}
		_, err = g.endpoint(ctx, g.tenant, number, "meta", sink.url(way(i), i, sinkAddresses))
		return err
	})
}

func inParallel(workers, n int, do func(i int) error) error {
	todo := make(chan int, n)
	for i := range n {
		todo <- i
	}
	close(todo)
	failed := make(chan error, workers)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for i := range todo {
				if err := do(i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(failed)
	return <-failed
}

// growth fills a store with settled and owed rows, by accepting and delivering
// them, and compares the gateway on it with one on an empty store.
func growth(ctx context.Context, s *stage) error {
	b, err := s.basic(ctx, false)
	if err != nil {
		return err
	}
	empty := b.gateway
	emptyGenerator := b.generator
	full, number, generator, err := s.fed(ctx, b.sink)
	if err != nil {
		return err
	}
	for _, site := range []struct {
		*site
		number string
	}{{empty, b.number}, {full, number}} {
		if _, err := site.endpoint(ctx, site.tenant, site.number, "meta", b.sink.url("ok", 0, 1)); err != nil {
			return err
		}
	}
	if err := s.fillStore(ctx, full, b.sink); err != nil {
		return err
	}
	kinds := []*kind{
		{name: "empty", run: s.through(path{gateway: empty, sink: b.sink, feeder: emptyGenerator, numbers: 1, hooks: 1})},
		{name: "grown", run: s.through(path{gateway: full, sink: b.sink, feeder: generator, numbers: 1, hooks: 1})},
	}
	if err := s.turns(ctx, kinds...); err != nil {
		return err
	}
	s.add(fmt.Sprintf("%d settled and %d owed", s.options.Settled, s.options.Owed), kinds[1].against(kinds[0], "an empty store")...)
	if err := s.lists(ctx, full); err != nil {
		return err
	}
	if err := s.restart(ctx, full); err != nil {
		return err
	}
	return s.idle(ctx, empty, b.sink)
}

// fillStore leaves rows of both kinds behind: settled ones of the first number,
// owed ones of a second, whose endpoint is paused.
func (s *stage) fillStore(ctx context.Context, g *site, sink *receiver) error {
	held, err := g.number(ctx, g.tenant, 1)
	if err != nil {
		return err
	}
	paused, err := g.endpoint(ctx, g.tenant, held, "meta", sink.url("ok", 1, 1))
	if err != nil {
		return err
	}
	var ignored map[string]any
	if err := g.call(ctx, http.MethodPost, "/api/v1/endpoints/"+paused+"/pause", "", &ignored); err != nil {
		return err
	}
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
	return poll(ctx, pollEvery, func() (bool, error) {
		a, err := g.ask(request{Do: "working"})
		return a.Working == 0, err
	})
}

// lists times the event list as an operator would filter it.
func (s *stage) lists(ctx context.Context, g *site) error {
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

func (s *stage) restart(ctx context.Context, g *site) error {
	var ready []float64
	for range 3 {
		if err := s.end(g.child); err != nil {
			return err
		}
		if err := s.start(ctx, g); err != nil {
			return err
		}
		ready = append(ready, g.ready)
	}
	s.add(fmt.Sprintf("restart with %d owed", s.options.Owed), figure("ready after", "s", ready))
	return nil
}

const idleEndpoints = 100_000

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
	err = inParallel(16, idleEndpoints, func(i int) error {
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
	s.add("100,000 idle endpoints", figure("memory without", "MB", []float64{before}), figure("memory with", "MB", []float64{after}),
		figure("difference", "MB", []float64{after - before}))
	return nil
}
