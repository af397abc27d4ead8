package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// devAPI calls a running gateway the way any customer does: over HTTP and
// through its public API only.
type devAPI struct {
	base   string // http://host:port
	token  string // of the management API
	client *http.Client
}

func newDevAPI(base, token string) *devAPI {
	return &devAPI{base: base, token: token, client: &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 4},
	}}
}

// manage calls the management API and reads the answer into answer, unless
// that is nil.
func (a *devAPI) manage(ctx context.Context, method, path string, body, answer any) error {
	return a.call(ctx, method, path, map[string]string{"Authorization": "Bearer " + a.token}, body, answer)
}

// call makes one request. Anything but a 2xx is an error that quotes the head
// of the answer.
func (a *devAPI) call(ctx context.Context, method, path string, header map[string]string, body, answer any) error {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, a.base+path, content)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	request.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := a.client.Do(request)
	if err != nil {
		return err // it names the method and the URL already
	}
	defer response.Body.Close()
	const enough = 1 << 20
	got, err := io.ReadAll(io.LimitReader(response.Body, enough))
	if err != nil {
		return fmt.Errorf("%s %s: read answer: %w", method, path, err)
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s was answered %d: %s", method, path, response.StatusCode, got[:min(len(got), 300)])
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(got, answer); err != nil {
		return fmt.Errorf("%s %s: read answer %q: %w", method, path, got[:min(len(got), 300)], err)
	}
	return nil
}

// create posts to the management API and returns the new thing's id.
func (a *devAPI) create(ctx context.Context, path string, body any) (string, error) {
	var made struct{ ID string }
	if err := a.manage(ctx, http.MethodPost, path, body, &made); err != nil {
		return "", err
	}
	return made.ID, nil
}

// ready waits until the gateway says that it is.
func (a *devAPI) ready(ctx context.Context) error {
	return poll(ctx, 20*time.Millisecond, func() (bool, error) {
		return a.call(ctx, http.MethodGet, "/readyz", nil, nil, nil) == nil, nil
	})
}

// poll asks again and again until done says so, or fails, or ctx ends.
func poll(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
