package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	const whatsapp, builder, online, report = "platform.whatsapp", "platform.builder", "platform.online", "platform.report"
	for _, c := range []struct {
		eventType, data string
		want            []string // the refused members
	}{
		{whatsapp, `{"whatsapp":"972771230000","whatsapp_extra_info":5}`, nil},
		{whatsapp, ` {"whatsapp_apiKey":"k-9f","whatsapp_extra_info":2, "daily_limit":0,"whatsapp_reference":"","whatsapp":"972771230000","more":[1]}`, nil},
		{whatsapp, `{"whatsapp":"972771230000","whatsapp_extra_info":1,"daily_limit":null,"whatsapp_apiKey":null}`, nil},
		{whatsapp, `{}`, []string{"data.whatsapp", "data.whatsapp_extra_info"}},
		{whatsapp, `{"whatsapp":"+972771230000","whatsapp_extra_info":0}`, []string{"data.whatsapp", "data.whatsapp_extra_info"}},
		{whatsapp, `{"whatsapp":972771230000,"whatsapp_extra_info":6}`, []string{"data.whatsapp", "data.whatsapp_extra_info"}},
		{whatsapp, `{"whatsapp":"","whatsapp_extra_info":"3"}`, []string{"data.whatsapp", "data.whatsapp_extra_info"}},
		{whatsapp, `{"whatsapp":"972771230000","whatsapp_extra_info":3.0}`, []string{"data.whatsapp_extra_info"}},
		{whatsapp, `{"whatsapp":"972771230000","whatsapp_extra_info":null}`, []string{"data.whatsapp_extra_info"}},
		{
			whatsapp, `{"whatsapp":"972771230000","whatsapp_extra_info":3,"daily_limit":-1,"whatsapp_reference":7,"whatsapp_apiKey":{"sealed":"AA=="}}`,
			[]string{"data.whatsapp_reference", "data.daily_limit", "data.whatsapp_apiKey"},
		},
		{whatsapp, `{"whatsapp":"972771230000","whatsapp_extra_info":3,"daily_limit":2.5}`, []string{"data.daily_limit"}},
		{whatsapp, `{"whatsapp":"972771230000","whatsapp_extra_info":3,"whatsapp_apikey":"k"}`, []string{"data.whatsapp_apiKey"}},
		{whatsapp, `{"whatsapp":"972771230000","whatsapp_extra_info":3,"whatsapp_extra_info":4}`, []string{"data.whatsapp_extra_info"}},
		{whatsapp, `[]`, []string{"data"}},
		{whatsapp, `"x"`, []string{"data"}},
		{builder, `{"builder_extra_info":4}`, nil},
		{builder, `{"builderID":611,"builder_url":"https://b.acme.test/611","builder_reference":"ref-2a","builder_extra_info":1}`, nil},
		{
			builder, `{"builderID":"611","builder_url":1,"builder_reference":{},"builder_extra_info":5}`,
			[]string{"data.builder_extra_info", "data.builderID", "data.builder_url", "data.builder_reference"},
		},
		{online, `{"accountID":88,"agentID":5,"inboxID":12,"server":"online","online_reference":"r","online_extra_info":7}`, nil},
		{
			online, `{"accountID":8.5,"agentID":true,"inboxID":"12","server":3,"online_extra_info":8}`,
			[]string{"data.online_extra_info", "data.accountID", "data.agentID", "data.inboxID", "data.server"},
		},
		{report, `{"id":"6f0d","name":"Nightly","type":"campaign.daily.custom","last_run":{"id":"run-77","status":"completed","result":{"url":"https://r.test/x","expires_at":"2026-03-04T06:06:07Z","created_at":"2026-03-04T05:00:00Z"}}}`, nil},
		{report, `{"timestamp":"2026-03-04T05:06:07Z","report":{"id":"6f0d"}}`, nil},
		{report, `{"id":"6f0d","last_run":null}`, nil},
		{report, `{"name":"Nightly"}`, []string{"data.id"}},
		{report, `{"report":"6f0d"}`, []string{"data.report"}},
		{
			report, `{"timestamp":5,"report":{"id":1,"last_run":{"status":"processing","result":[]}}}`,
			[]string{"data.timestamp", "data.report.id", "data.report.last_run.status", "data.report.last_run.result"},
		},
		{report, `{"id":"6f0d","last_run":{"result":{"url":5}}}`, []string{"data.last_run.result.url"}},
		{"platform.other", `{"x":1}`, nil},
		{"platform.other", `5`, []string{"data"}},
		{"order.paid", `5`, nil},
		{"platform.partners", `{}`, []string{"type"}},
		{"platform.package", `{}`, []string{"type"}},
		{"partners", `{}`, []string{"type"}},
		{"package", `{}`, []string{"type"}},
	} {
		var got []string
		for _, fault := range Check(c.eventType, []byte(c.data)) {
			got = append(got, fault.Field)
			if fault.Message == "" || strings.Contains(fault.Message, "k-9f") {
				t.Errorf("%s: message %q", c.data, fault.Message)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s %s: refused members (-want +got):\n%s", c.eventType, c.data, diff)
		}
	}
}

// reversing is a sealer that turns bytes round and checks the context.
type reversing struct{}

func (reversing) Seal(plain []byte, context string) ([]byte, error) {
	return append([]byte(context+"|"), reversed(plain)...), nil
}

func (reversing) Open(sealed []byte, context string) ([]byte, error) {
	text, ok := bytes.CutPrefix(sealed, []byte(context+"|"))
	if !ok {
		return nil, errors.New("it belongs elsewhere")
	}
	return reversed(text), nil
}

