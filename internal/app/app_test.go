package app_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/app/apptest"
	"github.com/waypost-gateway/waypost/internal/config"
)

// customer is one tenant with one number and its keys.
type customer struct {
	*apptest.Gateway
	tenant, number string
}

func newCustomer(t *testing.T, g *apptest.Gateway) customer {
	t.Helper()
	c := customer{Gateway: g}
	c.tenant = g.API(t, "POST", "/api/v1/tenants", `{"name":"Cedar & Finch"}`)["id"].(string)
	c.number = g.API(t, "POST", "/api/v1/numbers", fmt.Sprintf(
		`{"tenant_id":%q,"phone":"15550142077","phone_number_id":"208417730961245","waba_id":"301956482217730"}`, c.tenant))["id"].(string)
	return c
}

func (c customer) key(t *testing.T, dialect string) string {
	t.Helper()
	return c.API(t, "POST", "/api/v1/keys", fmt.Sprintf(`{"dialect":%q,"number_id":%q}`, dialect, c.number))["key"].(string)
}

// register sets a webhook through the provider's own call.
func (c customer) register(t *testing.T, header, key, body string) {
	t.Helper()
	status, answer := c.Do(t, "POST", "/v1/configs/webhook", http.Header{header: {key}, "Content-Type": {"application/json"}}, body)
	if status != http.StatusOK {
		t.Fatalf("POST /v1/configs/webhook answered %d: %s", status, answer)
	}
}

func (c customer) list(t *testing.T, path string) []map[string]any {
	t.Helper()
	var rows []map[string]any
	for _, row := range c.API(t, "GET", path, "")["data"].([]any) {
		rows = append(rows, row.(map[string]any))
	}
	return rows
}

func sample(t *testing.T, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("..", "meta", "testdata", "samples", name))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestOneRequestInThreeDialects(t *testing.T) {
	t.Parallel()
	apptest.Stores(t, func(t *testing.T, database string) {
		c := newCustomer(t, apptest.Start(t, database, nil))
		receiver := apptest.NewReceiver(t, nil)
		c.register(t, "D360-API-KEY", c.key(t, "360dialog"), fmt.Sprintf(`{"url":%q,"headers":{"Authorization":"Basic dXNlcjpwYXNz"}}`, receiver.URL+"/d360?t=42"))
		c.register(t, "WHIZARD-KEY", c.key(t, "whizard"), fmt.Sprintf(`{"url":%q}`, receiver.URL+"/whizard"))
		made := c.API(t, "POST", "/api/v1/endpoints", fmt.Sprintf(
			`{"tenant_id":%q,"number_id":%q,"dialect":"meta","url":%q}`, c.tenant, c.number, receiver.URL+"/meta"))

		body := sample(t, "cloud-msg-text-unicode.json")
		if status := c.Ingest(t, body); status != http.StatusOK {
			t.Fatalf("ingest answered %d", status)
		}
		d360 := receiver.Wait(t, "/d360", 1)[0]
		if !bytes.Equal(d360.Body, body) || d360.Header.Get("Authorization") != "Basic dXNlcjpwYXNz" {
			t.Errorf("360dialog receiver got %q with %v", d360.Body, d360.Header)
		}
		meta := receiver.Wait(t, "/meta", 1)[0]
		if !bytes.Equal(meta.Body, body) || meta.Header.Get("X-Hub-Signature-256") != apptest.Sign(made["secret"].(string), body) {
			t.Errorf("meta receiver got %q with %v", meta.Body, meta.Header)
		}
		var onPrem map[string]json.RawMessage
		if err := json.Unmarshal(receiver.Wait(t, "/whizard", 1)[0].Body, &onPrem); err != nil || onPrem["messages"] == nil || onPrem["entry"] != nil {
			t.Errorf("whizard receiver got %v, %v", onPrem, err)
		}

		// Sent again, it is acknowledged and goes nowhere.
		if status := c.Ingest(t, body); status != http.StatusOK {
			t.Fatalf("the repeat was answered %d", status)
		}
		events := c.list(t, "/api/v1/events")
		if len(events) != 1 {
			t.Fatalf("%d events are stored, want 1", len(events))
		}
		apptest.Within(t, 10*time.Second, func() bool {
			return len(c.list(t, "/api/v1/deliveries?state=delivered")) == 3
		})
		record := c.API(t, "GET", "/api/v1/events/"+events[0]["id"].(string), "")
		for _, delivery := range record["deliveries"].([]any) {
			attempts := delivery.(map[string]any)["attempts"].([]any)
			if first := attempts[0].(map[string]any); len(attempts) != 1 || first["outcome"] != "delivered" || first["status"] != 200.0 {
				t.Errorf("attempts are %v", attempts)
			}
		}
		for _, path := range []string{"/d360", "/meta", "/whizard"} {
			if n := len(receiver.Hooks(path)); n != 1 {
				t.Errorf("%s got %d hooks, want 1", path, n)
			}
		}
	})
}

