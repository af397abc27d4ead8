package bench

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const pollEvery = 5 * time.Millisecond

// settingUp is how many endpoints are made at a time.
const settingUp = 16

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
			// Few events come in a second, and a p99 wants many.
			r := request{Rate: rate, Seconds: 4 * s.options.Seconds, Numbers: small}
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
	return parallel(settingUp, n, func(i int) error {
		number, err := g.number(ctx, g.tenant, i)
		if err != nil {
			return err
		}
		_, err = g.endpoint(ctx, g.tenant, number, "meta", sink.url(way(i), i, sinkAddresses))
		return err
	})
}
