package emulator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func startReceiver(t *testing.T, o ReceiverOptions) *Receiver {
	t.Helper()
	r, err := NewReceiver(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestMetaSendsSignedAndRetriesUntilTaken(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, ReceiverOptions{Answers: Statuses(500, 301, 202, 200)})
	m := NewMeta(Options{URL: r.URL() + "/in?x=1", AppSecret: "s3cret"})
	body := Body(m.Text(m.Numbers()[0], "hello"))
	statuses, err := m.Deliver(t.Context(), body, Retry{First: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{500, 301, 202, 200}, statuses); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	for i, hook := range r.Hooks() {
		if err := errors.Join(SameBytes(body, hook.Body), CheckHub("s3cret", hook)); err != nil {
			t.Error(err)
		}
		if CheckHub("other", hook) == nil {
			t.Error("a signature by another secret passed")
		}
		if hook.N != i+1 || hook.Path != "/in" || hook.Query != "x=1" || hook.Header.Get("Content-Type") != "application/json" {
			t.Errorf("recorded as %+v", hook)
		}
	}
}

func TestMetaGivesUpAfterItsTries(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, ReceiverOptions{Answers: Statuses(503)})
	m := NewMeta(Options{URL: r.URL()})
	statuses, err := m.Deliver(t.Context(), []byte("{}"), Retry{Tries: 3, First: time.Millisecond})
	if !errors.Is(err, ErrNotTaken) {
		t.Errorf("err = %v, want ErrNotTaken", err)
	}
	if diff := cmp.Diff([]int{503, 503, 503}, statuses); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	r.Close()
	if statuses, err := m.Deliver(t.Context(), []byte("{}"), Retry{Tries: 2, First: time.Millisecond}); err == nil || statuses[1] != 0 {
		t.Errorf("nobody there: %v, %v", statuses, err)
	}
}

func TestReceiverHangsSlowsAndCuts(t *testing.T) {
	t.Parallel()
	const slow = 30 * time.Millisecond
	r := startReceiver(t, ReceiverOptions{Answers: func(hook Request) Answer {
		return []Answer{{Hang: true}, {Cut: true}, {Status: http.StatusCreated, Delay: slow, Body: "made", Header: http.Header{"X-Seen": {"1"}}}}[hook.N-1]
	}})
	m := NewMeta(Options{URL: r.URL()})
	if status, err := m.Send(within(t, 50*time.Millisecond), []byte("{}")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a hanging receiver answered %d, %v", status, err)
	}
	if status, err := m.Send(t.Context(), []byte("{}")); err == nil {
		t.Errorf("a cut connection answered %d", status)
	}
	begin := time.Now()
	response, err := http.Post(r.URL(), "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || string(body) != "made" || response.StatusCode != http.StatusCreated || response.Header.Get("X-Seen") != "1" {
		t.Errorf("slow answer: %d %q, %v", response.StatusCode, body, err)
	}
	if took := time.Since(begin); took < slow {
		t.Errorf("the slow answer took %v", took)
	}
	if n := len(r.Hooks()); n != 3 {
		t.Errorf("%d hooks were kept, want 3", n)
	}
}

func TestCloseLetsGoOfHangingRequests(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, ReceiverOptions{Answers: func(Request) Answer { return Answer{Hang: true} }})
	done := make(chan error, 1)
	go func() {
		_, err := NewMeta(Options{URL: r.URL()}).Send(context.Background(), []byte("{}"))
		done <- err
	}()
	if _, err := r.Wait(within(t, 5*time.Second), 1); err != nil {
		t.Fatal(err)
	}
	r.Close()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a hanging request was answered")
		}
	case <-time.After(5 * time.Second):
		t.Error("the request still hangs")
	}
}

func TestWaitEndsWithItsContextAndTheReceiver(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, ReceiverOptions{})
	if _, err := r.Wait(within(t, 10*time.Millisecond), 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want the deadline", err)
	}
	r.Close()
	if _, err := r.Wait(within(t, 5*time.Second), 1); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want that the receiver was closed", err)
	}
}

func TestReceiverAnswersTheHubChallenge(t *testing.T) {
	t.Parallel()
	var seen []int
	r := startReceiver(t, ReceiverOptions{VerifyToken: "made-up", Seen: func(hook Request) { seen = append(seen, hook.N) }})
	get := func(token string) (int, string) {
		query := url.Values{"hub.mode": {"subscribe"}, "hub.challenge": {"1158201444"}, "hub.verify_token": {token}}
		response, err := http.Get(r.URL() + "/hook?" + query.Encode())
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	if status, body := get("made-up"); status != 200 || body != "1158201444" {
		t.Errorf("right token: %d %q", status, body)
	}
	if status, body := get("guess"); status != 403 || strings.Contains(body, "1158201444") {
		t.Errorf("wrong token: %d %q", status, body)
	}
	if n := len(r.Challenges()); n != 2 || len(r.Hooks()) != 0 || len(seen) != 0 {
		t.Errorf("%d challenges, %d hooks, told of %v", n, len(r.Hooks()), seen)
	}
}

func TestReceiverSpeaksTLS(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, ReceiverOptions{TLS: true})
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(r.CA()) {
		t.Fatal("the authority is not PEM")
	}
	trusting := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer trusting.CloseIdleConnections()
	if status, err := NewMeta(Options{URL: r.URL(), Transport: trusting}).Send(t.Context(), []byte("{}")); status != 200 || err != nil {
		t.Errorf("Send = %d, %v", status, err)
	}
	if _, err := NewMeta(Options{URL: r.URL()}).Send(t.Context(), []byte("{}")); err == nil {
		t.Error("a certificate of nobody was accepted")
	}
}
