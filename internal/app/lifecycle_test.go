package app_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/app/apptest"
)

// partner is the account of a customer at the Partner API.
type partner struct {
	customer
	id, secret string
}

func newPartner(t *testing.T, c customer) partner {
	t.Helper()
	key := c.API(t, "POST", "/api/v1/keys", fmt.Sprintf(`{"dialect":"99digital-partner","tenant_id":%q}`, c.tenant))
	return partner{customer: c, id: key["client_id"].(string), secret: key["client_secret"].(string)}
}

// ask makes a call of the Partner API; the status is always 200.
func (p partner) ask(t *testing.T, method, path, authorization, body string) map[string]any {
	t.Helper()
	header := http.Header{}
	if authorization != "" {
		header.Set("Authorization", authorization)
	}
	status, answer := p.Do(t, method, path, header, body)
	if status != http.StatusOK {
		t.Fatalf("%s %s answered %d: %s", method, path, status, answer)
	}
	return object(t, answer)
}

func (p partner) token(t *testing.T) string {
	t.Helper()
	answer := p.ask(t, "POST", "/api/settings/accessToken", "", fmt.Sprintf(`{"client_id":%q,"client_secret":%q}`, p.id, p.secret))
	token, _ := answer["access_token"].(string)
	if answer["reason"] != 1.0 || token == "" {
		t.Fatalf("accessToken answered %v", answer)
	}
	return token
}

func (p partner) setWebhook(t *testing.T, url string) {
	t.Helper()
	answer := p.ask(t, "POST", "/api/settings/setWebhook", "Bearer "+p.token(t), fmt.Sprintf(`{"url":%q}`, url))
	if diff := cmp.Diff(map[string]any{"status": "OK", "url": url, "reason": 1.0}, answer); diff != "" {
		t.Fatalf("setWebhook (-want +got):\n%s", diff)
	}
}

func TestPartnerSettings(t *testing.T) {
	t.Parallel()
	apptest.Stores(t, func(t *testing.T, database string) {
		p := newPartner(t, newCustomer(t, apptest.Start(t, database, nil)))
		const token, set, get = "/api/settings/accessToken", "/api/settings/setWebhook", "/api/settings/getWebhook"
		before := time.Now()
		issued := p.ask(t, "POST", token, "", fmt.Sprintf(`{"client_id":%q,"client_secret":%q}`, p.id, p.secret))
		first := issued["access_token"].(string)
		var expires int64
		if _, err := fmt.Sscan(issued["expiration_time"].(string), &expires); err != nil ||
			expires < before.Add(time.Hour-time.Second).Unix() || expires > time.Now().Add(time.Hour).Unix() {
			t.Errorf("expiration_time is %v, %v", issued["expiration_time"], err)
		}
		delete(issued, "access_token")
		delete(issued, "expiration_time")
		if diff := cmp.Diff(map[string]any{"status": "OK", "token_type": "Bearer", "reason": 1.0}, issued); diff != "" {
			t.Errorf("accessToken (-want +got):\n%s", diff)
		}
		p.setWebhook(t, "https://hooks.acme.test/partner") // with a token of its own
		bearer := "Bearer " + first
		ours := map[string]any{"status": "OK", "url": "https://hooks.acme.test/partner", "reason": 1.0}
		if diff := cmp.Diff(ours, p.ask(t, "GET", get, bearer, "")); diff != "" {
			t.Errorf("getWebhook with the first of two tokens (-want +got):\n%s", diff)
		}
		for _, c := range []struct {
			name, method, path, authorization, body string
			reason                                  float64
		}{
			{"wrong secret", "POST", token, "", fmt.Sprintf(`{"client_id":%q,"client_secret":"guess"}`, p.id), 2},
			{"wrong id", "POST", token, "", fmt.Sprintf(`{"client_id":"guess","client_secret":%q}`, p.secret), 2},
			{"token for a token", "POST", token, "", fmt.Sprintf(`{"client_id":%q,"client_secret":%q}`, p.id, first), 2},
			{"no credentials", "POST", token, "", `{}`, 2},
			{"no JSON", "POST", token, "", `client_id=x`, 2},
			{"wrong method", "GET", token, "", ``, 13},
			{"no token", "GET", get, "", ``, 2},
			{"no token to set", "POST", set, "", `{"url":"https://hooks.acme.test/"}`, 2},
			{"other scheme", "GET", get, "Basic " + first, ``, 2},
			{"unknown token", "GET", get, "Bearer guess", ``, 3},
			{"expired token", "GET", get, "Bearer wpt_1767229200_aaaa", ``, 3},
			{"secret as a token", "GET", get, "Bearer " + p.secret, ``, 3},
			{"no JSON to set", "POST", set, bearer, `url`, 2},
			{"url", "POST", set, bearer, `{"url":"ftp://hooks.acme.test/"}`, 13},
			{"private url", "POST", set, bearer, `{"url":"https://10.0.0.1/"}`, 13},
			{"no url", "POST", set, bearer, `{}`, 13},
			{"long url", "POST", set, bearer, `{"url":"https://hooks.acme.test/` + strings.Repeat("x", 512) + `"}`, 13},
			{"wrong method to set", "GET", set, bearer, ``, 13},
			{"wrong method to get", "POST", get, bearer, `{}`, 13},
			{"good again", "GET", get, bearer, ``, 1},
		} {
			if answer := p.ask(t, c.method, c.path, c.authorization, c.body); answer["reason"] != c.reason || c.reason > 1 && len(answer) != 2 {
				t.Errorf("%s: answered %v, want reason %v", c.name, answer, c.reason)
			}
		}
		if diff := cmp.Diff(ours, p.ask(t, "GET", "/dialects/99digital-partner"+get, bearer, "")); diff != "" {
			t.Errorf("after the refusals (-want +got):\n%s", diff)
		}

		// Five bad tries were made above, and one with an expired token that is none.
		for range 5 {
			if answer := p.ask(t, "GET", get, "Bearer guess", ""); answer["reason"] != 3.0 {
				t.Fatalf("a bad token is answered %v", answer)
			}
		}
		for name, answer := range map[string]map[string]any{
			"right secret": p.ask(t, "POST", token, "", fmt.Sprintf(`{"client_id":%q,"client_secret":%q}`, p.id, p.secret)),
			"right token":  p.ask(t, "GET", get, bearer, ""),
		} {
			if answer["reason"] != 3.0 {
				t.Errorf("%s from a blocked address is answered %v", name, answer)
			}
		}
		if answer := p.v2(t, "getWebhook", p.key(t, "99digital"), phone, ""); answer["reason"] != 1.0 {
			t.Errorf("the block reaches another dialect: %v", answer)
		}
	})
}

