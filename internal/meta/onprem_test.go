package meta

import (
	"encoding/json"
	"strings"
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
// knows, shapes of the Cloud API among them.
func TestOnPremThereAndBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		callback := generator{t}.callback()
		if !IsOnPrem(callback) {
			return
		}
		want := callback
		if writesCloud(decode(t, callback)) {
			want = outAgain(t, callback)
		}
		wantTold, wantContacts := facts(t, envelope(string(want)))
		gotTold, gotContacts := facts(t, envelope(string(thereAndBack(t, callback))))
		same(t, "what went out tells", wantTold, gotTold)
		sameContacts(t, "what went out", wantContacts, gotContacts)
	})
}

// outAgain takes a callback in and gives it out at once.
func outAgain(t tester, callback []byte) []byte {
	t.Helper()
	cloud, err := FromOnPrem(callback, ownNumber, ownPhone, ownWABA)
	if err != nil {
		t.Fatal(err)
	}
	out, ok, err := ToOnPrem(cloud)
	if err != nil || !ok {
		t.Fatalf("%v %v\n%s", ok, err, cloud)
	}
	return out
}

// writesCloud reports whether a decoded callback has what the Cloud API alone
// writes, which goes out in the client's form.
func writesCloud(callback any) bool {
	members, _ := callback.(map[string]any)
	found := writesCloudErrors(members)
	for _, list := range []string{"messages", "statuses"} {
		elements, _ := members[list].([]any)
		for _, element := range elements {
			element, _ := element.(map[string]any)
			found = found || writesCloudErrors(element) || list == "messages" && writesCloudMessage(element)
		}
	}
	return found
}

func writesCloudMessage(message map[string]any) bool {
	audio, _ := message["audio"].(map[string]any)
	system, _ := message["system"].(map[string]any)
	return message["type"] == "audio" && audio["voice"] == true && !has(message, "voice") ||
		system["type"] == "user_changed_number" && has(system, "wa_id") && !has(system, "new_wa_id")
}

func writesCloudErrors(holder map[string]any) bool {
	elements, _ := holder["errors"].([]any)
	for _, element := range elements {
		e, _ := element.(map[string]any)
		if has(e, "details") {
			continue
		}
		data, _ := e["error_data"].(map[string]any)
		title, isText := e["title"].(string)
		if has(data, "details") || isText && e["message"] == title {
			return true
		}
	}
	return false
}

func has(members map[string]any, name string) bool {
	_, ok := members[name]
	return ok
}

