package meta

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

func TestSplitSamplesLosesNothing(t *testing.T) {
	t.Parallel()
	names, bodies := samples(t, "")
	for _, name := range names {
		items, err := Split(bodies[name])
		if err != nil {
			continue // which ones these are stands in testdata/items.txt
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tellAlso(t, bodies[name], items)
			for i := range items {
				standsAlone(t, &items[i])
			}
		})
	}
}

func TestSplitLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		body := generator{t}.request()
		before := bytes.Clone(body)
		items, err := Split(body)
		if !bytes.Equal(body, before) {
			t.Fatal("the request was written to")
		}
		if err != nil {
			return
		}
		if len(items) == 1 && &items[0].Body[0] != &body[0] {
			t.Fatal("the only item does not have the request's own bytes")
		}
		tellAlso(t, body, items)
		for i := range items {
			if items[i].Type != waypost.TypeUnparsed {
				standsAlone(t, &items[i])
			}
		}
	})
}

// envelope is a request with one change of the field messages.
func envelope(value string) []byte {
	return []byte(`{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"value":` + value + `,"field":"messages"}]}]}`)
}

func TestSplitKeepsBytes(t *testing.T) {
	t.Parallel()
	body := []byte(`{"object" : "whatsapp_business_account", "x":{ "y" : 1.50 }, "entry":[
		{"time":1767571200,"changes":[{"note":null,"value":{"z":[ 12345678901234567890.10 ],"statuses":[{"id":"s1","status":"re\u0061d"}],
		"messages":[ {"id":"m1","text":{"body":"<&> \/ \ud83e\uddf5 é"}}, {"id":"m2"}]},"field":"messages"}],"id":"7"}]}`)
	items, err := Split(body)
	if err != nil {
		t.Fatal(err)
	}
	const head = `{"object":"whatsapp_business_account","x":{ "y" : 1.50 },"entry":[{"time":1767571200,"changes":[{"note":null,"value":{"z":[ 12345678901234567890.10 ],`
	const tail = `]},"field":"messages"}],"id":"7"}]}`
	var got []string
	for _, it := range items {
		got = append(got, it.Type+" "+string(it.Body))
	}
	want := []string{
		`whatsapp.message.unknown ` + head + `"messages":[{"id":"m1","text":{"body":"<&> \/ \ud83e\uddf5 é"}}` + tail,
		`whatsapp.message.unknown ` + head + `"messages":[{"id":"m2"}` + tail,
		`whatsapp.status.read ` + head + `"statuses":[{"id":"s1","status":"re\u0061d"}` + tail,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("-want +got\n" + diff)
	}
}

func TestSplitSharesContacts(t *testing.T) {
	t.Parallel()
	const (
		ann   = `{"wa_id":"1"}`
		bob   = `{"user_id":"GB.2"}`
		ann2  = `{"wa_id":"1","profile":{"name":"A"}}`
		cid   = `{"wa_id":"1","user_id":"GB.1"}`
		who   = `{"profile":{"name":"?"}}`
		fromA = `{"from":"1","id":"a"}`
		fromB = `{"from_user_id":"GB.2","id":"b"}`
		fromC = `{"from":"3","id":"c"}`
		toA   = `{"recipient_id":"+1","id":"s"}`
	)
	for name, test := range map[string]struct {
		value string
		want  []string
	}{
		"each its own": {
			`{"contacts":[` + ann + `,` + bob + `],"messages":[` + fromB + `,` + fromA + `]}`,
			[]string{`"contacts":[` + bob + `]`, `"contacts":[` + ann + `]`},
		},
		"one for several, written once": {
			`{"contacts":[` + ann + `,` + ann + `],"messages":[` + fromA + `,` + fromA + `],"statuses":[` + toA + `]}`,
			[]string{`"contacts":[` + ann + `]`, `"contacts":[` + ann + `]`, `"contacts":[` + ann + `]`},
		},
		"two of the same person": {
			`{"contacts":[` + ann2 + `,` + bob + `,` + ann + `],"messages":[` + fromA + `,` + fromB + `]}`,
			[]string{`"contacts":[` + ann2 + `,` + ann + `]`, `"contacts":[` + bob + `]`},
		},
		"one that is nobody's goes to who has none": {
			`{"contacts":[` + ann + `,` + who + `],"messages":[` + fromA + `,` + fromC + `]}`,
			[]string{`"contacts":[` + ann + `]`, `"contacts":[` + who + `]`},
		},
		"one that is nobody's goes to the first when all have one": {
			`{"contacts":[` + who + `,` + ann + `],"messages":[` + fromA + `,` + fromA + `]}`,
			[]string{`"contacts":[` + who + `,` + ann + `]`, `"contacts":[` + ann + `]`},
		},
		"one that is named twice": {
			`{"contacts":[` + cid + `],"messages":[{"from":"1","from_user_id":"GB.1","id":"a"},` + fromB + `]}`,
			[]string{`"contacts":[` + cid + `]`, ``},
		},
		"somebody else's is not given": {
			`{"contacts":[` + ann + `],"messages":[` + fromA + `,` + fromC + `]}`,
			[]string{`"contacts":[` + ann + `]`, ``},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			items, err := Split(envelope(test.value))
			if err != nil {
				t.Fatal(err)
			}
			if len(items) != len(test.want) {
				t.Fatalf("%d items, want %d", len(items), len(test.want))
			}
			for i, it := range items {
				if want := test.want[i]; !strings.Contains(string(it.Body), want) || want == "" && strings.Contains(string(it.Body), "contacts") {
					t.Errorf("item %d is %s, want %s in it", i, it.Body, want)
				}
			}
		})
	}
}

