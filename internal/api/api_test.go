package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/api"
	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/directory"
	"github.com/waypost-gateway/waypost/internal/secret"
	"github.com/waypost-gateway/waypost/internal/settings"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/pgtest"
	"github.com/waypost-gateway/waypost/internal/store/postgres"
	"github.com/waypost-gateway/waypost/internal/store/sqlite"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const token = "admin-token-of-this-test"

// gateway is a management API over a real store, with an engine that only
// remembers whom it was woken for.
type gateway struct {
	t         testing.TB
	handler   http.Handler
	store     store.Store
	directory *directory.Directory
	settings  *settings.Service
	ids       *waypost.IDs
	node      waypost.NodeID
	log       *bytes.Buffer

	mu        sync.Mutex
	published []publication
	woken     []waypost.EndpointID
	receiver  func(url string) (int, []byte, error)
}

type publication struct {
	Tenant waypost.TenantID
	Number waypost.NumberID
	Type   string
	Data   string
	Key    string
}

// Publish implements api.Publisher.
func (g *gateway) Publish(ctx context.Context, tenant waypost.TenantID, number waypost.NumberID, eventType string, data json.RawMessage, key string) (waypost.EventID, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.published = append(g.published, publication{tenant, number, eventType, string(data), key})
	event := waypost.Event{
		ID: waypost.EventID(g.ids.Next()), Type: eventType, State: waypost.EventRouted,
		TenantID: tenant, NumberID: number, Form: waypost.FormData, Body: data,
	}
	receipts, err := g.store.Accept(ctx, g.node, []store.Arrival{{Event: event}})
	if err != nil {
		return 0, err
	}
	return receipts[0].Event, nil
}

func TestMain(m *testing.M) { pgtest.Main(m) }

func start(tb testing.TB) *gateway {
	tb.Helper()
	return startOn(tb, "")
}

// onBoth runs a test on each database.
func onBoth(t *testing.T, test func(t *testing.T, g *gateway)) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, startOn(t, ""))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, startOn(t, pgtest.URL(t)))
	})
}