func (c customer) publish(t *testing.T, eventType, data string) string {
	t.Helper()
	return c.API(t, "POST", "/api/v1/events", fmt.Sprintf(`{"tenant_id":%q,"type":%q,"data":%s}`, c.tenant, eventType, data))["id"].(string)
}

func TestPublishedPartnerEvents(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, "", nil)
	p := newPartner(t, newCustomer(t, g))
	receiver := apptest.NewReceiver(t, nil)
	p.setWebhook(t, receiver.URL+"/partner")
	header := http.Header{"Authorization": {"Bearer " + apptest.AdminToken}, "Content-Type": {"application/json"}}
	for _, c := range []struct{ eventType, data, member string }{
		{"platform.whatsapp", `{"whatsapp_extra_info":3}`, `"data.whatsapp"`},
		{"platform.whatsapp", `{"whatsapp":"972771230000","whatsapp_extra_info":9,"whatsapp_apiKey":"planted-v2-key"}`, `"data.whatsapp_extra_info"`},
		{"platform.builder", `{"builderID":"611","builder_extra_info":4}`, `"data.builderID"`},
		{"platform.online", `{}`, `"data.online_extra_info"`},
		{"platform.partners", `{}`, `"type"`},
		{"package", `{}`, `"type"`},
	} {
		status, answer := g.Do(t, "POST", "/api/v1/events", header, fmt.Sprintf(`{"tenant_id":%q,"type":%q,"data":%s}`, p.tenant, c.eventType, c.data))
		if status != http.StatusUnprocessableEntity || !strings.Contains(answer, c.member) || strings.Contains(answer, "planted") {
			t.Errorf("%s %s is answered %d %s", c.eventType, c.data, status, answer)
		}
	}
	for i, c := range []struct{ eventType, data, want string }{
		{
			"platform.builder", `{"builder_extra_info":4,"builder_url":"https://b.acme.test/611","builderID":611,"builder_reference":"ref-2a"}`,
			`{"status":"OK","event":"builder","builderID":611,"builder_url":"https://b.acme.test/611","builder_reference":"ref-2a","builder_extra_info":4}`,
		},
		{
			"platform.online", `{"accountID":88,"agentID":5,"server":"online","online_reference":"r","online_extra_info":7}`,
			`{"status":"OK","event":"online","accountID":88,"agentID":5,"server":"online","online_reference":"r","online_extra_info":7}`,
		},
		{
			"platform.whatsapp", `{"whatsapp":"972771230000","whatsapp_reference":"cust-77","whatsapp_extra_info":3,"daily_limit":2000,"whatsapp_apiKey":"planted-v2-key"}`,
			`{"status":"OK","event":"whatsapp","whatsapp":"972771230000","whatsapp_reference":"cust-77","whatsapp_extra_info":3,"daily_limit":2000,"whatsapp_apiKey":"planted-v2-key"}`,
		},
	} {
		id := p.publish(t, c.eventType, c.data)
		if hook := string(receiver.Wait(t, "/partner", i+1)[i].Body); hook != c.want {
			t.Errorf("the hook of %s is %s", c.eventType, hook)
		}
		if shown := fmt.Sprint(g.API(t, "GET", "/api/v1/events/"+id, "")); strings.Contains(shown, "planted-v2-key") {
			t.Errorf("the event is shown as %s", shown)
		}
	}
	nowhere(t, g, "planted-v2-key")
}

