package ingest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// oneOfEach is a directory with one source of each kind, whose secret is "secret",
// and one number.
type oneOfEach struct{}

func (oneOfEach) Source(kind waypost.SourceKind, _ string) *waypost.Source {
	return &waypost.Source{ID: 1, Kind: kind, NumberID: 3, Secrets: []waypost.Secret{"secret"}}
}

func (oneOfEach) Number(waypost.NumberID) *waypost.Number {
	return &waypost.Number{ID: 3, TenantID: 2, PhoneNumberID: "5"}
}

func (oneOfEach) Owner(string, string, string) (waypost.TenantID, waypost.NumberID) { return 2, 3 }
func (oneOfEach) Owed(*waypost.Event) []store.Owing                                 { return nil }

// refusals counts them.
type refusals struct {
	noCounts
	mu     sync.Mutex
	counts map[Refusal]int
}

func (r *refusals) Refused(why Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[why]++
}

func (r *refusals) check(t *testing.T, want map[Refusal]int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if diff := cmp.Diff(want, r.counts); diff != "" {
		t.Errorf("refusals (-want +got):\n%s", diff)
	}
}

type handlerBench struct {
	committerBench
	in      *Ingest
	refused *refusals
}

func startHandler(t *testing.T, options Options) handlerBench {
	t.Helper()
	b := handlerBench{committerBench: startCommitter(t, 0), refused: &refusals{counts: map[Refusal]int{}}}
	options.Directory, options.Committer, options.Observer = oneOfEach{}, b.committer, b.refused
	options.Log = slog.New(slog.DiscardHandler)
	b.in = New(options)
	return b
}

// checkIdle checks that no request holds anything.
func (b handlerBench) checkIdle(t *testing.T) {
	t.Helper()
	for name, half := range map[string]*budget{"arriving": &b.in.arriving, "working": &b.in.working} {
		half.mu.Lock()
		if half.held != 0 || len(half.line) != 0 {
			t.Errorf("%s: %d bytes are held, %d wait", name, half.held, len(half.line))
		}
		half.mu.Unlock()
	}
}

// acceptAll lets the store take everything in.
func (b handlerBench) acceptAll() {
	go func() {
		for range b.store.entered {
			b.store.release <- nil
		}
	}()
}

func metaRequest(t *testing.T, body io.Reader, length int64, signed []byte) *http.Request {
	t.Helper()
	request := httptest.NewRequest(http.MethodPost, "/ingest/meta/default", body).WithContext(t.Context())
	request.ContentLength = length
	mac := hmac.New(sha256.New, []byte("secret"))
	mac.Write(signed)
	request.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	return request
}

func onPremRequest(t *testing.T, body io.Reader, length int64) *http.Request {
	t.Helper()
	request := httptest.NewRequest(http.MethodPost, "/ingest/onprem/default", body).WithContext(t.Context())
	request.ContentLength = length
	request.Header.Set("Authorization", "Bearer secret")
	return request
}

func (b handlerBench) serve(request *http.Request) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	b.in.Handler().ServeHTTP(answer, request)
	return answer
}

func (b handlerBench) post(t *testing.T, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	return b.serve(metaRequest(t, bytes.NewReader(body), int64(len(body)), body))
}

func (b handlerBench) publish(t *testing.T) error {
	t.Helper()
	_, err := b.in.Publish(t.Context(), 2, 3, "platform.test", []byte(`{}`), "")
	return err
}

func checkLater(t *testing.T, answer *httptest.ResponseRecorder, when string) {
	t.Helper()
	if answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") != when || !strings.Contains(answer.Body.String(), "send it again") {
		t.Errorf("answered %d, Retry-After %q, %s", answer.Code, answer.Header().Get("Retry-After"), answer.Body)
	}
}

// message is a request with one message, of about a size.
func message(id string, size int) []byte {
	return fmt.Appendf(nil, `{"object":"whatsapp_business_account","entry":[{"id":"4","changes":[{"field":"messages","value":{"metadata":{"phone_number_id":"5"},"messages":[{"id":%q,"type":"text","text":{"body":%q}}]}}]}]}`,
		id, strings.Repeat("x", size))
}

func TestMoreThanMemoryAllowsIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := startHandler(t, Options{Memory: 2 << 20})
		large := message("large", 200_000) // eight times that is more than half of the memory, less what a small one takes
		answers := make(chan *httptest.ResponseRecorder, 3)
		for _, body := range [][]byte{large, message("second", 80_000), message("third", 10)} {
			go func() { answers <- b.post(t, body) }()
			synctest.Wait()
		}
		// What the large one takes has settled at its size: the second is apart too.
		if n := b.committer.queue.len(); n != 2 {
			t.Fatalf("%d requests wait for the commit before them", n)
		}
		close(b.store.release) // every commit succeeds from now on
		for range 3 {
			if answer := <-answers; answer.Code != http.StatusOK {
				t.Errorf("answered %d", answer.Code)
			}
		}

		b.in.working.give(-(2 << 20)) // as if very much were under way
		start := time.Now()
		answer := b.post(t, message("fourth", 10))
		if checkLater(t, answer, "1"); time.Since(start) != patience {
			t.Errorf("refused after %v", time.Since(start))
		}
		if err := b.publish(t); waypost.KindOf(err) != waypost.KindUnavailable {
			t.Errorf("publishing ended with %v", err)
		}
		b.in.arriving.give(-(2 << 20))
		start = time.Now()
		checkLater(t, b.serve(onPremRequest(t, unread{t}, 100)), "1")
		checkLater(t, b.serve(metaRequest(t, unread{t}, -1, nil)), "1")
		if time.Since(start) != 0 {
			t.Errorf("a body that can't be read was waited with for %v", time.Since(start))
		}
		b.refused.check(t, map[Refusal]int{RefusedMemory: 4})
		b.in.working.give(2 << 20)
		b.in.arriving.give(2 << 20)
		if answer := b.post(t, message("fourth", 10)); answer.Code != http.StatusOK {
			t.Errorf("sent again, it was answered %d", answer.Code)
		}
		b.checkIdle(t)
		b.stop()
	})
}

// unread is a body that must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// TestPromisesTakeNoMemory: many who announce a large body and send little of it
// do not keep the others out.
func TestPromisesTakeNoMemory(t *testing.T) {
	t.Parallel()
	b := startHandler(t, Options{Memory: 64 << 20})
	b.acceptAll()
	const stallers = 300
	var done sync.WaitGroup
	ends := make([]*io.PipeWriter, stallers)
	for i := range ends {
		body, end := io.Pipe()
		ends[i] = end
		done.Go(func() {
			if answer := b.serve(metaRequest(t, body, MaxBody, nil)); answer.Code != http.StatusBadRequest {
				t.Errorf("a body that broke off was answered %d", answer.Code)
			}
		})
		if _, err := end.Write([]byte("{")); err != nil {
			t.Fatal(err)
		}
	}
	if answer := b.post(t, message("1", 3<<20)); answer.Code != http.StatusOK {
		t.Errorf("answered %d", answer.Code)
	}
	for _, end := range ends {
		_ = end.CloseWithError(io.ErrUnexpectedEOF)
	}
	done.Wait()
	b.checkIdle(t)
}

func TestWhileRefusingNothingIsRead(t *testing.T) {
	t.Parallel()
	var full error
	b := startHandler(t, Options{Refuse: func() error { return full }})
	b.acceptAll()
	full = errors.New("disk is full at /var/lib")
	for _, request := range []*http.Request{metaRequest(t, unread{t}, 10, nil), metaRequest(t, unread{t}, MaxBody+1, nil), onPremRequest(t, unread{t}, -1)} {
		answer := b.serve(request)
		if checkLater(t, answer, "30"); strings.Contains(answer.Body.String(), "disk") {
			t.Errorf("the answer says too much: %s", answer.Body)
		}
	}
	if err := b.publish(t); waypost.KindOf(err) != waypost.KindUnavailable {
		t.Errorf("publishing ended with %v", err)
	}
	b.refused.check(t, map[Refusal]int{RefusedDisk: 4})
	full = nil
	if answer := b.post(t, message("1", 10)); answer.Code != http.StatusOK {
		t.Errorf("later it was answered %d", answer.Code)
	}
	if err := b.publish(t); err != nil {
		t.Error(err)
	}
	b.checkIdle(t)
}

