// Package metrics is what the gateway counts, in Prometheus form. Label sets are
// bounded: never an endpoint, a number, a tenant or a URL.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/waypost-gateway/waypost/internal/ingest"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Metrics observes ingest and delivery.
type Metrics struct {
	registry   *prometheus.Registry
	requests   *series[request, prometheus.Counter]
	events     *series[waypost.EventState, prometheus.Counter]
	duplicates prometheus.Counter
	refused    *prometheus.CounterVec
	attempts   *series[attempt, prometheus.Counter]
	durations  *series[string, prometheus.Observer]
	lost       prometheus.Counter
}

// request and attempt are labels of what is counted.
type (
	request struct {
		kind   waypost.SourceKind
		result ingest.Result
	}
	attempt struct {
		dialect string
		outcome waypost.Outcome
		reason  waypost.Reason
	}
)

// New makes a registry of its own, so that several gateways can run in one
// process.
func New() *Metrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "waypost_ingest_requests_total",
		Help: "Ingest requests by kind of source and result.",
	}, []string{"source", "result"})
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "waypost_events_total",
		Help: "Events stored, by state (routed, unrouted, unparsed).",
	}, []string{"state"})
	attempts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "waypost_delivery_attempts_total",
		Help: "Delivery attempts by dialect, outcome and reason.",
	}, []string{"dialect", "outcome", "reason"})
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "waypost_delivery_attempt_seconds",
		Help:    "How long delivery attempts took, by dialect.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15},
	}, []string{"dialect"})
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: newSeries(func(r request) prometheus.Counter {
			return requests.WithLabelValues(string(r.kind), string(r.result))
		}),
		events: newSeries(func(state waypost.EventState) prometheus.Counter {
			return events.WithLabelValues(string(state))
		}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "waypost_event_duplicates_total",
			Help: "Repeats of events that were acknowledged and not stored again.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "waypost_ingest_refused_total",
			Help: "Requests that were asked to come again, by reason (memory, disk, store, closing).",
		}, []string{"reason"}),
		attempts: newSeries(func(a attempt) prometheus.Counter {
			return attempts.WithLabelValues(a.dialect, string(a.outcome), string(a.reason))
		}),
		durations: newSeries(func(dialect string) prometheus.Observer { return durations.WithLabelValues(dialect) }),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "waypost_delivery_results_lost_total",
			Help: "Results that were not written because another node had taken the delivery over.",
		}),
	}
	m.registry.MustRegister(requests, events, m.duplicates, m.refused, attempts, durations, m.lost,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Gauge adds a gauge that is read when scraped.
func (m *Metrics) Gauge(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
}

// Handler serves /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Ingested counts one ingest request.
func (m *Metrics) Ingested(kind waypost.SourceKind, result ingest.Result) {
	m.requests.of(request{kind, result}).Inc()
}

// Accepted counts one stored event or one repeat.
func (m *Metrics) Accepted(state waypost.EventState, duplicate bool) {
	if duplicate {
		m.duplicates.Inc()
		return
	}
	m.events.of(state).Inc()
}

// Refused counts one request that was asked to come again.
func (m *Metrics) Refused(why ingest.Refusal) { m.refused.WithLabelValues(string(why)).Inc() }

// Attempted counts one delivery attempt.
func (m *Metrics) Attempted(dialect string, outcome waypost.Outcome, reason waypost.Reason, took time.Duration) {
	m.attempts.of(attempt{dialect, outcome, reason}).Inc()
	m.durations.of(dialect).Observe(took.Seconds())
}

// Lost counts results that came too late to be written.
func (m *Metrics) Lost(n int) { m.lost.Add(float64(n)) }
