package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/app/apptest"
	"github.com/waypost-gateway/waypost/internal/config"
)

const phone = "15550142077" // of newCustomer's number

// v2 makes a call of the V2 API; members are put beside from and apiKey.
func (c customer) v2(t *testing.T, call, key, from, members string) map[string]any {
	t.Helper()
	body := fmt.Sprintf(`{"apiKey":%q,"from":%q%s}`, key, from, members)
	status, answer := c.Do(t, "POST", "/whatsapp/v2/"+call, http.Header{"Content-Type": {"application/json"}}, body)
	if status != http.StatusOK {
		t.Fatalf("%s %s answered %d: %s", call, members, status, answer)
	}
	return object(t, answer)
}

func object(t *testing.T, text string) map[string]any {
	t.Helper()
	var decoded map[string]any
	if err := json.Unmarshal([]byte(text), &decoded); err != nil {
		t.Fatalf("%q is not an object: %v", text, err)
	}
	return decoded
}

// notice is one of Meta's about the customer's business account; seconds tells
// it from others.
func notice(field, value string, seconds int) []byte {
	return fmt.Appendf(nil, `{"object":"whatsapp_business_account","entry":[{"id":"301956482217730","time":%d,"changes":[{"value":%s,"field":%q}]}]}`,
		1767571200+seconds, value, field)
}

// failedStatus is the status of a message that failed.
func failedStatus(wamid, more string) []byte {
	return fmt.Appendf(nil, `{"object":"whatsapp_business_account","entry":[{"id":"301956482217730","changes":[{"value":{"messaging_product":"whatsapp",`+
		`"metadata":{"display_phone_number":%q,"phone_number_id":"208417730961245"},"statuses":[{"id":%q,"status":"failed","timestamp":"1767571300",`+
		`"recipient_id":"447700900361"%s,"errors":[{"code":131047,"title":"Re-engagement message"}]}]},"field":"messages"}]}]}`, phone, wamid, more)
}

func (c customer) ingest(t *testing.T, body []byte) {
	t.Helper()
	if status := c.Ingest(t, body); status != http.StatusOK {
		t.Fatalf("ingest answered %d to %s", status, body)
	}
}

func TestV2Settings(t *testing.T) {
	t.Parallel()
	apptest.Stores(t, func(t *testing.T, database string) {
		g := apptest.Start(t, database, nil)
		c := newCustomer(t, g)
		other := g.API(t, "POST", "/api/v1/numbers", fmt.Sprintf(`{"tenant_id":%q,"phone":"15550142078"}`, c.tenant))["id"].(string)
		otherKey := g.API(t, "POST", "/api/v1/keys", fmt.Sprintf(`{"dialect":"99digital","number_id":%q}`, other))["key"].(string)
		key := c.key(t, "99digital")
		const set, get = "setWebhook", "getWebhook"

		want := map[string]any{"status": "OK", "url": "", "system": "0", "systemPhoneAlert": "", "retry": 0.0, "readStatus": 0.0, "reason": 1.0}
		if diff := cmp.Diff(want, c.v2(t, get, key, phone, "")); diff != "" {
			t.Errorf("at first (-want +got):\n%s", diff)
		}
		want = map[string]any{
			"status": "OK", "url": "https://hooks.acme.test/wa", "system": 1.0, "systemPhoneAlert": "972541112233", "readStatus": 1.0, "retry": 1.0, "reason": 1.0,
		}
		members := `,"url":"https://hooks.acme.test/wa","system":1,"systemPhoneAlert":"972541112233","readStatus":"1","retry":1`
		if diff := cmp.Diff(want, c.v2(t, set, key, phone, members)); diff != "" {
			t.Errorf("set (-want +got):\n%s", diff)
		}
		for _, call := range []struct {
			name, key, from, members string
			reason                   float64
		}{
			{"unknown from", key, "15559999999", "", 2},
			{"unknown from without a key", "", "15559999999", "", 2},
			{"no from", key, "", "", 2},
			{"no key", "", phone, "", 3},
			{"wrong key", "wp_guess", phone, "", 3},
			{"another number's key", otherKey, phone, "", 3},
			{"key of another dialect", c.key(t, "360dialog"), phone, "", 3},
			{"url", key, phone, `,"url":"ftp://hooks.acme.test/"`, 4},
			{"private url", key, phone, `,"url":"https://10.0.0.1/"`, 4},
			{"long url", key, phone, `,"url":"https://hooks.acme.test/` + strings.Repeat("x", 512) + `"`, 4},
			{"phone of another country", key, phone, `,"systemPhoneAlert":"15550142077"`, 5},
			{"six phones", key, phone, `,"systemPhoneAlert":"` + strings.Join(phones(6), ",") + `"`, 5},
			{"system", key, phone, `,"system":2`, 6},
			{"readStatus", key, phone, `,"readStatus":true`, 6},
			{"retry", key, phone, `,"retry":"yes"`, 6},
			{"good again", key, phone, "", 1},
		} {
			answer := c.v2(t, set, call.key, call.from, call.members)
			refused := map[string]any{"status": "FAIL", "reason": call.reason}
			if answer["reason"] != call.reason || call.reason > 1 && !cmp.Equal(answer, refused) {
				t.Errorf("%s: answered %v, want reason %v", call.name, answer, call.reason)
			}
		}
		for name, call := range map[string]struct{ method, body string }{
			"no JSON": {"POST", "apiKey=x"}, "a list": {"POST", "[]"}, "no body": {"POST", ""}, "wrong method": {"GET", ""},
		} {
			for _, path := range []string{"/whatsapp/v2/" + set, "/whatsapp/v2/" + get, "/dialects/99digital/whatsapp/v2/" + get} {
				if status, answer := c.Do(t, call.method, path, nil, call.body); status != 200 || answer != `{"status":"FAIL","reason":2}` {
					t.Errorf("%s: %s answered %d %s", name, path, status, answer)
				}
			}
		}
		want = map[string]any{
			"status": "OK", "url": "https://hooks.acme.test/wa", "system": "1", "systemPhoneAlert": "972541112233", "readStatus": 1.0, "retry": 1.0, "reason": 1.0,
		}
		if diff := cmp.Diff(want, c.v2(t, get, key, phone, "")); diff != "" {
			t.Errorf("after the refusals (-want +got):\n%s", diff)
		}
		want["url"] = ""
		c.v2(t, set, key, phone, `,"url":" "`)
		if diff := cmp.Diff(want, c.v2(t, get, key, phone, "")); diff != "" {
			t.Errorf("cleared by a space (-want +got):\n%s", diff)
		}
		fresh := c.key(t, "99digital")
		if answer := c.v2(t, get, key, phone, ""); answer["reason"] != 3.0 {
			t.Errorf("the replaced key is answered %v", answer)
		}
		if answer := c.v2(t, get, fresh, phone, ""); answer["reason"] != 1.0 {
			t.Errorf("the new key is answered %v", answer)
		}
	})
}

