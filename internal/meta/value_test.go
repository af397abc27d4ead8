package meta

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
		``:                           "read event: unexpected end of JSON input",
		`{`:                          "read event: unexpected end of JSON input",
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

// FuzzRead: whatever JSON has a change can be read, and all of it can be asked.
func FuzzRead(f *testing.F) {
	names, bodies := samples(f, "")
	for _, name := range names {
		f.Add(bodies[name])
	}
	f.Add([]byte(`{"entry":[{"changes":[{"value":{"messages":[{"interactive":{"type":["a"],"a":[ ]},"edit":{"message":{"edit":5}}}],"statuses":[{"errors":[ 1]}]}}]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		change, err := Read(body)
		if err != nil {
			if json.Valid(body) && !strings.HasSuffix(err.Error(), "there is no change in it") {
				t.Errorf("%s: %v", body, err)
			}
			return
		}
		for i := range change.Messages {
			message := &change.Messages[i]
			change.ContactOf(message.From, message.UserID)
			if answer, ok := message.Answer(); ok && !json.Valid(answer.Raw) {
				t.Errorf("answer %q", answer.Raw)
			}
		}
		for _, status := range change.Statuses {
			for _, e := range status.Errors {
				if !json.Valid(e.Raw) {
					t.Errorf("error %q", e.Raw)
				}
			}
		}
	})
}
