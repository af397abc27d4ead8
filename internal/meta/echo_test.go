package meta

import (
	"bytes"
	"strings"
	"testing"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

func TestEchoesAreItemsOfTheirOwn(t *testing.T) {
	t.Parallel()
	for _, field := range []string{"smb_message_echoes", "message_echoes"} {
		body := []byte(`{"object":"whatsapp_business_account","entry":[{"id":"301956482217730","changes":[{"value":{"messaging_product":"whatsapp",` +
			`"metadata":{"display_phone_number":"15550142077","phone_number_id":"208417730961245"},"message_echoes":[` +
			`{"from":"15550142077","to":"447700900361","id":"wamid.ONE","timestamp":"1767571200","type":"text","text":{"body":"one"}},` +
			`{"from":"15550142077","to":"447700900415","id":"wamid.TWO","timestamp":"1767571201","type":"text","text":{"body":"two \u00e4"}}]},"field":"` + field + `"}]}]}`)
		items, err := Split(body)
		if err != nil || len(items) != 2 {
			t.Fatalf("%s: %d items, %v; want 2", field, len(items), err)
		}
		for i, want := range []struct{ contact, id, other string }{{"447700900361", "wamid.ONE", "wamid.TWO"}, {"447700900415", "wamid.TWO", "wamid.ONE"}} {
			it := &items[i]
			if it.Type != waypost.TypeFieldPrefix+field || it.Contact != want.contact || it.PhoneNumberID != "208417730961245" || it.OccurredAt.Unix() != 1767571200+int64(i) {
				t.Errorf("%s: item %d is %+v", field, i, it)
			}
			if !strings.Contains(string(it.Body), want.id) || strings.Contains(string(it.Body), want.other) {
				t.Errorf("%s: item %d holds %s", field, i, it.Body)
			}
		}
		if bytes.Equal(items[0].DedupeKey(1), items[1].DedupeKey(1)) {
			t.Errorf("%s: two echoes share a dedupe key", field)
		}
		joined, err := Join(items[1].Body, items[0].Body)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Split(joined); err != nil || len(again) != 2 || !bytes.Equal(again[0].DedupeKey(1), items[1].DedupeKey(1)) || !bytes.Equal(again[1].DedupeKey(1), items[0].DedupeKey(1)) {
			t.Errorf("%s: joined and split again it is %s, %v", field, joined, err)
		}
	}
}