// nowhere stops the gateway and looks for secrets in its log and in its files.
func nowhere(t *testing.T, g *apptest.Gateway, secrets ...string) {
	t.Helper()
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(g.Config.Data, "*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("data directory holds %v, %v", files, err)
	}
	for _, secret := range secrets {
		if secret == "" || strings.Contains(g.Log.String(), secret) {
			t.Errorf("the log shows %q", secret)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s shows %q", filepath.Base(file), secret)
			}
		}
	}
}

func TestLifecycleByHand(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, "", nil)
	p := newPartner(t, newCustomer(t, g))
	g.API(t, "PATCH", "/api/v1/numbers/"+p.number, `{"reference":"cust-77"}`)
	var down atomic.Bool
	receiver := apptest.NewReceiver(t, func(w http.ResponseWriter, _ apptest.Hook) {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	p.setWebhook(t, receiver.URL+"/partner")
	lifecycle := func(body string) {
		t.Helper()
		g.API(t, "POST", "/api/v1/numbers/"+p.number+"/lifecycle", body)
	}
	hook := func(n int) map[string]any {
		t.Helper()
		return object(t, string(receiver.Wait(t, "/partner", n)[n-1].Body))
	}

	lifecycle(`{"state":"onboarded"}`)
	told := hook(1)
	key, _ := told["whatsapp_apiKey"].(string)
	if answer := p.v2(t, "getWebhook", key, phone, ""); answer["reason"] != 1.0 {
		t.Fatalf("the key that was told is answered %v", answer)
	}
	want := map[string]any{"status": "OK", "event": "whatsapp", "whatsapp": phone, "whatsapp_reference": "cust-77", "whatsapp_extra_info": 1.0, "whatsapp_apiKey": key}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("onboarded (-want +got):\n%s", diff)
	}
	lifecycle(`{"state":"receiving","daily_limit":250}`)
	want["whatsapp_extra_info"], want["daily_limit"] = 2.0, 250.0
	if diff := cmp.Diff(want, hook(2)); diff != "" {
		t.Errorf("receiving (-want +got):\n%s", diff)
	}
	byHand := p.key(t, "99digital")
	lifecycle(`{"state":"ready"}`)
	want["whatsapp_extra_info"], want["whatsapp_apiKey"] = 3.0, byHand
	if diff := cmp.Diff(want, hook(3)); diff != "" {
		t.Errorf("ready (-want +got):\n%s", diff)
	}
	if answer := p.v2(t, "getWebhook", key, phone, ""); answer["reason"] != 3.0 {
		t.Errorf("the replaced key is answered %v", answer)
	}
	lifecycle(`{"state":"failed"}`)
	lifecycle(`{"state":"deleted"}`)
	delete(want, "daily_limit")
	delete(want, "whatsapp_apiKey")
	codes := map[any]bool{}
	for n := 4; n <= 5; n++ {
		told := hook(n)
		codes[told["whatsapp_extra_info"]] = true
		want["whatsapp_extra_info"] = told["whatsapp_extra_info"]
		if diff := cmp.Diff(want, told); diff != "" {
			t.Errorf("at the end (-want +got):\n%s", diff)
		}
	}
	if !codes[4.0] || !codes[5.0] {
		t.Errorf("told the codes %v, want 4 and 5", codes)
	}
	if number := g.API(t, "GET", "/api/v1/numbers/"+p.number, ""); number["lifecycle"] != "deleted" || number["daily_limit"] != 250.0 {
		t.Errorf("the number is %v", number)
	}

	// What waits for its receiver over a restart is opened after it.
	down.Store(true)
	lifecycle(`{"state":"ready"}`)
	receiver.Wait(t, "/partner", 7) // the first two chances come at once, the next after five minutes
	delivery := p.list(t, "/api/v1/deliveries?state=pending")[0]
	shown := g.API(t, "GET", "/api/v1/events/"+delivery["event_id"].(string), "")["payload"].(map[string]any)
	if shown["whatsapp_apiKey"] != "[redacted]" || shown["whatsapp"] != phone {
		t.Errorf("the event is shown as %v", shown)
	}
	nowhere(t, g, key, byHand, p.secret)
	down.Store(false)
	p.Gateway = apptest.Restart(t, g.Config)
	before := len(receiver.Hooks("/partner"))
	p.API(t, "POST", "/api/v1/deliveries/"+delivery["id"].(string)+"/retry", "")
	if told := hook(before + 1); told["whatsapp_apiKey"] != byHand {
		t.Errorf("after a restart the hook is %v", told)
	}
}