func phones(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("97254111223%d", i)
	}
	return list
}

func TestV2Hooks(t *testing.T) {
	t.Parallel()
	graph := newGraph(t)
	g := apptest.Start(t, "", func(c *config.Config) {
		c.GraphURL, c.PublicURL = graph.URL, "https://gateway.acme.test/base"
	})
	c := newCustomer(t, g)
	g.API(t, "PATCH", "/api/v1/numbers/"+c.number, `{"access_token":"planted-number-token"}`)
	receiver := apptest.NewReceiver(t, nil)
	key := c.key(t, "99digital")
	url := fmt.Sprintf(`,"url":%q`, receiver.URL+"/wa")
	c.v2(t, "setWebhook", key, phone, url)

	// Only messages at first: neither of the others comes before the image does.
	c.ingest(t, sample(t, "cloud-status-delivered.json"))
	c.ingest(t, notice("business_capability_update", `{"max_daily_conversations_per_business":250}`, 0))
	c.ingest(t, sample(t, "cloud-msg-image.json"))
	hook := object(t, string(receiver.Wait(t, "/wa", 1)[0].Body))
	link, _ := hook["media"].(string)
	want := map[string]any{
		"status": "OK", "hook": "new", "unique": "wamid.HBgMNDQ3NzAwOTAwMzYxFQIAEhgUOTc4RUE3QUYzOUFENUZFRkI2QkYA", "from": "447700900361",
		"from_id": "", "username": nil, "country": "GB", "phone": "447700900361", "to": phone, "senderName": "Maren Holt", "type": "image",
		"body": link, "caption": "The chipped corner", "isForwarded": false, "timestamp": "1767571200", "media": link, "quote": false,
		"quoteUnique": false, "profilePic": "", "conversationTimeLeft": "1440",
	}
	if diff := cmp.Diff(want, hook); diff != "" {
		t.Errorf("new (-want +got):\n%s", diff)
	}

	path, ok := strings.CutPrefix(link, "https://gateway.acme.test/base/media/")
	if !ok {
		t.Fatalf("the link is %q", link)
	}
	if status, body := g.Do(t, "GET", "/media/"+path, nil, ""); status != 200 || body != "the picture 1201866346946993" {
		t.Errorf("the link leads to %d %q", status, body)
	}
	if diff := cmp.Diff([]string{"Bearer planted-number-token", "Bearer planted-number-token"}, graph.bearers()); diff != "" {
		t.Errorf("Graph was asked as (-want +got):\n%s", diff)
	}
	if status, _ := g.Do(t, "GET", "/media/"+strings.ToUpper(path), nil, ""); status != 404 {
		t.Errorf("an altered link is answered %d", status)
	}

	c.v2(t, "setWebhook", key, phone, `,"readStatus":1,"system":1`)
	c.ingest(t, sample(t, "cloud-status-read.json"))
	if hook := object(t, string(receiver.Wait(t, "/wa", 2)[1].Body)); hook["hook"] != "update" || hook["ack"] != 3.0 || hook["from"] != "447700900361" || hook["to"] != phone {
		t.Errorf("update: %v", hook)
	}
	for i, c99 := range []struct {
		body []byte
		want map[string]any
	}{
		{
			notice("business_capability_update", `{"max_daily_conversations_per_business":2000}`, 1),
			map[string]any{"status": "OK", "hook": "system", "type": "update", "to": phone, "timestamp": 1767571201.0, "dailyLimit": 2000.0},
		},
		{
			notice("message_template_status_update", `{"event":"REJECTED","message_template_id":1489207733615520017,"message_template_name":"order_packed"}`, 2),
			map[string]any{"status": "OK", "hook": "system", "type": "template", "to": phone, "timestamp": 1767571202.0, "template": "order_packed", "templateUpdate": "rejected"},
		},
		{
			notice("account_update", `{"event":"ACCOUNT_VIOLATION","phone_number":"+1 555-014-2077","violation_info":{"violation_type":"SPAM"}}`, 3),
			map[string]any{"status": "OK", "hook": "system", "type": "issues", "to": phone, "timestamp": 1767571203.0, "issueUpdate": "flagged"},
		},
		{
			failedStatus("wamid.F1", ""),
			map[string]any{
				"status": "OK", "hook": "system", "type": "messages", "to": phone, "timestamp": 1767571300.0,
				"unique": "wamid.F1", "messageUpdate": 8.0, "messageTo": "447700900361",
			},
		},
	} {
		c.ingest(t, c99.body)
		hooks := receiver.Wait(t, "/wa", 3+i)
		if diff := cmp.Diff(c99.want, object(t, string(hooks[2+i].Body))); diff != "" {
			t.Errorf("system (-want +got):\n%s", diff)
		}
	}
	if n := len(graph.alerts()); n != 0 {
		t.Errorf("%d alerts went out; no number is configured to send them", n)
	}
}

