package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// generatorConfig is where a generator sends to.
type generatorConfig struct {
	Address string `json:"address"`
}

// runGenerator sends signed webhooks as Meta would.
func runGenerator(ctx context.Context, c *conversation) error {
	var config generatorConfig
	if err := c.begin(&config); err != nil {
		return err
	}
	pool := &rawPool{address: config.Address}
	if err := c.say(answer{}); err != nil {
		return err
	}
	var prepared [][]byte // requests, which are made before the clock starts
	return c.serve(func(r request) (answer, error) {
		if r.Do == "prepare" {
			prepared = make([][]byte, r.Events)
			return answer{}, parallel(clients, r.Events, func(i int) error {
				body := payload(r, i, time.Time{})
				prepared[i] = appendRequest(nil, sign(body), body)
				return nil
			})
		}
		workers := senders
		if r.Batch > 0 { // what many large requests take at a time is more than ingest has for them
			workers = batchSenders
		}
		return drive(workers, r, func(i int, due time.Time) error {
			if r.Rate == 0 {
				return pool.post(ctx, prepared[i])
			}
			body := payload(r, i, due)
			return pool.post(ctx, appendRequest(nil, sign(body), body))
		})
	})
}

// payload is the ith request of a run.
func payload(r request, i int, due time.Time) []byte {
	switch {
	case r.Batch > 0:
		return batch(r.First+i*r.Batch, r.Batch, r.Numbers, due)
	case r.Heavy > 0 && i%101 != 0:
		return heavyEvent(r, i, due)
	}
	return event(r.First+i, r.Numbers, due)
}

// heavyEvent is for the number after the others', which has 100 times the
// traffic of all of them.
func heavyEvent(r request, i int, due time.Time) []byte {
	body := event(r.First+i, 1, due)
	putDigits(body[numberAt:], int64(r.Numbers), numberDigits)
	return body
}

// rawPool keeps connections, the last used on top.
type rawPool struct {
	address string
	mu      sync.Mutex
	idle    []*rawConnection
}

// maxIdle is how long a connection may have been idle: the gateway closes those
// that are for long.
const maxIdle = 2 * time.Second

func (p *rawPool) post(ctx context.Context, request []byte) error {
	c, err := p.get(ctx)
	if err != nil {
		return err
	}
	if err := c.post(request); err != nil {
		return err
	}
	c.used = time.Now()
	p.mu.Lock()
	p.idle = append(p.idle, c)
	p.mu.Unlock()
	return nil
}

func (p *rawPool) get(ctx context.Context) (*rawConnection, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		if time.Since(c.used) < maxIdle {
			return c, nil
		}
		_ = c.Close() // whatever state it is in, it is not used again
	}
	return dialRaw(ctx, p.address)
}

// rawConnection speaks just enough HTTP/1.1 to post to a server that behaves,
// at a third of what net/http takes: the sender is not what is measured.
type rawConnection struct {
	net.Conn
	answers *bufio.Reader
	used    time.Time
}

func dialRaw(ctx context.Context, address string) (*rawConnection, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &rawConnection{Conn: c, answers: bufio.NewReader(c)}, nil
}

// post sends one signed webhook and reads the answer, which must be 200.
// appendRequest appends the whole of a request, as it goes over the wire.
func appendRequest(b []byte, signature string, body []byte) []byte {
	b = fmt.Appendf(b, "POST /ingest/meta/default HTTP/1.1\r\nHost: gateway\r\nUser-Agent: bench\r\n"+
		"Content-Type: application/json\r\nX-Hub-Signature-256: %s\r\nContent-Length: %d\r\n\r\n", signature, len(body))
	return append(b, body...)
}

func (c *rawConnection) post(request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	length := 0
	for first := true; ; first = false {
		line, err := c.answers.ReadSlice('\n')
		switch {
		case err != nil:
			return fmt.Errorf("read the answer of ingest: %w", err)
		case first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")):
			return fmt.Errorf("ingest answered %q", bytes.TrimSpace(line))
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len("Content-Length: "):]))); err != nil {
				return err
			}
		case len(line) == len("\r\n"):
			_, err := c.answers.Discard(length)
			return err
		}
	}
}
