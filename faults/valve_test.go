package faults_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// valve is a TCP proxy that can be shut: the network between two programs.
type valve struct {
	listener net.Listener
	target   func() (net.Conn, error)

	mu    sync.Mutex
	state valveState
	moved *sync.Cond // the state changed
	conns map[net.Conn]bool
}

type valveState uint8

const (
	flowing valveState = iota
	stalled            // connections stand, and nothing gets through
	broken             // connections are cut, and new ones are refused at once
	gone               // the test is over
)

func newValve(t *testing.T, network, address string) *valve {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{
		listener: listener,
		target:   func() (net.Conn, error) { return net.Dial(network, address) },
		conns:    map[net.Conn]bool{},
	}
	v.moved = sync.NewCond(&v.mu)
	go v.serve()
	t.Cleanup(func() {
		v.set(gone)
		listener.Close()
	})
	return v
}

func (v *valve) address() string { return v.listener.Addr().String() }

func (v *valve) set(s valveState) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state = s
	if s == broken || s == gone {
		for conn := range v.conns {
			conn.Close()
		}
		clear(v.conns)
	}
	v.moved.Broadcast()
}

func (v *valve) serve() {
	for {
		near, err := v.listener.Accept()
		if err != nil {
			return
		}
		go v.join(near)
	}
}

func (v *valve) join(near net.Conn) {
	defer near.Close()
	if !v.pass() {
		return
	}
	far, err := v.target()
	if err != nil {
		return
	}
	defer far.Close()
	v.mu.Lock()
	if v.state == broken || v.state == gone {
		v.mu.Unlock()
		return
	}
	v.conns[near], v.conns[far] = true, true
	v.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			// Either end's goodbye is for both: nobody here half-closes.
			defer near.Close()
			defer far.Close()
			_, _ = io.Copy(throttled{v, way[1]}, way[0]) // a connection that broke is the point
		})
	}
	both.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.conns, near)
	delete(v.conns, far)
}

// pass waits while the valve is stalled, and tells whether it is open then.
func (v *valve) pass() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for v.state == stalled {
		v.moved.Wait()
	}
	return v.state == flowing
}

// throttled writes what the valve lets through.
type throttled struct {
	valve *valve
	conn  net.Conn
}

func (w throttled) Write(p []byte) (int, error) {
	if !w.valve.pass() {
		return 0, net.ErrClosed
	}
	return w.conn.Write(p)
}
