package api_test

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var millis = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)

// without takes members out of an answer that differ from run to run, after a
// look at the times among them.
func without(t *testing.T, body map[string]any, names ...string) map[string]any {
	t.Helper()
	rest := map[string]any{}
	for name, value := range body {
		if text, ok := value.(string); ok && strings.HasSuffix(name, "_at") && !millis.MatchString(text) {
			t.Errorf("%s is %q, want RFC 3339 with milliseconds", name, text)
		}
		if !slices.Contains(names, name) {
			rest[name] = value
		}
	}
	return rest
}

func TestTenantsAndNumbers(t *testing.T) {
	t.Parallel()
	g := start(t)
	made := g.want(201, "POST", "/api/v1/tenants", `{"name":"Acme","reference":"c-17"}`)
	id := made["id"].(string)
	if diff := cmp.Diff(map[string]any{"name": "Acme", "reference": "c-17"}, without(t, made, "id", "created_at")); diff != "" {
		t.Errorf("new tenant (-want +got):\n%s", diff)
	}
	patched := g.want(200, "PATCH", "/api/v1/tenants/"+id, `{"secrets":{"360dialog":"platform-secret-x"}}`)
	if got := patched["secrets"]; !cmp.Equal(got, map[string]any{"360dialog": "[redacted]"}) || patched["name"] != "Acme" {
		t.Errorf("after setting a secret: %v", patched)
	}
	if got := g.directory.Tenants()[0].Secrets["360dialog"].Reveal(); got != "platform-secret-x" {
		t.Errorf("the secret in force is %q", got)
	}
	if got := g.want(200, "PATCH", "/api/v1/tenants/"+id, `{"secrets":{"360dialog":null}}`); got["secrets"] != nil {
		t.Errorf("after taking the secret away: %v", got)
	}

	number := g.want(201, "POST", "/api/v1/numbers", fmt.Sprintf(
		`{"tenant_id":%q,"phone":"+1 (555) 000-1111","phone_number_id":"106001","waba_id":"174","reference":"shop","access_token":"EAAtoken"}`, id))
	want := map[string]any{
		"tenant_id": id, "phone": "15550001111", "phone_number_id": "106001", "waba_id": "174", "reference": "shop",
		"access_token_set": true, "lifecycle": "", "daily_limit": 0.0,
	}
	if diff := cmp.Diff(want, without(t, number, "id", "created_at")); diff != "" {
		t.Errorf("new number (-want +got):\n%s", diff)
	}
	path := "/api/v1/numbers/" + number["id"].(string)
	if got := g.want(200, "POST", path+"/lifecycle", `{"state":"ready","daily_limit":2000}`); got["lifecycle"] != "ready" || got["daily_limit"] != 2000.0 {
		t.Errorf("after lifecycle: %v", got)
	}
	if got := g.want(200, "PATCH", path, `{"waba_id":"175"}`); got["waba_id"] != "175" || got["phone_number_id"] != "106001" {
		t.Errorf("after patch: %v", got)
	}
	if got := g.want(200, "GET", path, ""); got["waba_id"] != "175" || got["lifecycle"] != "ready" {
		t.Errorf("read back: %v", got)
	}
	onPrem := g.want(201, "POST", "/api/v1/numbers", fmt.Sprintf(`{"tenant_id":%q,"phone":"15550002222"}`, id))
	for filter, count := range map[string]int{
		"": 2, "?tenant_id=" + id: 2, "?waba_id=175": 1, "?phone=15550002222": 1, "?phone_number_id=106001": 1,
		"?lifecycle=ready": 1, "?tenant_id=" + g.tenant("Other"): 0,
	} {
		if got := g.want(200, "GET", "/api/v1/numbers"+filter, "")["data"].([]any); len(got) != count {
			t.Errorf("numbers%s: %d, want %d", filter, len(got), count)
		}
	}
	if first := g.want(200, "GET", "/api/v1/numbers", "")["data"].([]any)[0].(map[string]any); first["id"] != onPrem["id"] {
		t.Error("the list does not begin with the newest")
	}
	if strings.Contains(g.log.String(), "EAAtoken") {
		t.Error("the access token is in the log")
	}
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	g := start(t)
	tenant := g.tenant("Acme")
	number := g.number(tenant, "106001")
	made := g.endpoint(tenant, "360dialog", fmt.Sprintf(`,"number_id":%q,"headers":{"Authorization":"Bearer planted"}`, number))
	id := made["id"].(string)
	want := map[string]any{
		"tenant_id": tenant, "number_id": number, "dialect": "360dialog", "slot": "", "state": "active",
		"url": "https://hooks.acme.test/in", "events": []any{"*"}, "headers": map[string]any{"Authorization": "[redacted]"},
		"options": map[string]any{"payload": "cloud"}, "in_flight": 4.0, "drain": "oldest",
		"policy": map[string]any{"timeout": "5s", "schedule": []any{"0s", "5m", "1h30m", "24h"}, "success": "200"},
	}
	if diff := cmp.Diff(want, without(t, made, "id", "created_at", "updated_at")); diff != "" {
		t.Errorf("new endpoint (-want +got):\n%s", diff)
	}
	path := "/api/v1/endpoints/" + id
	if diff := cmp.Diff(made, g.want(200, "GET", path, "")); diff != "" {
		t.Errorf("read back (-created +read):\n%s", diff)
	}

	patched := g.want(200, "PATCH", path, `{
		"tenant_id":"`+tenant+`","dialect":"360dialog","url":"http://127.0.0.1:9000/in",
		"headers":{"X-Team":"blue"},"events":["whatsapp.message.*"],
		"policy":{"timeout":"90s","schedule":[]}}`)
	if diff := cmp.Diff(map[string]any{"timeout": "1m30s", "schedule": []any{}, "success": "200"}, patched["policy"]); diff != "" {
		t.Errorf("patched policy (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]any{"whatsapp.message.*"}, patched["events"]); diff != "" {
		t.Errorf("patched events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"Authorization": "[redacted]", "X-Team": "[redacted]"}, patched["headers"]); diff != "" {
		t.Errorf("patched headers (-want +got):\n%s", diff)
	}
	patched = g.want(200, "PATCH", path, `{"headers":{"authorization":null},"policy":{"success":"2xx"},"events":["*"],"options":{"payload":"onprem"}}`)
	if diff := cmp.Diff(map[string]any{"timeout": "1m30s", "schedule": []any{}, "success": "2xx"}, patched["policy"]); diff != "" {
		t.Errorf("policy merged by member (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]any{map[string]any{"X-Team": "[redacted]"}, []any{"*"}, map[string]any{"payload": "onprem"}},
		[]any{patched["headers"], patched["events"], patched["options"]}); diff != "" {
		t.Errorf("headers, events, options (-want +got):\n%s", diff)
	}
	if got := g.want(200, "PATCH", path, `{"options":{"payload":null}}`)["options"]; !cmp.Equal(got, map[string]any{"payload": "cloud"}) {
		t.Errorf("option taken away: %v", got)
	}

	for verb, state := range map[string]string{"pause": "paused", "resume": "active"} {
		if verb == "resume" {
			g.want(200, "POST", path+"/pause", "")
		}
		if got := g.want(200, "POST", path+"/"+verb, ""); got["state"] != state {
			t.Errorf("%s: state %v, want %s", verb, got["state"], state)
		}
		if got := g.want(200, "GET", path, ""); got["state"] != state {
			t.Errorf("%s: read back %v, want %s", verb, got["state"], state)
		}
	}
	if out := g.send("DELETE", path, ""); out.Status != 204 || out.Text != "" {
		t.Errorf("delete: %d %q", out.Status, out.Text)
	}
	g.want(404, "GET", path, "")
	g.want(404, "DELETE", path, "")
	g.want(404, "POST", path+"/resume", "")
	if got := g.want(200, "GET", "/api/v1/endpoints", "")["data"].([]any); len(got) != 0 {
		t.Errorf("deleted endpoint is listed: %v", got)
	}
}

func TestEndpointFilters(t *testing.T) {
	t.Parallel()
	g := start(t)
	tenant, other := g.tenant("Acme"), g.tenant("Other")
	number := g.number(tenant, "106001")
	g.endpoint(tenant, "360dialog", fmt.Sprintf(`,"number_id":%q`, number))
	g.endpoint(tenant, "standard", "")
	paused := g.endpoint(other, "standard", `,"waba_id":"9"`)["id"].(string)
	g.want(200, "POST", "/api/v1/endpoints/"+paused+"/pause", "")
	for filter, count := range map[string]int{
		"": 3, "?tenant_id=" + tenant: 2, "?number_id=" + number: 1, "?dialect=standard": 2, "?state=paused": 1, "?waba_id=9": 1,
		"?tenant_id=" + tenant + "&dialect=standard": 1,
	} {
		if got := g.want(200, "GET", "/api/v1/endpoints"+filter, "")["data"].([]any); len(got) != count {
			t.Errorf("endpoints%s: %d, want %d", filter, len(got), count)
		}
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	g := start(t)
	tenant := g.tenant("Acme")
	made := g.endpoint(tenant, "standard", "")
	first := made["secret"].(string)
	if !regexp.MustCompile(`^whsec_[A-Za-z0-9+/]{43}=$`).MatchString(first) {
		t.Errorf("secret %q", first)
	}
	if meta := g.endpoint(tenant, "meta", "")["secret"].(string); !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(meta) {
		t.Errorf("secret %q", meta)
	}
	if own := g.endpoint(tenant, "meta", `,"secret":"my-own-secret"`)["secret"]; own != "my-own-secret" {
		t.Errorf("given secret came back as %v", own)
	}
	path := "/api/v1/endpoints/" + made["id"].(string)
	if got := g.want(200, "GET", path, ""); got["secret"] != nil {
		t.Error("the secret is shown again")
	}
	second := g.want(200, "POST", path+"/rotate-secret", `{"overlap":"1h"}`)["secret"].(string)
	id, _ := waypost.ParseEndpointID(made["id"].(string))
	live := func(at time.Time) (texts []string) {
		for _, secret := range g.directory.Endpoint(id).LiveSecrets(at) {
			texts = append(texts, secret.Reveal())
		}
		return texts
	}
	if diff := cmp.Diff([]string{second, first}, live(time.Now())); diff != "" {
		t.Errorf("secrets during the overlap (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{second}, live(time.Now().Add(2*time.Hour))); diff != "" {
		t.Errorf("secrets after the overlap (-want +got):\n%s", diff)
	}
	third := g.want(200, "POST", path+"/rotate-secret", `{"overlap":"0s"}`)["secret"].(string)
	if diff := cmp.Diff([]string{third}, live(time.Now())); diff != "" {
		t.Errorf("secrets without an overlap (-want +got):\n%s", diff)
	}
	g.want(200, "POST", path+"/rotate-secret", "")
	if got := live(time.Now()); len(got) != 2 || got[1] != third {
		t.Errorf("secrets after a rotation without a body: %d", len(got))
	}
	none := g.endpoint(tenant, "360dialog", "")["id"].(string)
	g.want(409, "POST", "/api/v1/endpoints/"+none+"/rotate-secret", `{}`)
	if log := g.log.String(); strings.Contains(log, first) || strings.Contains(log, second) {
		t.Error("a secret is in the log")
	}
}

func TestReceiverProvesItself(t *testing.T) {
	t.Parallel()
	g := start(t)
	tenant := g.tenant("Acme")
	var asked []string
	g.receiver = func(url string) (int, []byte, error) {
		asked = append(asked, url)
		_, nonce, _ := strings.Cut(url, "nonce=")
		return http.StatusOK, []byte(nonce), nil
	}
	made := g.endpoint(tenant, "meta", `,"options":{"verify_token":"planted-token"}`)
	if len(asked) != 1 || !strings.HasPrefix(asked[0], "https://hooks.acme.test/in?verify=planted-token&nonce=") {
		t.Fatalf("asked %q", asked)
	}
	if diff := cmp.Diff(map[string]any{"verify_token": "[redacted]"}, made["options"]); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
	path := "/api/v1/endpoints/" + made["id"].(string)
	g.want(200, "PATCH", path, `{"events":["whatsapp.message.*"]}`)
	if len(asked) != 1 {
		t.Error("asked again though the receiver is the same")
	}
	g.receiver = func(string) (int, []byte, error) { return http.StatusForbidden, nil, nil }
	for name, body := range map[string]string{"url": `{"url":"https://else.test/"}`, "token": `{"options":{"verify_token":"new"}}`} {
		out := g.send("PATCH", path, body)
		if out.Status != 422 || !cmp.Equal(refusedFields(out.Body), []string{"url"}) {
			t.Errorf("%s changed to a receiver that does not prove itself: %d %s", name, out.Status, out.Text)
		}
	}
	g.receiver = func(string) (int, []byte, error) { return 0, nil, errors.New("dial planted-token: refused") }
	out := g.send("POST", "/api/v1/endpoints", fmt.Sprintf(
		`{"tenant_id":%q,"dialect":"meta","url":"https://b.test/","options":{"verify_token":"planted-token"}}`, tenant))
	if out.Status != 422 || strings.Contains(out.Text, "planted-token") {
		t.Errorf("receiver that can't be reached: %d %s", out.Status, out.Text)
	}
	if got := g.want(200, "GET", path, "")["url"]; got != "https://hooks.acme.test/in" {
		t.Errorf("a refused change was made: %v", got)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	g := start(t)
	tenant := g.tenant("Acme")
	number := g.number(tenant, "106001")
	key := g.want(201, "POST", "/api/v1/keys", fmt.Sprintf(`{"dialect":"360dialog","number_id":%q}`, number))
	if diff := cmp.Diff(map[string]any{"dialect": "360dialog", "tenant_id": tenant, "number_id": number},
		without(t, key, "id", "key", "created_at")); diff != "" {
		t.Errorf("new key (-want +got):\n%s", diff)
	}
	if text := key["key"].(string); len(text) < 50 {
		t.Errorf("a key of %d characters can't hold 256 bits", len(text))
	}
	again := g.want(201, "POST", "/api/v1/keys", fmt.Sprintf(`{"dialect":"360dialog","number_id":%q,"tenant_id":%q}`, number, tenant))
	if again["key"] == key["key"] || again["id"] == key["id"] {
		t.Error("the second key is the first")
	}

	business := g.want(201, "POST", "/api/v1/keys", fmt.Sprintf(`{"dialect":"connectly","tenant_id":%q}`, tenant))
	for _, member := range []string{"key", "business_id", "signing_secret"} {
		if business[member] == "" || business[member] == nil {
			t.Errorf("connectly key without %s: %v", member, business)
		}
	}
	next := g.want(201, "POST", "/api/v1/keys", fmt.Sprintf(`{"dialect":"connectly","tenant_id":%q}`, tenant))
	if next["business_id"] != business["business_id"] || next["signing_secret"] != business["signing_secret"] || next["key"] == business["key"] {
		t.Errorf("next connectly key: %v, before: %v", next, business)
	}
	id, _ := waypost.ParseTenantID(tenant)
	if got := g.directory.Tenant(id).Secrets["connectly"].Reveal(); got != business["signing_secret"] {
		t.Error("the signing secret shown is not the tenant's")
	}

	partner := g.want(201, "POST", "/api/v1/keys", fmt.Sprintf(`{"dialect":"99digital-partner","tenant_id":%q}`, tenant))
	if partner["client_id"] == "" || partner["client_secret"] == nil || partner["key"] != nil {
		t.Errorf("partner key: %v", partner)
	}

	out := g.send("GET", "/api/v1/keys?tenant_id="+tenant, "")
	if data := out.Body["data"].([]any); len(data) != 3 {
		t.Errorf("%d keys, want the 3 living ones", len(data))
	}
	for _, text := range []any{again["key"], next["key"], next["signing_secret"], partner["client_secret"]} {
		if strings.Contains(out.Text, text.(string)) || strings.Contains(g.log.String(), text.(string)) {
			t.Error("a key is shown again or logged")
		}
	}
	if out := g.send("DELETE", "/api/v1/keys/"+next["id"].(string), ""); out.Status != 204 {
		t.Fatalf("revoke: %d %s", out.Status, out.Text)
	}
	g.want(404, "DELETE", "/api/v1/keys/"+next["id"].(string), "")
	g.want(200, "GET", "/api/v1/keys?dialect=connectly", "")
	if data := g.want(200, "GET", "/api/v1/keys?dialect=connectly", "")["data"].([]any); len(data) != 0 {
		t.Errorf("a revoked key is listed: %v", data)
	}
	last := g.want(201, "POST", "/api/v1/keys", fmt.Sprintf(`{"dialect":"connectly","tenant_id":%q}`, tenant))
	if last["business_id"] != business["business_id"] {
		t.Error("the business id did not outlive the revoked key")
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	g := start(t)
	tenant := g.tenant("Acme")
	number := g.number(tenant, "106001")
	made := g.want(201, "POST", "/api/v1/sources", fmt.Sprintf(`{"kind":"onprem","name":"shop","number_id":%q,"token":"planted-token"}`, number))
	want := map[string]any{"name": "shop", "kind": "onprem", "tenant_id": tenant, "number_id": number, "secrets": 1.0, "verify_token_set": false}
	if diff := cmp.Diff(want, without(t, made, "id", "created_at")); diff != "" {
		t.Errorf("new source (-want +got):\n%s", diff)
	}
	if got := g.directory.Source(waypost.SourceOnPrem, "shop").Secrets[0].Reveal(); got != "planted-token" {
		t.Errorf("token in force %q", got)
	}
	replaced := g.want(200, "POST", "/api/v1/sources", `{"kind":"onprem","name":"shop","token":"other-token"}`)
	if replaced["id"] != made["id"] || g.directory.Source(waypost.SourceOnPrem, "shop").Secrets[0].Reveal() != "other-token" {
		t.Errorf("replaced source: %v", replaced)
	}
	g.want(201, "POST", "/api/v1/sources", `{"kind":"meta","name":"app","app_secrets":["new-secret","old-secret"],"verify_token":"v"}`)
	out := g.send("GET", "/api/v1/sources", "")
	data := out.Body["data"].([]any)
	if len(data) != 2 || data[0].(map[string]any)["name"] != "app" || data[0].(map[string]any)["secrets"] != 2.0 {
		t.Errorf("sources: %s", out.Text)
	}
	if strings.Contains(out.Text, "-secret") || strings.Contains(out.Text, "-token") {
		t.Errorf("a secret is shown: %s", out.Text)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	g := start(t)
	var made []string
	for i := range 5 {
		made = append(made, g.tenant(fmt.Sprintf("Tenant %d", i)))
	}
	slices.Reverse(made)
	var listed []string
	for cursor, pages := "", 0; ; pages++ {
		body := g.want(200, "GET", "/api/v1/tenants?limit=2&cursor="+cursor, "")
		for _, row := range body["data"].([]any) {
			listed = append(listed, row.(map[string]any)["id"].(string))
		}
		if cursor = body["next"].(string); cursor == "" {
			if pages != 2 {
				t.Errorf("%d pages of 2 for 5 rows", pages+1)
			}
			break
		}
	}
	if diff := cmp.Diff(made, listed); diff != "" {
		t.Errorf("pages newest first (-want +got):\n%s", diff)
	}
	if body := g.want(200, "GET", "/api/v1/events", ""); body["next"] != "" || len(body["data"].([]any)) != 0 {
		t.Errorf("empty list: %v", body)
	}
}

func TestPublish(t *testing.T) {
	t.Parallel()
	g := start(t)
	tenant := g.tenant("Acme")
	number := g.number(tenant, "106001")
	tenantID, _ := waypost.ParseTenantID(tenant)
	numberID, _ := waypost.ParseNumberID(number)
	const data = `{ "id": 90071992547409931234, "rate":1.10, "big":1e999, "text":"a<b>\u00e9é", "list":[ 1,2 ] }`
	id := g.want(202, "POST", "/api/v1/events", fmt.Sprintf(
		`{"tenant_id":%q,"number_id":%q,"type":"order.paid","data":%s,"idempotency_key":"k1"}`, tenant, number, data))["id"].(string)
	for _, value := range []string{`null`, `"text"`, `[]`, `12345678901234567890`, `true`} {
		g.want(202, "POST", "/api/v1/events", fmt.Sprintf(`{"tenant_id":%q,"type":"order.paid","data":%s}`, tenant, value))
	}
	want := []publication{
		{tenantID, numberID, "order.paid", data, "k1"},
		{tenantID, 0, "order.paid", `null`, ""},
		{tenantID, 0, "order.paid", `"text"`, ""},
		{tenantID, 0, "order.paid", `[]`, ""},
		{tenantID, 0, "order.paid", `12345678901234567890`, ""},
		{tenantID, 0, "order.paid", `true`, ""},
	}
	if diff := cmp.Diff(want, g.published); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	g.want(202, "POST", "/api/v1/events", fmt.Sprintf(`{"tenant_id":%q,"type":"platform.whatsapp","data":{"whatsapp":"15550001111","whatsapp_extra_info":4}}`, tenant))

	shown := g.send("GET", "/api/v1/events/"+id, "")
	if !strings.Contains(shown.Text, `"payload":{"id":90071992547409931234,"rate":1.10,"big":1e999,"text":"a<b>\u00e9é","list":[1,2]}`) {
		t.Errorf("payload is not what was published: %s", shown.Text)
	}
	if bare := g.want(200, "GET", "/api/v1/events/"+id+"?body=false", ""); bare["payload"] != nil || bare["type"] != "order.paid" {
		t.Errorf("without its body: %v", bare)
	}
	text := g.want(200, "GET", "/api/v1/events?type=order.*&tenant_id="+tenant+"&state=routed&since="+
		time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)+"&until="+time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano), "")
	if rows := text["data"].([]any); len(rows) != 6 {
		t.Errorf("%d events of the type, want 6", len(rows))
	} else if diff := cmp.Diff(map[string]any{"type": "order.paid", "state": "routed", "tenant_id": tenant, "number_id": number},
		without(t, rows[5].(map[string]any), "id", "received_at")); diff != "" {
		t.Errorf("event in a list (-want +got):\n%s", diff)
	}
	if rows := g.want(200, "GET", "/api/v1/events?number_id="+number, "")["data"].([]any); len(rows) != 1 {
		t.Errorf("%d events of the number, want 1", len(rows))
	}
	first := g.want(200, "GET", "/api/v1/events?limit=3", "")
	second := g.want(200, "GET", "/api/v1/events?limit=3&cursor="+first["next"].(string), "")
	third := g.want(200, "GET", "/api/v1/events?limit=3&cursor="+second["next"].(string), "")
	if len(second["data"].([]any)) != 3 || len(third["data"].([]any)) != 1 || third["next"] != "" {
		t.Errorf("pages of events: %v, %v", second, third)
	}
}

// accept stores an event as ingest would.
func (g *gateway) accept(event waypost.Event, owed ...store.Owing) string {
	g.t.Helper()
	event.ID = waypost.EventID(g.ids.Next())
	if _, err := g.store.Accept(g.t.Context(), g.node, []store.Arrival{{Event: event, Owed: owed}}); err != nil {
		g.t.Fatal(err)
	}
	return event.ID.String()
}

func (g *gateway) settle(result store.Result) {
	g.t.Helper()
	settled, err := g.store.Settle(g.t.Context(), g.node, []store.Result{result})
	if err != nil || len(settled.Lost) > 0 {
		g.t.Fatalf("settle: %v, lost %v", err, settled.Lost)
	}
}

func TestDeliveries(t *testing.T) {
	t.Parallel()
	g := start(t)
	tenant := g.tenant("Acme")
	tenantID, _ := waypost.ParseTenantID(tenant)
	endpoint := g.endpoint(tenant, "360dialog", "")["id"].(string)
	endpointID, _ := waypost.ParseEndpointID(endpoint)
	event := g.accept(waypost.Event{
		Type: "whatsapp.message.text", State: waypost.EventRouted, TenantID: tenantID, PhoneNumberID: "106001", WABAID: "174",
		Form: waypost.FormCloud, Body: []byte(`{"object":1}`), OccurredAt: time.Unix(1_700_000_000, 0),
	}, store.Owing{Endpoint: endpointID, Place: store.InHand})
	eventID, _ := waypost.ParseEventID(event)
	delivery := waypost.DeliveryID{Event: eventID, Endpoint: endpointID}
	now := time.Now()
	g.settle(store.Result{
		Delivery: delivery, Next: store.NextRetry, At: now.Add(time.Hour), Step: 1,
		Attempt: &waypost.Attempt{
			Delivery: delivery, N: 1, At: now, Duration: 5 * time.Second, Outcome: waypost.OutcomeRetry, Reason: waypost.ReasonTimeout,
			Detail: waypost.AttemptDetail{Error: "no answer", Address: "192.0.2.1:443", Phases: waypost.Phases{Connected: 3.5}},
		},
	})

	rows := g.want(200, "GET", "/api/v1/deliveries?event_id="+event, "")["data"].([]any)
	want := map[string]any{
		"id": delivery.String(), "event_id": event, "endpoint_id": endpoint, "state": "pending", "attempts": 1.0,
		"last_status": 0.0, "reason": "timeout",
	}
	if len(rows) != 1 {
		t.Fatalf("%d deliveries, want 1", len(rows))
	}
	if diff := cmp.Diff(want, without(t, rows[0].(map[string]any), "next_attempt_at")); diff != "" {
		t.Errorf("delivery (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(rows[0], any(g.want(200, "GET", "/api/v1/deliveries/"+delivery.String(), ""))); diff != "" {
		t.Errorf("one delivery (-listed +shown):\n%s", diff)
	}

	shown := g.want(200, "GET", "/api/v1/events/"+event, "")
	want = map[string]any{
		"id": event, "type": "whatsapp.message.text", "state": "routed", "tenant_id": tenant, "phone_number_id": "106001",
		"waba_id": "174", "occurred_at": "2023-11-14T22:13:20.000Z", "duplicates": 0.0, "payload": map[string]any{"object": 1.0},
	}
	if diff := cmp.Diff(want, without(t, shown, "deliveries", "received_at")); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	attempt := shown["deliveries"].([]any)[0].(map[string]any)["attempts"].([]any)[0].(map[string]any)
	want = map[string]any{
		"n": 1.0, "at": now.UTC().Format("2006-01-02T15:04:05.000Z"), "duration_ms": 5000.0, "status": 0.0, "outcome": "retry",
		"reason": "timeout", "error": "no answer", "address": "192.0.2.1:443", "phases": map[string]any{"connected_ms": 3.5},
	}
	if diff := cmp.Diff(want, attempt); diff != "" {
		t.Errorf("attempt (-want +got):\n%s", diff)
	}

	g.want(200, "POST", "/api/v1/endpoints/"+endpoint+"/pause", "")
	for filter, count := range map[string]int{
		"?state=held": 1, "?state=pending": 0, "?endpoint_id=" + endpoint: 1, "?endpoint_id=" + endpoint + "&state=exhausted": 0,
		"?endpoint_id=ep_0000000000001": 0,
	} {
		if got := g.want(200, "GET", "/api/v1/deliveries"+filter, "")["data"].([]any); len(got) != count {
			t.Errorf("deliveries%s: %d, want %d", filter, len(got), count)
		}
	}
	g.woken = nil
	g.want(200, "POST", "/api/v1/endpoints/"+endpoint+"/resume", "")
	if retried := g.want(202, "POST", "/api/v1/deliveries/"+delivery.String()+"/retry", ""); retried["state"] != "pending" {
		t.Errorf("retried: %v", retried)
	}
	if diff := cmp.Diff([]waypost.EndpointID{endpointID, endpointID}, g.woken); diff != "" {
		t.Errorf("the engine was woken for (-want +got):\n%s", diff)
	}
	owed, err := g.store.Take(t.Context(), g.node, endpointID, time.Now(), 1, store.OldestDue)
	if err != nil || len(owed) != 1 {
		t.Fatalf("the retried delivery is not due: %v %v", owed, err)
	}
	g.settle(store.Result{Delivery: delivery, Next: store.NextDelivered, Attempt: &waypost.Attempt{
		Delivery: delivery, N: 2, At: now, Status: 200, Outcome: waypost.OutcomeDelivered, Reason: waypost.ReasonOK,
	}})
	got := g.want(200, "GET", "/api/v1/deliveries?state=delivered", "")["data"].([]any)
	if len(got) != 1 || got[0].(map[string]any)["next_attempt_at"] != nil || got[0].(map[string]any)["last_status"] != 200.0 {
		t.Errorf("delivered: %v", got)
	}
}

func TestReplay(t *testing.T) {
	t.Parallel()
	g := start(t)
	tenant := g.tenant("Acme")
	event := g.accept(waypost.Event{
		Type: "whatsapp.message.text", State: waypost.EventUnrouted, PhoneNumberID: "106001", WABAID: "1740001",
		Form: waypost.FormCloud, Body: []byte(`{}`),
	})
	path := "/api/v1/events/" + event
	if rows := g.want(200, "GET", "/api/v1/events?state=unrouted", "")["data"].([]any); len(rows) != 1 {
		t.Fatalf("%d unrouted events, want 1", len(rows))
	}
	g.want(409, "POST", path+"/replay", "")
	number := g.number(tenant, "106001")
	endpoint := g.endpoint(tenant, "360dialog", fmt.Sprintf(`,"number_id":%q`, number))["id"].(string)
	deaf := g.endpoint(tenant, "99digital-partner", "")["id"].(string)
	g.want(409, "POST", path+"/replay", fmt.Sprintf(`{"endpoint_id":%q}`, deaf))
	g.want(404, "POST", path+"/replay", `{"endpoint_id":"ep_0000000000001"}`)
	g.woken = nil
	owed := g.want(202, "POST", path+"/replay", "")
	if len(owed["deliveries"].([]any)) != 1 {
		t.Fatalf("replayed: %v", owed)
	}
	shown := g.want(200, "GET", path, "")
	if shown["state"] != "routed" || shown["number_id"] != number || shown["tenant_id"] != tenant {
		t.Errorf("after replay: %v", shown)
	}
	deliveries := shown["deliveries"].([]any)
	if len(deliveries) != 1 || deliveries[0].(map[string]any)["endpoint_id"] != endpoint {
		t.Errorf("deliveries after replay: %v", deliveries)
	}
	id, _ := waypost.ParseEndpointID(endpoint)
	if diff := cmp.Diff([]waypost.EndpointID{id}, g.woken); diff != "" {
		t.Errorf("the engine was woken for (-want +got):\n%s", diff)
	}
	g.want(202, "POST", path+"/replay", fmt.Sprintf(`{"endpoint_id":%q}`, endpoint))
}

func TestRawBody(t *testing.T) {
	t.Parallel()
	g := start(t)
	event := g.accept(waypost.Event{Type: waypost.TypeUnparsed, State: waypost.EventUnparsed, Form: waypost.FormRaw, Body: []byte("not json")})
	shown := g.want(200, "GET", "/api/v1/events/"+event, "")
	if shown["raw"] != "bm90IGpzb24=" || shown["payload"] != nil {
		t.Errorf("raw body: %v", shown)
	}
}

// An API key in what a platform published is for receivers only.
func TestKeysInEventsAreNotShown(t *testing.T) {
	t.Parallel()
	g := start(t)
	event := g.accept(waypost.Event{
		Type: waypost.TypePlatformWhatsApp, State: waypost.EventRouted, Form: waypost.FormData,
		Body: []byte(`{"whatsapp":"15550001111","whatsapp_apiKey":{"sealed":"cGxhbnRlZA=="},"whatsapp_extra_info":3}`),
	})
	shown := g.want(200, "GET", "/api/v1/events/"+event, "")
	want := map[string]any{"whatsapp": "15550001111", "whatsapp_apiKey": "[redacted]", "whatsapp_extra_info": 3.0}
	if diff := cmp.Diff(want, shown["payload"]); diff != "" {
		t.Errorf("payload (-want +got):\n%s", diff)
	}
}

func TestAdminToken(t *testing.T) {
	t.Parallel()
	g := start(t)
	for name, header := range map[string]string{
		"none": "", "wrong": "Bearer nope", "other scheme": "Basic " + token, "bare": token, "empty": "Bearer ",
	} {
		for _, path := range []string{"/api/v1/tenants", "/api/v1/nothing"} {
			out := g.send("GET", path, "", "Authorization", header)
			if out.Status != 401 || out.Body["code"] != "unauthorized" || out.Header.Get("Content-Type") != "application/problem+json" ||
				out.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s token on %s: %d %s", name, path, out.Status, out.Text)
			}
		}
	}
	var last reply
	for range 40 {
		last = g.send("GET", "/api/v1/tenants", "", "Authorization", "Bearer guess")
	}
	if last.Status != 429 || last.Body["code"] != "rate_limited" || last.Header.Get("Retry-After") == "" {
		t.Errorf("after many bad tokens: %d %s", last.Status, last.Text)
	}
	g.want(200, "GET", "/api/v1/tenants", "") // the good token is never held up
	if out := g.send("GET", "/api/v1/tenants", "", "Authorization", "bearer "+token); out.Status != 200 {
		t.Errorf("scheme in lower case: %d", out.Status)
	}
}

func TestBodyLimits(t *testing.T) {
	t.Parallel()
	g := start(t)
	tenant := g.tenant("Acme")
	big := strings.Repeat("x", 2<<20)
	out := g.send("POST", "/api/v1/tenants", fmt.Sprintf(`{"name":%q}`, big))
	if out.Status != 413 || out.Body["code"] != "too_large" {
		t.Errorf("2 MiB tenant: %d %.200s", out.Status, out.Text)
	}
	g.want(202, "POST", "/api/v1/events", fmt.Sprintf(`{"tenant_id":%q,"type":"a.b","data":%q}`, tenant, big))
	if out := g.send("POST", "/api/v1/events", fmt.Sprintf(`{"tenant_id":%q,"type":"a.b","data":%q}`, tenant, big+big)); out.Status != 413 {
		t.Errorf("4 MiB event: %d %.200s", out.Status, out.Text)
	}
	if out := g.send("POST", "/api/v1/tenants", `<name/>`, "Content-Type", "text/xml"); out.Status != 415 {
		t.Errorf("XML: %d %s", out.Status, out.Text)
	}
}

func TestStoreFailure(t *testing.T) {
	t.Parallel()
	g := start(t)
	id := g.tenant("Acme")
	g.close()
	out := g.send("PATCH", "/api/v1/tenants/"+id, `{"name":"planted-name"}`)
	if out.Status != 500 && out.Status != 503 || strings.Contains(out.Text, "sql") {
		t.Errorf("with the store gone: %d %s", out.Status, out.Text)
	}
	if !strings.Contains(g.log.String(), "update-tenant") {
		t.Error("the cause is not in the log")
	}
}
