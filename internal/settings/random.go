package settings

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
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

const keyPrefix = "wp_"

// newKeyText is a key of 256 bits. It is safe in headers, URLs and JSON.
func newKeyText() waypost.Secret {
	return waypost.Secret(keyPrefix + lowerBase32.EncodeToString(random(32)))
}

// derivedKeyText is a key of 256 bits that only the holder of the secret can
// make, and make again.
func derivedKeyText(secret []byte, seed string) waypost.Secret {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(seed))
	return waypost.Secret(keyPrefix + lowerBase32.EncodeToString(mac.Sum(nil)))
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
