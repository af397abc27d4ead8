package standard_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/dialect/dialecttest"
	"github.com/waypost-gateway/waypost/internal/dialect/standard"
	"github.com/waypost-gateway/waypost/internal/meta"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	dialecttest.Run(t, standard.New(), "testdata")
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	policy := standard.New().Policy(&waypost.Endpoint{})
	if policy.Success != waypost.Success2xx || policy.Timeout != 15*time.Second || !policy.GoneDisables {
		t.Errorf("policy %+v", policy)
	}
	// "Time since start" of the specification's table, whose first line is the
	// first attempt.
	want := []string{"5s", "5m5s", "35m5s", "2h35m5s", "7h35m5s", "17h35m5s", "31h35m5s", "51h35m5s", "75h35m5s"}
	var got []string
	var since time.Duration
	for _, wait := range policy.Schedule {
		since += wait
		got = append(got, since.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("retries (-want +got)\n%s", diff)
	}
}

const (
	secret    = "whsec_d2F5cG9zdC1zdGFuZGFyZC10ZXN0LXNlY3JldA=="
	oldSecret = "whsec_b2xkLXdheXBvc3Qtc3RhbmRhcmQtdGVzdC1rZXk="
)

func item(event *waypost.Event, options map[string]any, secrets ...waypost.SigningSecret) dialect.Item {
	if len(secrets) == 0 {
		secrets = []waypost.SigningSecret{{Value: secret}}
	}
	return dialect.Item{
		Event:    event,
		Endpoint: &waypost.Endpoint{ID: 1, TenantID: 1, URL: "https://hooks.acme.test", Options: options, Secrets: secrets},
		Now:      dialecttest.Now,
		Attempt:  1,
	}
}

func encode(t *testing.T, event *waypost.Event) dialect.Hook {
	t.Helper()
	hook, err := standard.New().Encode(item(event, nil))
	if err != nil {
		t.Fatal(err)
	}
	return hook
}

// events are the items of all samples of Meta's, and some that a platform
// published, with names.
func events(tb testing.TB) map[string]*waypost.Event {
	tb.Helper()
	files, err := filepath.Glob("../../meta/testdata/samples/*.json")
	if err != nil || len(files) == 0 {
		tb.Fatal("no samples:", err)
	}
	all := map[string]*waypost.Event{}
	add := func(name string, event waypost.Event) {
		event.ID, event.TenantID, event.State = waypost.EventID(1<<50+len(all)), 1, waypost.EventRouted
		all[name] = &event
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if meta.IsOnPrem(body) {
			if body, err = meta.FromOnPrem(body, "208417730961245", "15550142077", "301956482217730"); err != nil {
				tb.Fatal(err)
			}
		}
		items, err := meta.Split(body)
		if err != nil {
			add(name, waypost.Event{Type: waypost.TypeUnparsed, Form: waypost.FormRaw, Body: body})
		}
		for i, it := range items {
			add(fmt.Sprintf("%s#%d", name, i), waypost.Event{
				Type: it.Type, Form: waypost.FormCloud, Body: it.Body,
				PhoneNumberID: it.PhoneNumberID, WABAID: it.WABAID, OccurredAt: it.OccurredAt,
			})
		}
	}
	for eventType, data := range map[string]string{
		"platform.whatsapp": `{"whatsapp":"34910000001"}`,
		"platform.builder":  `{"builderID":"b-1"}`,
		"platform.online":   `{"online":true}`,
		"platform.report":   `{"id":"r-1"}`,
	} {
		add(eventType, waypost.Event{Type: eventType, Form: waypost.FormData, Body: []byte(data)})
	}
	return all
}

