package emulator

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// SameBytes checks that a body arrived exactly as it was sent. The error says
// where the two part.
func SameBytes(want, got []byte) error {
	if bytes.Equal(want, got) {
		return nil
	}
	at := 0
	for at < len(want) && at < len(got) && want[at] == got[at] {
		at++
	}
	return fmt.Errorf("the bytes differ from byte %d on: want %q, got %q", at, around(want, at), around(got, at))
}

func around(body []byte, at int) []byte {
	return body[max(at-10, 0):min(at+20, len(body))]
}

// SameJSON checks that two bodies are the same JSON value: the order of an
// object's members and the way text is escaped don't matter, the digits of a
// number do. The error names the place where they differ.
func SameJSON(want, got []byte) error { return compareJSON(want, got, false) }

// HoldsJSON checks that got holds everything in want; objects in got may have
// further members.
func HoldsJSON(want, got []byte) error { return compareJSON(want, got, true) }

func compareJSON(want, got []byte, further bool) error {
	wantValue, err := decodeJSON(want)
	if err != nil {
		return fmt.Errorf("read what was expected: %w", err)
	}
	gotValue, err := decodeJSON(got)
	if err != nil {
		return fmt.Errorf("read what arrived: %w", err)
	}
	return compareValues("$", wantValue, gotValue, further)
}

func decodeJSON(body []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return value, nil
}

func compareValues(at string, want, got any, further bool) error {
	switch want := want.(type) {
	case map[string]any:
		if got, ok := got.(map[string]any); ok {
			return compareObjects(at, want, got, further)
		}
	case []any:
		if got, ok := got.([]any); ok {
			return compareArrays(at, want, got, further)
		}
	default:
		// What is left are texts, numbers as written, booleans and null, and an
		// object or array on the other side, which is never equal to them.
		switch got.(type) {
		case map[string]any, []any:
		default:
			if want == got {
				return nil
			}
		}
	}
	return fmt.Errorf("%s: want %s, got %s", at, show(want), show(got))
}

func compareObjects(at string, want, got map[string]any, further bool) error {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		value, present := got[key]
		if !present {
			return fmt.Errorf("%s.%s is missing, want %s", at, key, show(want[key]))
		}
		if err := compareValues(at+"."+key, want[key], value, further); err != nil {
			return err
		}
	}
	if further {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, wanted := want[key]; !wanted {
			return fmt.Errorf("%s.%s is not wanted, got %s", at, key, show(got[key]))
		}
	}
	return nil
}

func compareArrays(at string, want, got []any, further bool) error {
	if len(want) != len(got) {
		return fmt.Errorf("%s: want %d elements, got %d", at, len(want), len(got))
	}
	for i := range want {
		if err := compareValues(fmt.Sprintf("%s[%d]", at, i), want[i], got[i], further); err != nil {
			return err
		}
	}
	return nil
}

func show(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	const enough = 120
	if len(text) > enough {
		return string(text[:enough]) + "…"
	}
	return string(text)
}

// CheckHub checks Meta's own signature header, X-Hub-Signature-256.
func CheckHub(secret string, r Request) error {
	digest, ok := strings.CutPrefix(r.Header.Get("X-Hub-Signature-256"), "sha256=")
	if !ok {
		return errors.New("X-Hub-Signature-256 is missing or does not start with sha256=")
	}
	return checkHex(secret, digest, r.Body)
}

// CheckHex checks a signature header that is the bare lower-case hex of the
// body's HMAC-SHA256.
func CheckHex(header, secret string, r Request) error {
	if r.Header.Get(header) == "" {
		return fmt.Errorf("%s is missing", header)
	}
	return checkHex(secret, r.Header.Get(header), r.Body)
}

func checkHex(secret, digest string, body []byte) error {
	if hex.EncodeToString(sum(secret, body)) != digest {
		return errors.New("the signature does not match the body")
	}
	return nil
}

// CheckBase64 checks a signature header that is the base64 of the body's
// HMAC-SHA256.
func CheckBase64(header, secret string, r Request) error {
	if r.Header.Get(header) == "" {
		return fmt.Errorf("%s is missing", header)
	}
	if base64.StdEncoding.EncodeToString(sum(secret, r.Body)) != r.Header.Get(header) {
		return errors.New("the signature does not match the body")
	}
	return nil
}

// CheckStandard checks the headers of the Standard Webhooks specification.
// secret is the text with its whsec_ prefix. Any one matching v1 signature is
// enough, as there are several while a secret is rotated.
func CheckStandard(secret string, r Request) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return errors.New("the secret is not whsec_ and base64")
	}
	id, timestamp := r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp")
	if id == "" || timestamp == "" {
		return errors.New("Webhook-Id or Webhook-Timestamp is missing")
	}
	signed := append([]byte(id+"."+timestamp+"."), r.Body...)
	want := "v1," + base64.StdEncoding.EncodeToString(sum(string(key), signed))
	if !slices.Contains(strings.Fields(r.Header.Get("Webhook-Signature")), want) {
		return errors.New("no v1 signature matches the body")
	}
	return nil
}

func sum(secret string, body []byte) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return mac.Sum(nil)
}