func TestWhatCouldNotBeStoredPassesLater(t *testing.T) {
	t.Parallel()
	b := startHandler(t, Options{})
	outcomes := make(chan error, 4)
	go func() {
		for range b.store.entered {
			b.store.release <- <-outcomes
		}
	}()
	outcomes <- errors.New("disk full")
	checkLater(t, b.post(t, message("1", 10)), "1")
	outcomes <- errors.New("disk full")
	if err := b.publish(t); waypost.KindOf(err) != waypost.KindUnavailable {
		t.Errorf("publishing ended with %v", err)
	}
	b.refused.check(t, map[Refusal]int{RefusedStore: 2})
	b.checkIdle(t)
	outcomes <- nil
	outcomes <- nil
	if answer := b.post(t, message("1", 10)); answer.Code != http.StatusOK {
		t.Errorf("sent again, it was answered %d", answer.Code)
	}
	if err := b.publish(t); err != nil {
		t.Error(err)
	}
	if len(b.store.batches) != 2 {
		t.Errorf("%d batches are stored, want 2", len(b.store.batches))
	}
	b.checkIdle(t)

	b.stop()
	checkLater(t, b.post(t, message("2", 10)), "1")
	b.refused.check(t, map[Refusal]int{RefusedStore: 2, RefusedClosing: 1})
	b.checkIdle(t)
}

// TestASlowStoreIsNotKeptBusyWithWhatIsLate: whoever has waited too long is told
// so, and not committed.
func TestASlowStoreIsNotKeptBusyWithWhatIsLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := startCommitter(t, 0)
		start := time.Now()
		full := make([]store.Arrival, maxBatchEvents)
		for i := range full {
			full[i] = arrival(fmt.Sprint(i))
		}
		first := b.submit(t, arrival("first"))
		synctest.Wait()
		second := b.submit(t, full...)
		synctest.Wait()
		third := b.submit(t, arrival("third"))
		for _, done := range []<-chan outcome{first, second, third} {
			if got := <-done; waypost.KindOf(got.err) != waypost.KindUnavailable {
				t.Errorf("ended with %v", got.err)
			}
		}
		if took := time.Since(start); took != patience+commitTimeout || len(b.store.entered) != 2 {
			t.Errorf("after %v and %d commits", took, len(b.store.entered))
		}
		b.stop()
	})
}

// TestAGoneSenderHoldsWhatItBrought: what waits for its commit counts until that
// is over, though nobody waits for the answer.
func TestAGoneSenderHoldsWhatItBrought(t *testing.T) {
	t.Parallel()
	b := startHandler(t, Options{})
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan struct{})
	body := message("1", 10)
	go func() {
		defer close(done)
		b.serve(metaRequest(t, bytes.NewReader(body), int64(len(body)), body).WithContext(ctx))
	}()
	<-b.store.entered
	leave()
	b.in.working.mu.Lock()
	held := b.in.working.held
	b.in.working.mu.Unlock()
	if held == 0 {
		t.Error("nothing is held")
	}
	b.store.release <- nil
	<-done
	b.checkIdle(t)
}

func TestReadingBodies(t *testing.T) {
	t.Parallel()
	body := message("1", 300_000)
	for name, tt := range map[string]struct {
		body   io.Reader
		length int64
		want   int
	}{
		"its length":            {bytes.NewReader(body), int64(len(body)), 200},
		"no length":             {bytes.NewReader(body), -1, 200},
		"in small parts":        {&parts{body, 7}, -1, 200},
		"nothing":               {strings.NewReader(""), 0, 401},
		"nothing, unsaid":       {strings.NewReader(""), -1, 401},
		"too long":              {unread{t}, MaxBody + 1, 413},
		"too long, unsaid":      {io.LimitReader(zeros{}, MaxBody+1), -1, 413},
		"as long as may be":     {io.LimitReader(zeros{}, MaxBody), -1, 401},
		"shorter than it says":  {bytes.NewReader(body), int64(len(body)) + 1, 400},
		"cut off":               {io.MultiReader(bytes.NewReader(body[:100]), cut{}), int64(len(body)), 400},
		"cut off, no length":    {io.MultiReader(bytes.NewReader(body[:100]), cut{}), -1, 400},
		"cut off after the end": {io.MultiReader(bytes.NewReader(body), cut{}), -1, 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startHandler(t, Options{})
			b.acceptAll()
			if answer := b.serve(metaRequest(t, tt.body, tt.length, body)); answer.Code != tt.want {
				t.Errorf("answered %d: %s", answer.Code, answer.Body)
			}
			if tt.want == 200 && !bytes.Equal(b.store.batches[0][0].Event.Body, body) {
				t.Error("the body was not kept as it came")
			}
			b.checkIdle(t)
		})
	}
}

