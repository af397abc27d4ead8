package signature

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const emptyEntry = `{"object":"whatsapp_business_account","entry":[]}`

// Bodies as Meta writes them, with the header each secret gives.
var vectors = []struct{ name, secret, body, header string }{
	{
		"compact", "waypost_test_secret", emptyEntry,
		"sha256=6849977e5b5086012d3bab9d0f9c158559cd81889200beaa1e0f33f7559228ba",
	},
	{
		"spaced", "waypost_test_secret", `{"object": "whatsapp_business_account", "entry": []}`,
		"sha256=299a9ccfc5edbb675efe7ba7f810365217be3caddfb45594df6d4b329e1927d0",
	},
	{
		"escaped text", "waypost_test_secret",
		`{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"field":"messages","value":{"t":"Gr\u00fc\u00dfe \ud83e\uddf5"}}]}]}`,
		"sha256=6a124a211d83590f85112671c4f441c066376090e2c51ea203859195543fb173",
	},
	{
		"other secret", "other_secret", emptyEntry,
		"sha256=d1c00e8628268680b540b7a4595639eb2186173ad5ea7f2c7f72c24ccd1333cc",
	},
}

func TestMetaVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			body := []byte(v.body)
			if got := Meta(v.secret, body); got != v.header {
				t.Errorf("Meta gives %s, want %s", got, v.header)
			}
			if got := "sha256=" + HexSHA256(v.secret, body); got != v.header {
				t.Errorf("HexSHA256 gives %s, want %s without its prefix", got, v.header)
			}
			if !VerifyMeta(v.secret, v.header, body) {
				t.Error("the right header does not verify")
			}
		})
	}
}

func TestVerifyMetaRefuses(t *testing.T) {
	t.Parallel()
	const secret = "waypost_test_secret"
	body := []byte(emptyEntry)
	right := Meta(secret, body)
	for name, header := range map[string]string{
		"nothing":          "",
		"no prefix":        strings.TrimPrefix(right, "sha256="),
		"only the prefix":  "sha256=",
		"sha1 prefix":      "sha1=" + strings.TrimPrefix(right, "sha256="),
		"upper-case hex":   "sha256=" + strings.ToUpper(strings.TrimPrefix(right, "sha256=")),
		"upper-case name":  strings.Replace(right, "sha256=", "SHA256=", 1),
		"cut short":        right[:len(right)-1],
		"space in front":   " " + right,
		"space behind":     right + " ",
		"two values":       right + "," + right,
		"another secret's": Meta("other_secret", body),
		"no hex":           "sha256=" + strings.Repeat("z", 64),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if VerifyMeta(secret, header, body) {
				t.Errorf("%q verifies", header)
			}
		})
	}
	if VerifyMeta("", Meta("", body), body) {
		t.Error("an empty secret verifies, so anybody could sign")
	}
}

func TestVerifyMetaSeesEveryBit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringN(1, 40, -1).Draw(t, "secret")
		body := rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "body")
		header := Meta(secret, body)
		if !VerifyMeta(secret, header, body) {
			t.Fatal("own signature does not verify")
		}
		body[rapid.IntRange(0, len(body)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if VerifyMeta(secret, header, body) {
			t.Fatal("a changed body verifies")
		}
	})
}

func TestBase64SHA256(t *testing.T) {
	t.Parallel()
	// RFC 4231, test case 2.
	if got, want := Base64SHA256("Jefe", []byte("what do ya want for nothing?")), "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := HexSHA256("Jefe", []byte("what do ya want for nothing?")), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
