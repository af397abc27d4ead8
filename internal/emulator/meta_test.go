package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestSign(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"object":"whatsapp_business_account","entry":[]}`:    "sha256=6849977e5b5086012d3bab9d0f9c158559cd81889200beaa1e0f33f7559228ba",
		`{"object": "whatsapp_business_account", "entry": []}`: "sha256=299a9ccfc5edbb675efe7ba7f810365217be3caddfb45594df6d4b329e1927d0",
		`{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"field":"messages","value":{"t":"Gr\u00fc\u00dfe \ud83e\uddf5"}}]}]}`: "sha256=6a124a211d83590f85112671c4f441c066376090e2c51ea203859195543fb173",
	} {
		if got := Sign("waypost_test_secret", []byte(body)); got != want {
			t.Errorf("Sign(%s) = %s, want %s", body, got, want)
		}
	}
}

func TestItemsHaveTheShapeOfMetasSamples(t *testing.T) {
	t.Parallel()
	m := NewMeta(Options{})
	files, err := filepath.Glob("testdata/shapes/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("samples: %v, %v", files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			sample, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			item, err := m.Item(m.Numbers()[0], name)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(shape(t, sample), shape(t, Body(item))); diff != "" {
				t.Errorf("members, in order (-sample +made):\n%s", diff)
			}
		})
	}
}

// shape lists the tokens of a JSON text with every value but the names of
// members replaced by its type.
func shape(t *testing.T, body []byte) []string {
	t.Helper()
	var tokens []string
	var inObject []bool // by depth
	name := false       // the next text is a member's name
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return tokens
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case json.Delim:
			tokens = append(tokens, token.String())
			switch token {
			case '{', '[':
				inObject = append(inObject, token == '{')
			default:
				inObject = inObject[:len(inObject)-1]
			}
		case string:
			if name {
				tokens = append(tokens, token)
				name = false
				continue
			}
			tokens = append(tokens, "text")
		default:
			tokens = append(tokens, fmt.Sprintf("%T", token))
		}
		name = len(inObject) > 0 && inObject[len(inObject)-1]
	}
}

func TestItemsMakeValidDistinctBodies(t *testing.T) {
	t.Parallel()
	m := NewMeta(Options{})
	ids := map[string]string{}
	for _, name := range Names() {
		item, err := m.Item(m.Numbers()[0], name)
		if err != nil {
			t.Fatal(err)
		}
		body := Body(item)
		if !json.Valid(body) {
			t.Errorf("%s: not JSON: %s", name, body)
		}
		for i, b := range body {
			if b >= utf8.RuneSelf || (b == '/' && body[i-1] != '\\') {
				t.Errorf("%s: byte %d (%q) is not escaped as Meta does", name, i, b)
			}
		}
		if earlier, taken := ids[item.ID]; taken && item.ID != "" {
			t.Errorf("%s has the id of %s", name, earlier)
		}
		ids[item.ID] = name
	}
	if _, err := m.Item(m.Numbers()[0], "telegram"); err == nil {
		t.Error("an item of no known name was made")
	}
}

func TestSameSeedSameTraffic(t *testing.T) {
	t.Parallel()
	traffic := func(seed uint64) []byte {
		m := NewMeta(Options{Seed: seed})
		var items []Item
		for _, n := range m.Numbers() {
			for _, name := range Names() {
				item, err := m.Item(n, name)
				if err != nil {
					t.Fatal(err)
				}
				items = append(items, item)
			}
		}
		return Body(items...)
	}
	if !bytes.Equal(traffic(7), traffic(7)) {
		t.Error("the same seed gave different traffic")
	}
	if bytes.Equal(traffic(7), traffic(8)) {
		t.Error("different seeds gave the same traffic")
	}
}

func TestBatchHoldsEveryItemUnderItsOwnNumber(t *testing.T) {
	t.Parallel()
	m := NewMeta(Options{Numbers: []Number{
		{Phone: "12025550101", PhoneNumberID: "101", WABAID: "1"},
		{Phone: "12025550102", PhoneNumberID: "102", WABAID: "1"},
		{Phone: "12025550103", PhoneNumberID: "103", WABAID: "2"},
	}})
	n := m.Numbers()
	review, err := m.Item(n[0], "account_review_update")
	if err != nil {
		t.Fatal(err)
	}
	body := Body(
		m.Text(n[0], "one"), m.Text(n[1], "two"), m.Text(n[0], "three"),
		m.Status(m.NewSent(n[0]), "read"), m.Text(n[2], "four"), review,
	)
	var got struct {
		Entry []struct {
			ID      string
			Time    int64
			Changes []struct {
				Field string
				Value struct {
					Decision string
					Metadata struct {
						PhoneNumberID string `json:"phone_number_id"`
					}
					Messages []struct{ Text struct{ Body string } }
					Statuses []struct{ Status string }
				}
			}
		}
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range got.Entry {
		for _, c := range e.Changes {
			line := fmt.Sprint(e.ID, " ", e.Time != 0, " ", c.Field, " ", c.Value.Metadata.PhoneNumberID, c.Value.Decision)
			for _, message := range c.Value.Messages {
				line += " " + message.Text.Body
			}
			for _, status := range c.Value.Statuses {
				line += " " + status.Status
			}
			lines = append(lines, line)
		}
	}
	want := []string{
		"1 false messages 101 one three",
		"1 false messages 102 two",
		"1 false messages 101 read",
		"2 false messages 103 four",
		"1 true account_review_update APPROVED",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("batch (-want +got):\n%s", diff)
	}
}

func TestStringsSurviveMetasEscapes(t *testing.T) {
	t.Parallel()
	if got, want := string(write(nil, "ü/🧵\"\\\n\x01")), `"\u00fc\/\ud83e\uddf5\"\\\n\u0001"`; got != want {
		t.Errorf("write = %s, want %s", got, want)
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		var back string
		if err := json.Unmarshal(write(nil, text), &back); err != nil || back != text {
			t.Fatalf("%q came back as %q, %v", text, back, err)
		}
	})
}