// parts reads a few bytes at a time, and says it is the end with the last.
type parts struct {
	rest []byte
	size int
}

func (p *parts) Read(into []byte) (int, error) {
	n := copy(into, p.rest[:min(p.size, len(p.rest))])
	if p.rest = p.rest[n:]; len(p.rest) == 0 {
		return n, io.EOF
	}
	return n, nil
}

type zeros struct{}

func (zeros) Read(into []byte) (int, error) { return len(into), nil }

type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// asked notes which source was asked for.
type asked struct {
	oneOfEach
	source *string
}

func (a asked) Source(_ waypost.SourceKind, name string) *waypost.Source {
	*a.source = name
	return nil
}

// TestEveryPathFindsItsSource: with the mux and where it is passed by.
func TestEveryPathFindsItsSource(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ request, source, route string }{
		{"POST /ingest/meta/default", "default", metaPattern},
		{"POST /ingest/meta/De_f-1?a=b", "De_f-1", metaPattern},
		{"POST /ingest/meta/d%65fault", "default", metaPattern},
		{"POST /ingest/meta/a%2Fb", "a/b", metaPattern},
		{"POST /ingest/meta/a.b", "a.b", metaPattern},
		{"POST /ingest/meta/", "", ""},
		{"POST /ingest/meta/a/b", "", ""},
		{"POST /ingest%2Fmeta/a", "", ""},
		{"GET /ingest/meta/default", "default", "GET /ingest/meta/{source}"},
		{"POST /ingest/onprem/default", "default", "POST /ingest/onprem/{source}"},
		{"PUT /ingest/meta/default", "", ""},
	} {
		method, target, _ := strings.Cut(test.request, " ")
		request := httptest.NewRequest(method, target, nil).WithContext(t.Context())
		var source string
		in := New(Options{Directory: asked{source: &source}, Observer: noCounts{}, Log: slog.New(slog.DiscardHandler)})
		in.Handler().ServeHTTP(httptest.NewRecorder(), request)
		if source != test.source || request.Pattern != test.route {
			t.Errorf("%s: source %q by route %q", test.request, source, request.Pattern)
		}
	}
}

// explained is an answer whose reason is asked for, as httpserver does.
type explained struct {
	*httptest.ResponseRecorder
	reason error
}

func (e *explained) Because(reason error) { e.reason = reason }

// TestWhyARequestIsToComeAgainIsToldOnce: where the request itself is logged.
func TestWhyARequestIsToComeAgainIsToldOnce(t *testing.T) {
	t.Parallel()
	full := errors.New("disk is full")
	for name, options := range map[string]Options{
		"unread": {Refuse: func() error { return full }},
		"read":   {OnAccepted: func(context.Context, waypost.Event) error { return full }},
	} {
		b := startHandler(t, options)
		b.acceptAll()
		var log bytes.Buffer
		b.in.log = slog.New(slog.NewTextHandler(&log, nil))
		body := message("1", 10)
		answer := &explained{ResponseRecorder: httptest.NewRecorder()}
		b.in.Handler().ServeHTTP(answer, metaRequest(t, bytes.NewReader(body), int64(len(body)), body))
		if answer.Code != http.StatusServiceUnavailable || !errors.Is(answer.reason, full) || log.Len() > 0 {
			t.Errorf("%s: answered %d because of %v, and logged %q", name, answer.Code, answer.reason, &log)
		}
	}
}