func TestEverySampleIsAcceptedClassifiedAndKept(t *testing.T) {
	t.Parallel()
	apptest.Stores(t, func(t *testing.T, database string) {
		c := newCustomer(t, apptest.Start(t, database, nil))
		names, err := filepath.Glob(filepath.Join("..", "meta", "testdata", "samples", "*.json"))
		if err != nil || len(names) < 100 {
			t.Fatalf("only %d samples: %v", len(names), err)
		}
		for _, name := range names {
			name = filepath.Base(name)
			body := sample(t, name)
			onPrem := strings.HasPrefix(name, "onprem-")
			status := 0
			if onPrem {
				status, _ = c.Do(t, "POST", "/ingest/onprem/default?number=15550142077", http.Header{"Authorization": {"Bearer " + apptest.OnPremToken}}, string(body))
			} else {
				status = c.Ingest(t, body)
			}
			if status != http.StatusOK {
				t.Errorf("%s was answered %d", name, status)
				continue
			}
			newest := c.list(t, "/api/v1/events?limit=1")
			if len(newest) != 1 || newest[0]["type"] == "" {
				t.Errorf("%s: the newest event is %v", name, newest)
				continue
			}
			if state := newest[0]["state"]; state == "unparsed" {
				record := c.API(t, "GET", "/api/v1/events/"+newest[0]["id"].(string), "")
				kept, err := json.Marshal(record["payload"])
				if err != nil || !sameJSON(t, kept, body) {
					t.Errorf("%s is not kept whole: %s", name, kept)
				}
			}
		}
	})
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	ax, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	by, err := json.Marshal(y)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(ax, by)
}

func TestIngestRefusals(t *testing.T) {
	t.Parallel()
	c := newCustomer(t, apptest.Start(t, "", nil))
	body := sample(t, "cloud-msg-text.json")
	post := func(path string, signature string, body string) int {
		header := http.Header{}
		if signature != "" {
			header.Set("X-Hub-Signature-256", signature)
		}
		status, _ := c.Do(t, "POST", path, header, body)
		return status
	}
	huge := strings.Repeat("x", 4<<20+1)
	for name, c := range map[string]struct {
		path, signature, body string
		want                  int
	}{
		"no signature":       {"/ingest/meta/default", "", string(body), 401},
		"wrong secret":       {"/ingest/meta/default", apptest.Sign("other", body), string(body), 401},
		"altered body":       {"/ingest/meta/default", apptest.Sign(apptest.AppSecret, body), string(body) + " ", 401},
		"unprefixed digest":  {"/ingest/meta/default", strings.TrimPrefix(apptest.Sign(apptest.AppSecret, body), "sha256="), string(body), 401},
		"over 4 MiB":         {"/ingest/meta/default", apptest.Sign(apptest.AppSecret, []byte(huge)), huge, 413},
		"unknown source":     {"/ingest/meta/nobody", apptest.Sign(apptest.AppSecret, body), string(body), 404},
		"source of a sort":   {"/ingest/onprem/nobody", "", string(body), 404},
		"onprem, no token":   {"/ingest/onprem/default?number=15550142077", "", "{}", 401},
		"signed and foreign": {"/ingest/meta/default", apptest.Sign(apptest.AppSecret, []byte(`[1]`)), `[1]`, 200},
	} {
		if got := post(c.path, c.signature, c.body); got != c.want {
			t.Errorf("%s: answered %d, want %d", name, got, c.want)
		}
	}
	events := c.list(t, "/api/v1/events")
	if len(events) != 1 || events[0]["state"] != "unparsed" {
		t.Errorf("stored %v, want the one that was signed, as unparsed", events)
	}
	status, answer := c.Do(t, "GET", "/ingest/meta/default?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="+apptest.VerifyToken, nil, "")
	if status != 200 || answer != "1158201444" {
		t.Errorf("the challenge was answered %d %q", status, answer)
	}
	for _, query := range []string{
		"hub.mode=subscribe&hub.challenge=1&hub.verify_token=wrong",
		"hub.mode=subscribe&hub.challenge=%3Cscript%3E&hub.verify_token=" + apptest.VerifyToken,
		"hub.challenge=1&hub.verify_token=" + apptest.VerifyToken,
	} {
		if status, _ := c.Do(t, "GET", "/ingest/meta/default?"+query, nil, ""); status < 400 || status > 403 {
			t.Errorf("%s was answered %d", query, status)
		}
	}
}