// types are the types of the items, or the error.
func types(body []byte) []string {
	items, err := Split(body)
	if err != nil {
		return []string{err.Error()}
	}
	var types []string
	for _, it := range items {
		types = append(types, it.Type)
	}
	return types
}

func TestSplitTypes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		body string
		want []string
	}{
		"type in capitals":         {`{"messages":[{"id":"1","type":"Poll_Vote-2"}]}`, []string{"whatsapp.message.poll_vote-2"}},
		"type with a dot":          {`{"messages":[{"id":"1","type":"a.b"}]}`, []string{"whatsapp.message.unknown"}},
		"type with a glob":         {`{"messages":[{"id":"1","type":"*"}]}`, []string{"whatsapp.message.unknown"}},
		"type too long":            {`{"messages":[{"id":"1","type":"` + strings.Repeat("a", 65) + `"}]}`, []string{"whatsapp.message.unknown"}},
		"type is no text":          {`{"messages":[{"id":"1","type":{}}]}`, []string{"whatsapp.message.unknown"}},
		"type escaped":             {`{"messages":[{"id":"1","t\u0079pe":"te\u0078t"}]}`, []string{"whatsapp.message.text"}},
		"last of two types":        {`{"messages":[{"id":"1","type":"text","type":"image"}]}`, []string{"whatsapp.message.image"}},
		"status without status":    {`{"statuses":[{"id":"1"}]}`, []string{"whatsapp.status.unknown"}},
		"empty arrays":             {`{"messages":[],"statuses":null,"errors":[{"code":1}]}`, []string{"whatsapp.error"}},
		"nothing known":            {`{"user_actions":[{}]}`, []string{"whatsapp.messages"}},
		"errors of their own":      {`{"messages":[{"id":"1","type":"text","text":{}}],"errors":[{"code":1}]}`, []string{"whatsapp.message.text", "whatsapp.error"}},
		"errors of the message":    {`{"messages":[{"id":"1","type":"text"}],"errors":[{"code":1}]}`, []string{"whatsapp.message.text"}},
		"a message with errors":    {`{"messages":[{"id":"1","type":"text","errors":[]}],"errors":[{"code":1}]}`, []string{"whatsapp.message.text", "whatsapp.error"}},
		"errors of which message?": {`{"messages":[{"id":"1","type":"text"},{"id":"2","type":"text"}],"errors":[{"code":1}]}`, []string{"whatsapp.message.text", "whatsapp.message.text", "whatsapp.error"}},
		"an odd element":           {`{"messages":[{"id":"1","type":"text"},null,7]}`, []string{"whatsapp.message.text", "unparsed", "unparsed"}},
		"only odd elements":        {`{"messages":[null,7]}`, []string{"read webhook: no part of it is understood"}},
		"messages is no array":     {`{"messages":{"id":"1"}}`, []string{"read webhook: no part of it is understood"}},
		"messages twice":           {`{"messages":[{"id":"1"}],"messages":[{"id":"2"}]}`, []string{"read webhook: no part of it is understood"}},
		"contacts twice":           {`{"messages":[{"id":"1"}],"contacts":[],"contacts":[]}`, []string{"read webhook: no part of it is understood"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, types(envelope(test.body))); diff != "" {
				t.Error("-want +got\n" + diff)
			}
		})
	}
}

