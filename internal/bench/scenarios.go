package bench

import (
	"context"
	"fmt"
	"slices"
)

// kind is one of the things that take turns.
type kind struct {
	name string
	run  func(context.Context) (measure, error)
	runs []measure
}

// turns runs each kind once for nothing, which opens connections and fills
// caches, and then all of them in turns.
func (s *stage) turns(ctx context.Context, kinds ...*kind) error {
	for round := -1; round < s.options.Pairs; round++ {
		for _, k := range kinds {
			m, err := k.run(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			if round >= 0 {
				k.runs = append(k.runs, m)
			} else {
				s.foreign.take()
			}
		}
	}
	return nil
}

func column(runs []measure, value func(m *measure) float64) []float64 {
	values := make([]float64, len(runs))
	for i := range runs {
		values[i] = value(&runs[i])
	}
	return values
}

// against gives the figures of a kind, its ratios to another's neighbouring runs
// among them: 1 is as good as that one, 0.5 half as good.
func (k *kind) against(other *kind, name string) []Figure {
	rate, cpu := make([]float64, len(k.runs)), make([]float64, len(k.runs))
	for i := range k.runs {
		rate[i] = k.runs[i].rate / other.runs[i].rate
		cpu[i] = other.runs[i].cpu / k.runs[i].cpu
	}
	return append([]Figure{
		figure("rate ratio to "+name, "", rate),
		figure("CPU ratio to "+name, "", cpu),
	}, k.figures()...)
}

func (k *kind) figures() []Figure {
	figures := []Figure{
		figure("rate", "events/s", column(k.runs, func(m *measure) float64 { return m.rate })),
		figure("CPU", "us/event", column(k.runs, func(m *measure) float64 { return m.cpu })),
		figure("of it own", "us/event", column(k.runs, func(m *measure) float64 { return m.own })),
	}
	server := column(k.runs, func(m *measure) float64 { return m.server })
	if slices.Max(server) > 0 {
		figures = append(figures, figure("database server's CPU", "us/event", server))
	}
	written := column(k.runs, func(m *measure) float64 { return m.written })
	if slices.Max(written) > 0 {
		figures = append(figures, figure("written to disk", "bytes/event", written),
			figure("events per commit", "", column(k.runs, func(m *measure) float64 { return m.batch })),
			figure("memory at most", "MB", column(k.runs, func(m *measure) float64 { return m.peak / 1e6 })))
	}
	return figures
}

// ceiling is the bare client's run. Each of the events is posted once for each
// of the hooks that the gateway would make of it.
func (s *stage) ceiling(client *child, sink *receiver, hooks, messages int) *kind {
	return &kind{name: "ceiling", run: func(ctx context.Context) (measure, error) {
		n := s.options.Events * hooks
		r := request{Target: sink.url("ok", 0, 1), CA: sink.ca, Events: n, First: s.take(n * max(1, messages)), Batch: messages}
		if messages > 0 {
			r.Events = n / messages
		}
		m, err := s.run(ctx, n, r.Events, sink, client, nil, nil, func() error {
			_, err := client.ask(r)
			return err
		})
		return m, err
	}}
}

// path is a run through the gateway.
type path struct {
	gateway *site
	sink    *receiver
	feeder  *child // nil: in-process
	past    bool   // in-process and past ingest: endpoint is owed the events of number
	number  string
	numbers int
	hooks   int // that reach the sink for each event
	batch   int

	endpoint string
}

func (s *stage) through(p path) func(context.Context) (measure, error) {
	return func(ctx context.Context) (measure, error) {
		events := s.options.Events
		r := request{Do: "prepare", Events: events, Numbers: p.numbers, Batch: p.batch}
		if p.batch > 0 {
			r.Events = max(1, events/p.batch)
			events = r.Events * p.batch
		}
		r.First = s.take(events)
		feeder, do := p.feeder, "send"
		if feeder == nil {
			feeder, do = p.gateway.child, "feed"
		}
		if p.past {
			r.Do, do = "prepare commit", "commit"
			r.Tenant, r.Number, r.Endpoint = p.gateway.tenant, p.number, p.endpoint
		}
		if _, err := feeder.ask(r); err != nil {
			return measure{}, err
		}
		r.Do = do
		return s.run(ctx, events, events*p.hooks, p.sink, p.gateway.child, p.gateway, feeder, func() error {
			_, err := feeder.ask(r)
			return err
		})
	}
}

// basic is what most scenarios begin with: a sink, a bare client, and a gateway
// with one number that the generator sends to.
type basic struct {
	sink      *receiver
	client    *child
	gateway   *site
	number    string
	generator *child
}

func (s *stage) basic(ctx context.Context, tls bool) (b basic, err error) {
	if b.sink, err = s.receiver(ctx, 1, tls); err != nil {
		return b, err
	}
	if b.client, _, err = s.launch(ctx, "client", struct{}{}); err != nil {
		return b, err
	}
	b.gateway, b.number, b.generator, err = s.fed(ctx, b.sink)
	return b, err
}

// fed starts a gateway with a number and a generator for it. One number and few
// endpoints stand for the many of a real installation, so each may have as many
// requests in flight as the bare client.
func (s *stage) fed(ctx context.Context, sink *receiver) (g *site, number string, generator *child, err error) {
	if g, err = s.gateway(ctx, clients, sink.ca); err != nil {
		return nil, "", nil, err
	}
	if number, err = g.number(ctx, g.tenant, 0); err != nil {
		return nil, "", nil, err
	}
	generator, _, err = s.launch(ctx, "generator", generatorConfig{Address: g.address})
	return g, number, generator, err
}

// throughput has a gateway for each way in: what one holds ready of events that
// will be fed to it in-process must not burden another.
func throughput(ctx context.Context, s *stage) error {
	b, err := s.basic(ctx, false)
	if err != nil {
		return err
	}
	over, err := s.hooked(ctx, b.gateway, b.number, b.sink)
	if err != nil {
		return err
	}
	over.feeder = b.generator
	kinds := []*kind{{name: "full path", run: s.through(over)}}
	for _, name := range []string{"ingest in-process", "store and delivery alone"} {
		g, err := s.gateway(ctx, clients, b.sink.ca)
		if err != nil {
			return err
		}
		number, err := g.number(ctx, g.tenant, 0)
		if err != nil {
			return err
		}
		p, err := s.hooked(ctx, g, number, b.sink)
		if err != nil {
			return err
		}
		p.past = len(kinds) == 2
		kinds = append(kinds, &kind{name: name, run: s.through(p)})
	}
	ceiling := s.ceiling(b.client, b.sink, 1, 0)
	if err := s.turns(ctx, slices.Insert(slices.Clone(kinds), 0, ceiling)...); err != nil {
		return err
	}
	foreign := s.foreign
	s.add("bare client", ceiling.figures()...)
	for _, k := range kinds {
		s.foreign = foreign
		s.add(k.name, k.against(ceiling, "the bare client")...)
	}
	return nil
}

// hooked gives a number an endpoint, and is the path through both.
func (s *stage) hooked(ctx context.Context, g *site, number string, sink *receiver) (path, error) {
	endpoint, err := g.endpoint(ctx, g.tenant, number, "meta", sink.url("ok", 0, 1))
	return path{gateway: g, sink: sink, number: number, endpoint: endpoint, numbers: 1, hooks: 1}, err
}

// rates are the fixed rates that latency is measured at.
var rates = []float64{50, 1000, 5000}

func latency(ctx context.Context, s *stage) error {
	b, err := s.basic(ctx, false)
	if err != nil {
		return err
	}
	if _, err := b.gateway.endpoint(ctx, b.gateway.tenant, b.number, "meta", b.sink.url("ok", 0, 1)); err != nil {
		return err
	}
	chosen := s.options.Rates
	if len(chosen) == 0 {
		chosen = rates
	}
	for _, rate := range chosen {
		bare := &lateKind{name: "bare", ask: func(r request) (answer, error) {
			r.Target = b.sink.url("ok", 0, 1)
			return b.client.ask(r)
		}}
		gateway := &lateKind{name: "gateway", ask: b.generator.ask}
		if err := s.lateTurns(ctx, b.sink, rate, bare, gateway); err != nil {
			return err
		}
		s.add(fmt.Sprintf("%.0f events/s", rate), slices.Concat(
			bare.figures("bare round trip", func(l *late) *latencies { return l.accept }),
			gateway.figures("accept", func(l *late) *latencies { return l.accept }),
			bare.figures("bare one way", func(l *late) *latencies { return l.arrive }),
			gateway.figures("end to end", func(l *late) *latencies { return l.arrive }),
		)...)
	}
	return nil
}

// late are the latencies of one run: until the answer, and until the arrival.
type late struct{ accept, arrive *latencies }

type lateKind struct {
	name string
	ask  func(request) (answer, error)
	runs []late
}

func (s *stage) lateTurns(ctx context.Context, sink *receiver, rate float64, kinds ...*lateKind) error {
	for round := -1; round < max(3, s.options.Pairs/2); round++ {
		for _, k := range kinds {
			r := request{Rate: rate, Seconds: s.options.Seconds, Numbers: 1}
			if round < 0 {
				r.Seconds = 1
			}
			l, err := s.lateRun(ctx, sink, r, k.ask)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			if round >= 0 {
				k.runs = append(k.runs, l)
			}
		}
	}
	return nil
}

func (s *stage) lateRun(ctx context.Context, sink *receiver, r request, ask func(request) (answer, error)) (late, error) {
	if _, err := sink.ask(request{Do: "reset"}); err != nil {
		return late{}, err
	}
	n := int(r.Rate * float64(r.Seconds))
	r.First = s.take(n)
	expected := n
	switch {
	case r.Heavy > 0:
		expected = (n + 100) / 101
	case r.Hanging > 0: // of those that hang nothing ever arrives
		expected = n - (r.First+n-1)/r.Hanging + (r.First-1)/r.Hanging
	}
	before, err := s.used()
	if err != nil {
		return late{}, err
	}
	s.foreign.begin()
	a, err := ask(r)
	if err != nil {
		return late{}, err
	}
	if err := sink.await(ctx, expected); err != nil {
		return late{}, err
	}
	after, err := s.used()
	if err != nil {
		return late{}, err
	}
	s.foreign.end(after - before)
	arrived, err := sink.ask(request{Do: "latencies"})
	return late{accept: a.Latencies, arrive: arrived.Latencies}, err
}

func (k *lateKind) figures(name string, of func(*late) *latencies) []Figure {
	var figures []Figure
	for _, part := range []struct {
		name string
		read func(*latencies) float64
	}{
		{"p50", func(l *latencies) float64 { return l.P50 }},
		{"p99", func(l *latencies) float64 { return l.P99 }},
		{"p99.9", func(l *latencies) float64 { return l.P999 }},
	} {
		var values []float64
		for i := range k.runs {
			values = append(values, part.read(of(&k.runs[i])))
		}
		figures = append(figures, figure(name+" "+part.name, "ms", values))
	}
	return figures
}

// dialectIDs are measured against the first of them. The partner API is missing:
// its hooks are about accounts, and no messages go that way.
var dialectIDs = []string{"meta", "360dialog", "whizard", "99digital", "connectly", "standard"}

func dialects(ctx context.Context, s *stage) error {
	sink, err := s.receiver(ctx, 1, false)
	if err != nil {
		return err
	}
	var kinds []*kind
	for _, id := range dialectIDs {
		g, number, generator, err := s.fed(ctx, sink)
		if err != nil {
			return err
		}
		if _, err := g.endpoint(ctx, g.tenant, number, id, sink.url("ok", 0, 1)); err != nil {
			return err
		}
		kinds = append(kinds, &kind{name: id, run: s.through(path{gateway: g, sink: sink, feeder: generator, numbers: 1, hooks: 1})})
	}
	if err := s.turns(ctx, kinds...); err != nil {
		return err
	}
	foreign := s.foreign
	for _, k := range kinds {
		s.foreign = foreign
		s.add(k.name, k.against(kinds[0], kinds[0].name)...)
	}
	return nil
}

func fanout(ctx context.Context, s *stage) error {
	for _, endpoints := range []int{1, 3, 10} {
		b, err := s.basic(ctx, false)
		if err != nil {
			return err
		}
		for i := range endpoints {
			if _, err := b.gateway.endpoint(ctx, b.gateway.tenant, b.number, "meta", b.sink.url("ok", i, 1)); err != nil {
				return err
			}
		}
		ceiling := s.ceiling(b.client, b.sink, endpoints, 0)
		full := &kind{name: "full path", run: s.through(path{gateway: b.gateway, sink: b.sink, feeder: b.generator, numbers: 1, hooks: endpoints})}
		if err := s.turns(ctx, ceiling, full); err != nil {
			return err
		}
		perHook(ceiling, endpoints)
		s.add(fmt.Sprintf("%d endpoints", endpoints), full.against(ceiling, "as many bare posts")...)
		if err := s.clear(); err != nil {
			return err
		}
	}
	return nil
}

// perHook turns the ceiling's figures from one post to as many as an event makes.
func perHook(k *kind, hooks int) {
	for i := range k.runs {
		m := &k.runs[i]
		m.rate /= float64(hooks)
		m.cpu *= float64(hooks)
	}
}

// batchMessages of 3 KB make a request of 3 MB, the most that Meta sends.
const batchMessages = 1000

func batches(ctx context.Context, s *stage) error {
	b, err := s.basic(ctx, false)
	if err != nil {
		return err
	}
	if _, err := b.gateway.endpoint(ctx, b.gateway.tenant, b.number, "meta", b.sink.url("ok", 0, 1)); err != nil {
		return err
	}
	single := &kind{name: "single", run: s.through(path{gateway: b.gateway, sink: b.sink, feeder: b.generator, numbers: 1, hooks: 1})}
	batched := &kind{name: "batched", run: s.through(path{gateway: b.gateway, sink: b.sink, feeder: b.generator, numbers: 1, hooks: 1, batch: batchMessages})}
	if err := s.turns(ctx, single, batched); err != nil {
		return err
	}
	s.add("1,000 messages in 3 MB", batched.against(single, "single messages")...)
	return nil
}

func overTLS(ctx context.Context, s *stage) error {
	b, err := s.basic(ctx, true)
	if err != nil {
		return err
	}
	if _, err := b.gateway.endpoint(ctx, b.gateway.tenant, b.number, "meta", b.sink.url("ok", 0, 1)); err != nil {
		return err
	}
	ceiling := s.ceiling(b.client, b.sink, 1, 0)
	full := &kind{name: "full path", run: s.through(path{gateway: b.gateway, sink: b.sink, feeder: b.generator, numbers: 1, hooks: 1})}
	if err := s.turns(ctx, ceiling, full); err != nil {
		return err
	}
	s.add("full path", full.against(ceiling, "the bare client with TLS")...)
	return nil
}

// failing has 10 numbers, each with one endpoint that takes its hooks and, in
// the second gateway, another that refuses them.
func failing(ctx context.Context, s *stage) error {
	const numbers = 10
	sink, err := s.receiver(ctx, 1, false)
	if err != nil {
		return err
	}
	var kinds []*kind
	for _, refusing := range []bool{false, true} {
		g, err := s.gateway(ctx, clients, "")
		if err != nil {
			return err
		}
		for i := range numbers {
			number, err := g.number(ctx, g.tenant, i)
			if err != nil {
				return err
			}
			if _, err := g.endpoint(ctx, g.tenant, number, "meta", sink.url("ok", i, 1)); err != nil {
				return err
			}
			if !refusing {
				continue
			}
			if _, err := g.endpoint(ctx, g.tenant, number, "meta", sink.url("fail", i, 1)); err != nil {
				return err
			}
		}
		generator, _, err := s.launch(ctx, "generator", generatorConfig{Address: g.address})
		if err != nil {
			return err
		}
		p := path{gateway: g, sink: sink, feeder: generator, numbers: numbers, hooks: 1}
		name := "all take them"
		if refusing {
			name = "half refuse"
			p.gateway.owing = true
		}
		kinds = append(kinds, &kind{name: name, run: s.through(p)})
	}
	if err := s.turns(ctx, kinds...); err != nil {
		return err
	}
	s.add("half of the endpoints refuse", kinds[1].against(kinds[0], "none refuses")...)
	return nil
}
