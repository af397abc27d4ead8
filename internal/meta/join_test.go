package meta

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestJoin(t *testing.T) {
	t.Parallel()
	entry := func(id, changes string) []byte {
		return []byte(`{"object":"whatsapp_business_account","entry":[{"id":"` + id + `","changes":[` + changes + `]}]}`)
	}
	got, err := Join(
		entry("1", `{"value":{"metadata":{"phone_number_id":"10"},"contacts":[{"wa_id":"5"}],"messages":[{"id":"a"}]},"field":"messages"}`),
		entry("1", `{"value":{"metadata":{"phone_number_id":"11"},"messages":[{"id":"b"}]},"field":"messages"}`),
		entry("2", `{"value":{"x":1},"field":"flows"}`),
		entry("1", `{"value":{"metadata":{"phone_number_id":"10"},"contacts":[{"wa_id":"5"},{"wa_id":"6"}],"statuses":[{"id":"c"}]},"field":"messages"}`),
		entry("2", `{"value":{"x":1},"field":"flows"}`),
	)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"object":"whatsapp_business_account","entry":[` +
		`{"id":"1","changes":[` +
		`{"field":"messages","value":{"metadata":{"phone_number_id":"10"},"contacts":[{"wa_id":"5"},{"wa_id":"6"}],"messages":[{"id":"a"}],"statuses":[{"id":"c"}]}},` +
		`{"field":"messages","value":{"metadata":{"phone_number_id":"11"},"messages":[{"id":"b"}]}}]},` +
		`{"id":"2","changes":[{"value":{"x":1},"field":"flows"},{"value":{"x":1},"field":"flows"}]}]}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error("-want +got\n" + diff)
	}
}

func TestJoinRefuses(t *testing.T) {
	t.Parallel()
	for name, bodies := range map[string][]string{
		"nothing":         {},
		"no JSON":         {`{`},
		"no entry":        {`{"object":"x"}`},
		"another object":  {`{"object":"x","entry":[]}`, `{"object":"y","entry":[]}`},
		"not an envelope": {`[]`},
	} {
		var items [][]byte
		for _, body := range bodies {
			items = append(items, []byte(body))
		}
		if got, err := Join(items...); err == nil {
			t.Errorf("%s: %s", name, got)
		}
	}
}
