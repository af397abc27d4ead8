package dialecttest

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func eventOf(eventType string, form waypost.Form, body string) *waypost.Event {
	if form == "" {
		form = waypost.FormCloud
	}
	id := Now.UnixMilli() - 1704067200000 // ids count from 2024
	return &waypost.Event{
		ID: waypost.EventID(id<<22 | 1), Type: eventType, State: waypost.EventRouted, TenantID: 1, NumberID: 1, SourceID: 1,
		PhoneNumberID: "1060000000000001", WABAID: "1740000000000001",
		Form: form, Body: []byte(body), OccurredAt: Now,
	}
}

const (
	head = `{"object":"whatsapp_business_account","entry":[{"id":"1740000000000001","changes":[{"value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":"34910000001","phone_number_id":"1060000000000001"},`
	tail = `},"field":"messages"}]}]}`
)

// samples are events of every form. Vectors hold the rest.
var samples = []struct {
	name, eventType string
	form            waypost.Form
	body            string
}{
	{"text", "whatsapp.message.text", waypost.FormCloud, head +
		`"contacts":[{"profile":{"name":"Maren Holt"},"wa_id":"447700900361"}],"messages":[{"from":"447700900361","id":"wamid.A1","timestamp":"1767571200","type":"text","text":{"body":"Gr\u00fc\u00dfe <a&b>"}}]` + tail},
	{"image", "whatsapp.message.image", waypost.FormCloud, head +
		`"contacts":[{"profile":{"name":"Maren Holt"},"wa_id":"447700900361"}],"messages":[{"from":"447700900361","id":"wamid.A2","timestamp":"1767571200","type":"image","image":{"caption":"The corner","mime_type":"image/jpeg","sha256":"spgUz1eS5oTNddan/OemehGIfjEvh8oqwkltgfNl/3I=","id":"1201866346946993"}}]` + tail},
	{"hidden number", "whatsapp.message.text", waypost.FormCloud, head +
		`"contacts":[{"profile":{"name":"Maren Holt"},"user_id":"GB.70318264559012847736"}],"messages":[{"id":"wamid.A3","timestamp":"1767571200","type":"text","text":{"body":"hi"},"from_user_id":"GB.70318264559012847736"}]` + tail},
	{"message of a type nobody knows yet", "whatsapp.message.hologram", waypost.FormCloud, head +
		`"contacts":[{"profile":{"name":"Maren Holt"},"wa_id":"447700900361"}],"messages":[{"from":"447700900361","id":"wamid.A4","timestamp":"1767571200","type":"hologram","hologram":{"depth":3}}]` + tail},
	{"read", "whatsapp.status.read", waypost.FormCloud, head +
		`"statuses":[{"id":"wamid.B1","status":"read","timestamp":"1767571260","recipient_id":"447700900361"}]` + tail},
	{"failed", "whatsapp.status.failed", waypost.FormCloud, head +
		`"statuses":[{"id":"wamid.B2","status":"failed","timestamp":"1767571200","recipient_id":"447700900361","errors":[{"code":131047,"title":"Re-engagement message","message":"Re-engagement message","error_data":{"details":"More than 24 hours have passed."}}]}]` + tail},
	{"error", "whatsapp.error", waypost.FormCloud, head +
		`"errors":[{"code":130429,"title":"Rate limit hit","message":"Rate limit hit","error_data":{"details":"Too many messages"}}]` + tail},
	{
		"template", "whatsapp.message_template_status_update", waypost.FormCloud,
		`{"object":"whatsapp_business_account","entry":[{"id":"1740000000000001","time":1767571200,"changes":[{"value":{"event":"APPROVED","message_template_id":1489207733615520017,"message_template_name":"order_packed","message_template_language":"en_GB","reason":"NONE"},"field":"message_template_status_update"}]}]}`,
	},
	{
		"published", "platform.whatsapp", waypost.FormData,
		`{"whatsapp":"34910000001","whatsapp_reference":"cust-77","whatsapp_extra_info":3,"daily_limit":1000}`,
	},
	{"published, of the publisher's own type", "acme.shelf.restocked", waypost.FormData, `{"sku":"oak-1","left":9007199254740993}`},
	{"published, not an object", "acme.tick", waypost.FormData, `7`},
	{"not understood", waypost.TypeUnparsed, waypost.FormRaw, `{"object":"page"`},
}

