package d360

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/dialect/dialecttest"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	dialecttest.Run(t, New(), "testdata")
}

func FuzzSettings(f *testing.F) { dialecttest.Fuzz(f, New(), "testdata") }

func TestRoute(t *testing.T) {
	t.Parallel()
	text, template := "whatsapp.message.text", "whatsapp.message_template_status_update"
	number := endpoint("number", "number", "https://n.test", nil)
	noURL := endpoint("number", "number", "", nil)
	onPrem := endpoint("number", "number", "https://n.test", map[string]any{"payload": "onprem"})
	multi := endpoint("number", "number", "https://n.test", map[string]any{"multi_webhook": true})
	multiOff := endpoint("number", "number", "https://n.test", map[string]any{"multi_webhook": false})
	multiNoURL := endpoint("number", "number", "", map[string]any{"multi_webhook": true})
	multiOnPrem := endpoint("number", "number", "https://n.test", map[string]any{"multi_webhook": true, "payload": "onprem"})
	waba := endpoint("waba", "waba", "https://w.test", nil)
	wabaNoURL := endpoint("waba", "waba", "", nil)
	crm := endpoint("crm", "multi:crm", "https://c.test", nil)
	crmOnPrem := endpoint("crm", "multi:crm", "https://c.test", map[string]any{"payload": "onprem"})
	crmNoURL := endpoint("crm", "multi:crm", "", nil)
	own := endpoint("own", "", "https://o.test", nil)
	ownOnPrem := endpoint("own", "", "https://o.test", map[string]any{"payload": "onprem"})
	ownNoURL := endpoint("own", "", "", nil)

	tests := map[string]struct {
		event     string
		endpoints []*waypost.Endpoint
		want      []string // endpoint, or endpoint<endpoint it comes after
	}{
		"nothing is set":                                    {text, nil, nil},
		"the number's webhook":                              {text, list(number), []string{"number"}},
		"the number's webhook wins over the WABA's":         {text, list(waba, number), []string{"number"}},
		"the WABA's serves a number without":                {text, list(waba), []string{"waba"}},
		"the WABA's serves a number whose URL was cleared":  {text, list(noURL, waba), []string{"waba"}},
		"no URL anywhere":                                   {text, list(noURL, wabaNoURL), nil},
		"a clone comes after the number's webhook":          {text, list(crm, multi), []string{"number", "crm<number"}},
		"a clone comes after the WABA's webhook":            {text, list(multiNoURL, waba, crm), []string{"waba", "crm<waba"}},
		"a clone without any main webhook is on its own":    {text, list(multiNoURL, crm), []string{"crm"}},
		"clones are off by default":                         {text, list(number, crm), []string{"number"}},
		"clones are switched off":                           {text, list(multiOff, crm), []string{"number"}},
		"clones of a number that only has them":             {text, list(crm), nil},
		"a clone without URL":                               {text, list(multi, crmNoURL), []string{"number"}},
		"on-premises takes messages":                        {text, list(onPrem), []string{"number"}},
		"on-premises takes statuses":                        {"whatsapp.status.read", list(onPrem), []string{"number"}},
		"on-premises takes errors":                          {"whatsapp.error", list(onPrem), []string{"number"}},
		"on-premises takes no template notices":             {template, list(onPrem), nil},
		"cloud takes template notices":                      {template, list(number), []string{"number"}},
		"what the number's webhook can't take is lost":      {template, list(onPrem, waba), nil},
		"what the main webhook can't take is not cloned":    {template, list(multiOnPrem, crm), nil},
		"a clone that can't take it is left out":            {template, list(multi, crmOnPrem), []string{"number"}},
		"an endpoint of the management API is on its own":   {text, list(own, number, waba), []string{"own", "number"}},
		"an endpoint of the management API, alone":          {text, list(own), []string{"own"}},
		"an endpoint of the management API in another form": {template, list(ownOnPrem, number), []string{"number"}},
		"an endpoint of the management API without URL":     {text, list(ownNoURL), nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, target := range New().Route(&waypost.Event{Type: test.event}, test.endpoints) {
				text := target.Endpoint.StateReason
				if target.After != nil {
					text += "<" + target.After.StateReason
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// endpoint makes one that the test can tell by its StateReason.
func endpoint(name, slot, url string, options map[string]any) *waypost.Endpoint {
	return &waypost.Endpoint{StateReason: name, Slot: slot, URL: url, Options: options}
}

func list(endpoints ...*waypost.Endpoint) []*waypost.Endpoint { return endpoints }

func TestPolicy(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	for payload, want := range map[string]struct{ first, ceiling, window time.Duration }{
		PayloadCloud:  {5 * time.Second, time.Hour, 7 * day},
		PayloadOnPrem: {3 * time.Second, 15 * time.Minute, day},
	} {
		policy := New().Policy(&waypost.Endpoint{Options: map[string]any{OptionPayload: payload}})
		if policy.Success != waypost.Success200 || policy.Timeout != 5*time.Second {
			t.Errorf("%s: received when %q within %v", payload, policy.Success, policy.Timeout)
		}
		if first, last := policy.Schedule[0], policy.Schedule[len(policy.Schedule)-1]; first != want.first || last != want.ceiling {
			t.Errorf("%s: waits from %v to %v, want %v to %v", payload, first, last, want.first, want.ceiling)
		}
		if window := policy.Window(); window > want.window || window < want.window-want.ceiling {
			t.Errorf("%s: retries for %v, want just under %v", payload, window, want.window)
		}
	}
}

// TestMultiPutBack: a list that is refused half way leaves nothing behind, even
// where the gateway fails rather than refuses.
func TestMultiPutBack(t *testing.T) {
	t.Parallel()
	admin := dialecttest.NewAdmin(New().Info())
	account, err := admin.Authenticate(t.Context(), dialect.Credential{Dialect: "360dialog", Key: dialecttest.Key})
	if err != nil {
		t.Fatal(err)
	}
	m, err := caller{Account: account, number: account.Number()}.multi(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = m.put(t.Context(), []receiver{{name: "a", url: "https://a.test"}, {name: "b", url: "https://b.test:1"}})
	if waypost.KindOf(err) != waypost.KindInvalid {
		t.Errorf("got %v, want a refusal of b", err)
	}
	if left := admin.Endpoints(); len(left) != 0 {
		t.Errorf("left behind: %+v", left)
	}
}

func TestKeyOfATenantIsRefused(t *testing.T) {
	t.Parallel()
	info := New().Info()
	info.Keys = &dialect.KeySpec{} // an Admin whose keys are for whole tenants
	handler := New().Handler(dialecttest.NewAdmin(info))
	request := httptest.NewRequest(http.MethodGet, "/v1/configs/webhook", nil)
	request.Header.Set("D360-API-KEY", dialecttest.Key)
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	if answer.Code != http.StatusForbidden {
		t.Errorf("answered with status %d: %s", answer.Code, answer.Body)
	}
}

func TestWABAIDIsANumberOnlyIfItIsOne(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"1740000000000001":     `1740000000000001`,
		"9007199254740993":     `9007199254740993`,
		"0174":                 `"0174"`,
		"waba-7":               `"waba-7"`,
		"1e3":                  `"1e3"`,
		"99999999999999999999": `"99999999999999999999"`,
	} {
		got, err := json.Marshal(jsonNumber(id))
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v, want %s", id, got, err, want)
		}
	}
}
