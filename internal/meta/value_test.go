package meta

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestReadSamples reads all that Meta is known to send: what an item is taken
// for is there to be read.
func TestReadSamples(t *testing.T) {
	t.Parallel()
	names, bodies := samples(t, "")
	for _, name := range names {
		body := bodies[name]
		if IsOnPrem(body) {
			var err error
			if body, err = FromOnPrem(body, ownNumber, ownPhone, ownWABA); err != nil {
				t.Fatal(err)
			}
		}
		items, _ := Split(body) // none where the request is refused as a whole
		for i := range items {
			it := &items[i]
			change, err := Read(it.Body)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			found := true
			switch {
			case strings.HasPrefix(it.Type, "whatsapp.message."):
				found = len(change.Messages) == 1 && change.Messages[0].ID != ""
			case strings.HasPrefix(it.Type, "whatsapp.status."):
				found = len(change.Statuses) == 1 && change.Statuses[0].Status != ""
			case strings.HasSuffix(it.Type, "message_echoes"):
				found = len(change.Echoes) == 1 && change.Echoes[0].To+change.Echoes[0].ToUserID != ""
			}
			if !found || change.Field != it.Field {
				t.Errorf("%s: nothing in %s is read as its %s", name, it.Body, it.Type)
			}
		}
	}
}

// read reads the value of a change, and fails the test if it can't.
func read(t *testing.T, value string) *Change {
	t.Helper()
	change, err := Read([]byte(`{"entry":[{"time":"5","changes":[{"field":"messages","value":` + value + `}]}]}`))
	if err != nil {
		t.Fatalf("%s: %v", value, err)
	}
	return change
}