func TestABatchGoesToEachNumbersOwnReceiver(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, "", nil)
	first, receiver := newCustomer(t, g), apptest.NewReceiver(t, nil)
	second := customer{Gateway: g}
	second.tenant = g.API(t, "POST", "/api/v1/tenants", `{"name":"Other"}`)["id"].(string)
	second.number = g.API(t, "POST", "/api/v1/numbers", fmt.Sprintf(`{"tenant_id":%q,"phone":"15550142078","phone_number_id":"208417730961246"}`, second.tenant))["id"].(string)
	first.register(t, "D360-API-KEY", first.key(t, "360dialog"), fmt.Sprintf(`{"url":%q}`, receiver.URL+"/first"))
	second.register(t, "D360-API-KEY", second.key(t, "360dialog"), fmt.Sprintf(`{"url":%q}`, receiver.URL+"/second"))

	var changes []string
	for i := range 1000 {
		number := []string{"208417730961245", "208417730961246", "999999999999999"}[i%3]
		changes = append(changes, fmt.Sprintf(`{"value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":"1","phone_number_id":%q},`+
			`"messages":[{"from":"447700900361","id":"wamid.B%d","timestamp":"1767571200","type":"text","text":{"body":"%s"}}]},"field":"messages"}`, number, i, strings.Repeat("y", 2500)))
	}
	body := []byte(`{"object":"whatsapp_business_account","entry":[{"id":"301956482217730","changes":[` + strings.Join(changes, ",") + `]}]}`)
	if status := g.Ingest(t, body); status != 200 {
		t.Fatalf("a batch of %d bytes was answered %d", len(body), status)
	}
	for path, want := range map[string]int{"/first": 334, "/second": 333} {
		hooks := receiver.Wait(t, path, want)
		seen := map[string]bool{}
		for _, hook := range hooks {
			seen[string(hook.Body)] = true
		}
		if len(hooks) != want || len(seen) != want {
			t.Errorf("%s got %d hooks, %d of them different; want %d", path, len(hooks), len(seen), want)
		}
	}
	if unrouted := first.list(t, "/api/v1/events?state=unrouted&limit=1000"); len(unrouted) != 333 {
		t.Errorf("%d events are unrouted, want 333", len(unrouted))
	}
}

func TestRetriesUntilReceivedAndExhausted(t *testing.T) {
	t.Parallel()
	apptest.Stores(t, func(t *testing.T, database string) {
		c := newCustomer(t, apptest.Start(t, database, nil))
		var tries atomic.Int64
		receiver := apptest.NewReceiver(t, func(w http.ResponseWriter, hook apptest.Hook) {
			if hook.Path == "/never" || tries.Add(1) <= 2 {
				w.WriteHeader(http.StatusBadGateway)
			}
		})
		for _, path := range []string{"/third", "/never"} {
			c.API(t, "POST", "/api/v1/endpoints", fmt.Sprintf(
				`{"tenant_id":%q,"dialect":"meta","url":%q,"policy":{"timeout":"2s","schedule":["0s","30ms","60ms"]}}`, c.tenant, receiver.URL+path))
		}
		if status := c.Ingest(t, sample(t, "cloud-msg-text.json")); status != 200 {
			t.Fatalf("ingest answered %d", status)
		}
		if n := len(receiver.Wait(t, "/never", 4)); n != 4 {
			t.Errorf("the hopeless receiver was tried %d times, want 4", n)
		}
		var exhausted []map[string]any
		apptest.Within(t, 10*time.Second, func() bool {
			exhausted = c.list(t, "/api/v1/deliveries?state=exhausted")
			return len(exhausted) == 1 && len(c.list(t, "/api/v1/deliveries?state=delivered")) == 1
		})
		if n := len(receiver.Hooks("/third")); n != 3 {
			t.Errorf("the slow starter was tried %d times, want 3", n)
		}
		// By hand, the ladder starts again and the attempts count on.
		c.API(t, "POST", "/api/v1/deliveries/"+exhausted[0]["id"].(string)+"/retry", "")
		receiver.Wait(t, "/never", 8)
		apptest.Within(t, 10*time.Second, func() bool {
			list := c.list(t, "/api/v1/deliveries?state=exhausted")
			return len(list) == 1 && list[0]["attempts"] == 8.0
		})
	})
}

