// Package signature makes and checks the HMACs that webhooks are signed with.
//
// A signature covers the bytes of a body as they are on the wire: sign after
// the body is final, check before anything is decoded. Checking takes the same
// time wherever a wrong signature differs, and fails closed: an empty secret,
// a missing header or one in another form never verifies.
package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
)

const metaPrefix = "sha256="

// Meta gives the value of the X-Hub-Signature-256 header for a body: "sha256="
// and the HMAC-SHA256 in lower-case hex.
func Meta(secret string, body []byte) string {
	return metaPrefix + HexSHA256(secret, body)
}

// VerifyMeta reports whether header is the X-Hub-Signature-256 value that
// secret gives for body. Only the exact form of Meta is taken: the lower-case
// prefix, 64 lower-case hex digits, nothing around them.
func VerifyMeta(secret, header string, body []byte) bool {
	if secret == "" || len(header) != len(metaPrefix)+hex.EncodedLen(sha256.Size) {
		return false
	}
	return hmac.Equal([]byte(header), []byte(Meta(secret, body)))
}

// HexSHA256 is the HMAC-SHA256 of body in bare lower-case hex.
func HexSHA256(secret string, body []byte) string {
	return hex.EncodeToString(sum(secret, body))
}

// Base64SHA256 is the HMAC-SHA256 of body in padded standard base64.
func Base64SHA256(secret string, body []byte) string {
	return base64.StdEncoding.EncodeToString(sum(secret, body))
}

func sum(secret string, body []byte) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return mac.Sum(nil)
}