// TestReadOdd: what is odd is absent, and what stands beside it is not.
func TestReadOdd(t *testing.T) {
	t.Parallel()
	for _, odd := range []string{
		`null`, `7`, `"x"`, `[]`, `[null]`, `[5]`, `{"id":{}}`, `true`,
	} {
		for _, member := range []string{"metadata", "contacts", "messages", "message_echoes", "statuses", "ban_info", "alert_info", "no_such"} {
			change := read(t, `{"`+member+`":`+odd+`,"event":"X"}`)
			if change.Event != "X" || change.Time != "5" || change.Field != "messages" {
				t.Errorf("beside %s %s: %+v", member, odd, change)
			}
		}
		for _, member := range []string{"context", "text", "image", "location", "contacts", "interactive", "order", "edit", "errors", "referral"} {
			change := read(t, `{"messages":[{"`+member+`":`+odd+`,"id":"A"}]}`)
			if len(change.Messages) != 1 || change.Messages[0].ID != "A" {
				t.Errorf("beside %s %s: %+v", member, odd, change)
			}
		}
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		``:                           "read event: read JSON: byte 0 does not fit",
		`{`:                          "read event: read JSON: byte 1 does not fit",
		`{}`:                         "read event: there is no change in it",
		`[]`:                         "read event: there is no change in it",
		`{"entry":null}`:             "read event: there is no change in it",
		`{"entry":[null]}`:           "read event: there is no change in it",
		`{"entry":[{"changes":[]}]}`: "read event: there is no change in it",
	} {
		if change, err := Read([]byte(body)); err == nil || err.Error() != want {
			t.Errorf("%q: %+v, %v; want %s", body, change, err, want)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]Text{
		`"a\u00e9<"`: "aé<", `""`: "", `7`: "7", `-1.50e3`: "-1.50e3", `12345678901234567890`: "12345678901234567890",
		`["a","b"]`: "a", `[ "a" ]`: "a", `[]`: "", `[7]`: "", `[null,"a"]`: "", `[["a"]]`: "",
		`null`: "", `true`: "", `{"a":1}`: "", ``: "",
	} {
		if got := TextOf(json.RawMessage(raw)); got != want {
			t.Errorf("%s is %q, want %q", raw, got, want)
		}
	}
}

func TestContactOf(t *testing.T) {
	t.Parallel()
	two := read(t, `{"contacts":[{"wa_id":"1","user_id":"A"},{"wa_id":2,"user_id":"B"},{}]}`)
	one := read(t, `{"contacts":[{"wa_id":"1"}]}`)
	for _, tt := range []struct {
		change        *Change
		phone, userID Text
		want          Text
	}{
		{two, "1", "", "1"},
		{two, "2", "", "2"},
		{two, "", "B", "2"},
		{two, "9", "", ""},
		{two, "", "", ""},
		{one, "9", "", "1"},
		{one, "", "", "1"},
		{read(t, `{}`), "1", "", ""},
	} {
		if got := tt.change.ContactOf(tt.phone, tt.userID).WaID; got != tt.want {
			t.Errorf("%q %q of %+v: %q, want %q", tt.phone, tt.userID, tt.change.Contacts, got, tt.want)
		}
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	for interactive, want := range map[string]*Answer{
		`{"type":"button_reply","button_reply":{"id":"a","title":"Yes"}}`: {
			Kind: "button_reply", Raw: json.RawMessage(`{"id":"a","title":"Yes"}`), ID: "a", Title: "Yes",
		},
		`{"type":"nfm_reply","nfm_reply":{"response_json":"{\"n\":1}"}}`: {
			Kind: "nfm_reply", Raw: json.RawMessage(`{"response_json":"{\"n\":1}"}`), ResponseJSON: `{"n":1}`,
		},
		`{"type":"odd","odd":[1]}`:   {Kind: "odd", Raw: json.RawMessage(`[1]`)},
		`{"type":"odd","odd":null}`:  {Kind: "odd", Raw: json.RawMessage(`null`)},
		`{"type":"list_reply"}`:      nil,
		`{"list_reply":{"id":"a"}}`:  nil,
		`{"type":{},"list_reply":1}`: nil,
		`[]`:                         nil,
	} {
		message := &read(t, `{"messages":[{"interactive":`+interactive+`}]}`).Messages[0]
		answer, ok := message.Answer()
		if want == nil {
			want = &Answer{}
		}
		if diff := cmp.Diff(*want, answer); diff != "" || ok != (answer.Raw != nil) {
			t.Errorf("%s: %v (-want +got)\n%s", interactive, ok, diff)
		}
	}
}

func TestErrorInfo(t *testing.T) {
	t.Parallel()
	change := read(t, `{"statuses":[{"errors":[ {"code":131047,"title":"T","x":[1.0],"error_data":{"details":"D"}} ,5,null,{"code":[],"message":"M"}]}]}`)
	with := func(raw string, e ErrorInfo) ErrorInfo {
		e.Raw = json.RawMessage(raw)
		return e
	}
	first := ErrorInfo{Code: "131047", Title: "T"}
	first.ErrorData.Details = "D"
	want := []ErrorInfo{
		with(`{"code":131047,"title":"T","x":[1.0],"error_data":{"details":"D"}}`, first),
		with(`5`, ErrorInfo{}),
		with(`null`, ErrorInfo{}),
		with(`{"code":[],"message":"M"}`, ErrorInfo{Message: "M"}),
	}
	if diff := cmp.Diff(want, change.Statuses[0].Errors); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// FuzzRead holds what is read against what encoding/json reads into the same
// structs. Names that differ in case only, and names given twice, it takes
// otherwise.
func FuzzRead(f *testing.F) {
	names, bodies := samples(f, "")
	for _, name := range names {
		f.Add(bodies[name])
		items, _ := Split(bodies[name]) // none where the request is refused as a whole
		for i := range items {
			f.Add(items[i].Body)
		}
	}
	for _, value := range []string{
		`{"messages":[{"interactive":{"type":["a"],"a":[ ]},"edit":{"message":{"edit":5}}}],"statuses":[{"errors":[ 1]}]}`,
		`{"messages":[{"interactive":{"\u0061":1,"":{},"` + "\xff" + `":null},"text":{"body":"` + "\xff" + `\ud83e\uddf5\ud800"}}, null, 5]}`,
		`{"messages":[{"edit":{"message":5}},{"edit":{"message":null}},{"edit":{"message":[]}},{"audio":{"voice":"true"}},{"audio":{"voice":true}}]}`,
		`{"messages":{},"contacts":[],"message_echoes":null,"statuses":[{"biz_opaque_callback_data":null,"errors":[null,{},"e"]},{"errors":{}}]}`,
		`{"event":[["a"]],"phone_number":[ "a" ],"display_phone_number":[],"current_limit":-1.50e+3,"message_template_name":[null,"a"]}`,
	} {
		f.Add([]byte(`{"entry":[{"time":[5],"changes":[{"value":` + value + `,"field":7}]}]}`))
		f.Add([]byte(` {"entry":[{"time":"\u0035","changes":[{"field":"\u006d","value":` + value + `},7]},{}]} `))
	}
	for _, entry := range []string{`null`, `{}`, `[]`, `[null]`, `[5]`, `[{"changes":null}]`, `[{"changes":[null]}]`, `[{"changes":["a"],"time":{}}]`} {
		f.Add([]byte(`{"entry":` + entry + `}`))
	}
	f.Fuzz(func(t *testing.T, body []byte) { compareRead(t, body) })
}

func TestReadGenerated(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { compareRead(t, generator{t}.request()) })
}

// compareRead holds what is read of a body against what encoding/json reads.
func compareRead(t rapid.TB, body []byte) {
	t.Helper()
	if d, err := parse(body); err == nil {
		ambiguous := isAmbiguous(d)
		d.release()
		if ambiguous {
			return
		}
	} else if json.Valid(body) {
		return // too deep or too dense
	}
	want, wantErr := readWithJSON(body)
	got, err := Read(body)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%s: error %v, want %v", body, err, wantErr)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s: (-want +got)\n%s", body, diff)
	}
	if err != nil {
		return
	}
	for i := range got.Messages {
		answer, ok := got.Messages[i].Answer()
		want := Answer{Kind: answer.Kind, Raw: answer.Raw}
		_ = json.Unmarshal(answer.Raw, &want) // not always an object
		if diff := cmp.Diff(want, answer); ok && diff != "" {
			t.Fatalf("%s: (-want +got)\n%s", body, diff)
		}
	}
}

