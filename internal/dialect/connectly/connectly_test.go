package connectly_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/dialect/connectly"
	"github.com/waypost-gateway/waypost/internal/dialect/dialecttest"
	"github.com/waypost-gateway/waypost/internal/meta"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	dialecttest.Run(t, connectly.New(), "testdata")
}

func FuzzSettings(f *testing.F) { dialecttest.Fuzz(f, connectly.New(), "testdata") }

func TestPolicy(t *testing.T) {
	t.Parallel()
	want := waypost.Policy{
		Success: waypost.Success200, Timeout: 5 * time.Second,
		Schedule: []time.Duration{0, 5 * time.Minute, 20 * time.Minute, time.Hour, 4 * time.Hour, 24 * time.Hour},
	}
	if diff := cmp.Diff(want, connectly.New().Policy(&waypost.Endpoint{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func statusBody(opaque string) string {
	quoted, _ := json.Marshal(opaque)
	return `{"entry":[{"changes":[{"value":{"statuses":[{"id":"wamid.A","biz_opaque_callback_data":` + string(quoted) + `}]}}]}]}`
}

const noBody = "" // Route must not need it

func TestRoute(t *testing.T) {
	t.Parallel()
	messages := endpoint("messages", nil)
	echo := endpoint("messages", map[string]any{"echo": true})
	sms := endpoint("messages", map[string]any{"channelTypes": "sms"})
	status := endpoint("delivery_status", nil)
	filtered := endpoint("delivery_status", map[string]any{"filters": `["spring-*","summer"]`})
	report := endpoint("report", map[string]any{"channelTypes": "sms", "filters": `["x"]`})
	filteredMessages := endpoint("messages", map[string]any{"filters": `["spring-*"]`})
	made := &waypost.Endpoint{URL: "https://own.test", Options: map[string]any{"echo": true}}
	noURL := &waypost.Endpoint{Slot: "topic:messages"}
	all := []*waypost.Endpoint{messages, echo, sms, status, filtered, report, filteredMessages, made, noURL}
	for name, tt := range map[string]struct {
		eventType string
		form      waypost.Form
		body      string
		want      []*waypost.Endpoint
	}{
		"message":             {"whatsapp.message.text", waypost.FormCloud, noBody, []*waypost.Endpoint{messages, echo, filteredMessages, made}},
		"message of any type": {"whatsapp.message.hologram", waypost.FormCloud, noBody, []*waypost.Endpoint{messages, echo, filteredMessages, made}},
		"echo":                {"whatsapp.smb_message_echoes", waypost.FormCloud, noBody, []*waypost.Endpoint{echo, made}},
		"other echo":          {"whatsapp.message_echoes", waypost.FormCloud, noBody, []*waypost.Endpoint{echo, made}},
		"campaign that fits":  {"whatsapp.status.read", waypost.FormCloud, statusBody(`{"campaign_name":"spring-1"}`), []*waypost.Endpoint{status, filtered, made}},
		"other that fits":     {"whatsapp.status.read", waypost.FormCloud, statusBody(`{"campaign_name":"summer"}`), []*waypost.Endpoint{status, filtered, made}},
		"campaign that don't": {"whatsapp.status.read", waypost.FormCloud, statusBody(`{"campaign_name":"summers"}`), []*waypost.Endpoint{status, made}},
		"no campaign":         {"whatsapp.status.read", waypost.FormCloud, statusBody("spring-1"), []*waypost.Endpoint{status, made}},
		"unreadable":          {"whatsapp.status.read", waypost.FormCloud, "{", []*waypost.Endpoint{status, filtered, made}},
		"played":              {"whatsapp.status.played", waypost.FormCloud, statusBody(""), []*waypost.Endpoint{status, made}},
		"payment":             {"whatsapp.status.captured", waypost.FormCloud, statusBody(""), nil},
		"report":              {"platform.report", waypost.FormData, noBody, []*waypost.Endpoint{report, made}},
		"template notice":     {"whatsapp.message_template_status_update", waypost.FormCloud, noBody, nil},
		"message published":   {"whatsapp.message.text", waypost.FormData, noBody, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []*waypost.Endpoint
			event := &waypost.Event{Type: tt.eventType, Form: tt.form, Body: []byte(tt.body)}
			for _, target := range connectly.New().Route(event, all) {
				got = append(got, target.Endpoint)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func endpoint(topic string, options map[string]any) *waypost.Endpoint {
	return &waypost.Endpoint{Slot: "topic:" + topic, URL: "https://hooks.acme.test/" + topic, Options: options}
}

// matches asks Route, which is what filters are for.
func matches(expressions []string, campaign string) bool {
	filters, _ := json.Marshal(expressions)
	opaque, _ := json.Marshal(map[string]string{"campaign_name": campaign})
	event := &waypost.Event{Type: "whatsapp.status.read", Form: waypost.FormCloud, Body: []byte(statusBody(string(opaque)))}
	return len(connectly.New().Route(event, []*waypost.Endpoint{endpoint("delivery_status", map[string]any{"filters": string(filters)})})) == 1
}

func TestFilters(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		expression, campaign string
		want                 bool
	}{
		{"test-campaign-*", "test-campaign-7", true},
		{"test-campaign-*", "test-campaign-", true},
		{"test-campaign-*", "test-campaign", false},
		{"test-campaign-*", "my-test-campaign-7", false},
		{"*-7", "test-7", true},
		{"*", "anything", true},
		{"a*b*c", "abc", true},
		{"a*b*c", "a--b--b--c", true},
		{"a*b*c", "acb", false},
		{"ab*ba", "aba", false},
		{"Spring", "spring", false},
		{"a.c", "abc", false},
		{"a?c", "abc", false},
		{"[ab]", "a", false},
		{"fr\u00fch*", "fr\u00fchling", true},
	} {
		if got := matches([]string{tt.expression}, tt.campaign); got != tt.want {
			t.Errorf("%q fits %q: %v, want %v", tt.campaign, tt.expression, got, tt.want)
		}
	}
	if matches([]string{"a", "b"}, "c") || !matches([]string{"a", "b"}, "b") {
		t.Error("filters don't add up: one that fits is enough")
	}
}

func TestFiltersAgreeWithARegularExpression(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		expression := rapid.StringMatching(`[ab.*]{1,8}`).Draw(t, "expression")
		campaign := rapid.StringMatching(`[ab.]{1,10}`).Draw(t, "campaign")
		pattern := strings.ReplaceAll(regexp.QuoteMeta(expression), `\*`, `.*`)
		want := regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString(campaign)
		if got := matches([]string{expression}, campaign); got != want {
			t.Fatalf("%q fits %q: %v, want %v", campaign, expression, got, want)
		}
	})
}

func item(event *waypost.Event) dialect.Item {
	return dialect.Item{
		Event:        event,
		Endpoint:     &waypost.Endpoint{ID: 1, URL: "https://hooks.acme.test", Options: map[string]any{"echo": true}},
		TenantSecret: "waypost_test_secret",
		Attempt:      1,
	}
}

// TestSignature checks it the way the provider's pages tell receivers to.
func TestSignature(t *testing.T) {
	t.Parallel()
	event := &waypost.Event{ID: 1, Type: "whatsapp.message.text", Form: waypost.FormCloud, Body: []byte(
		`{"entry":[{"changes":[{"value":{"messages":[{"from":"34600111222","id":"wamid.A","timestamp":"1760000001","type":"text","text":{"body":"Gr\u00fc\u00dfe"}}]}}]}]}`)}
	hook, err := connectly.New().Encode(item(event))
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, []byte("waypost_test_secret"))
	mac.Write(hook.Body)
	if got, want := hook.Header.Get("x-connectly-hmac-sha256"), base64.StdEncoding.EncodeToString(mac.Sum(nil)); got != want {
		t.Errorf("signed %q, want %q", got, want)
	}
	unsigned := item(event)
	unsigned.TenantSecret = ""
	if hook, err = connectly.New().Encode(unsigned); err != nil || len(hook.Header) != 0 {
		t.Errorf("without a secret: %v, %v", hook.Header, err)
	}
}

// TestSamples writes a hook for every message, status and echo that Meta is
// known to send: all of them can be told of.
func TestSamples(t *testing.T) {
	t.Parallel()
	told := 0
	for name, event := range samples(t) {
		hook, err := connectly.New().Encode(item(event))
		if errors.Is(err, dialect.ErrNotWanted) {
			if strings.HasPrefix(event.Type, waypost.TypeMessagePrefix) {
				t.Errorf("%s: the message is not told of", name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		told++
		var shape struct {
			Topic, Timestamp  string
			Sender, Recipient struct{ ID string }
			Message           *struct{ Text *string }
			ButtonResponse    *struct{ Payload string }
			StatusUpdate      *struct{ ID, Status string }
		}
		if err := json.Unmarshal(hook.Body, &shape); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		contents := 0
		for _, there := range []bool{shape.Message != nil, shape.ButtonResponse != nil, shape.StatusUpdate != nil} {
			if there {
				contents++
			}
		}
		if shape.Topic == "" || shape.Timestamp == "" || shape.Sender.ID == "" || shape.Recipient.ID == "" || contents != 1 {
			t.Errorf("%s: not a whole hook: %s", name, hook.Body)
		}
	}
	if told < 80 {
		t.Errorf("only %d samples were told of", told)
	}
}

// samples are the items of all samples of Meta's, with names.
func samples(t *testing.T) map[string]*waypost.Event {
	t.Helper()
	files, err := filepath.Glob("../../meta/testdata/samples/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no samples:", err)
	}
	events := map[string]*waypost.Event{}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if meta.IsOnPrem(body) {
			if body, err = meta.FromOnPrem(body, "208417730961245", "15550142077", "301956482217730"); err != nil {
				t.Fatal(err)
			}
		}
		items, err := meta.Split(body)
		if err != nil {
			continue // refused as a whole: no event is made of it
		}
		for i, it := range items {
			events[filepath.Base(file)+"#"+it.Type+"#"+string(rune('a'+i%26))] = &waypost.Event{
				ID: 1 << 40, Type: it.Type, Form: waypost.FormCloud, Body: it.Body,
				PhoneNumberID: it.PhoneNumberID, WABAID: it.WABAID, OccurredAt: it.OccurredAt,
			}
		}
	}
	return events
}

// FuzzEncode writes hooks of bodies nobody thought of: they are JSON, or there
// is a reason why there is none.
func FuzzEncode(f *testing.F) {
	types := []string{
		"whatsapp.message.text", "whatsapp.message.interactive", "whatsapp.status.failed", "whatsapp.status.read",
		"whatsapp.smb_message_echoes", "platform.report",
	}
	f.Add(uint8(0), `{"entry":[{"changes":[{"value":{"messages":[{"type":"edit","edit":{"message":{"type":"order","order":{"product_items":[{}]}}}}]}}]}]}`)
	f.Add(uint8(1), `{"entry":[{"changes":[{"value":{"messages":[{"type":"interactive","interactive":{"type":"list_reply","list_reply":[]}}]}}]}]}`)
	f.Add(uint8(2), statusBody(`{"campaign_name":"a","callbackData":{"n":1e400}}`))
	f.Add(uint8(2), `{"entry":[{"changes":[{"value":{"statuses":[{"errors":[{"code":1}],"biz_opaque_callback_data":7}]}}]}]}`)
	f.Add(uint8(4), `{"entry":[{"changes":[{"value":{"message_echoes":[{"type":"location","location":{"latitude":1e400}}]}}]}]}`)
	f.Add(uint8(5), `{"report":[1],"timestamp":7}`)
	f.Fuzz(func(t *testing.T, kind uint8, body string) {
		event := &waypost.Event{ID: 1 << 40, Type: types[int(kind)%len(types)], Form: waypost.FormCloud, Body: []byte(body)}
		if event.Type == "platform.report" {
			event.Form = waypost.FormData
		}
		hook, err := connectly.New().Encode(item(event))
		if err == nil && !json.Valid(hook.Body) {
			t.Errorf("the hook is not JSON: %s", hook.Body)
		}
	})
}