func reversed(b []byte) []byte {
	r := make([]byte, len(b))
	for i := range b {
		r[len(b)-1-i] = b[i]
	}
	return r
}

// sink is what comes after the vault.
type sink struct{ data []byte }

func (s *sink) Publish(_ context.Context, _ waypost.TenantID, _ waypost.NumberID, _ string, data json.RawMessage, _ string) (waypost.EventID, error) {
	s.data = data
	return 7, nil
}

func publish(t testing.TB, eventType, data string) (*Vault, *waypost.Event) {
	t.Helper()
	kept := &sink{}
	vault := NewVault(reversing{}, kept)
	id, err := vault.Publish(t.Context(), 3, 0, eventType, json.RawMessage(data), "")
	if err != nil || id != 7 {
		t.Fatalf("publish %s: %v, %v", data, id, err)
	}
	return vault, &waypost.Event{Type: eventType, TenantID: 3, Form: waypost.FormData, Body: kept.data}
}

func TestVault(t *testing.T) {
	t.Parallel()
	const data = `{ "whatsapp" : "972771230000",  "whatsapp_apiKey" : "k-9f\u00e9" , "n":12345678901234567890.50 }`
	vault, event := publish(t, waypost.TypePlatformWhatsApp, data)
	if bytes.Contains(event.Body, []byte("k-9f")) || !bytes.Contains(event.Body, []byte(`"whatsapp" : "972771230000",  "whatsapp_apiKey" : {"sealed":"`)) {
		t.Errorf("stored as %s", event.Body)
	}
	stored := bytes.Clone(event.Body)
	opened, err := vault.Open(event)
	if err != nil || string(opened.Body) != data {
		t.Errorf("opened as %s, %v", opened.Body, err)
	}
	if !bytes.Equal(event.Body, stored) || opened == event {
		t.Error("opening changed the event itself")
	}
	if shown := string(Redact(event)); shown != strings.Replace(data, `"k-9f\u00e9"`, `"[redacted]"`, 1) {
		t.Errorf("shown as %s", shown)
	}
	event.TenantID = 4
	if _, err := vault.Open(event); err == nil || strings.Contains(err.Error(), "k-9f") {
		t.Errorf("another tenant's event opened: %v", err)
	}
}

func TestVaultLeavesTheRestAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ eventType, data string }{
		{waypost.TypePlatformWhatsApp, ` {"whatsapp":"972771230000"} `},
		{waypost.TypePlatformWhatsApp, `{}`},
		{"order.paid", `{"whatsapp_apiKey":"k"}`},
		{"order.paid", `5`},
	} {
		vault, event := publish(t, c.eventType, c.data)
		opened, err := vault.Open(event)
		if err != nil || string(event.Body) != c.data || string(opened.Body) != c.data || string(Redact(event)) != c.data {
			t.Errorf("%s %s: stored %s, opened %s, %v", c.eventType, c.data, event.Body, opened.Body, err)
		}
	}
	// What merely looks sealed when it comes in is sealed like anything else.
	const forged = `{"WHATSAPP_APIKEY":{"sealed":"AAAA"}}`
	vault, event := publish(t, waypost.TypePlatformWhatsApp, forged)
	opened, err := vault.Open(event)
	if err != nil || string(event.Body) == forged || string(opened.Body) != forged {
		t.Errorf("forged: stored %s, opened %s, %v", event.Body, opened.Body, err)
	}
	if _, err := vault.Publish(t.Context(), 3, 0, waypost.TypePlatformWhatsApp, json.RawMessage(`[]`), ""); err == nil {
		t.Error("what can't be looked into was stored")
	}
	broken := &waypost.Event{Type: waypost.TypePlatformWhatsApp, Form: waypost.FormData, Body: []byte(`{"a":`)}
	if shown := Redact(broken); shown != nil {
		t.Errorf("what can't be looked into was shown: %s", shown)
	}
}

// FuzzVault: whatever object goes in comes out byte for byte, and the secret is
// in no stored form.
func FuzzVault(f *testing.F) {
	f.Add([]byte(`{"whatsapp_apiKey" :"zzz-secret-zzz" ,"a":[{"whatsapp_apiKey":1}],"whatsapp_apikey":-1.5e3}`))
	f.Add([]byte("{\n\t\"a\": 1 ,\r\n \"whatsapp_apiKey\"\n:\ntrue\n}\n"))
	f.Add([]byte(`{"a":1} {}`))
	f.Add([]byte(`{"a":1,}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		kept := &sink{}
		vault := NewVault(reversing{}, kept)
		_, err := vault.Publish(t.Context(), 3, 0, waypost.TypePlatformWhatsApp, data, "")
		isObject := json.Valid(data) && bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{"))
		if (err == nil) != isObject {
			t.Fatalf("%q: %v", data, err)
		}
		_ = Check(waypost.TypePlatformWhatsApp, data)
		_ = Check(waypost.TypePlatformReport, data)
		if err != nil {
			return
		}
		if !json.Valid(kept.data) {
			t.Fatalf("%q is stored as %q", data, kept.data)
		}
		event := &waypost.Event{Type: waypost.TypePlatformWhatsApp, TenantID: 3, Form: waypost.FormData, Body: kept.data}
		opened, err := vault.Open(event)
		if err != nil || !bytes.Equal(opened.Body, data) {
			t.Fatalf("%q came out as %q, %v", data, opened.Body, err)
		}
		if shown := Redact(event); !json.Valid(shown) || bytes.Contains(shown, []byte("sealed")) && !bytes.Contains(data, []byte("sealed")) {
			t.Fatalf("%q is shown as %q", data, shown)
		}
	})
}
