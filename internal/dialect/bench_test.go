package dialect_test

import (
	"strings"
	"testing"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/dialect/connectly"
	"github.com/waypost-gateway/waypost/internal/dialect/d360"
	"github.com/waypost-gateway/waypost/internal/dialect/dialecttest"
	"github.com/waypost-gateway/waypost/internal/dialect/digital99"
	"github.com/waypost-gateway/waypost/internal/dialect/metacloud"
	"github.com/waypost-gateway/waypost/internal/dialect/standard"
	"github.com/waypost-gateway/waypost/internal/dialect/whizard"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// BenchmarkEncode writes and signs the hook of a text message of 1.5 KB in each
// dialect.
func BenchmarkEncode(b *testing.B) {
	event := &waypost.Event{
		ID: 1 << 50, Type: "whatsapp.message.text", TenantID: 1, NumberID: 1, State: waypost.EventRouted, Form: waypost.FormCloud,
		PhoneNumberID: "208417730961245", WABAID: "301956482217730",
		Body: []byte(`{"object":"whatsapp_business_account","entry":[{"id":"301956482217730","changes":[{"value":{` +
			`"messaging_product":"whatsapp","metadata":{"display_phone_number":"15550142077","phone_number_id":"208417730961245"},` +
			`"contacts":[{"profile":{"name":"Maren Holt"},"wa_id":"447700900361"}],` +
			`"messages":[{"from":"447700900361","id":"wamid.HBgLMTU1NTAxNDIwNzcVAgASGBQ","timestamp":"1767571200","type":"text",` +
			`"text":{"body":"` + strings.Repeat("The parcel is at the door. ", 41) + `"}}]},"field":"messages"}]}]}`),
	}
	for _, d := range []dialect.Dialect{
		metacloud.New(), d360.New(), whizard.New(), digital99.New(digital99.Alerts{}), connectly.New(), standard.New(),
	} {
		b.Run(d.Info().ID, func(b *testing.B) {
			secret := waypost.Secret("whsec_d2F5cG9zdC1zdGFuZGFyZC10ZXN0LXNlY3JldA==")
			item := dialect.Item{
				Event: event, Number: &waypost.Number{ID: 1, Phone: "15550142077"}, TenantSecret: secret,
				Endpoint: &waypost.Endpoint{ID: 1, TenantID: 1, URL: "https://hooks.acme.test/in", Secrets: []waypost.SigningSecret{{Value: secret}}},
				Now:      dialecttest.Now, Attempt: 1,
			}
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				hook, err := d.Encode(item)
				if err != nil {
					b.Fatal(err)
				}
				size = len(hook.Body)
			}
			b.ReportMetric(float64(size), "bytes")
		})
	}
}