// TestPublishedByteForByte: white space, escapes and digits of what was
// published reach the receiver.
func TestPublishedByteForByte(t *testing.T) {
	t.Parallel()
	const data = "{ \"a\" : 1.50e3,\n\t\"b\":\"\\u00fc\\/<&>\",\"c\":18446744073709551616 }"
	hook := encode(t, &waypost.Event{ID: 1 << 50, Type: "acme.order", Form: waypost.FormData, Body: []byte(data)})
	if want := `"data":` + data + "}"; !bytes.HasSuffix(hook.Body, []byte(want)) {
		t.Errorf("got %s", hook.Body)
	}
}

// TestLosesNothing: every value that Meta wrote is in the hook, with its own
// bytes, but for the constants of the envelope.
func TestLosesNothing(t *testing.T) {
	t.Parallel()
	for name, event := range events(t) {
		if !json.Valid(event.Body) {
			continue
		}
		var hook struct {
			Data json.RawMessage
		}
		if err := json.Unmarshal(encode(t, event).Body, &hook); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		told := leaves(t, "", hook.Data)
		for _, leaf := range leaves(t, "", event.Body) {
			switch leaf {
			case `object="whatsapp_business_account"`, `messaging_product="whatsapp"`, `field="messages"`:
				continue
			}
			if id, isID := strings.CutPrefix(leaf, "id="); isID && id == fmt.Sprintf("%q", event.WABAID) {
				leaf = "waba_id=" + id
			}
			at := slices.Index(told, leaf)
			if at < 0 {
				t.Errorf("%s: %s is lost", name, leaf)
				continue
			}
			told = slices.Delete(told, at, at+1) // what was there twice must be there twice
		}
	}
}

// leaves are the values in a JSON text that hold no others, as name=value.
func leaves(t *testing.T, name string, raw []byte) []string {
	t.Helper()
	var object map[string]json.RawMessage
	var list []json.RawMessage
	var found []string
	switch raw[0] {
	case '{':
		if err := json.Unmarshal(raw, &object); err != nil {
			t.Fatal(err)
		}
		for name, member := range object {
			found = append(found, leaves(t, name, member)...)
		}
	case '[':
		if err := json.Unmarshal(raw, &list); err != nil {
			t.Fatal(err)
		}
		for _, element := range list {
			found = append(found, leaves(t, name, element)...)
		}
	default:
		found = []string{name + "=" + string(raw)}
	}
	return found
}

// TestBigItem: an item of three megabytes is a hook of about that.
func TestBigItem(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789abcdef", 3<<20/16)
	body := `{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"value":{"messages":[{"id":"wamid.A","type":"text","text":{"body":"` +
		text + `"}}]},"field":"messages"}]}]}`
	hook := encode(t, &waypost.Event{ID: 1 << 50, Type: "whatsapp.message.text", Form: waypost.FormCloud, Body: []byte(body), WABAID: "1"})
	if !bytes.Contains(hook.Body, []byte(text)) || len(hook.Body) > len(body)+500 {
		t.Errorf("%d bytes became %d", len(body), len(hook.Body))
	}
}

// FuzzEncode writes hooks of bodies nobody thought of: they are JSON, or there
// is a reason why there is none. A body in the Cloud form was JSON when it came
// in; of one that is not any more, all that is asked is an end.
func FuzzEncode(f *testing.F) {
	types := []string{
		"whatsapp.message.text", "whatsapp.status.read", "whatsapp.error", "whatsapp.account_update", "unparsed", "acme.order",
	}
	for _, event := range events(f) {
		f.Add(uint8(slices.Index(types, event.Type)), string(event.Body))
	}
	f.Fuzz(func(t *testing.T, kind uint8, body string) {
		event := &waypost.Event{ID: 1 << 40, Type: types[int(kind)%len(types)], Form: waypost.FormCloud, Body: []byte(body)}
		if event.Type == "acme.order" {
			event.Form = waypost.FormData
		}
		hook, err := standard.New().Encode(item(event, nil))
		intact := event.Form != waypost.FormCloud || json.Valid(event.Body)
		if err == nil && intact && !json.Valid(hook.Body) {
			t.Errorf("the hook is not JSON: %s", hook.Body)
		}
	})
}
