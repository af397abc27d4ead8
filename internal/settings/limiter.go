package settings

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Limits say how many bad credentials one address may show. The zero value is
// the gateway's own: 30 a minute, and good ones always get through.
type Limits struct {
	Tries  int // bad tries within Window
	Window time.Duration
	// Block: the last of the Tries closes the address out for so long, good
	// credentials included. 0: only bad tries are held up.
	Block time.Duration
}

// tracked is how many addresses a Limiter remembers.
const tracked = 10_000

// Limiter tells when one address has shown too many bad credentials. It counts
// over the Window before each try, in memory: a restart forgets.
type Limiter struct {
	limits Limits
	now    func() time.Time

	mu        sync.Mutex
	addresses map[string]*tries
}

// tries are the bad ones of one address.
type tries struct {
	at     []time.Time // within the window, oldest first
	closed time.Time   // closed out until then
}

// NewLimiter makes a limiter.
func NewLimiter(limits Limits, now func() time.Time) *Limiter {
	if limits.Tries <= 0 {
		limits = Limits{Tries: 30, Window: time.Minute}
	}
	return &Limiter{limits: limits, now: now, addresses: map[string]*tries{}}
}

// Closed reports whether the address is closed out.
func (l *Limiter) Closed(remote string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.addresses[network(remote)]
	return t != nil && l.now().Before(t.closed)
}

// Failed counts a bad try and reports whether it is one too many.
func (l *Limiter) Failed(remote string) (tooMany bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, from := l.now(), network(remote)
	t := l.addresses[from]
	if t == nil {
		l.makeRoom(now)
		t = &tries{}
		l.addresses[from] = t
	}
	l.age(t, now)
	if len(t.at) == l.limits.Tries || now.Before(t.closed) {
		return true
	}
	t.at = append(t.at, now)
	if l.limits.Block > 0 && len(t.at) == l.limits.Tries {
		t.at, t.closed = nil, now.Add(l.limits.Block)
	}
	return false
}

// age forgets what lies before the window.
func (l *Limiter) age(t *tries, now time.Time) {
	t.at = slices.DeleteFunc(t.at, func(at time.Time) bool { return now.Sub(at) >= l.limits.Window })
}

// makeRoom keeps memory bounded, whoever comes from however many addresses.
// Those that are closed out are forgotten last.
func (l *Limiter) makeRoom(now time.Time) {
	if len(l.addresses) < tracked {
		return
	}
	maps.DeleteFunc(l.addresses, func(_ string, t *tries) bool {
		l.age(t, now)
		return len(t.at) == 0 && !now.Before(t.closed)
	})
	const plenty = tracked * 3 / 4 // so that this is not done again for each address
	if len(l.addresses) > plenty {
		maps.DeleteFunc(l.addresses, func(_ string, t *tries) bool { return !now.Before(t.closed) })
	}
	if len(l.addresses) > plenty {
		clear(l.addresses)
	}
}

// network is what counts as one sender: the address without its port, or the
// /64 it is in for IPv6, since anybody there has all of it.
func network(remote string) string {
	address, err := netip.ParseAddr(remote)
	if err != nil {
		port, err := netip.ParseAddrPort(remote)
		if err != nil {
			return remote
		}
		address = port.Addr()
	}
	address = address.Unmap().WithZone("")
	if address.Is4() {
		return address.String()
	}
	prefix, err := address.Prefix(64)
	if err != nil {
		return address.String()
	}
	return prefix.String()
}