// items are the item a sample makes, with and without the gateway knowing the
// number and the tenant having a secret.
func items(d dialect.Dialect, sample int, options map[string]any) []dialect.Item {
	s := samples[sample]
	endpoint := waypost.Endpoint{
		ID: 1, TenantID: 1, NumberID: 1, Dialect: d.Info().ID, URL: "https://hooks.acme.test/wa?t=42",
		Headers: map[string]waypost.Secret{"X-Acme": PlantedText}, Options: maps.Clone(options), State: waypost.EndpointActive, CreatedAt: Now,
	}
	if prefix := d.Info().SecretPrefix; prefix != nil {
		endpoint.Secrets = []waypost.SigningSecret{{Value: waypost.Secret(*prefix + "cGxhbnRlZC1lbmRwb2ludC1zaWduaW5nLXNlY3JldCE=")}}
	}
	known := dialect.Item{
		Event: eventOf(s.eventType, s.form, s.body), Endpoint: &endpoint, Number: numberByID(1),
		TenantSecret: TenantSign, Now: Now, Attempt: 1,
	}
	known.MediaURL = func(mediaID string) string { return "https://waypost.test/media/" + mediaID }
	unknown := known
	unknown.MediaURL = nil
	unknown.Event, unknown.Number, unknown.TenantSecret = eventOf(s.eventType, s.form, s.body), nil, ""
	unknown.Event.NumberID, unknown.Event.PhoneNumberID = 0, ""
	return []dialect.Item{known, unknown}
}

func testEvents(t *testing.T, d dialect.Dialect) {
	t.Helper()
	wanted := 0
	for sample := range samples {
		t.Run(samples[sample].name, func(t *testing.T) {
			for _, options := range optionSets(d.Info()) {
				same := items(d, sample, options)
				for i, item := range items(d, sample, options) {
					if testItem(t, d, item, same[i]) {
						wanted++
					}
				}
			}
		})
	}
	if wanted == 0 {
		t.Error("no sample event is wanted")
	}
}

// testItem encodes one item and reports whether the endpoint is owed it; same
// is an equal item that shares no memory with it.
func testItem(t *testing.T, d dialect.Dialect, item, same dialect.Item) (wanted bool) {
	t.Helper()
	wanted = waypost.MatchType(d.Info().Events, item.Event.Type)
	if router, ok := d.(dialect.Router); ok {
		endpoints := []*waypost.Endpoint{item.Endpoint}
		targets := router.Route(item.Event, endpoints)
		if !reflect.DeepEqual(targets, router.Route(item.Event, endpoints)) {
			t.Error("Route differs from call to call")
		}
		wanted = wanted && len(targets) > 0
	}
	first, err := d.Encode(item)
	second, errAgain := d.Encode(item)
	if !reflect.DeepEqual(first, second) || (err == nil) != (errAgain == nil) {
		t.Errorf("options %v: Encode differs from call to call", item.Endpoint.Options)
	}
	item.MediaURL, same.MediaURL = nil, nil // functions can't be compared
	if !reflect.DeepEqual(item, same) {
		t.Errorf("options %v: Encode or Route changed the item", item.Endpoint.Options)
	}
	if errors.Is(err, dialect.ErrNotWanted) {
		return false
	}
	if err != nil {
		if wanted {
			t.Errorf("options %v: %v", item.Endpoint.Options, err)
		}
		return false
	}
	testHook(t, first)
	return wanted
}

func testHook(t *testing.T, hook dialect.Hook) {
	t.Helper()
	contentType := hook.Header.Get("Content-Type")
	if (contentType == "" || strings.HasPrefix(contentType, "application/json")) && !json.Valid(hook.Body) {
		t.Errorf("the body is not JSON: %s", hook.Body)
	}
	for _, name := range []string{"Host", "Content-Length", "Transfer-Encoding", "Connection"} {
		if hook.Header.Get(name) != "" {
			t.Errorf("the hook sets %s", name)
		}
	}
	for name, values := range hook.Header {
		if strings.ContainsAny(strings.Join(values, ""), "\r\n\x00") {
			t.Errorf("header %s has control characters", name)
		}
	}
}