// graph plays the part of Meta's Graph API that the gateway uses.
type graph struct {
	*httptest.Server
	mu      sync.Mutex
	asked   []string         // Authorization of media calls
	sent    []map[string]any // alerts, in order
	answers []string         // to the next alerts; then a good one
}

func newGraph(t *testing.T) *graph {
	t.Helper()
	g := &graph{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v24.0/{media}", func(w http.ResponseWriter, r *http.Request) {
		g.ask(r)
		fmt.Fprintf(w, `{"url":%q,"mime_type":"image/jpeg","file_size":28}`, g.URL+"/file/"+r.PathValue("media"))
	})
	mux.HandleFunc("GET /file/{media}", func(w http.ResponseWriter, r *http.Request) {
		g.ask(r)
		fmt.Fprint(w, "the picture "+r.PathValue("media"))
	})
	mux.HandleFunc("POST /v24.0/106540352242922/messages", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Authorization") != "Bearer planted-alert-token" {
			t.Errorf("alert with %v, %v", r.Header, err)
		}
		if answer := g.take(t, body); answer != "" {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, answer)
			return
		}
		fmt.Fprint(w, `{"messaging_product":"whatsapp","messages":[{"id":"wamid.A"}]}`)
	})
	g.Server = httptest.NewServer(mux)
	t.Cleanup(g.Close)
	return g
}

func (g *graph) ask(r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, r.Header.Get("Authorization"))
}

func (g *graph) bearers() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked)
}

func (g *graph) take(t *testing.T, body []byte) (answer string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sent = append(g.sent, object(t, string(body)))
	if len(g.answers) > 0 {
		answer, g.answers = g.answers[0], g.answers[1:]
	}
	return answer
}

func (g *graph) answerWith(answers ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answers = answers
}

func (g *graph) alerts() []map[string]any {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.sent)
}

// wait waits for n alerts in all and gives "phone: text" of those after the
// first skip, sorted.
func (g *graph) wait(t *testing.T, skip, n int) []string {
	t.Helper()
	apptest.Within(t, 15*time.Second, func() bool { return len(g.alerts()) >= n })
	var lines []string
	for _, alert := range g.alerts()[skip:] {
		lines = append(lines, fmt.Sprintf("%v: %v", alert["to"], alert["text"].(map[string]any)["body"]))
	}
	slices.Sort(lines)
	return lines
}

