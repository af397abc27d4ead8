package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
)

// A child is another process of the measurement. It reads one request a line
// and writes one answer a line, both JSON.
type child struct {
	role    string
	process *exec.Cmd
	stdin   io.WriteCloser
	answers *bufio.Reader
	mu      sync.Mutex
}

// request is what a child is asked. Each role reads what concerns it.
type request struct {
	Do      string  `json:"do"`
	Target  string  `json:"target,omitempty"`
	Events  int     `json:"events,omitempty"`
	First   int     `json:"first,omitempty"`
	Numbers int     `json:"numbers,omitempty"`
	Batch   int     `json:"batch,omitempty"` // messages in a request; 0: one, of the usual size
	Rate    float64 `json:"rate,omitempty"`
	Seconds int     `json:"seconds,omitempty"`
	CA      string  `json:"ca,omitempty"`
	// Tenant, Number and Endpoint are whose the events are that go past ingest.
	Tenant   string `json:"tenant,omitempty"`
	Number   string `json:"number,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	// Heavy: for each event of one of the numbers, 100 of the number after them.
	Heavy int `json:"heavy,omitempty"`
	// Hanging: one number in so many never answers.
	Hanging int `json:"-"`
}

// answer is what a child says.
type answer struct {
	Error     string     `json:"error,omitempty"`
	Address   string     `json:"address,omitempty"`
	Count     int64      `json:"count,omitempty"`
	Refused   int64      `json:"refused,omitempty"`
	CPU       int64      `json:"cpu,omitempty"` // nanoseconds of this process so far
	Resident  int64      `json:"resident,omitempty"`
	Peak      int64      `json:"peak,omitempty"`
	Written   int64      `json:"written,omitempty"` // bytes to disk so far
	Working   int64      `json:"working,omitempty"` // deliveries in hand or not recorded
	Commits   int64      `json:"commits,omitempty"`
	Forgotten int64      `json:"forgotten,omitempty"`
	Ready     float64    `json:"ready,omitempty"` // seconds from start to ready
	Latencies *latencies `json:"latencies,omitempty"`
}

// latencies are of one run, in milliseconds.
type latencies struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

// launch starts a child and waits until it says that it is ready.
func launch(ctx context.Context, executable, role string, config any) (*child, answer, error) {
	process := exec.CommandContext(ctx, executable, RoleArgument, role)
	process.Stderr = os.Stderr
	stdin, inErr := process.StdinPipe()
	stdout, outErr := process.StdoutPipe()
	if err := errors.Join(inErr, outErr); err != nil {
		return nil, answer{}, err
	}
	if err := process.Start(); err != nil {
		return nil, answer{}, fmt.Errorf("start %s: %w", role, err)
	}
	c := &child{role: role, process: process, stdin: stdin, answers: bufio.NewReaderSize(stdout, 64<<10)}
	ready, err := c.exchange(config)
	if err != nil {
		return nil, answer{}, errors.Join(err, c.stop())
	}
	return c, ready, nil
}

func (c *child) ask(r request) (answer, error) { return c.exchange(r) }

// exchange sends one line and reads one.
func (c *child) exchange(question any) (answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	line, err := json.Marshal(question)
	if err != nil {
		return answer{}, err
	}
	if _, err := c.stdin.Write(append(line, '\n')); err != nil {
		return answer{}, fmt.Errorf("ask %s: %w", c.role, err)
	}
	reply, err := c.answers.ReadBytes('\n')
	if err != nil {
		return answer{}, fmt.Errorf("the %s ended: %w", c.role, err)
	}
	var a answer
	if err := json.Unmarshal(reply, &a); err != nil {
		return answer{}, fmt.Errorf("read answer of %s: %w", c.role, err)
	}
	if a.Error != "" {
		return answer{}, fmt.Errorf("%s: %s", c.role, a.Error)
	}
	return a, nil
}

// stop closes the child's input, which ends it, and waits.
func (c *child) stop() error {
	c.stdin.Close()
	if err := c.process.Wait(); err != nil {
		return fmt.Errorf("the %s ended with %w", c.role, err)
	}
	return nil
}

// roles are what a child can be.
var roles = map[string]func(context.Context, *conversation) error{
	"sink":      runSink,
	"client":    runClient,
	"generator": runGenerator,
	"gateway":   runGateway,
}

// RunRole is the whole of a child process.
func RunRole(ctx context.Context, role string, stdin io.Reader, stdout io.Writer) error {
	run, known := roles[role]
	if !known {
		return fmt.Errorf("no role is called %q", role)
	}
	return run(ctx, &conversation{questions: bufio.NewReaderSize(stdin, 64<<10), answers: json.NewEncoder(stdout)})
}

// conversation is the child's end.
type conversation struct {
	questions *bufio.Reader
	answers   *json.Encoder
}

// begin reads what the child is to be.
func (c *conversation) begin(config any) error {
	line, err := c.questions.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, config)
}

func (c *conversation) say(a answer) error { return c.answers.Encode(a) }

// serve answers until there are no more questions.
func (c *conversation) serve(reply func(request) (answer, error)) error {
	for {
		line, err := c.questions.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var r request
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		a, err := reply(r)
		if err != nil {
			a = answer{Error: err.Error()}
		}
		usage(&a)
		if err := c.say(a); err != nil {
			return err
		}
	}
}
