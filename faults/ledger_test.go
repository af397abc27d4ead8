package faults_test

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// ledger notes what was accepted and what arrived where. Events are numbered
// from 1; the number is part of the message id.
type ledger struct {
	mu       sync.Mutex
	last     int         // the highest number given to an event
	accepted []time.Time // by number: when it was answered 200; zero: it was not
	total    int
	places   map[string]*place
	repeats  []repeat
	faults   []fault
}

// place is what arrived at one endpoint.
type place struct {
	first []time.Time // by number
	total int
	times int // arrivals, repeats included
	last  time.Time
}

// repeat is an event that arrived again.
type repeat struct {
	path         string
	number       int
	first, again time.Time
}

// fault is when something was broken. What was under way then may arrive again.
type fault struct{ from, until time.Time }

const (
	// beforeFault is how old the answer to a request may be at a fault and still
	// not be on record: results are written in batches, on a clock of their own.
	beforeFault = 2 * time.Second
	// afterFault is how long a request that was under way may have taken to
	// arrive.
	afterFault = 2 * time.Second
)

func newLedger(paths ...string) *ledger {
	l := &ledger{places: map[string]*place{}}
	for _, path := range paths {
		l.places[path] = &place{}
	}
	return l
}

const idPrefix, idDigits = "wamid.FAULT", 10

func messageID(number int) string { return fmt.Sprintf("%s%0*d", idPrefix, idDigits, number) }

// numbers finds the events in a hook.
func numbers(body []byte) []int {
	var found []int
	text := string(body)
	for i := 0; i+len(idPrefix)+idDigits <= len(text); i++ {
		if text[i:i+len(idPrefix)] != idPrefix {
			continue
		}
		i += len(idPrefix)
		if number, err := strconv.Atoi(text[i : i+idDigits]); err == nil && !slices.Contains(found, number) {
			found = append(found, number)
		}
	}
	return found
}

// take gives n fresh numbers.
func (l *ledger) take(n int) []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	fresh := make([]int, n)
	for i := range fresh {
		l.last++
		fresh[i] = l.last
	}
	return fresh
}

func (l *ledger) newest() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func (l *ledger) accept(numbers []int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, number := range numbers {
		l.accepted = grown(l.accepted, number)
		if l.accepted[number].IsZero() {
			l.total++
			l.accepted[number] = time.Now()
		}
	}
}

func (l *ledger) arrive(path string, numbers []int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.places[path]
	if p == nil {
		p = &place{}
		l.places[path] = p
	}
	now := time.Now()
	for _, number := range numbers {
		p.first = grown(p.first, number)
		p.times++
		p.last = now
		if !p.first[number].IsZero() {
			l.repeats = append(l.repeats, repeat{path, number, p.first[number], now})
			continue
		}
		p.total++
		p.first[number] = now
	}
}

func grown(list []time.Time, number int) []time.Time {
	if number < len(list) {
		return list
	}
	return append(list, make([]time.Time, number+1-len(list))...)
}

// acceptedTotal is how many events were answered 200.
func (l *ledger) acceptedTotal() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

func (l *ledger) arrivedTotal(path string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.places[path]; p != nil {
		return p.total
	}
	return 0
}

func (l *ledger) arrivedSince(path string, t time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.places[path].last.After(t)
}

// hasArrived tells whether an event numbered above after has arrived there.
func (l *ledger) hasArrived(path string, after int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.places[path]
	if p == nil {
		return false
	}
	for number := after + 1; number < len(p.first); number++ {
		if !p.first[number].IsZero() {
			return true
		}
	}
	return false
}

// missing counts what was accepted, up to a number, and has not arrived at the
// place, and names one of them.
func (l *ledger) missing(path string, upTo int) (count, example int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.places[path]
	for number, at := range l.accepted {
		if at.IsZero() || number > upTo {
			continue
		}
		if p == nil || number >= len(p.first) || p.first[number].IsZero() {
			count++
			example = number
		}
	}
	return count, example
}

// lag is the longest time between acceptance and arrival at a place.
func (l *ledger) lag(path string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var longest time.Duration
	for number, at := range l.places[path].first {
		if !at.IsZero() && number < len(l.accepted) && !l.accepted[number].IsZero() {
			longest = max(longest, at.Sub(l.accepted[number]))
		}
	}
	return longest
}

// broken notes a fault. until may be set later through the returned function.
func (l *ledger) broken() (mended func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.faults = append(l.faults, fault{now, now})
	i := len(l.faults) - 1
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.faults[i].until = time.Now()
	}
}

// unexplained gives the repeats of what was not under way at any fault.
func (l *ledger) unexplained() []repeat {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.repeats), func(r repeat) bool {
		return slices.ContainsFunc(l.faults, func(f fault) bool {
			return r.first.After(f.from.Add(-beforeFault)) && r.first.Before(f.until.Add(afterFault)) && r.again.After(f.from)
		})
	})
}

// totals are the sums over all places.
func (l *ledger) totals() (arrived, repeated int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.places {
		arrived += p.total
		repeated += p.times - p.total
	}
	return arrived, repeated
}
