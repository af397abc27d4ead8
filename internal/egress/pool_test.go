package egress

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// piped is a connection with nobody behind it, and whether it is closed.
func piped(h host) (c *conn, closed func() bool) {
	near, _ := net.Pipe()
	return newConn(near, h), func() bool { return near.SetDeadline(time.Time{}) != nil }
}

func TestKeptConnectionsAreClosedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool()
		defer p.close()
		h := host{address: "a:80"}
		first, firstClosed := piped(h)
		second, secondClosed := piped(h)
		p.put(first)
		<-time.After(p.idle / 2)
		p.put(second)
		<-time.After(p.idle/2 - 1)
		synctest.Wait()
		if firstClosed() || secondClosed() {
			t.Error("closed before its time")
		}
		<-time.After(1)
		synctest.Wait()
		if !firstClosed() || secondClosed() {
			t.Errorf("closed: first %v, second %v", firstClosed(), secondClosed())
		}
		if c, _ := p.take(h); c != second {
			t.Error("the other is not to be had")
		}
		p.put(second)
		<-time.After(1)
		third, thirdClosed := piped(h)
		p.put(third)
		<-time.After(p.idle)
		synctest.Wait()
		if !secondClosed() || !thirdClosed() || p.size != 0 {
			t.Errorf("%d stayed", p.size)
		}
	})
}

// TestPool puts and takes at random and holds the pool against a plain list.
func TestPool(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := newPool()
		p.perHost, p.total = 3, 5
		defer p.close()
		type entry struct {
			conn   *conn
			closed func() bool
		}
		var all, model []entry // model: kept, oldest first
		find := func(h host) (last, n int) {
			last = -1
			for i, e := range model {
				if e.conn.host == h {
					last, n = i, n+1
				}
			}
			return last, n
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				h := host{address: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "host")}
				var e entry
				e.conn, e.closed = piped(h)
				all = append(all, e)
				p.put(e.conn)
				if _, n := find(h); n < p.perHost {
					model = append(model, e)
				}
				if len(model) > p.total {
					model = model[1:]
				}
			},
			"take": func(t *rapid.T) {
				h := host{address: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "host")}
				c, _ := p.take(h)
				last, _ := find(h)
				switch {
				case last < 0 && c != nil, last >= 0 && c != model[last].conn:
					t.Fatalf("took %v, want number %d", c, last)
				case last >= 0:
					_ = c.Close()
					model = append(model[:last:last], model[last+1:]...)
				}
			},
			"": func(t *rapid.T) {
				if p.size != len(model) {
					t.Fatalf("%d kept, want %d", p.size, len(model))
				}
				i := 0
				for c := p.oldest; c != nil; c = c.newer {
					if c != model[i].conn {
						t.Fatalf("number %d is another", i)
					}
					i++
				}
				open := 0
				for _, e := range all {
					if !e.closed() {
						open++
					}
				}
				if open != len(model) {
					t.Fatalf("%d open, %d kept", open, len(model))
				}
			},
		})
	})
}

func TestHostsAreForgotten(t *testing.T) {
	t.Parallel()
	p := newPool()
	defer p.close()
	kept := host{address: "kept"}
	c, _ := piped(kept)
	p.put(c)
	for i := range maxHosts + 10 {
		p.learn(host{secure: true, address: fmt.Sprint(i)}, true)
	}
	if len(p.hosts) > maxHosts {
		t.Errorf("%d hosts are remembered", len(p.hosts))
	}
	if got, _ := p.take(kept); got != c {
		t.Error("a host with a connection was forgotten")
	}
	if _, http2 := p.take(host{secure: true, address: fmt.Sprint(maxHosts + 9)}); !http2 {
		t.Error("the last was forgotten")
	}
}

// TestManyHosts sends to more hosts than connections are kept for.
func TestManyHosts(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	var open atomic.Int64
	server := &httptest.Server{Listener: l, Config: &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }),
		ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed:
				open.Add(-1)
			default:
			}
		},
	}}
	server.Start()
	defer server.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	c := newClient(t, Options{})
	hosts := c.pool.total + 500
	if testing.Short() {
		c.pool.total = 500
		hosts = 1000
	}
	ctx := within(t, time.Minute)
	for i := range hosts {
		addr := netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)})
		a := c.Send(ctx, Request{URL: "http://" + addr.String() + ":" + port})
		if a.Err != nil {
			if i == 0 && strings.Contains(a.Err.Error(), "assign") {
				t.Skip(a.Err)
			}
			t.Fatal(a.Err)
		}
	}
	if c.pool.size != c.pool.total {
		t.Errorf("%d connections are kept, want %d", c.pool.size, c.pool.total)
	}
	eventually(t, "surplus connections are closed", func() bool { return open.Load() <= int64(c.pool.total) })
	c.Close()
	eventually(t, "all connections are closed", func() bool { return open.Load() == 0 })
}

// eventually waits for what another goroutine or the system brings about.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			tb.Fatalf("waited in vain: %s", what)
		}
	}
}