// readWithJSON is Read by way of encoding/json.
func readWithJSON(body []byte) (*Change, error) {
	var request struct {
		Entry []struct {
			Time    Text     `json:"time"`
			Changes []Change `json:"changes"`
		} `json:"entry"`
	}
	var whole struct { // the same again, for ErrorInfo.Raw
		Entry []struct {
			Changes []struct {
				Value struct {
					Statuses []struct {
						Errors []json.RawMessage `json:"errors"`
					} `json:"statuses"`
				} `json:"value"`
			} `json:"changes"`
		} `json:"entry"`
	}
	for _, into := range []any{&request, &whole} {
		var wrongType *json.UnmarshalTypeError
		if err := json.Unmarshal(body, into); err != nil && !errors.As(err, &wrongType) {
			return nil, err
		}
	}
	if len(request.Entry) == 0 || len(request.Entry[0].Changes) == 0 {
		return nil, errors.New("no change")
	}
	change := &request.Entry[0].Changes[0]
	change.Time = request.Entry[0].Time
	for i, status := range whole.Entry[0].Changes[0].Value.Statuses {
		for j, raw := range status.Errors {
			change.Statuses[i].Errors[j].Raw = raw
		}
	}
	return change, nil
}

// isAmbiguous reports whether an object in a document has a name that Read knows
// twice, or in another case.
func isAmbiguous(d *document) bool {
	known := map[string]bool{"entry": true, "changes": true, "time": true}
	learnt := readers{}
	learnt.of(reflect.TypeFor[Change]())
	learnt.of(reflect.TypeFor[Answer]())
	for _, places := range learnt {
		for name := range places {
			known[name] = true
		}
	}
	for n := range d.nodes {
		seen := map[string]bool{}
		for child := range d.children(n) {
			name := string(d.name(child))
			for k := range known {
				if seen[k] && k == name || k != name && strings.EqualFold(k, name) {
					return true
				}
			}
			seen[name] = true
		}
	}
	return false
}

// TestReadTakesTheLastOfANameAndNoOther: what a receiver's parser would.
func TestReadTakesTheLastOfANameAndNoOther(t *testing.T) {
	t.Parallel()
	got := read(t, `{"contacts":[{"wa_id":"1"},{}],"contacts":[{"user_id":"A"}],"Event":"X","event":"Y",
		"messages":[{"id":"1","context":{"id":"2"},"context":{"forwarded":true},"text":{"body":"a"},"text":[],"ID":"3"}]}`)
	want := &Change{Time: "5", Field: "messages", Value: Value{
		Contacts: []Contact{{UserID: "A"}}, Event: "Y", Messages: []Message{{ID: "1"}},
	}}
	want.Messages[0].Context.Forwarded = true
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
