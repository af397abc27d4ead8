package settings

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func random(n int) []byte {
	bytes := make([]byte, n)
	rand.Read(bytes) // never fails; see crypto/rand
	return bytes
}

// newKeyText is a key of 256 bits. It is safe in headers, URLs and JSON.
func newKeyText() waypost.Secret {
	return waypost.Secret("wp_" + lowerBase32.EncodeToString(random(32)))
}

// newAccountName is a public name beside a key.
func newAccountName() string { return lowerBase32.EncodeToString(random(16)) }

func newNonce() string { return hex.EncodeToString(random(16)) }

// standardPrefix marks the secrets of Standard Webhooks, which are base64.
const standardPrefix = "whsec_"

func newSigningSecret(prefix string) waypost.Secret {
	if prefix == standardPrefix {
		return waypost.Secret(prefix + base64.StdEncoding.EncodeToString(random(32)))
	}
	return waypost.Secret(prefix + hex.EncodeToString(random(32)))
}

// signingSecretFault says what is wrong with a secret that somebody chose.
func signingSecretFault(prefix, text string) string {
	const maxLength = 256
	printable := !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
	rest, prefixed := strings.CutPrefix(text, prefix)
	switch {
	case !prefixed:
		return "must start with " + prefix
	case rest == "" || len(text) > maxLength || !printable:
		return "must be 1 to 256 printable ASCII characters without spaces"
	case prefix == standardPrefix:
		key, err := base64.StdEncoding.DecodeString(rest)
		if err != nil || len(key) < 24 || len(key) > 64 {
			return "must be whsec_ and 24 to 64 bytes in base64"
		}
	}
	return ""
}