func TestClonesStartAfterTheMainReceiver(t *testing.T) {
	t.Parallel()
	c := newCustomer(t, apptest.Start(t, "", nil))
	var mu sync.Mutex
	var order []string
	var mainTries atomic.Int64
	receiver := apptest.NewReceiver(t, func(w http.ResponseWriter, hook apptest.Hook) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, hook.Path)
		if hook.Path == "/main" && mainTries.Add(1) < 3 || hook.Path == "/bad" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	key := c.key(t, "360dialog")
	c.register(t, "D360-API-KEY", key, fmt.Sprintf(`{"url":%q}`, receiver.URL+"/main"))
	status, answer := c.Do(t, "POST", "/multi_webhook", http.Header{"D360-API-KEY": {key}}, fmt.Sprintf(
		`{"enabled":true,"destinations":[{"name":"good","url":%q},{"name":"bad","url":%q}]}`, receiver.URL+"/good", receiver.URL+"/bad"))
	if status != 200 {
		t.Fatalf("multi_webhook answered %d %s", status, answer)
	}
	for _, endpoint := range c.list(t, "/api/v1/endpoints?dialect=360dialog") {
		c.API(t, "PATCH", "/api/v1/endpoints/"+endpoint["id"].(string), `{"policy":{"schedule":["20ms","20ms","20ms"]}}`)
	}
	if status := c.Ingest(t, sample(t, "cloud-msg-image.json")); status != 200 {
		t.Fatalf("ingest answered %d", status)
	}
	receiver.Wait(t, "/good", 1)
	receiver.Wait(t, "/bad", 4)
	mu.Lock()
	defer mu.Unlock()
	if strings.Join(order[:3], " ") != "/main /main /main" {
		t.Errorf("hooks came in the order %v; clones have to wait for the main receiver's 200", order)
	}
}

