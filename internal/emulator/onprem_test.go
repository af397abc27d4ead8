package emulator

import "testing"

func TestOnPremises(t *testing.T) {
	t.Parallel()
	m := NewMeta(Options{Numbers: []Number{{Phone: "12025550101", PhoneNumberID: "101", WABAID: "1"}}})
	for name, want := range map[string]string{
		"text":     `{"messages":[{"type":"text","text":{"body":"Is the oak shelf back in stock?"}}]}`,
		"voice":    `{"messages":[{"type":"voice","voice":{"mime_type":"audio/ogg; codecs=opus"}}]}`,
		"audio":    `{"messages":[{"type":"audio","audio":{"mime_type":"audio/mpeg"}}]}`,
		"document": `{"messages":[{"type":"document","document":{"caption":"Signed quote","filename":"quote-8841.pdf"}}]}`,
		"failed":   `{"statuses":[{"status":"failed","errors":[{"code":131047,"title":"Re-engagement message"}]}]}`,
		"error":    `{"errors":[{"code":130429,"title":"Rate limit hit"}]}`,
	} {
		item, err := m.Item(m.Numbers()[0], name)
		if err != nil {
			t.Fatal(err)
		}
		if err := HoldsJSON([]byte(want), OnPremises(item)); err != nil {
			t.Errorf("%s: %v in %s", name, err, OnPremises(item))
		}
	}
	notice, err := m.Item(m.Numbers()[0], "account_update")
	if err != nil {
		t.Fatal(err)
	}
	if body := OnPremises(notice); body != nil {
		t.Errorf("a notice has the form %s", body)
	}
}
