package digital99_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/dialect/dialecttest"
	"github.com/waypost-gateway/waypost/internal/dialect/digital99"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var alerts = digital99.Alerts{PhoneNumberID: "1090000000000009", Token: "planted-graph-token"}

func TestConformance(t *testing.T) {
	t.Parallel()
	dialecttest.Run(t, digital99.New(alerts), "testdata")
}

func FuzzSettings(f *testing.F) {
	dialecttest.Fuzz(f, digital99.New(alerts), "testdata")
}

const (
	head = `{"object":"whatsapp_business_account","entry":[{"id":"1740000000000001","time":1767571200,"changes":[{"value":`
	text = head + `{"messages":[{"from":"972541112233","id":"wamid.A","timestamp":"1767225600","type":"text","text":{"body":"hi"}}]},"field":"messages"}]}]}`
)

func status(status, more string) string {
	return head + fmt.Sprintf(`{"statuses":[{"id":"wamid.B","status":%q,"timestamp":"1767225600","recipient_id":"972541112233"%s}]},"field":"messages"}]}]}`, status, more)
}

func notice(field, value string) string { return head + value + `,"field":"` + field + `"}]}]}` }

func endpoint(slot string, options ...string) *waypost.Endpoint {
	e := &waypost.Endpoint{
		ID: 1, TenantID: 1, NumberID: 1, Slot: slot, URL: "https://hooks.acme.test/wa",
		Options: map[string]any{}, State: waypost.EndpointActive,
	}
	for _, name := range options {
		e.Options[name] = true
	}
	return e
}

func event(eventType, body string) *waypost.Event {
	return &waypost.Event{ID: 1 << 40, Type: eventType, TenantID: 1, NumberID: 1, Form: waypost.FormCloud, Body: []byte(body)}
}

// TestRoute shows which settings release which hooks. What is routed can also be
// encoded, and what is not is not wanted.
func TestRoute(t *testing.T) {
	t.Parallel()
	all := map[string]*waypost.Endpoint{
		"plain":      endpoint("number"),
		"made":       endpoint(""),
		"readStatus": endpoint("number", "readStatus"),
		"system":     endpoint("number", "system"),
		"alert":      endpoint("alert:972541112233"),
	}
	order := []string{"plain", "made", "readStatus", "system", "alert"}
	const group = `,"recipient_type":"group"`
	for _, tt := range []struct {
		name, eventType, body string
		want                  []string
	}{
		{"message", "whatsapp.message.text", text, []string{"plain", "made", "readStatus", "system"}},
		{
			"message that speaks of a group", "whatsapp.message.text", strings.ReplaceAll(text, `"hi"`, `"group_id"`),
			[]string{"plain", "made", "readStatus", "system"},
		},
		{"message of a group", "whatsapp.message.text", strings.ReplaceAll(text, `"id"`, `"group_id":"G","id"`), nil},
		{"sent", "whatsapp.status.sent", status("sent", ""), []string{"readStatus"}},
		{"sent to a group", "whatsapp.status.sent", status("sent", group), nil},
		{"failed", "whatsapp.status.failed", status("failed", ""), []string{"readStatus", "system", "alert"}},
		{"failed in a group", "whatsapp.status.failed", status("failed", group), nil},
		{
			"failed alert", "whatsapp.status.failed", status("failed", `,"biz_opaque_callback_data":"waypost-alert:evt_1"`),
			[]string{"readStatus", "system"},
		},
		{"deleted", "whatsapp.status.deleted", status("deleted", ""), nil},
		{
			"template", "whatsapp.message_template_status_update",
			notice("message_template_status_update", `{"event":"APPROVED","message_template_name":"a"}`),
			[]string{"system", "alert"},
		},
		{"partner added", "whatsapp.account_update", notice("account_update", `{"event":"PARTNER_ADDED"}`), nil},
		{"another field", "whatsapp.security", notice("security", `{"event":"PIN_CHANGED"}`), nil},
	} {
		var endpoints []*waypost.Endpoint
		for _, name := range order {
			endpoints = append(endpoints, all[name])
		}
		d := digital99.New(alerts)
		e := event(tt.eventType, tt.body)
		var got []string
		for _, target := range d.Route(e, endpoints) {
			for name := range all {
				if all[name] == target.Endpoint {
					got = append(got, name)
				}
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tt.name, diff)
		}
		for _, name := range order {
			_, err := d.Encode(dialect.Item{Event: e, Endpoint: all[name], Now: dialecttest.Now, Attempt: 1})
			wanted := false
			for _, owed := range got {
				wanted = wanted || owed == name
			}
			if wanted != (err == nil) || !wanted && !errors.Is(err, dialect.ErrNotWanted) {
				t.Errorf("%s: routed to %s: %v, but Encode gives %v", tt.name, name, wanted, err)
			}
		}
	}
}

