package settings

import (
	"net/netip"
	"sync"
	"time"
)

const (
	guessLimit   = 30 // bad tries from one address in a window
	guessWindow  = time.Minute
	guessTracked = 10_000 // addresses remembered
)

// Limiter tells when one address has shown too many bad credentials. It only
// counts failures, so a good credential is never held up.
type Limiter struct {
	now func() time.Time

	mu    sync.Mutex
	tries map[string]*tries
}

type tries struct {
	since time.Time
	count int
}

// NewLimiter makes a limiter.
func NewLimiter(now func() time.Time) *Limiter {
	return &Limiter{now: now, tries: map[string]*tries{}}
}

// Failed counts a bad try and reports whether it is one too many.
func (l *Limiter) Failed(remote string) (tooMany bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, from := l.now(), network(remote)
	t := l.tries[from]
	if t == nil || now.Sub(t.since) >= guessWindow {
		l.makeRoom(now)
		t = &tries{since: now}
		l.tries[from] = t
	}
	t.count++
	return t.count > guessLimit
}

// makeRoom keeps memory bounded, whoever comes from however many addresses.
func (l *Limiter) makeRoom(now time.Time) {
	if len(l.tries) < guessTracked {
		return
	}
	for from, t := range l.tries {
		if now.Sub(t.since) >= guessWindow {
			delete(l.tries, from)
		}
	}
	if len(l.tries) >= guessTracked {
		clear(l.tries)
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