var deep = strings.Repeat("[", 300) + strings.Repeat("]", 300)

func TestSplitOddParts(t *testing.T) {
	t.Parallel()
	const good = `{"field":"messages","value":{"messages":[{"id":"1","type":"text"}]}}`
	const head, tail = `{"object":"whatsapp_business_account","entry":[`, `]}`
	for name, odd := range map[string]string{
		"no field":            `{"id":"1","changes":[{"value":{}}]}`,
		"no value":            `{"id":"1","changes":[{"field":"flows"}]}`,
		"null value":          `{"id":"1","changes":[{"field":"flows","value":null}]}`,
		"field is no text":    `{"id":"1","changes":[{"field":1,"value":{}}]}`,
		"two fields":          `{"id":"1","changes":[{"field":"messages","field":"flows","value":{}}]}`,
		"two values":          `{"id":"1","changes":[{"field":"messages","value":{},"value":{}}]}`,
		"encrypted messages":  `{"id":"1","changes":[{"field":"messages","value":"eyJhbGciOiJSU0EtT0FFUCJ9.x.y.z.w"}]}`,
		"change is no object": `{"id":"1","changes":["x"]}`,
		"no changes":          `{"id":"1","time":1,"changed_fields":["messages"]}`,
		"empty changes":       `{"id":"1","changes":[]}`,
		"changes no array":    `{"id":"1","changes":{}}`,
		"changes twice":       `{"id":"1","changes":[` + good + `],"changes":[` + good + `]}`,
		"entry is no object":  `17`,
		"a deep message":      `{"id":"1","changes":[{"field":"messages","value":{"messages":[{"id":"9","x":` + deep + `}]}}]}`,
		"a deep value":        `{"id":"1","changes":[{"field":"messages","value":{"x":` + deep + `,"messages":[{"id":"8"},{"id":"9"}]}}]}`,
		"a deep contact":      `{"id":"1","changes":[{"field":"messages","value":{"contacts":[` + deep + `],"messages":[{"id":"8"},{"id":"9"}]}}]}`,
		"a deep other change": `{"id":"1","changes":[{"field":"flows","value":{"x":` + deep + `}}]}`,
		"a deep change":       `{"id":"1","changes":[{"x":` + deep + `,"field":"flows","value":{}}]}`,
		"a deep entry":        `{"id":"1","x":` + deep + `,"changes":[` + good + `,` + good + `]}`,
		"a deep no-entry":     deep,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, want := types([]byte(head+odd+tail)), []string{"read webhook: no part of it is understood"}; !slices.Equal(got, want) {
				t.Errorf("alone: %v, want %v", got, want)
			}
			items, err := Split([]byte(head + odd + `,{"id":"2","changes":[` + good + `]}` + tail))
			if err != nil {
				t.Fatal(err)
			}
			if len(items) != 2 || items[0].Type != waypost.TypeUnparsed || items[1].Type != "whatsapp.message.text" {
				t.Fatalf("beside a good entry: %v", items)
			}
			if got := string(items[0].Body); got != head+odd+tail {
				t.Errorf("the odd part's body is %s", got)
			}
		})
	}
}

// TestSplitOddElements: one bad element costs its neighbours nothing, not even in
// the same list.
func TestSplitOddElements(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]string{
		"deep":        `{"id":"2","type":"text","x":{"y":` + deep + `}}`,
		"very deep":   `{"id":"2","x":` + strings.Repeat(`{"a":[`, 4900) + strings.Repeat("]}", 4900) + `}`,
		"no object":   `"2"`,
		"deep, no id": deep,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			value := func(elements string) string {
				return string(envelope(`{"metadata":{"phone_number_id":"5"},"messages":[` + elements + `]}`))
			}
			items, err := Split([]byte(value(`{"id":"1","type":"text"},` + bad + `,{"id":"3","type":"image"}`)))
			if err != nil || len(items) != 3 {
				t.Fatalf("%d items, %v", len(items), err)
			}
			for i, want := range []struct{ kind, body string }{
				{"whatsapp.message.text", value(`{"id":"1","type":"text"}`)},
				{waypost.TypeUnparsed, value(bad)},
				{"whatsapp.message.image", value(`{"id":"3","type":"image"}`)},
			} {
				if items[i].Type != want.kind || string(items[i].Body) != want.body || items[i].PhoneNumberID != "5" {
					t.Errorf("item %d is %s of %s: %.200s", i, items[i].Type, items[i].PhoneNumberID, items[i].Body)
				}
			}
		})
	}
}