func TestRouteSkipsEndpointsWithoutURL(t *testing.T) {
	t.Parallel()
	e := endpoint("number")
	e.URL = ""
	if targets := digital99.New(alerts).Route(event("whatsapp.message.text", text), []*waypost.Endpoint{e}); len(targets) > 0 {
		t.Errorf("owed without a URL: %v", targets)
	}
}

// TestUnreadable: what can't be read is owed, so that the failure shows.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{"entry":[]}`, `{`, head + `{},"field":"messages"}]}]}`} {
		e := event("whatsapp.status.sent", body)
		to := endpoint("number", "readStatus")
		if len(digital99.New(alerts).Route(e, []*waypost.Endpoint{to})) != 1 {
			t.Errorf("%s is not owed", body)
		}
		_, err := digital99.New(alerts).Encode(dialect.Item{Event: e, Endpoint: to})
		if err == nil || errors.Is(err, dialect.ErrNotWanted) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	once := waypost.Policy{Success: waypost.Success200, Timeout: 5 * time.Second}
	ladder := once
	ladder.Schedule = []time.Duration{0, 5 * time.Minute, 20 * time.Minute, time.Hour, 4 * time.Hour, 24 * time.Hour}
	alert := waypost.Policy{
		Success: waypost.Success2xx, Timeout: 15 * time.Second,
		Schedule: []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour},
	}
	for _, tt := range []struct {
		endpoint *waypost.Endpoint
		want     waypost.Policy
	}{
		{endpoint("number"), once},
		{endpoint("number", "retry"), ladder},
		{endpoint("", "retry"), ladder},
		{endpoint("alert:972541112233"), alert},
	} {
		if diff := cmp.Diff(tt.want, digital99.New(alerts).Policy(tt.endpoint)); diff != "" {
			t.Errorf("%s %v (-want +got)\n%s", tt.endpoint.Slot, tt.endpoint.Options, diff)
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	giveUp := dialect.Verdict{GiveUp: true}
	for _, tt := range []struct {
		status int
		body   string
		want   dialect.Verdict
		ok     bool
	}{
		{200, `{"messaging_product":"whatsapp","messages":[{"id":"wamid.A"}]}`, dialect.Verdict{}, false},
		{400, `{"error":{"message":"(#130429) Rate limit hit","code":130429}}`, dialect.Verdict{}, true},
		{400, `{"error":{"code":131056}}`, dialect.Verdict{Wait: 6 * time.Second}, true},
		{400, `{"error":{"code":131048}}`, dialect.Verdict{Wait: 24 * time.Hour}, true},
		{400, `{"error":{"code":130472}}`, dialect.Verdict{Wait: 24 * time.Hour}, true},
		{400, `{"error":{"code":131047}}`, giveUp, true},
		{400, `{"error":{"code":"131047"}}`, giveUp, true},
		{401, `{"error":{"code":190}}`, giveUp, true},
		{401, `{"error":{"code":0}}`, giveUp, true},
		{403, `{"error":{"code":200}}`, giveUp, true},
		{403, `{"error":{"code":299}}`, giveUp, true},
		{500, `{"error":{"code":131045}}`, giveUp, true},
		{500, `{"error":{"code":131016}}`, dialect.Verdict{}, true},
		{503, `{"error":{"code":2}}`, dialect.Verdict{}, true},
		{400, `{"error":{"code":987654}}`, dialect.Verdict{}, false},
		{502, `<html>Bad gateway</html>`, dialect.Verdict{}, false},
		{400, `{"error":"no"}`, dialect.Verdict{}, false},
		{400, `{"error":{}}`, dialect.Verdict{}, false},
		{500, ``, dialect.Verdict{}, false},
	} {
		verdict, ok := digital99.New(alerts).Judge(endpoint("alert:972541112233"), tt.status, []byte(tt.body))
		if verdict != tt.want || ok != tt.ok {
			t.Errorf("%d %s: %+v, %v; want %+v, %v", tt.status, tt.body, verdict, ok, tt.want, tt.ok)
		}
	}
	if _, ok := digital99.New(alerts).Judge(endpoint("number"), 400, []byte(`{"error":{"code":190}}`)); ok {
		t.Error("a customer's receiver is judged by its body")
	}
}

func TestAlertAsTemplate(t *testing.T) {
	t.Parallel()
	sender := alerts
	sender.Template = "ops_alert"
	item := dialect.Item{
		Event:    event("whatsapp.account_update", notice("account_update", `{"event":"ACCOUNT_DELETED"}`)),
		Endpoint: endpoint("alert:972541112233"),
		Number:   &waypost.Number{Phone: "34910000001"},
	}
	hook, err := digital99.New(sender).Encode(item)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"messaging_product":"whatsapp","recipient_type":"individual","to":"+972541112233","type":"template",` +
		`"template":{"name":"ops_alert","language":{"code":"he"},"components":[{"type":"body","parameters":[` +
		`{"type":"text","text":"התראת מערכת לחשבון 34910000001: החשבון נמחק."}]}]},` +
		`"biz_opaque_callback_data":"waypost-alert:` + item.Event.ID.String() + `"}`
	if diff := cmp.Diff(want, string(hook.Body)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := hook.Header.Get("Authorization"); got != "Bearer planted-graph-token" {
		t.Errorf("authorization %q", got)
	}
	if _, err := digital99.New(digital99.Alerts{}).Encode(item); !errors.Is(err, dialect.ErrNotWanted) {
		t.Errorf("without a sender: %v", err)
	}
}

// TestAlertSender configures the sender of alerts after the phones were set, and
// changes it: whoever is configured when an alert goes out sends it.
func TestAlertSender(t *testing.T) {
	t.Parallel()
	admin := dialecttest.NewAdmin(digital99.New(digital99.Alerts{}).Info())
	answer := call(digital99.New(digital99.Alerts{}), admin,
		`{"apiKey":"`+dialecttest.Key+`","from":"34910000001","systemPhoneAlert":"972502211234"}`)
	if !strings.Contains(answer.Body.String(), `"systemPhoneAlert":"972502211234"`) {
		t.Fatalf("the setting was not kept: %s", answer.Body)
	}
	endpoints := admin.Endpoints()
	i := slices.IndexFunc(endpoints, func(e waypost.Endpoint) bool { return e.Slot == "alert:972502211234" })
	if i < 0 {
		t.Fatal("the phone has no endpoint")
	}
	phone := &endpoints[i]
	event := &waypost.Event{
		ID: 1 << 40, Type: "whatsapp.account_update", Form: waypost.FormCloud,
		Body: []byte(`{"object":"whatsapp_business_account","entry":[{"id":"1","time":1767571200,"changes":[{"value":{"event":"ACCOUNT_DELETED"},"field":"account_update"}]}]}`),
	}
	for _, c := range []struct {
		sender digital99.Alerts
		want   string // where the alert goes; empty: nowhere
	}{
		{digital99.Alerts{}, ""},
		{alerts, "https://graph.facebook.com/v24.0/1090000000000009/messages"},
		{digital99.Alerts{GraphURL: "http://127.0.0.1:9/g/", Version: "v26.0", PhoneNumberID: "7", Token: "t"}, "http://127.0.0.1:9/g/v26.0/7/messages"},
		{digital99.Alerts{PhoneNumberID: "7"}, ""},
	} {
		d := digital99.New(c.sender)
		owed := len(d.Route(event, []*waypost.Endpoint{phone}))
		if c.want == "" {
			if owed != 0 {
				t.Errorf("with the sender %+v an alert is owed", c.sender)
			}
			continue
		}
		hook, err := d.Encode(dialect.Item{Event: event, Endpoint: phone})
		if err != nil || owed != 1 || hook.URL != c.want {
			t.Errorf("%d alerts go to %q, %v; want one to %q", owed, hook.URL, err, c.want)
		}
	}
}

func call(d digital99.Dialect, admin dialect.Admin, body string) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodPost, "/whatsapp/v2/setWebhook", strings.NewReader(body))
	d.Handler(admin).ServeHTTP(answer, request)
	return answer
}

// TestBadGraphURL: a fault of the operator's is not blamed on the customer.
func TestBadGraphURL(t *testing.T) {
	t.Parallel()
	sender := alerts
	sender.GraphURL = "gopher://graph.test"
	d := digital99.New(sender)
	answer := call(d, dialecttest.NewAdmin(d.Info()),
		`{"apiKey":"`+dialecttest.Key+`","from":"34910000001","systemPhoneAlert":"972502211234"}`)
	if want := `{"status":"FAIL","reason":99}`; answer.Code != http.StatusInternalServerError || answer.Body.String() != want {
		t.Errorf("%d %s, want 500 %s", answer.Code, answer.Body, want)
	}
}

func TestCountry(t *testing.T) {
	t.Parallel()
	for from, want := range map[string]string{
		"972541112233": "IL", "970591234567": "PS", "12025550147": "US", "14165550147": "CA", "18095550147": "DO",
		"17875550147": "PR", "18765550147": "JM", "79161234567": "RU", "77011234567": "KZ", "447700900361": "GB",
		"441534900361": "JE", "441624900361": "IM", "390669812345": "VA", "393331234567": "IT", "59991234567": "CW",
		"5997123456": "BQ", "262639123456": "YT", "262692123456": "RE", "4917012345678": "DE", "861381234567": "CN",
		"5511912345678": "BR", "201001234567": "EG", "27821234567": "ZA", "358401234567": "FI", "38349123456": "XK",
		"999123": "", "1": "US",
	} {
		body := strings.ReplaceAll(text, "972541112233", from)
		hook, err := digital99.New(alerts).Encode(dialect.Item{Event: event("whatsapp.message.text", body), Endpoint: endpoint("number")})
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ Country string }
		if err := json.Unmarshal(hook.Body, &got); err != nil {
			t.Fatal(err)
		}
		if got.Country != want {
			t.Errorf("%s is in %q, want %q", from, got.Country, want)
		}
	}
}

// FuzzEncode: whatever an event's body is, a hook is JSON in UTF-8 or there is
// none, and what is not routed has none.
func FuzzEncode(f *testing.F) {
	types := []string{
		"whatsapp.message.text", "whatsapp.status.sent", "whatsapp.status.failed", "whatsapp.account_update",
		"whatsapp.business_capability_update", "whatsapp.message_template_status_update", "whatsapp.phone_number_quality_update",
	}
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		f.Fatal("no vectors", err)
	}
	for _, path := range paths {
		vector, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for i, part := range strings.Split(string(vector), "-- event --\n")[1:] {
			body, _, _ := strings.Cut(part, "\n-- ")
			f.Add(uint8(i), []byte(body))
		}
	}
	d := digital99.New(alerts)
	endpoints := []*waypost.Endpoint{
		endpoint("number", "readStatus"), endpoint("number", "readStatus", "system"), endpoint("alert:972541112233"),
	}
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		e := event(types[int(kind)%len(types)], string(body))
		routed := map[*waypost.Endpoint]bool{}
		for _, target := range d.Route(e, endpoints) {
			routed[target.Endpoint] = true
		}
		for _, to := range endpoints {
			hook, err := d.Encode(dialect.Item{
				Event: e, Endpoint: to, Attempt: 1,
				MediaURL: func(id string) string { return "https://gateway.acme.test/media/" + id },
			})
			if !routed[to] && err == nil {
				t.Errorf("a hook for %q that is not owed it", to.Slot)
			}
			if err == nil && (!json.Valid(hook.Body) || !utf8.Valid(hook.Body)) {
				t.Errorf("hook to %q: %q", to.Slot, hook.Body)
			}
		}
	})
}