// startOn starts on a database, "" for SQLite.
func startOn(tb testing.TB, database string) *gateway {
	tb.Helper()
	ctx := tb.Context()
	key, err := secret.NewBox(secret.Key(bytes.Repeat([]byte{7}, secret.KeySize)))
	if err != nil {
		tb.Fatal(err)
	}
	g := &gateway{t: tb, log: &bytes.Buffer{}}
	log := slog.New(slog.NewTextHandler(&lockedWriter{to: g.log}, nil))
	if database == "" {
		g.store, err = sqlite.Open(ctx, sqlite.Options{Dir: tb.TempDir(), Sealer: key, Log: log})
	} else {
		g.store, err = postgres.Open(ctx, postgres.Options{URL: database, Sealer: key, Log: log})
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(g.close)
	node, slot, floor, err := g.store.Join(ctx, time.Hour, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	g.node = node
	if g.ids, err = waypost.NewIDs(slot, floor, time.Now); err != nil {
		tb.Fatal(err)
	}
	g.directory = directory.New(g.store, log)
	if err := g.directory.CatchUp(ctx); err != nil {
		tb.Fatal(err)
	}
	g.settings = settings.New(settings.Options{
		Store: g.store, Directory: g.directory, Dialects: dialects(), IDs: g.ids.Next, Log: log,
		Trusted: func(host string) bool { return host == "127.0.0.1" },
		Forbidden: func(host string) error {
			if host == "localhost" || host == "10.0.0.1" {
				return errors.New("private address")
			}
			return nil
		},
		Fetch: func(_ context.Context, url string) (int, []byte, error) { return g.receiver(url) },
		OnWork: func(id waypost.EndpointID) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.woken = append(g.woken, id)
		},
	})
	g.handler = api.New(api.Options{
		Settings: g.settings, Records: g.store, Publisher: g,
		TokenDigest: sha256.Sum256([]byte(token)), Log: log,
	})
	return g
}

// close takes the store away.
func (g *gateway) close() {
	if err := g.store.Close(); err != nil {
		g.t.Error(err)
	}
}

type lockedWriter struct {
	mu sync.Mutex
	to *bytes.Buffer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}

// plain is a dialect without quirks.
type plain struct{ info dialect.Info }

func (d plain) Info() dialect.Info                        { return d.info }
func (d plain) Handler(dialect.Admin) http.Handler        { return nil }
func (d plain) Encode(dialect.Item) (dialect.Hook, error) { return dialect.Hook{}, nil }
func (d plain) Policy(e *waypost.Endpoint) waypost.Policy {
	if e.OptionString("payload", "") == "onprem" {
		return waypost.Policy{Success: waypost.Success200, Timeout: 90 * time.Minute, Schedule: nil}
	}
	return waypost.Policy{
		Success: waypost.Success200, Timeout: 5 * time.Second,
		Schedule: []time.Duration{0, 5 * time.Minute, 90 * time.Minute, 24 * time.Hour},
	}
}

// proving asks receivers to prove themselves, as Meta does.
type proving struct{ plain }

func (d proving) Challenge(e *waypost.Endpoint, nonce string) *dialect.Challenge {
	verify := e.OptionString("verify_token", "")
	if verify == "" {
		return nil
	}
	return &dialect.Challenge{
		URL: e.URL + "?verify=" + verify + "&nonce=" + nonce,
		Check: func(status int, body []byte) error {
			if status != http.StatusOK || string(body) != nonce {
				return errors.New("it must answer with the nonce")
			}
			return nil
		},
	}
}

func dialects() []dialect.Dialect {
	bare, whsec := "", "whsec_"
	return []dialect.Dialect{
		plain{dialect.Info{
			ID: "360dialog", Events: []string{"whatsapp.*"},
			Options: []dialect.Option{
				{Name: "payload", Type: dialect.OptionText, Default: "cloud", Enum: []string{"cloud", "onprem"}},
				{Name: "kept", Type: dialect.OptionText, Internal: true},
			},
			Keys: &dialect.KeySpec{PerNumber: true, ClearsWebhook: true},
		}},
		plain{dialect.Info{
			ID: "connectly", Events: []string{"*"},
			Keys: &dialect.KeySpec{AccountMember: "business_id", SecretMember: "signing_secret"},
		}},
		plain{dialect.Info{
			ID: "99digital-partner", Events: []string{"platform.*"},
			Keys: &dialect.KeySpec{KeyMember: "client_secret", AccountMember: "client_id"},
		}},
		proving{plain{dialect.Info{
			ID: "meta", Events: []string{"whatsapp.*"}, SecretPrefix: &bare,
			Options: []dialect.Option{{Name: "verify_token", Type: dialect.OptionText, Secret: true}},
		}}},
		plain{dialect.Info{ID: "standard", Events: []string{"*"}, SecretPrefix: &whsec}},
	}
}

// reply is an answer of the API.
type reply struct {
	Status int
	Header http.Header
	Text   string
	Body   map[string]any
}

func (g *gateway) send(method, path, body string, header ...string) reply {
	g.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	g.handler.ServeHTTP(w, r)
	out := reply{Status: w.Code, Header: w.Header(), Text: w.Body.String()}
	if out.Text != "" {
		err := json.Unmarshal(w.Body.Bytes(), &out.Body)
		var tooLarge *json.UnmarshalTypeError // a number no float64 can hold is passed on all the same
		if err != nil && !errors.As(err, &tooLarge) {
			g.t.Fatalf("%s %s: answer is not a JSON object: %q", method, path, out.Text)
		}
	}
	described().check(g.t, r, out)
	return out
}

// want sends a request and insists on the status.
func (g *gateway) want(status int, method, path, body string) map[string]any {
	g.t.Helper()
	out := g.send(method, path, body)
	if out.Status != status {
		g.t.Fatalf("%s %s %s: got %d, want %d: %s", method, path, body, out.Status, status, out.Text)
	}
	return out.Body
}

func (g *gateway) tenant(name string) string {
	g.t.Helper()
	return g.want(201, "POST", "/api/v1/tenants", fmt.Sprintf(`{"name":%q}`, name))["id"].(string)
}

func (g *gateway) number(tenant, phoneNumberID string) string {
	g.t.Helper()
	return g.want(201, "POST", "/api/v1/numbers", fmt.Sprintf(
		`{"tenant_id":%q,"phone":"15550001111","phone_number_id":%q,"waba_id":"1740001"}`, tenant, phoneNumberID))["id"].(string)
}

func (g *gateway) endpoint(tenant, dialectID, more string) map[string]any {
	g.t.Helper()
	return g.want(201, "POST", "/api/v1/endpoints", fmt.Sprintf(
		`{"tenant_id":%q,"dialect":%q,"url":"https://hooks.acme.test/in"%s}`, tenant, dialectID, more))
}

// refusedFields are the members a problem names.
func refusedFields(body map[string]any) []string {
	var fields []string
	list, _ := body["errors"].([]any)
	for _, item := range list {
		fields = append(fields, item.(map[string]any)["field"].(string))
	}
	return fields
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	g := start(t)
	tenant := g.tenant("Acme")
	other := g.tenant("Other")
	number := g.number(tenant, "106001")
	otherNumber := g.number(other, "106002")
	endpoint := g.endpoint(tenant, "standard", "")["id"].(string)
	create := func(more string) string {
		return fmt.Sprintf(`{"tenant_id":%q,"dialect":"360dialog","url":"https://a.test/"%s}`, tenant, more)
	}
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		code                     string
		fields                   []string
	}{
		{"malformed", "POST", "/tenants", `{"name":`, 400, "malformed", []string{"body"}},
		{"trailing text", "POST", "/tenants", `{"name":"a"} x`, 400, "malformed", []string{"body"}},
		{"no body", "POST", "/tenants", ``, 400, "malformed", nil},
		{"unknown member", "POST", "/tenants", `{"name":"a","nick":"b"}`, 422, "invalid", []string{"nick"}},
		{"member in other case", "POST", "/tenants", `{"Name":"a"}`, 422, "invalid", []string{"name", "Name"}},
		{"missing member", "POST", "/tenants", `{}`, 422, "invalid", []string{"name"}},
		{"wrong type", "POST", "/tenants", `{"name":5}`, 422, "invalid", []string{"name"}},
		{"not an object", "POST", "/tenants", `[]`, 422, "invalid", []string{"body"}},
		{"empty name", "POST", "/tenants", `{"name":""}`, 422, "invalid", []string{"name"}},
		{"secret of no dialect", "PATCH", "/tenants/" + tenant, `{"secrets":{"nobody":"x"}}`, 422, "invalid", []string{"secrets.nobody"}},
		{"no such tenant", "GET", "/tenants/ten_0000000000001", "", 404, "not_found", []string{"tenant_id"}},
		{"no id at all", "GET", "/tenants/5", "", 404, "not_found", nil},
		{"other kind of id", "GET", "/tenants/" + number, "", 404, "not_found", nil},
		{"change no such tenant", "PATCH", "/tenants/ten_0000000000001", `{"name":"x"}`, 404, "not_found", []string{"tenant_id"}},
		{"no such path", "GET", "/nothing", "", 404, "not_found", nil},
		{"wrong method", "PUT", "/tenants", `{}`, 405, "method_not_allowed", nil},
		{"wrong method on a path with an id", "POST", "/tenants/" + tenant, `{}`, 405, "method_not_allowed", nil},

		{"phone", "POST", "/numbers", fmt.Sprintf(`{"tenant_id":%q,"phone":"call me","phone_number_id":"1 2"}`, tenant), 422, "invalid", []string{"phone", "phone_number_id"}},
		{"number of no tenant", "POST", "/numbers", `{"tenant_id":"ten_0000000000001","phone":"15550001111"}`, 404, "not_found", []string{"tenant_id"}},
		{"number of no id", "POST", "/numbers", `{"tenant_id":"x","phone":"15550001111"}`, 404, "not_found", []string{"tenant_id"}},
		{"phone_number_id taken", "POST", "/numbers", fmt.Sprintf(`{"tenant_id":%q,"phone":"15550001111","phone_number_id":"106001"}`, other), 409, "conflict", nil},
		{"lifecycle", "POST", "/numbers/" + number + "/lifecycle", `{"state":"asleep"}`, 422, "invalid", []string{"state"}},
		{"daily limit", "POST", "/numbers/" + number + "/lifecycle", `{"state":"ready","daily_limit":-1}`, 422, "invalid", []string{"daily_limit"}},

		{"key of no dialect", "POST", "/keys", fmt.Sprintf(`{"dialect":"none","number_id":%q}`, number), 422, "invalid", []string{"dialect"}},
		{"key of a dialect without", "POST", "/keys", fmt.Sprintf(`{"dialect":"meta","number_id":%q}`, number), 422, "invalid", []string{"dialect"}},
		{"key without number", "POST", "/keys", fmt.Sprintf(`{"dialect":"360dialog","tenant_id":%q}`, tenant), 422, "invalid", []string{"number_id"}},
		{"key without tenant", "POST", "/keys", `{"dialect":"connectly"}`, 422, "invalid", []string{"tenant_id"}},
		{"key for a tenant with number", "POST", "/keys", fmt.Sprintf(`{"dialect":"connectly","number_id":%q}`, number), 422, "invalid", []string{"number_id"}},
		{"key of two owners", "POST", "/keys", fmt.Sprintf(`{"dialect":"360dialog","number_id":%q,"tenant_id":%q}`, number, other), 422, "invalid", []string{"number_id"}},
		{"no such key", "DELETE", "/keys/key_0000000000001", "", 404, "not_found", nil},

		{"source kind", "POST", "/sources", `{"kind":"smtp","name":"a"}`, 422, "invalid", []string{"kind"}},
		{"source without token", "POST", "/sources", `{"kind":"onprem","name":"a"}`, 422, "invalid", []string{"token"}},
		{"source with foreign member", "POST", "/sources", `{"kind":"meta","name":"a","token":"x"}`, 422, "invalid", []string{"token"}},
		{"source name", "POST", "/sources", `{"kind":"onprem","name":"a/b","token":"x"}`, 422, "invalid", []string{"name"}},

		{"endpoint of no dialect", "POST", "/endpoints", fmt.Sprintf(`{"tenant_id":%q,"dialect":"fax","url":"https://a.test/"}`, tenant), 422, "invalid", []string{"dialect"}},
		{"endpoint of no tenant", "POST", "/endpoints", `{"tenant_id":"ten_0000000000001","dialect":"meta","url":"https://a.test/"}`, 404, "not_found", []string{"tenant_id"}},
		{"endpoint without members", "POST", "/endpoints", `{}`, 422, "invalid", []string{"dialect", "tenant_id", "url"}},
		{"endpoint without URL", "POST", "/endpoints", fmt.Sprintf(`{"tenant_id":%q,"dialect":"meta","url":""}`, tenant), 422, "invalid", []string{"url"}},
		{"http", "POST", "/endpoints", fmt.Sprintf(`{"tenant_id":%q,"dialect":"meta","url":"http://a.test/"}`, tenant), 422, "invalid", []string{"url"}},
		{"forbidden address", "POST", "/endpoints", fmt.Sprintf(`{"tenant_id":%q,"dialect":"meta","url":"https://10.0.0.1/"}`, tenant), 422, "invalid", []string{"url"}},
		{"unknown option", "POST", "/endpoints", create(`,"options":{"paylod":"cloud"}`), 422, "invalid", []string{"options.paylod"}},
		{"option value", "POST", "/endpoints", create(`,"options":{"payload":"paper"}`), 422, "invalid", []string{"options.payload"}},
		{"internal option", "POST", "/endpoints", create(`,"options":{"kept":"x"}`), 422, "invalid", []string{"options.kept"}},
		{"header", "POST", "/endpoints", create(`,"headers":{"Host":"x"}`), 422, "invalid", []string{"headers.Host"}},
		{"header type", "POST", "/endpoints", create(`,"headers":{"X-A":5}`), 422, "invalid", []string{"headers.X-A"}},
		{"placeholder sent back", "POST", "/endpoints", create(`,"headers":{"X-A":"[redacted]"}`), 422, "invalid", []string{"headers.X-A"}},
		{"event pattern", "POST", "/endpoints", create(`,"events":["whatsapp.*","[",""]`), 422, "invalid", []string{"events[1]", "events[2]"}},
		{"unknown policy member", "POST", "/endpoints", create(`,"policy":{"timout":"5s"}`), 422, "invalid", []string{"policy.timout"}},
		{"policy durations", "POST", "/endpoints", create(`,"policy":{"timeout":"5","schedule":["1s","soon"]}`), 422, "invalid", []string{"policy.timeout", "policy.schedule[1]"}},
		{"policy bounds", "POST", "/endpoints", create(`,"policy":{"timeout":"0s","schedule":["-1s"]}`), 422, "invalid", []string{"policy.timeout", "policy.schedule[0]"}},
		{"policy success", "POST", "/endpoints", create(`,"policy":{"success":"3xx"}`), 422, "invalid", []string{"policy.success"}},
		{
			"all faults at once", "POST", "/endpoints", fmt.Sprintf(
				`{"tenant_id":%q,"dialect":"360dialog","url":"http://a.test/","hedaers":{},"events":["["],"headers":{"Host":"x","X-A":5},`+
					`"options":{"payload":"paper"},"policy":{"timeout":"soon","timout":"5s","schedule":["-1s"]},"in_flight":0,"secret":"x"}`, tenant), 422, "invalid",
			[]string{
				"headers.X-A", "in_flight", "policy.timout", "hedaers", "policy.timeout",
				"url", "headers.Host", "options.payload", "events[0]", "policy.schedule[0]", "secret",
			},
		},
		{
			"all faults of a change at once", "PATCH", "/endpoints/" + endpoint, fmt.Sprintf(
				`{"tenant_id":%q,"url":"http://a.test/","nothing":1,"policy":{"success":"3xx"},"number_id":"x"}`, other), 422, "invalid",
			[]string{"policy.success", "nothing", "tenant_id", "number_id", "url"},
		},
		{"no tenant and a fault", "POST", "/endpoints", `{"tenant_id":"ten_0000000000001","dialect":"meta","url":"https://a.test/","events":["["]}`, 422, "invalid", []string{"tenant_id", "events[0]"}},
		{"malformed endpoint", "POST", "/endpoints", `{"url":`, 400, "malformed", []string{"body"}},
		{"not UTF-8", "POST", "/tenants", "{\"name\":\"a\xffb\"}", 400, "malformed", []string{"body"}},
		{"data that is not UTF-8", "POST", "/events", fmt.Sprintf("{\"tenant_id\":%q,\"type\":\"order.paid\",\"data\":\"\xff\"}", tenant), 400, "malformed", []string{"body"}},
		{"zero byte in a name", "POST", "/tenants", `{"name":"a\u0000b"}`, 422, "invalid", []string{"name"}},
		{"zero byte in a business account", "POST", "/endpoints", create(`,"waba_id":"a\u0000b"`), 422, "invalid", []string{"waba_id"}},
		{"in flight", "POST", "/endpoints", create(`,"in_flight":1001`), 422, "invalid", []string{"in_flight"}},
		{"no requests in flight", "PATCH", "/endpoints/" + endpoint, `{"in_flight":0}`, 422, "invalid", []string{"in_flight"}},
		{"in flight in words", "PATCH", "/endpoints/" + endpoint, `{"in_flight":"many"}`, 422, "invalid", []string{"in_flight"}},
		{"part of a request in flight", "PATCH", "/endpoints/" + endpoint, `{"in_flight":1.5}`, 422, "invalid", []string{"in_flight"}},
		{"password not written out", "POST", "/endpoints", fmt.Sprintf(`{"tenant_id":%q,"dialect":"meta","url":"https://u:xxxxx@a.test/"}`, tenant), 422, "invalid", []string{"url"}},

		{"order of a resume", "POST", "/endpoints/" + endpoint + "/resume", `{"order":"random"}`, 422, "invalid", []string{"order"}},
		{"age of a resume", "POST", "/endpoints/" + endpoint + "/resume", `{"skip_older_than":"1 day"}`, 422, "invalid", []string{"skip_older_than"}},
		{"negative age of a resume", "POST", "/endpoints/" + endpoint + "/resume", `{"skip_older_than":"-1h"}`, 422, "invalid", []string{"skip_older_than"}},
		{"unknown member of a resume", "POST", "/endpoints/" + endpoint + "/resume", `{"skip":"1h"}`, 422, "invalid", []string{"skip"}},
		{"resume no such endpoint", "POST", "/endpoints/ep_0000000000001/resume", `{}`, 404, "not_found", []string{"endpoint_id"}},
		{"age of a backlog", "GET", "/endpoints/" + endpoint + "/backlog?older_than=old", "", 422, "invalid", []string{"older_than"}},
		{"negative age of a backlog", "GET", "/endpoints/" + endpoint + "/backlog?older_than=-1h", "", 422, "invalid", []string{"older_than"}},
		{"backlog of no such endpoint", "GET", "/endpoints/ep_0000000000001/backlog", "", 404, "not_found", []string{"endpoint_id"}},
		{"purge of what", "POST", "/endpoints/" + endpoint + "/purge", `{}`, 422, "invalid", []string{"before"}},
		{"purge without a body", "POST", "/endpoints/" + endpoint + "/purge", ``, 400, "malformed", nil},
		{"purge of two kinds", "POST", "/endpoints/" + endpoint + "/purge", `{"older_than":"1h","before":"2026-01-01T00:00:00Z"}`, 422, "invalid", []string{"older_than"}},
		{"purge confirmed for another time", "POST", "/endpoints/" + endpoint + "/purge", `{"older_than":"0s","confirm":0}`, 422, "invalid", []string{"before"}},
		{"purge of the future", "POST", "/endpoints/" + endpoint + "/purge", `{"before":"2999-01-01T00:00:00Z"}`, 422, "invalid", []string{"before"}},
		{"purge by date", "POST", "/endpoints/" + endpoint + "/purge", `{"before":"yesterday"}`, 422, "invalid", []string{"before"}},
		{"purge of less than nothing", "POST", "/endpoints/" + endpoint + "/purge", `{"before":"2026-01-01T00:00:00Z","confirm":-1}`, 422, "invalid", []string{"confirm"}},
		{"purge of a negative age", "POST", "/endpoints/" + endpoint + "/purge", `{"older_than":"-1h"}`, 422, "invalid", []string{"older_than"}},
		{"purge no such endpoint", "POST", "/endpoints/ep_0000000000001/purge", `{"older_than":"0s"}`, 404, "not_found", []string{"endpoint_id"}},
		{"audit cursor", "GET", "/audit?cursor=evt_0000000000001", "", 422, "invalid", []string{"cursor"}},
		{"audit tenant", "GET", "/audit?tenant_id=x", "", 422, "invalid", []string{"tenant_id"}},
		{"audit text", "GET", "/audit?action=a%00&target=%ff", "", 422, "invalid", []string{"action", "target"}},
		{"secret where there is none", "POST", "/endpoints", create(`,"secret":"abcdefgh"`), 422, "invalid", []string{"secret"}},
		{"number of another tenant", "POST", "/endpoints", create(fmt.Sprintf(`,"number_id":%q`, otherNumber)), 422, "invalid", []string{"number_id"}},
		{"no such number", "POST", "/endpoints", create(`,"number_id":"num_0000000000001"`), 404, "not_found", []string{"number_id"}},
		{"number and business account", "POST", "/endpoints", create(fmt.Sprintf(`,"number_id":%q,"waba_id":"1"`, number)), 422, "invalid", []string{"waba_id"}},
		{"standard secret", "PATCH", "/endpoints/" + endpoint, `{"secret":"plain"}`, 422, "invalid", []string{"secret"}},
		{"other tenant", "PATCH", "/endpoints/" + endpoint, fmt.Sprintf(`{"tenant_id":%q}`, other), 422, "invalid", []string{"tenant_id"}},
		{"other dialect", "PATCH", "/endpoints/" + endpoint, `{"dialect":"meta"}`, 422, "invalid", []string{"dialect"}},
		{"overlap", "POST", "/endpoints/" + endpoint + "/rotate-secret", `{"overlap":"a day"}`, 422, "invalid", []string{"overlap"}},
		{"overlap bounds", "POST", "/endpoints/" + endpoint + "/rotate-secret", `{"overlap":"-1s"}`, 422, "invalid", []string{"overlap"}},
		{"no such endpoint", "GET", "/endpoints/ep_0000000000001", "", 404, "not_found", []string{"endpoint_id"}},
		{"change no such endpoint", "PATCH", "/endpoints/ep_0000000000001", `{}`, 404, "not_found", []string{"endpoint_id"}},
		{"delete no such endpoint", "DELETE", "/endpoints/ep_0000000000001", "", 404, "not_found", []string{"endpoint_id"}},
		{"pause no such endpoint", "POST", "/endpoints/ep_0000000000001/pause", "", 404, "not_found", []string{"endpoint_id"}},

		{"type with capitals", "POST", "/events", fmt.Sprintf(`{"tenant_id":%q,"type":"Order.Paid","data":{}}`, tenant), 422, "invalid", []string{"type"}},
		{"type of one word", "POST", "/events", fmt.Sprintf(`{"tenant_id":%q,"type":"order","data":{}}`, tenant), 422, "invalid", []string{"type"}},
		{"Meta's type", "POST", "/events", fmt.Sprintf(`{"tenant_id":%q,"type":"whatsapp.message.text","data":{}}`, tenant), 422, "invalid", []string{"type"}},
		{"reserved type", "POST", "/events", fmt.Sprintf(`{"tenant_id":%q,"type":"platform.partners","data":{}}`, tenant), 422, "invalid", []string{"type"}},
		{"platform data", "POST", "/events", fmt.Sprintf(`{"tenant_id":%q,"type":"platform.online","data":5}`, tenant), 422, "invalid", []string{"data"}},
		{"platform data without its members", "POST", "/events", fmt.Sprintf(`{"tenant_id":%q,"type":"platform.whatsapp","data":{"whatsapp":"+1","daily_limit":"2K"}}`, tenant), 422, "invalid", []string{"data.whatsapp", "data.whatsapp_extra_info", "data.daily_limit"}},
		{"reserved word", "POST", "/events", fmt.Sprintf(`{"tenant_id":%q,"type":"package","data":{}}`, tenant), 422, "invalid", []string{"type"}},
		{"no data", "POST", "/events", fmt.Sprintf(`{"tenant_id":%q,"type":"order.paid"}`, tenant), 422, "invalid", []string{"data"}},
		{"publish for another's number", "POST", "/events", fmt.Sprintf(`{"tenant_id":%q,"number_id":%q,"type":"order.paid","data":1}`, tenant, otherNumber), 422, "invalid", []string{"number_id"}},
		{"publish for no tenant", "POST", "/events", `{"tenant_id":"ten_0000000000001","type":"order.paid","data":1}`, 404, "not_found", []string{"tenant_id"}},
		{"no such event", "GET", "/events/evt_0000000000001", "", 404, "not_found", nil},
		{"replay no such event", "POST", "/events/evt_0000000000001/replay", "", 404, "not_found", nil},
		{"no such delivery", "GET", "/deliveries/dlv_00000000000010000000000001", "", 404, "not_found", nil},
		{"retry no such delivery", "POST", "/deliveries/dlv_00000000000010000000000001/retry", "", 404, "not_found", nil},

		{"limit", "GET", "/tenants?limit=1001", "", 422, "invalid", []string{"limit"}},
		{"no limit", "GET", "/events?limit=0", "", 422, "invalid", []string{"limit"}},
		{"cursor", "GET", "/tenants?cursor=x", "", 422, "invalid", []string{"cursor"}},
		{"filter id", "GET", "/events?tenant_id=x", "", 422, "invalid", []string{"tenant_id"}},
		{"filter state", "GET", "/deliveries?state=lost", "", 422, "invalid", []string{"state"}},
		{"filter time", "GET", "/events?since=yesterday", "", 422, "invalid", []string{"since"}},
		{"unknown filter", "GET", "/events?tenant=x", "", 422, "invalid", []string{"tenant"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := g.send(c.method, "/api/v1"+c.path, c.body)
			if out.Status != c.status || out.Body["code"] != c.code {
				t.Fatalf("got %d, want %d %s: %s", out.Status, c.status, c.code, out.Text)
			}
			if got := out.Header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("content type %q", got)
			}
			if out.Body["status"] != float64(c.status) || out.Body["type"] != "urn:waypost:problem:"+c.code || out.Body["title"] == "" || out.Body["detail"] == "" {
				t.Errorf("not a whole problem: %s", out.Text)
			}
			if diff := cmp.Diff(c.fields, refusedFields(out.Body)); diff != "" {
				t.Errorf("refused members (-want +got):\n%s%s", diff, out.Text)
			}
		})
	}
	if t.Failed() {
		return
	}
	if got := g.want(200, "GET", "/api/v1/endpoints", "")["data"].([]any); len(got) != 1 {
		t.Errorf("a refused call made an endpoint: %v", got)
	}
}