func TestLifecycleByMetasNotices(t *testing.T) {
	t.Parallel()
	apptest.Stores(t, func(t *testing.T, database string) {
		g := apptest.Start(t, database, nil)
		p := newPartner(t, newCustomer(t, g))
		g.API(t, "POST", "/api/v1/numbers", fmt.Sprintf(`{"tenant_id":%q,"phone":"15550142078","waba_id":"another"}`, p.tenant))
		receiver := apptest.NewReceiver(t, nil)
		p.setWebhook(t, receiver.URL+"/partner")
		const about = `"display_phone_number":"+1 555-014-2077"`
		onboarding := notice("phone_number_quality_update", `{`+about+`,"event":"ONBOARDING","current_limit":"TIER_NOT_SET"}`, 0)
		limit := notice("business_capability_update", `{"max_daily_conversations_per_business":2000,"max_phone_numbers_per_waba":25}`, 1)
		gone := notice("account_update", `{"event":"PARTNER_REMOVED","phone_number":"15550142077"}`, 3)
		var key any
		for i, step := range []struct {
			body  []byte
			code  float64
			limit any
		}{
			{onboarding, 2, 0.0},
			{limit, 2, 2000.0},
			{notice("phone_number_quality_update", `{`+about+`,"event":"ONBOARDING","max_daily_conversations_per_business":"TIER_UNLIMITED"}`, 2), 3, 1000000.0},
			{gone, 4, nil},
		} {
			p.ingest(t, step.body)
			told := object(t, string(receiver.Wait(t, "/partner", i+1)[i].Body))
			if i == 0 {
				key = told["whatsapp_apiKey"]
			}
			if told["whatsapp"] != phone || told["whatsapp_extra_info"] != step.code || told["daily_limit"] != step.limit {
				t.Errorf("%s is told as %v", step.body, told)
			}
			if step.code < 4 && (key == nil || told["whatsapp_apiKey"] != key) || step.code >= 4 && told["whatsapp_apiKey"] != nil {
				t.Errorf("%s is told with the key %v, at first it was %v", step.body, told["whatsapp_apiKey"], key)
			}
		}
		if answer := p.v2(t, "getWebhook", key.(string), phone, ""); answer["reason"] != 1.0 {
			t.Errorf("the key that was told is answered %v", answer)
		}

		// What Meta repeats moves nothing and is not told again, nor is what comes
		// for nobody's account; what comes next is.
		for _, body := range [][]byte{
			onboarding, limit, gone,
			bytes.Replace(gone, []byte("301956482217730"), []byte("999999999999999"), 1),
			notice("business_capability_update", `{"max_daily_conversations_per_business":250}`, 4), // of a deleted number
		} {
			p.ingest(t, body)
		}
		p.ingest(t, notice("account_update", `{"event":"ACCOUNT_RECONNECTED"}`, 5))
		told := object(t, string(receiver.Wait(t, "/partner", 5)[4].Body))
		if told["whatsapp_extra_info"] != 3.0 || told["daily_limit"] != 250.0 {
			t.Errorf("after the repeats the next is told as %v", told)
		}
		if n := len(p.list(t, "/api/v1/events?type=platform.*")); n != 5 {
			t.Errorf("%d lifecycle events, want 5", n)
		}
		number := g.API(t, "GET", "/api/v1/numbers/"+p.number, "")
		if number["lifecycle"] != "ready" || number["daily_limit"] != 250.0 {
			t.Errorf("the number is %v", number)
		}
	})
}

// A notice that came before its number was known moves it once it is replayed.
func TestLifecycleByAReplayedNotice(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, "", nil)
	if status := g.Ingest(t, notice("business_capability_update", `{"max_daily_conversations_per_business":250}`, 0)); status != http.StatusOK {
		t.Fatalf("ingest answered %d", status)
	}
	c := newCustomer(t, g)
	unrouted := c.list(t, "/api/v1/events?state=unrouted")
	if len(unrouted) != 1 {
		t.Fatalf("%d events are unrouted", len(unrouted))
	}
	g.API(t, "POST", "/api/v1/events/"+unrouted[0]["id"].(string)+"/replay", "")
	if number := g.API(t, "GET", "/api/v1/numbers/"+c.number, ""); number["daily_limit"] != 250.0 {
		t.Errorf("the number is %v", number)
	}
}
