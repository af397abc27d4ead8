package meta

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestOnPremSamplesThereAndBack takes every On-Premises sample in, splits it,
// gives each item its On-Premises form again, and joins those.
func TestOnPremSamplesThereAndBack(t *testing.T) {
	t.Parallel()
	names, bodies := samples(t, "onprem-")
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(decode(t, bodies[name]), decode(t, thereAndBack(t, bodies[name]))); diff != "" {
				t.Error("-came in +went out\n" + diff)
			}
		})
	}
}

func thereAndBack(t tester, callback []byte) []byte {
	t.Helper()
	takeIn := func(body []byte) []byte {
		cloud, err := FromOnPrem(body, ownNumber, ownPhone, ownWABA)
		if err != nil {
			t.Fatal(err)
		}
		return cloud
	}
	giveOut := func(cloud []byte) []byte {
		out, ok, err := ToOnPrem(cloud)
		if err != nil || !ok {
			t.Fatalf("%v %v\n%s", ok, err, cloud)
		}
		if !IsOnPrem(out) {
			t.Fatalf("not the On-Premises form: %s", out)
		}
		return out
	}
	items, err := Split(takeIn(callback))
	if err != nil {
		t.Fatal(err)
	}
	var again [][]byte
	for i := range items {
		again = append(again, takeIn(giveOut(items[i].Body)))
	}
	joined, err := Join(again...)
	if err != nil {
		t.Fatal(err)
	}
	return giveOut(joined)
}

// TestOnPremThereAndBack does the same with callbacks that have members nobody
// knows. The generator's errors have the error_data of the Cloud API, which is
// why what comes back is compared with what ToOnPrem makes of the whole.
func TestOnPremThereAndBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		callback := generator{t}.callback()
		if !IsOnPrem(callback) {
			return
		}
		cloud, err := FromOnPrem(callback, ownNumber, ownPhone, ownWABA)
		if err != nil {
			t.Fatal(err)
		}
		whole, ok, err := ToOnPrem(cloud)
		if err != nil || !ok {
			t.Fatalf("%v %v\n%s", ok, err, cloud)
		}
		wantCloud, err := FromOnPrem(whole, ownNumber, ownPhone, ownWABA)
		if err != nil {
			t.Fatal(err)
		}
		gotCloud, err := FromOnPrem(thereAndBack(t, callback), ownNumber, ownPhone, ownWABA)
		if err != nil {
			t.Fatal(err)
		}
		wantTold, wantContacts := facts(t, wantCloud)
		gotTold, gotContacts := facts(t, gotCloud)
		same(t, "what went out tells", wantTold, gotTold)
		sameContacts(t, "what went out", wantContacts, gotContacts)
	})
}

