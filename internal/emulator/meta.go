package emulator

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Number is a business number as Meta knows it.
type Number struct {
	Phone         string // digits only
	PhoneNumberID string
	WABAID        string
}

// Options says whom Meta plays for. The zero value makes items but can't send
// them anywhere.
type Options struct {
	URL       string   // where webhooks are posted
	AppSecret string   // signs them
	Numbers   []Number // empty: two numbers of two accounts, made from Seed
	Seed      uint64   // the same seed makes the same items
	// Start is the time of the first item; each further one is a second later.
	// Zero: a fixed time, so that a run repeats.
	Start time.Time
	// Transport carries the requests. nil: one of its own.
	Transport http.RoundTripper
}

// Meta makes webhooks as the Cloud API does and posts them, signed. It is safe
// for concurrent use; only the order of calls decides what the seed gives.
type Meta struct {
	url, secret string
	numbers     []Number
	client      http.Client

	mu   sync.Mutex
	rand *rand.Rand
	now  time.Time
}

// sendTimeout bounds one webhook request, as patient as Meta is believed to be.
const sendTimeout = 20 * time.Second

// NewMeta prepares Meta.
func NewMeta(o Options) *Meta {
	m := &Meta{
		url: o.URL, secret: o.AppSecret, numbers: slices.Clone(o.Numbers),
		client: http.Client{Transport: o.Transport, Timeout: sendTimeout, CheckRedirect: noRedirect},
		rand:   rand.New(rand.NewPCG(o.Seed, 0x5761_7970_6f73_7400)),
		now:    o.Start,
	}
	if o.Transport == nil {
		m.client.Transport = &http.Transport{MaxIdleConnsPerHost: 8}
	}
	if o.Start.IsZero() {
		m.now = time.Date(2026, time.January, 5, 0, 0, 0, 0, time.UTC)
	}
	if len(m.numbers) == 0 {
		m.numbers = []Number{m.newNumber(), m.newNumber()}
	}
	return m
}

// Numbers are the business numbers that items can be about.
func (m *Meta) Numbers() []Number { return slices.Clone(m.numbers) }

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// newNumber makes up a number in 555-0100 to 555-0199, which no one can have.
func (m *Meta) newNumber() Number {
	return Number{
		Phone:         "1202555" + fmt.Sprintf("%04d", 100+m.rand.IntN(100)),
		PhoneNumberID: m.digits(15),
		WABAID:        m.digits(15),
	}
}

// digits makes an id of n decimal digits, none of them a leading zero.
func (m *Meta) digits(n int) string {
	id := strconv.Itoa(1 + m.rand.IntN(9))
	for len(id) < n {
		id += strconv.Itoa(m.rand.IntN(10))
	}
	return id
}

func (m *Meta) hexDigits(n int) string {
	const digits = "0123456789ABCDEF"
	id := make([]byte, n)
	for i := range id {
		id[i] = digits[m.rand.IntN(len(digits))]
	}
	return string(id)
}

func (m *Meta) randomBytes(n int) []byte {
	random := make([]byte, n)
	for i := range random {
		random[i] = byte(m.rand.IntN(256))
	}
	return random
}

// tick is the time of the next item.
func (m *Meta) tick() time.Time {
	at := m.now
	m.now = m.now.Add(time.Second)
	return at
}

// The two shapes of message id that the Cloud API hands out: a list of the
// other party's number, a direction and a hexadecimal id.
func (m *Meta) incomingID(phone string) string {
	return wamid(phone, 0x12, m.hexDigits(20))
}

func (m *Meta) outgoingID(phone string) string {
	return wamid(phone, 0x11, m.hexDigits(18))
}

func wamid(phone string, direction byte, id string) string {
	raw := []byte{0x1c, 0x18, byte(len(phone))}
	raw = append(raw, phone...)
	raw = append(raw, 0x15, 0x02, 0x00, direction, 0x18, byte(len(id)))
	raw = append(raw, id...)
	return "wamid." + base64.StdEncoding.EncodeToString(append(raw, 0x00))
}

// Sign gives the X-Hub-Signature-256 header value of a body.
func Sign(appSecret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(appSecret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// Send signs the body and posts it once. status is what was answered; err says
// that there was no answer.
func (m *Meta) Send(ctx context.Context, body []byte) (status int, err error) {
	return m.post(ctx, body, Sign(m.secret, body))
}

// SendSigned posts the body with a signature header of the caller's choice,
// right or wrong; empty sends none.
func (m *Meta) SendSigned(ctx context.Context, body []byte, signature string) (status int, err error) {
	return m.post(ctx, body, signature)
}

func (m *Meta) post(ctx context.Context, body []byte, signature string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("make webhook request: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "facebookexternalua")
	if signature != "" {
		request.Header.Set("X-Hub-Signature-256", signature)
	}
	response, err := m.client.Do(request)
	if err != nil {
		return 0, fmt.Errorf("send webhook: %w", err)
	}
	defer response.Body.Close()
	// Read to the end so that the connection can be used again.
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	return response.StatusCode, nil
}

// Retry is how stubborn Deliver is. Meta itself goes on for days; zero values
// mean 5 tries, 100 ms doubling to 2 s.
type Retry struct {
	Tries   int
	First   time.Duration
	Ceiling time.Duration
}

func (r Retry) withDefaults() Retry {
	if r.Tries == 0 {
		r.Tries = 5
	}
	if r.First == 0 {
		r.First = 100 * time.Millisecond
	}
	if r.Ceiling == 0 {
		r.Ceiling = 2 * time.Second
	}
	return r
}

// ErrNotTaken is returned by Deliver when no try was answered 200.
var ErrNotTaken = errors.New("the webhook was not answered 200")

// Deliver sends the body again and again, the same bytes each time, until it is
// answered 200 or the tries are used up. statuses holds one entry per try, 0
// where there was no answer. It is nil-error only if the last entry is 200.
func (m *Meta) Deliver(ctx context.Context, body []byte, r Retry) (statuses []int, err error) {
	r = r.withDefaults()
	wait := r.First
	for try := 1; ; try++ {
		status, err := m.Send(ctx, body)
		statuses = append(statuses, status)
		switch {
		case status == http.StatusOK:
			return statuses, nil
		case ctx.Err() != nil:
			return statuses, fmt.Errorf("deliver webhook: %w", context.Cause(ctx))
		case try >= r.Tries:
			return statuses, fmt.Errorf("deliver webhook in %d tries: %w", try, errors.Join(ErrNotTaken, err))
		}
		if err := pause(ctx, wait); err != nil {
			return statuses, fmt.Errorf("deliver webhook: %w", err)
		}
		wait = min(2*wait, r.Ceiling)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
