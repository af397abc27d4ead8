package egress

import (
	"slices"
	"sync"
	"time"
)

// pool keeps the connections that are not in use. It has no goroutine: a
// connection that the receiver closes meanwhile is found out when it is asked
// for, or closed when its time is up.
type pool struct {
	perHost int           // connections kept for one host
	total   int           // and for all
	idle    time.Duration // how long

	mu     sync.Mutex
	hosts  map[host]*kept
	oldest *conn // of all that are kept, in the order in which they came
	newest *conn
	size   int
	timer  *time.Timer // runs while any is kept
	closed bool
}

// kept is what is known of a host.
type kept struct {
	conns []*conn // the last came last, and goes first
	http2 bool    // it speaks HTTP/2, which net/http takes care of
}

// maxHosts bounds how many hosts are remembered without a connection.
const maxHosts = 16384

func newPool() *pool {
	return &pool{perHost: 64, total: 2000, idle: time.Minute, hosts: map[host]*kept{}}
}

// take gives a kept connection, or nil, or says that the host speaks HTTP/2.
// Whether the connection still stands is for its next exchange to see.
func (p *pool) take(h host) (c *conn, http2 bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.hosts[h]
	switch {
	case k == nil:
		return nil, false
	case k.http2 || len(k.conns) == 0:
		return nil, k.http2
	}
	c = k.conns[len(k.conns)-1]
	p.remove(k, len(k.conns)-1)
	return c, false
}

// put keeps a connection, or closes it when there are enough.
func (p *pool) put(c *conn) {
	if surplus := p.keep(c); surplus != nil {
		_ = surplus.Close()
	}
}

func (p *pool) keep(c *conn) (surplus *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.host(c.host)
	if p.closed || len(k.conns) >= p.perHost {
		return c
	}
	if p.size >= p.total {
		surplus = p.removeOldest()
	}
	k.conns = append(k.conns, c)
	c.since, c.older, c.newer = time.Now(), p.newest, nil
	if p.newest != nil {
		p.newest.newer = c
	} else {
		p.oldest = c
		p.arm(p.idle)
	}
	p.newest = c
	p.size++
	return surplus
}

// host is the entry of a host, made if need be.
func (p *pool) host(h host) *kept {
	k := p.hosts[h]
	if k != nil {
		return k
	}
	if len(p.hosts) >= maxHosts {
		for other, k := range p.hosts {
			if len(k.conns) == 0 {
				delete(p.hosts, other)
			}
		}
	}
	k = &kept{}
	p.hosts[h] = k
	return k
}

func (p *pool) remove(k *kept, i int) {
	c := k.conns[i]
	k.conns = slices.Delete(k.conns, i, i+1)
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		p.oldest = c.newer
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		p.newest = c.older
	}
	c.older, c.newer = nil, nil
	p.size--
}

// removeOldest relies on the oldest of all being the first of its host.
func (p *pool) removeOldest() *conn {
	c := p.oldest
	p.remove(p.hosts[c.host], 0)
	return c
}

func (p *pool) arm(wait time.Duration) {
	if p.timer == nil {
		p.timer = time.AfterFunc(wait, p.expire)
	} else {
		p.timer.Reset(wait)
	}
}

// expire closes what has been kept for long enough.
func (p *pool) expire() {
	for _, c := range p.expired() {
		_ = c.Close()
	}
}

func (p *pool) expired() (gone []*conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.oldest != nil {
		if left := p.idle - time.Since(p.oldest.since); left > 0 {
			p.arm(left)
			break
		}
		gone = append(gone, p.removeOldest())
	}
	return gone
}

// learn notes whether a host speaks HTTP/2.
func (p *pool) learn(h host, http2 bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := p.hosts[h]; k != nil || http2 {
		p.host(h).http2 = http2
	}
}

// close closes what is kept and keeps nothing from now on.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	var gone []*conn
	for p.oldest != nil {
		gone = append(gone, p.removeOldest())
	}
	p.mu.Unlock()
	for _, c := range gone {
		_ = c.Close()
	}
}
