package meta

import (
	"bytes"
	"fmt"
	"os"
	"testing"
)

func BenchmarkSplitOne(b *testing.B) {
	for _, name := range []string{"cloud-msg-text", "cloud-status-delivered-bsuid", "cloud-msg-contacts", "cloud-field-account_alerts"} {
		b.Run(name, func(b *testing.B) {
			body, err := os.ReadFile("testdata/samples/" + name + ".json")
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				items, err := Split(body)
				if err != nil {
					b.Fatal(err)
				}
				_ = items[0].DedupeKey(1)
			}
		})
	}
}

// BenchmarkSplitBatch shows that the time grows with the size and no faster.
func BenchmarkSplitBatch(b *testing.B) {
	for _, count := range []int{10, 100, 1000, 10_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			body := batch(count)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				items, err := Split(body)
				if err != nil || len(items) != count {
					b.Fatal(len(items), err)
				}
			}
		})
	}
}

func BenchmarkOnPrem(b *testing.B) {
	body, err := os.ReadFile("testdata/samples/cloud-msg-audio-voice.json")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ToOnPrem(body); err != nil {
			b.Fatal(err)
		}
	}
}

// batch is one value with as many text messages, each from someone else.
func batch(count int) []byte {
	var body, contacts, messages bytes.Buffer
	for i := range count {
		if i > 0 {
			contacts.WriteByte(',')
			messages.WriteByte(',')
		}
		fmt.Fprintf(&contacts, `{"profile":{"name":"Customer %d"},"wa_id":"4477%08d"}`, i, i)
		fmt.Fprintf(&messages, `{"from":"4477%08d","id":"wamid.HBgMNDQ3NzAwOTAwMzYxFQIAEhgU%026d","timestamp":"1767571200","type":"text","text":{"body":"%s"}}`, i, i, bytes.Repeat([]byte("x"), 200))
	}
	fmt.Fprintf(&body, `{"object":"whatsapp_business_account","entry":[{"id":"301956482217730","changes":[{"value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":"15550142077","phone_number_id":"208417730961245"},"contacts":[%s],"messages":[%s]},"field":"messages"}]}]}`, &contacts, &messages)
	return body.Bytes()
}

// BenchmarkSplitText is a request with one message of 1.5 KB.
func BenchmarkSplitText(b *testing.B) {
	body := fmt.Appendf(nil, `{"object":"whatsapp_business_account","entry":[{"id":"301956482217730","changes":[{"value":{`+
		`"messaging_product":"whatsapp","metadata":{"display_phone_number":"15550142077","phone_number_id":"208417730961245"},`+
		`"contacts":[{"profile":{"name":"Maren Holt"},"wa_id":"447700900361"}],`+
		`"messages":[{"from":"447700900361","id":"wamid.HBgLMTU1NTAxNDIwNzcVAgASGBQ","timestamp":"1767571200","type":"text",`+
		`"text":{"body":"%s"}}]},"field":"messages"}]}]}`, bytes.Repeat([]byte("The parcel is at the door. "), 41))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		items, err := Split(body)
		if err != nil {
			b.Fatal(err)
		}
		_ = items[0].DedupeKey(1)
	}
}
