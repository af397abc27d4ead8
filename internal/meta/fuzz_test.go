package meta

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

func seed(f *testing.F) {
	f.Helper()
	_, bodies := samples(f, "")
	for _, body := range bodies {
		f.Add(body)
		var compact bytes.Buffer
		if err := json.Compact(&compact, body); err != nil {
			f.Fatal(err)
		}
		f.Add(compact.Bytes())
	}
	for _, text := range []string{
		``, `{}`, `{"object":"whatsapp_business_account","entry":[{"changes":[{"field":"messages","value":{"messages":[{}],"messages":[]}}]}]}`,
		`{"a":-0.1e+5,"b":"\ud800\u0000","c":[[[]]]}`, "{\"\xff\":\"\xc3\x28\"}", `[1,2,]`, `01`, `1.`, `"\x"`, "\"\n\"", `truefalse`, "\ufeff{}",
		`{"object":"whatsapp_business_account","entry":[{"changes":[{"field":"messages","value":{"messages":[{"x":` + deep + `},{"id":"1"}]}}]}],"entry":[{}]}`,
	} {
		f.Add([]byte(text))
	}
}

// FuzzParse compares the scanner with the standard library's: they agree on
// what is JSON, but for nesting beyond maxDepth.
func FuzzParse(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := parse(text)
		valid := json.Valid(text)
		if err == nil && !valid {
			t.Fatal("taken for JSON")
		}
		if err != nil {
			if valid && bytes.Count(text, []byte("["))+bytes.Count(text, []byte("{")) < maxDepth {
				t.Fatal(err)
			}
			return
		}
		defer d.release()
		var want any
		if json.Unmarshal(text, &want) != nil {
			return // numbers out of range
		}
		if diff := cmp.Diff(want, rebuild(t, d, root)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// rebuild makes of a node what the standard library makes of the text.
func rebuild(t *testing.T, d *document, n int) any {
	t.Helper()
	switch {
	case d.isObject(n):
		members := map[string]any{}
		for child := range d.children(n) {
			var name string
			if err := json.Unmarshal(d.rawName(child), &name); err != nil {
				t.Fatal(err)
			}
			members[name] = rebuild(t, d, child)
		}
		return members
	case d.isArray(n):
		elements := []any{}
		for child := range d.children(n) {
			elements = append(elements, rebuild(t, d, child))
		}
		return elements
	default:
		var value any
		if err := json.Unmarshal(d.raw(n), &value); err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func FuzzSplit(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		items, err := Split(body)
		if !bytes.Equal(body, before) {
			t.Fatal("the request was written to")
		}
		if err != nil {
			return
		}
		if len(items) == 0 {
			t.Fatal("neither items nor an error")
		}
		if len(items) == 1 && !bytes.Equal(items[0].Body, body) {
			t.Fatal("the only item's body is not the request's")
		}
		for i := range items {
			if !json.Valid(items[i].Body) {
				t.Fatalf("item %d is not JSON: %s", i, items[i].Body)
			}
			if len(items[i].DedupeKey(1)) != 20 {
				t.Fatal("a dedupe key of another length")
			}
			if items[i].Type != waypost.TypeUnparsed {
				standsAlone(t, &items[i])
			}
		}
	})
}

func FuzzToOnPrem(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		out, ok, err := ToOnPrem(body)
		if ok && err != nil {
			t.Fatal("both a form and an error")
		}
		if ok && !json.Valid(out) {
			t.Fatalf("not JSON: %s", out)
		}
	})
}

func FuzzFromOnPrem(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, callback []byte) {
		cloud, err := FromOnPrem(callback, ownNumber, ownPhone, ownWABA)
		if (err == nil) != IsOnPrem(callback) {
			t.Fatal("taken in or not, against what IsOnPrem says")
		}
		if err != nil {
			return
		}
		if !json.Valid(cloud) {
			t.Fatalf("not JSON: %s", cloud)
		}
		comesBack(t, callback, cloud)
		items, err := Split(cloud)
		if err != nil {
			return
		}
		for i := range items {
			if items[i].PhoneNumberID != ownNumber || items[i].WABAID != ownWABA {
				t.Fatalf("a callback claimed %s of %s", items[i].PhoneNumberID, items[i].WABAID)
			}
		}
	})
}

// comesBack checks that what was taken in goes out as it came: at once, unless
// it is written the Cloud's way; and once it went out, ever after.
func comesBack(t *testing.T, callback, cloud []byte) {
	t.Helper()
	out, ok, err := ToOnPrem(cloud)
	if err != nil {
		return // too deep in its envelope
	}
	if !ok || !IsOnPrem(out) {
		t.Fatalf("%s went out as %s", callback, out)
	}
	came := without(object(t, decode(t, callback)), "messaging_product", "metadata")
	if diff := cmp.Diff(any(came), decode(t, out)); diff != "" && !writesCloud(came) {
		t.Fatalf("-came in +went out\n%s", diff)
	}
	if diff := cmp.Diff(decode(t, out), decode(t, outAgain(t, out))); diff != "" {
		t.Fatalf("-went out +went out again\n%s", diff)
	}
}