func TestANewKeyTakesTheWebhookAwayAndHoldsItsQueue(t *testing.T) {
	t.Parallel()
	c := newCustomer(t, apptest.Start(t, "", nil))
	var down atomic.Bool
	down.Store(true)
	receiver := apptest.NewReceiver(t, func(w http.ResponseWriter, _ apptest.Hook) {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	old := c.key(t, "360dialog")
	c.register(t, "D360-API-KEY", old, fmt.Sprintf(`{"url":%q}`, receiver.URL+"/old"))
	c.API(t, "PATCH", "/api/v1/endpoints/"+c.list(t, "/api/v1/endpoints")[0]["id"].(string), `{"policy":{"schedule":["1h","1h"]}}`)
	c.Ingest(t, sample(t, "cloud-msg-text.json"))
	receiver.Wait(t, "/old", 1)

	fresh := c.key(t, "360dialog")
	if status, _ := c.Do(t, "GET", "/v1/configs/webhook", http.Header{"D360-API-KEY": {old}}, ""); status != 401 {
		t.Errorf("the revoked key was answered %d", status)
	}
	if _, answer := c.Do(t, "GET", "/v1/configs/webhook", http.Header{"D360-API-KEY": {fresh}}, ""); !sameJSON(t, []byte(answer), []byte(`{"url":"","headers":{}}`)) {
		t.Errorf("the webhook is still set: %s", answer)
	}
	apptest.Within(t, 10*time.Second, func() bool { return len(c.list(t, "/api/v1/deliveries?state=held")) == 1 })
	down.Store(false)
	c.register(t, "D360-API-KEY", fresh, fmt.Sprintf(`{"url":%q}`, receiver.URL+"/new"))
	c.API(t, "POST", "/api/v1/deliveries/"+c.list(t, "/api/v1/deliveries")[0]["id"].(string)+"/retry", "")
	receiver.Wait(t, "/new", 1)
}

func TestPauseHoldsAndResumeDelivers(t *testing.T) {
	t.Parallel()
	apptest.Stores(t, func(t *testing.T, database string) {
		c := newCustomer(t, apptest.Start(t, database, nil))
		receiver := apptest.NewReceiver(t, nil)
		endpoint := c.API(t, "POST", "/api/v1/endpoints", fmt.Sprintf(`{"tenant_id":%q,"dialect":"meta","url":%q}`, c.tenant, receiver.URL+"/x"))["id"].(string)
		if state := c.API(t, "POST", "/api/v1/endpoints/"+endpoint+"/pause", "")["state"]; state != "paused" {
			t.Fatalf("state is %v", state)
		}
		c.Ingest(t, sample(t, "cloud-msg-text.json"))
		apptest.Within(t, 10*time.Second, func() bool { return len(c.list(t, "/api/v1/deliveries?state=held")) == 1 })
		if n := len(receiver.Hooks("/x")); n != 0 {
			t.Fatalf("a paused endpoint got %d hooks", n)
		}
		c.API(t, "POST", "/api/v1/endpoints/"+endpoint+"/resume", "")
		receiver.Wait(t, "/x", 1)
	})
}

func TestDeletedEndpointsEndVisibly(t *testing.T) {
	t.Parallel()
	c := newCustomer(t, apptest.Start(t, "", nil))
	receiver := apptest.NewReceiver(t, func(w http.ResponseWriter, _ apptest.Hook) { w.WriteHeader(http.StatusInternalServerError) })
	endpoint := c.API(t, "POST", "/api/v1/endpoints", fmt.Sprintf(`{"tenant_id":%q,"dialect":"meta","url":%q}`, c.tenant, receiver.URL+"/x"))["id"].(string)
	c.Ingest(t, sample(t, "cloud-msg-text.json"))
	receiver.Wait(t, "/x", 1)
	c.API(t, "DELETE", "/api/v1/endpoints/"+endpoint, "")
	apptest.Within(t, 10*time.Second, func() bool { return len(c.list(t, "/api/v1/deliveries?state=exhausted")) == 1 })
	if left := c.list(t, "/api/v1/deliveries?state=pending"); len(left) != 0 {
		t.Errorf("still pending: %v", left)
	}
}

func TestRestartGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	apptest.Stores(t, func(t *testing.T, database string) {
		var down atomic.Bool
		down.Store(true)
		receiver := apptest.NewReceiver(t, func(w http.ResponseWriter, _ apptest.Hook) {
			if down.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		g := apptest.Start(t, database, func(c *config.Config) { c.ShutdownTimeout = time.Second })
		c := newCustomer(t, g)
		schedule := `["100ms"` + strings.Repeat(`,"100ms"`, 300) + `]`
		c.API(t, "POST", "/api/v1/endpoints", fmt.Sprintf(
			`{"tenant_id":%q,"dialect":"meta","url":%q,"policy":{"schedule":%s}}`, c.tenant, receiver.URL+"/x", schedule))
		c.Ingest(t, sample(t, "cloud-msg-text.json"))
		receiver.Wait(t, "/x", 2)
		if err := g.Stop(); err != nil {
			t.Fatal(err)
		}
		before := len(receiver.Hooks("/x"))
		down.Store(false)
		apptest.Restart(t, g.Config)
		receiver.Wait(t, "/x", before+1)
	})
}

func TestRequestsAreLoggedByTheirInnermostRoute(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, "", nil)
	g.API(t, "GET", "/api/v1/tenants", "")
	g.Ingest(t, sample(t, "cloud-msg-text.json"))
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, route := range []string{"GET /api/v1/tenants", "POST /ingest/meta/{source}"} {
		if !strings.Contains(g.Log.String(), `"route":"`+route+`"`) {
			t.Errorf("no line is of the route %s", route)
		}
	}
}

func TestNoSecretIsLoggedOrStoredInClear(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, "", nil)
	c := newCustomer(t, g)
	receiver := apptest.NewReceiver(t, nil)
	key := c.key(t, "360dialog")
	c.register(t, "D360-API-KEY", key, fmt.Sprintf(`{"url":%q,"headers":{"X-Secret":"planted-header-value"}}`, receiver.URL+"/x?token=planted-query"))
	made := c.API(t, "POST", "/api/v1/endpoints", fmt.Sprintf(`{"tenant_id":%q,"dialect":"meta","url":%q,"secret":"planted-signing-secret"}`, c.tenant, receiver.URL+"/y"))
	if made["secret"] != "planted-signing-secret" {
		t.Fatalf("the given secret was not taken: %v", made["secret"])
	}
	c.Ingest(t, sample(t, "cloud-msg-text.json"))
	receiver.Wait(t, "/x", 1)
	receiver.Wait(t, "/y", 1)
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	planted := []string{key, "planted-header-value", "planted-signing-secret", apptest.AppSecret, apptest.VerifyToken, apptest.AdminToken}
	for _, secret := range append(planted, "planted-query", "447700900361", "Is the oak shelf") {
		if strings.Contains(g.Log.String(), secret) {
			t.Errorf("the log shows %q", secret)
		}
	}
	files, err := filepath.Glob(filepath.Join(g.Config.Data, "*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("data directory holds %v, %v", files, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range planted {
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s shows %q", filepath.Base(file), secret)
			}
		}
	}
}