func TestV2Alerts(t *testing.T) {
	t.Parallel()
	graph := newGraph(t)
	g := apptest.Start(t, "", func(c *config.Config) {
		c.GraphURL, c.AlertPhoneNumberID, c.AlertToken = graph.URL, "106540352242922", "planted-alert-token"
	})
	c := newCustomer(t, g)
	key := c.key(t, "99digital")
	if answer := c.v2(t, "setWebhook", key, phone, `,"systemPhoneAlert":"972541112233, 972541112244"`); answer["systemPhoneAlert"] != "972541112233,972541112244" {
		t.Fatalf("setWebhook answered %v", answer)
	}
	var first string // the endpoint of the first phone
	for _, endpoint := range c.list(t, "/api/v1/endpoints?dialect=99digital") {
		if endpoint["slot"] == "alert:972541112233" {
			first = endpoint["id"].(string)
		}
		if strings.HasPrefix(endpoint["slot"].(string), "alert:") {
			g.API(t, "PATCH", "/api/v1/endpoints/"+endpoint["id"].(string), `{"policy":{"schedule":["30ms","30ms"]}}`)
		}
	}

	alert := func(sentence string) []string {
		const start = "התראת מערכת לחשבון " + phone + ": "
		return []string{"+972541112233: " + start + sentence, "+972541112244: " + start + sentence}
	}
	sent := 0
	for _, step := range []struct {
		body     []byte
		sentence string
	}{
		{notice("business_capability_update", `{"max_daily_conversations_per_business":"TIER_2K"}`, 0), "מגבלת השיחות היומית עודכנה ל-2000."},
		{notice("message_template_status_update", `{"event":"REJECTED","message_template_id":1489207733615520017,"message_template_name":"order_packed"}`, 0), "התבנית order_packed נדחתה."},
		{failedStatus("wamid.F1", ""), "שליחת הודעה אל 447700900361 נכשלה (קוד 8): חלפו 24 שעות ונדרשת תבנית."},
	} {
		c.ingest(t, step.body)
		if diff := cmp.Diff(alert(step.sentence), graph.wait(t, sent, sent+2)); diff != "" {
			t.Errorf("alerts (-want +got):\n%s", diff)
		}
		sent += 2
	}

	// One phone is left, so that the answers reach the tries they are meant for.
	c.v2(t, "setWebhook", key, phone, `,"systemPhoneAlert":"972541112233"`)
	events := len(c.list(t, "/api/v1/events"))
	graph.answerWith(
		`{"error":{"message":"(#130429) Rate limit hit","code":130429}}`,
		`{"error":{"message":"(#130429) Rate limit hit","code":130429}}`,
	)
	c.ingest(t, notice("business_capability_update", `{"max_daily_conversations_per_business":10000}`, 1))
	graph.wait(t, sent, sent+3)
	sent += 3
	c.settled(t, first, "delivered", 3, "ok")
	graph.answerWith(`{"error":{"message":"(#131026) Message undeliverable","code":131026}}`)
	c.ingest(t, notice("business_capability_update", `{"max_daily_conversations_per_business":100000}`, 2))
	graph.wait(t, sent, sent+1)
	sent++
	c.settled(t, first, "exhausted", 1, "status")

	// The alert's own failure, told by Meta, is no reason for another alert; the
	// next notice is what comes next.
	alertMark := graph.alerts()[0]["biz_opaque_callback_data"].(string)
	c.ingest(t, failedStatus("wamid.A", fmt.Sprintf(`,"biz_opaque_callback_data":%q`, alertMark)))
	c.ingest(t, notice("business_capability_update", `{"max_daily_conversations_per_business":-1}`, 3))
	if diff := cmp.Diff(alert("מגבלת השיחות היומית הוסרה.")[:1], graph.wait(t, sent, sent+1)); diff != "" {
		t.Errorf("after an alert failed (-want +got):\n%s", diff)
	}
	if n := len(c.list(t, "/api/v1/events")); n != events+4 {
		t.Errorf("%d events are stored, want the %d that came in", n, events+4)
	}
	if strings.Contains(g.Log.String(), "planted-alert-token") {
		t.Error("the log shows the token")
	}
}

// settled waits until the newest delivery to an endpoint has ended so.
func (c customer) settled(t *testing.T, endpoint, state string, attempts float64, reason string) {
	t.Helper()
	var newest map[string]any
	apptest.Within(t, 15*time.Second, func() bool {
		rows := c.list(t, "/api/v1/deliveries?endpoint_id="+endpoint)
		newest = rows[0]
		return newest["state"] == state && newest["attempts"] == attempts
	})
	if newest["reason"] != reason {
		t.Errorf("the delivery ended as %v", newest)
	}
}