// TestSplitExplainedDeeply: errors that lie too deep do not take the message with
// them which they are about.
func TestSplitExplainedDeeply(t *testing.T) {
	t.Parallel()
	got := types(envelope(`{"messages":[{"id":"1","type":"unsupported"}],"errors":[{"code":1,"x":` + deep + `}]}`))
	if want := []string{"whatsapp.message.unsupported", waypost.TypeUnparsed}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestSplitEntryTwice: whichever of the two a receiver would read, each item comes
// in an envelope with one.
func TestSplitEntryTwice(t *testing.T) {
	t.Parallel()
	entry := func(id string) string {
		return `{"id":"` + id + `","changes":[{"field":"flows","value":{"n":` + id + `}}]}`
	}
	items, err := Split([]byte(`{"entry":[` + entry("1") + `],"object":"whatsapp_business_account","entry":[` + entry("2") + `,` + entry("3") + `]}`))
	if err != nil || len(items) != 3 {
		t.Fatalf("%d items, %v", len(items), err)
	}
	for i, want := range []string{
		`{"entry":[` + entry("1") + `],"object":"whatsapp_business_account"}`,
		`{"object":"whatsapp_business_account","entry":[` + entry("2") + `]}`,
		`{"object":"whatsapp_business_account","entry":[` + entry("3") + `]}`,
	} {
		if got := string(items[i].Body); got != want {
			t.Errorf("item %d is %s", i, got)
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"nothing":                   ``,
		"space":                     ` `,
		"cut off":                   `{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"field":"flows","value":{}}]}`,
		"something after":           string(envelope(`{}`)) + `{}`,
		"an array":                  `[]`,
		"no object":                 `{"entry":[{"changes":[{"field":"flows","value":{}}]}]}`,
		"another object":            `{"object":"page","entry":[{"changes":[{"field":"flows","value":{}}]}]}`,
		"no entry":                  `{"object":"whatsapp_business_account"}`,
		"two entries":               `{"object":"whatsapp_business_account","entry":[{"changes":[{"field":"flows","value":{}}]}],"entry":[]}`,
		"an entry that is no array": `{"object":"whatsapp_business_account","entry":[{"changes":[{"field":"flows","value":{}}]}],"entry":{}}`,
		"too deep":                  string(envelope(`{"x":` + deep + `}`)),
		"too deep beside the entry": `{"object":"whatsapp_business_account","x":` + deep + `,"entry":[{"changes":[{"field":"flows","value":{}},{"field":"flows","value":1}]}]}`,
		"nested without end":        string(envelope(`{"x":` + strings.Repeat("[", maxNesting) + strings.Repeat("]", maxNesting) + `,"messages":[{"id":"1"},{"id":"2"}]}`)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if items, err := Split([]byte(body)); err == nil {
				t.Errorf("taken for %v", items)
			}
		})
	}
}

// TestSplitIsBounded feeds requests that are small but whose items would, each
// in an envelope of its own, fill the memory.
func TestSplitIsBounded(t *testing.T) {
	t.Parallel()
	message := `{"id":"1"},`
	for name, body := range map[string][]byte{
		"more items than Meta sends":         envelope(`{"messages":[` + strings.Repeat("{},", maxItems) + `{}]}`),
		"a large member beside the messages": envelope(`{"x":"` + strings.Repeat("x", 500_000) + `","messages":[` + strings.Repeat(message, 1000) + `{}]}`),
		"contacts that are nobody's":         envelope(`{"contacts":[` + manyContacts(3000, "") + `],"messages":[` + strings.Repeat(message, 3000) + `{}]}`),
		"many members beside many errors":    envelope(`{` + manyMembers(30_000) + `"errors":[` + strings.Repeat(`{},`, maxItems-1) + `{}]}`),
		"many members beside many changes": []byte(`{"object":"whatsapp_business_account","entry":[{` + manyMembers(30_000) + `"changes":[` +
			strings.Repeat(`{"field":"x","value":0},`, maxItems-1) + `{}]}]}`),
		"values all over":             envelope(`{"messages":[{"id":"1","x":[` + strings.Repeat("1,", 200_000) + `1]},{"id":"2"}]}`),
		"contacts of the same person": envelope(`{"contacts":[` + manyContacts(3000, `,"wa_id":"1"`) + `],"messages":[` + strings.Repeat(`{"from":"1"},`, 3000) + `{}]}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if items, err := Split(body); err == nil {
				t.Errorf("%d bytes became %d items", len(body), len(items))
			}
		})
	}
}

func manyMembers(count int) string {
	var members strings.Builder
	for i := range count {
		fmt.Fprintf(&members, `"k%d":0,`, i)
	}
	return members.String()
}

func manyContacts(count int, more string) string {
	contacts := make([]string, count)
	for i := range contacts {
		contacts[i] = fmt.Sprintf(`{"n":%d%s}`, i, more)
	}
	return strings.Join(contacts, ",")
}

func TestSplitFullBatch(t *testing.T) {
	t.Parallel()
	body := batch(1000)
	items, err := Split(body)
	if err != nil || len(items) != 1000 {
		t.Fatalf("%d items, %v", len(items), err)
	}
	tellAlso(t, body, items)
	keys := map[string]bool{}
	for i := range items {
		keys[string(items[i].DedupeKey(1))] = true
	}
	if len(keys) != len(items) {
		t.Errorf("%d items have %d dedupe keys", len(items), len(keys))
	}
}

// key is the dedupe key of the only item of a value.
func key(t *testing.T, value string) string {
	t.Helper()
	items, err := Split(envelope(value))
	if err != nil || len(items) != 1 {
		t.Fatalf("%s: %d items, %v", value, len(items), err)
	}
	return hex.EncodeToString(items[0].DedupeKey(1))
}

func TestDedupeKey(t *testing.T) {
	t.Parallel()
	const number = `"metadata":{"phone_number_id":"10"},`
	for name, test := range map[string]struct {
		a, b string
		same bool
	}{
		"a message sent again otherwise written": {
			`{` + number + `"messages":[{"id":"wamid.A\/","timestamp":"9"}]}`,
			`{ "messages" : [{"timestamp":9,"id":"wamid.A/","text":{}}],` + number + `"x":1}`, true,
		},
		"another message": {
			`{` + number + `"messages":[{"id":"wamid.A"}]}`,
			`{` + number + `"messages":[{"id":"wamid.B"}]}`, false,
		},
		"the same message of another number": {
			`{` + number + `"messages":[{"id":"wamid.A"}]}`,
			`{"metadata":{"phone_number_id":"11"},"messages":[{"id":"wamid.A"}]}`, false,
		},
		"a message and a status": {
			`{` + number + `"messages":[{"id":"wamid.A"}]}`,
			`{` + number + `"statuses":[{"id":"wamid.A"}]}`, false,
		},
		"messages without id": {
			`{` + number + `"messages":[{"text":{"body":"a"}}]}`,
			`{` + number + `"messages":[{"text":{"body":"b"}}]}`, false,
		},
		"a status sent again": {
			`{` + number + `"statuses":[{"id":"A","status":"sent","timestamp":"9"}]}`,
			`{` + number + `"statuses":[{"status":"sent","id":"A","timestamp":9,"pricing":{}}]}`, true,
		},
		"the same status of another number": {
			`{` + number + `"statuses":[{"id":"A","status":"sent"}]}`,
			`{"metadata":{"phone_number_id":"11"},"statuses":[{"id":"A","status":"sent"}]}`, false,
		},
		"a status whose texts run together": {
			`{` + number + `"statuses":[{"id":"A","status":"read"}]}`,
			`{` + number + `"statuses":[{"id":"Ar","status":"ead"}]}`, false,
		},
		"another status": {
			`{` + number + `"statuses":[{"id":"A","status":"sent","timestamp":"9"}]}`,
			`{` + number + `"statuses":[{"id":"A","status":"read","timestamp":"9"}]}`, false,
		},
		"the status at another time": {
			`{` + number + `"statuses":[{"id":"A","status":"sent","timestamp":"9"}]}`,
			`{` + number + `"statuses":[{"id":"A","status":"sent","timestamp":"8"}]}`, false,
		},
		"another participant": {
			`{` + number + `"statuses":[{"id":"A","status":"read","recipient_participant_id":"1"}]}`,
			`{` + number + `"statuses":[{"id":"A","status":"read","recipient_participant_id":"2"}]}`, false,
		},
		"a participant otherwise spelled": {
			`{` + number + `"statuses":[{"id":"A","status":"read","recipient_participant_id":"1"}]}`,
			`{` + number + `"statuses":[{"id":"A","status":"read","participant_recipient_id":"1"}]}`, true,
		},
		"another payment": {
			`{` + number + `"statuses":[{"id":"A","status":"pending","type":"payment","payment":{"transaction":{"id":"1"}}}]}`,
			`{` + number + `"statuses":[{"id":"A","status":"pending","type":"payment","payment":{"transaction":{"id":"2"}}}]}`, false,
		},
		"another error": {
			`{` + number + `"errors":[{"code":1}]}`,
			`{` + number + `"errors":[{"code":2}]}`, false,
		},
		"the same error": {
			`{` + number + `"errors":[{"code":1}]}`,
			`{"x":1,` + number + `"errors":[{"code":1}]}`, true,
		},
		"other link clicks": {
			`{` + number + `"user_actions":[{"a":1}]}`,
			`{` + number + `"user_actions":[{"a":2}]}`, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if a, b := key(t, test.a), key(t, test.b); (a == b) != test.same {
				t.Errorf("keys %s and %s", a, b)
			}
		})
	}
}

func TestDedupeKeyForm(t *testing.T) {
	t.Parallel()
	items, err := Split(envelope(`{"messages":[{"id":"A","timestamp":"1767571200"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	one, two := items[0].DedupeKey(1), items[0].DedupeKey(2)
	if len(one) != 20 || hex.EncodeToString(one[:4]) != "695aff00" {
		t.Errorf("key %x does not begin with the time", one)
	}
	if bytes.Equal(one, two) {
		t.Error("two sources share a key")
	}
	if got := key(t, `{"messages":[{"id":"A","timestamp":"-5"}]}`); got[:8] != "00000000" {
		t.Errorf("key %s begins with a time that nobody told", got)
	}
}

func TestEntryTimeTellsChangesApart(t *testing.T) {
	t.Parallel()
	keys := map[string]bool{}
	for _, entry := range []string{`"id":"1","time":5`, `"id":"1","time":6`, `"id":"2","time":5`, `"id":"1","time":"a"`, `"id":"1","time":"b"`} {
		for _, field := range []string{"flows", "security"} {
			items, err := Split([]byte(`{"object":"whatsapp_business_account","entry":[{` + entry + `,"changes":[{"field":"` + field + `","value":{"event":"X"}}]}]}`))
			if err != nil {
				t.Fatal(err)
			}
			keys[string(items[0].DedupeKey(1))] = true
		}
	}
	if len(keys) != 10 {
		t.Errorf("10 different changes have %d keys", len(keys))
	}
}

func TestUntrustedTexts(t *testing.T) {
	t.Parallel()
	for _, id := range []string{`a\u0000b`, `a b`, `\u00e9`, "\xff", strings.Repeat("1", 257), ``} {
		items, err := Split(envelope(`{"metadata":{"phone_number_id":"` + id + `","display_phone_number":"` + id + `"},"messages":[{"id":"1","from":"` + id + `"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		if it := items[0]; it.PhoneNumberID+it.DisplayPhone+it.Contact != "" {
			t.Errorf("%q became an id: %q %q %q", id, it.PhoneNumberID, it.DisplayPhone, it.Contact)
		}
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`"1767571200"`:           "2026-01-05T00:00:00Z",
		`1767571200`:             "2026-01-05T00:00:00Z",
		`"1767571200123"`:        "2026-01-05T00:00:00Z",
		`"0"`:                    "-",
		`-1`:                     "-",
		`1.7e9`:                  "-",
		`"99999999999999999999"`: "-",
		`null`:                   "-",
		`{}`:                     "-",
	} {
		items, err := Split(envelope(`{"messages":[{"id":"1","timestamp":` + text + `}]}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := summary(&items[0]); !strings.HasSuffix(got, "at="+want) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