func TestEgressNeverReachesOurOwnNetwork(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, "", func(c *config.Config) { c.EgressAllow = nil })
	c := newCustomer(t, g)
	receiver := apptest.NewReceiver(t, nil)
	header := http.Header{"Authorization": {"Bearer " + apptest.AdminToken}}
	for _, url := range []string{receiver.URL, "https://127.0.0.1/x", "https://169.254.169.254/latest", "https://[::1]/x", "https://10.0.0.1/x", "https://127.1/x", "https://2130706433/x", "https://0177.0.0.1/x", "https://foo.localhost/x"} {
		if status, answer := g.Do(t, "POST", "/api/v1/endpoints", header, fmt.Sprintf(`{"tenant_id":%q,"dialect":"meta","url":%q}`, c.tenant, url)); status != 422 {
			t.Errorf("%s was answered %d: %s", url, status, answer)
		}
	}
	// A name that leads home is let in at the door and stopped when dialled.
	c.API(t, "POST", "/api/v1/endpoints", fmt.Sprintf(`{"tenant_id":%q,"dialect":"meta","url":"https://localhost.localdomain:%s/x","policy":{"schedule":[]}}`,
		c.tenant, receiver.URL[strings.LastIndex(receiver.URL, ":")+1:]))
	c.Ingest(t, sample(t, "cloud-msg-text.json"))
	apptest.Within(t, 20*time.Second, func() bool { return len(c.list(t, "/api/v1/deliveries?state=exhausted")) == 1 })
	if n := len(receiver.Hooks("/x")); n != 0 {
		t.Errorf("the receiver at home got %d hooks", n)
	}
}

func TestAnEndpointWithAKeyPairShowsItsPublicKey(t *testing.T) {
	t.Parallel()
	c := newCustomer(t, apptest.Start(t, "", nil))
	plain := c.API(t, "POST", "/api/v1/endpoints", fmt.Sprintf(`{"tenant_id":%q,"dialect":"standard","url":"http://127.0.0.1:1/x"}`, c.tenant))
	if key, shown := plain["public_key"]; shown || !strings.HasPrefix(plain["secret"].(string), "whsec_") {
		t.Errorf("an endpoint with a shared secret shows the public key %v and the secret %v", key, plain["secret"])
	}
	paired := c.API(t, "POST", "/api/v1/endpoints", fmt.Sprintf(`{"tenant_id":%q,"dialect":"standard","url":"http://127.0.0.1:1/x","options":{"signature":"v1a"}}`, c.tenant))
	if key, _ := paired["public_key"].(string); !strings.HasPrefix(key, "whpk_") {
		t.Errorf("the public key is %q", key)
	}
	status, schema := c.Do(t, "GET", "/schemas/whatsapp.message.text.json", nil, "")
	if status != http.StatusOK || !json.Valid([]byte(schema)) {
		t.Errorf("the schema was answered %d %s", status, schema)
	}
}