// TestOnPremTranslation: what the client writes otherwise than the Cloud API is
// put as the Cloud API writes it, what could not be undone is left alone, and
// the callback comes back byte by byte.
func TestOnPremTranslation(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ callback, cloud string }{
		"voice note": {
			`{"messages":[{"type":"voice","id":"m","voice":{"file":"\/x","id":"7","n":1.50},"z":0}]}`,
			`{"messages":[{"type":"audio","id":"m","audio":{"file":"\/x","id":"7","n":1.50,"voice":true},"z":0}]}`,
		},
		"voice note of nothing": {
			`{"messages":[{"voice":{},"type":"voice"}]}`,
			`{"messages":[{"audio":{"voice":true},"type":"audio"}]}`,
		},
		"voice note with a flag":       {`{"messages":[{"type":"voice","voice":{"voice":true}}]}`, ``},
		"voice note that is no object": {`{"messages":[{"type":"voice","voice":"x"}]}`, ``},
		"voice note without content":   {`{"messages":[{"type":"voice"}]}`, ``},
		"voice note with audio":        {`{"messages":[{"type":"voice","voice":{},"audio":{"voice":true}}]}`, ``},
		"audio with a voice note":      {`{"messages":[{"type":"audio","voice":{},"audio":{"voice":true}}]}`, ``},
		"audio file":                   {`{"messages":[{"type":"audio","audio":{"voice":false}},{"type":"audio","audio":{"id":"7"}}]}`, ``},
		"voice of another type":        {`{"messages":[{"type":"text","voice":{}}]}`, ``},
		"error": {
			`{"errors":[{"code":4.70,"title":"T\u00e9","details":"D\/","href":"/e"}]}`,
			`{"errors":[{"code":4.70,"title":"T\u00e9","message":"T\u00e9","error_data":{"details":"D\/"},"href":"/e"}]}`,
		},
		"errors of a message": {
			`{"messages":[{"type":"unknown","errors":[{"details":null,"title":"T","code":501}]}]}`,
			`{"messages":[{"type":"unknown","errors":[{"error_data":{"details":null},"title":"T","message":"T","code":501}]}]}`,
		},
		"errors of a status": {
			`{"statuses":[{"status":"failed","errors":[{"code":470,"title":"T"}],"id":"s"}]}`,
			`{"statuses":[{"status":"failed","errors":[{"code":470,"title":"T","message":"T"}],"id":"s"}]}`,
		},
		"error with a message": {
			`{"errors":[{"title":"T","message":"M","details":"D"}]}`,
			`{"errors":[{"title":"T","message":"M","error_data":{"details":"D"}}]}`,
		},
		"error with other error_data": {
			`{"errors":[{"title":"T","error_data":{"z":1}}]}`,
			`{"errors":[{"title":"T","message":"T","error_data":{"z":1}}]}`,
		},
		"error that repeats its title":    {`{"errors":[{"title":"T","message":"\u0054","details":"D"}]}`, ``},
		"error with error_data":           {`{"errors":[{"title":"T","details":"D","error_data":{"z":1}}]}`, ``},
		"error with both details":         {`{"errors":[{"title":"T","details":"D","error_data":{"details":"E"}}]}`, ``},
		"error whose title is no text":    {`{"errors":[{"title":5},{"title":null,"message":null},{"title":{}},{"title":5,"message":5}]}`, ``},
		"error without a title":           {`{"errors":[{"code":1},{}]}`, ``},
		"new number":                      {`{"messages":[{"system":{"new_wa_id":"9","type":"user_changed_number"}}]}`, `{"messages":[{"system":{"wa_id":"9","type":"user_changed_number"}}]}`},
		"new number, both ways":           {`{"messages":[{"system":{"new_wa_id":"9","wa_id":"8","type":"user_changed_number"}}]}`, ``},
		"new number in some other notice": {`{"messages":[{"system":{"new_wa_id":"9","type":"user_identity_changed"}}]}`, ``},
		"odd shapes":                      {`{"messages":[null,{"system":[],"errors":{},"voice":[],"type":"voice"}],"statuses":"x","errors":[7]}`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud, err := FromOnPrem([]byte(test.callback), "10", "15", "20")
			if err != nil {
				t.Fatal(err)
			}
			want := test.cloud
			if want == "" {
				want = test.callback
			}
			if got := valueOf(t, cloud); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if out := outAgain(t, []byte(test.callback)); string(out) != test.callback {
				t.Errorf("came in %s\nwent out %s", test.callback, out)
			}
		})
	}
}

// valueOf is what FromOnPrem put an envelope around.
func valueOf(t tester, cloud []byte) string {
	t.Helper()
	const before, after = `{"object":"whatsapp_business_account","entry":[{"id":"20","changes":[{"value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":"15","phone_number_id":"10"},`, `},"field":"messages"}]}]}`
	value, ok := strings.CutPrefix(string(cloud), before)
	value, okEnd := strings.CutSuffix(value, after)
	if !ok || !okEnd {
		t.Fatalf("another envelope: %s", cloud)
	}
	return "{" + value + "}"
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
			`{"errors":[{"code":1,"title":"T","message":"M","details":"D","error_data":{"messaging_product":"whatsapp"}}]}`,
		},
		"error without details": {
			`{"errors":[{"code":1,"title":"T","message":"T"},{"code":2,"title":"T","message":"T","error_data":{"z":1}}]}`,
			`{"errors":[{"code":1,"title":"T"},{"code":2,"title":"T","error_data":{"z":1}}]}`,
		},
		"error with more in error_data": {
			`{"errors":[{"error_data":{"y":[],"details":"d","z":1.0},"code":1}]}`,
			`{"errors":[{"details":"d","error_data":{"y":[],"z":1.0},"code":1}]}`,
		},
		"error with error_data twice": {
			`{"errors":[{"error_data":{"z":1},"error_data":{"details":"d"}}]}`,
			`{"errors":[{"details":"d"}]}`,
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
	want := `{"object":"whatsapp_business_account","entry":[{"id":"20","changes":[{"value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":"1\"5","phone_number_id":"10"},"messages":[{"id":"A","x":1.0}],"recipient_id":"5"},"field":"messages"}]}]}`
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