// TestToOnPrem: what the Cloud API writes otherwise is put as the client wrote
// it, and nothing else is touched.
func TestToOnPrem(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ cloud, want string }{
		"text": {
			`{"messaging_product":"whatsapp","metadata":{"phone_number_id":"1"},"contacts":[ {"wa_id":"2"} ],"messages":[ {"from":"2","id":"m","type":"text","text":{"body":"\u00e9 \/ 1"},"new":1.50} ]}`,
			`{"contacts":[ {"wa_id":"2"} ],"messages":[{"from":"2","id":"m","type":"text","text":{"body":"\u00e9 \/ 1"},"new":1.50}]}`,
		},
		"voice note": {
			`{"messages":[{"type":"audio","id":"m","audio":{"mime_type":"audio/ogg; codecs=opus","voice":true,"id":"7"}}]}`,
			`{"messages":[{"type":"voice","id":"m","voice":{"mime_type":"audio/ogg; codecs=opus","id":"7"}}]}`,
		},
		"audio file": {
			`{"messages":[{"type":"audio","audio":{"voice":false,"id":"7"}}]}`,
			`{"messages":[{"type":"audio","audio":{"voice":false,"id":"7"}}]}`,
		},
		"voice of an old client": {
			`{"messages":[{"type":"voice","voice":{"file":"/x","id":"7"}}]}`,
			`{"messages":[{"type":"voice","voice":{"file":"/x","id":"7"}}]}`,
		},
		"failed status": {
			`{"statuses":[{"id":"s","status":"failed","conversation":{"id":"c"},"pricing":{"billable":true},"errors":[{"code":131047,"title":"T","message":"T","error_data":{"details":"D"},"href":"/e"}]}]}`,
			`{"statuses":[{"id":"s","status":"failed","conversation":{"id":"c"},"pricing":{"billable":true},"errors":[{"code":131047,"title":"T","details":"D","href":"/e"}]}]}`,
		},
		"message of an error that says more": {
			`{"errors":[{"code":1,"title":"T","message":"M","error_data":{"details":"D","messaging_product":"whatsapp"}}]}`,
			`{"errors":[{"code":1,"title":"T","message":"M","details":"D"}]}`,
		},
		"error with both details": {
			`{"errors":[{"code":1,"details":"D","error_data":{"details":"E"}}]}`,
			`{"errors":[{"code":1,"details":"D","error_data":{"details":"E"}}]}`,
		},
		"error of an old client": {
			`{"errors":[{"code":1,"title":"T","message":"T","details":"D"},{"code":2,"error_data":{}}]}`,
			`{"errors":[{"code":1,"title":"T","message":"T","details":"D"},{"code":2,"error_data":{}}]}`,
		},
		"errors of a message": {
			`{"messages":[{"type":"unsupported","errors":[{"code":131051,"title":"T","error_data":{"details":"D"}}]}]}`,
			`{"messages":[{"type":"unsupported","errors":[{"code":131051,"title":"T","details":"D"}]}]}`,
		},
		"changed number": {
			`{"messages":[{"type":"system","system":{"body":"B","wa_id":"9","type":"user_changed_number"}}]}`,
			`{"messages":[{"type":"system","system":{"body":"B","new_wa_id":"9","type":"user_changed_number"}}]}`,
		},
		"changed user id": {
			`{"messages":[{"type":"system","system":{"wa_id":"9","type":"user_changed_user_id"}}]}`,
			`{"messages":[{"type":"system","system":{"wa_id":"9","type":"user_changed_user_id"}}]}`,
		},
		"odd shapes": {
			`{"messages":[null,{"system":[],"errors":{},"audio":[],"type":"audio"}],"statuses":"x"}`,
			`{"messages":[null,{"system":[],"errors":{},"audio":[],"type":"audio"}],"statuses":"x"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok, err := ToOnPrem(envelope(test.cloud))
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			if string(got) != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestToOnPremOfEverySample(t *testing.T) {
	t.Parallel()
	names, bodies := samples(t, "cloud-")
	for _, name := range names {
		items, err := Split(bodies[name])
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range items {
			out, ok, err := ToOnPrem(it.Body)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if want := it.Field == "messages" && it.Type != "whatsapp.messages"; ok != want {
				t.Errorf("%s, %s: has an On-Premises form: %v, want %v", name, it.Type, ok, want)
			}
			if ok && (!json.Valid(out) || !IsOnPrem(out)) {
				t.Errorf("%s: %s", name, out)
			}
		}
	}
}

func TestToOnPremRefuses(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no JSON":     `{`,
		"no envelope": `{"messages":[]}`,
		"two changes": `{"object":"whatsapp_business_account","entry":[{"changes":[{"field":"messages","value":{}},{}]}]}`,
		"two entries": `{"object":"whatsapp_business_account","entry":[{"changes":[{}]},{}]}`,
	} {
		if out, ok, err := ToOnPrem([]byte(body)); err == nil || ok {
			t.Errorf("%s: %s", name, out)
		}
	}
}

func TestFromOnPrem(t *testing.T) {
	t.Parallel()
	got, err := FromOnPrem([]byte(`{ "messages":[ {"id":"A","x":1.0} ], "metadata":{"phone_number_id":"666"}, "messaging_product":"x", "recipient_id":"5" }`), "10", `1"5`, "20")
	if err != nil {
		t.Fatal(err)
	}
	want := `{"object":"whatsapp_business_account","entry":[{"id":"20","changes":[{"value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":"1\"5","phone_number_id":"10"},"messages":[ {"id":"A","x":1.0} ],"recipient_id":"5"},"field":"messages"}]}]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	items, err := Split(got)
	if err != nil || len(items) != 1 || items[0].PhoneNumberID != "10" {
		t.Errorf("a callback claimed another number: %v %v", items, err)
	}
}

func TestFromOnPremWithoutNumberID(t *testing.T) {
	t.Parallel()
	keys := map[string]bool{}
	for _, phone := range []string{"15550142077", "15550142078"} {
		cloud, err := FromOnPrem([]byte(`{"messages":[{"id":"A"}]}`), "", phone, "")
		if err != nil {
			t.Fatal(err)
		}
		items, err := Split(cloud)
		if err != nil || items[0].DisplayPhone != phone || items[0].PhoneNumberID != "" {
			t.Fatal(items, err)
		}
		keys[string(items[0].DedupeKey(1))] = true
	}
	if len(keys) != 2 {
		t.Error("the same message id of two numbers is taken for a repeat")
	}
}

func TestFromOnPremClaimsNoOtherNumber(t *testing.T) {
	t.Parallel()
	const claims = `"waba_info":{"waba_id":"66"},"recipient":{"phone_number_id":"66","display_phone_number":"66"},` +
		`"phone_number_settings":{"phone_number_id":"66"},"display_phone_number":"66","phone_number":"66",` +
		`"met\u0061data":{"phone_number_id":"66"},"field":"flows","entry":[{"id":"66"}]`
	cloud, err := FromOnPrem([]byte(`{"messages":[{"id":"A"}],`+claims+`}`), "", "", "20")
	if err != nil {
		t.Fatal(err)
	}
	items, err := Split(cloud)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := summary(&items[0]), "whatsapp.message.unknown waba=20 number= phone= contact= at=-"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestIsOnPrem(t *testing.T) {
	t.Parallel()
	_, bodies := samples(t, "")
	for name, body := range bodies {
		if got, want := IsOnPrem(body), len(name) > 6 && name[:6] == "onprem"; got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for body, want := range map[string]bool{
		`{"contacts":[]}`:                       true,
		`{"object":"x","messages":[]}`:          true,
		`{"messages":{}}`:                       false,
		`{"entry":[],"object":1,"messages":[]}`: false,
		`[{"messages":[]}]`:                     false,
		`{"messages":[]`:                        false,
		`{"contacts":[],"user_actions":[]}`:     false,
		`{}`:                                    false,
	} {
		if got := IsOnPrem([]byte(body)); got != want {
			t.Errorf("%s: %v", body, got)
		}
		if _, err := FromOnPrem([]byte(body), "", "", ""); (err == nil) != want {
			t.Errorf("%s: taken in: %v", body, err)
		}
	}
}
