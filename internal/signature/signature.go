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
	"hash"
	"sync"
)

const metaPrefix = "sha256="

// metaLength is how long a signature of Meta's is.
const metaLength = len(metaPrefix) + 2*sha256.Size

// Meta gives the value of the X-Hub-Signature-256 header for a body: "sha256="
// and the HMAC-SHA256 in lower-case hex.
func Meta(secret string, body []byte) string {
	text := meta(secret, body)
	return string(text[:])
}

// VerifyMeta reports whether header is the X-Hub-Signature-256 value that
// secret gives for body. Only the exact form of Meta is taken: the lower-case
// prefix, 64 lower-case hex digits, nothing around them.
func VerifyMeta(secret, header string, body []byte) bool {
	if secret == "" || len(header) != metaLength {
		return false
	}
	text := meta(secret, body)
	return hmac.Equal([]byte(header), text[:])
}

func meta(secret string, body []byte) (text [metaLength]byte) {
	sum := SHA256(secret, body)
	hex.Encode(text[copy(text[:], metaPrefix):], sum[:])
	return text
}

// HexSHA256 is the HMAC-SHA256 of body in bare lower-case hex.
func HexSHA256(secret string, body []byte) string {
	sum := SHA256(secret, body)
	return hex.EncodeToString(sum[:])
}

// Base64SHA256 is the HMAC-SHA256 of body in padded standard base64.
func Base64SHA256(secret string, body []byte) string {
	sum := SHA256(secret, body)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// SHA256 is the HMAC-SHA256 of the parts of a message, one after the other.
func SHA256(secret string, message ...[]byte) (sum [sha256.Size]byte) {
	key := keyOf(secret)
	k := key.Get().(*keyed)
	defer key.Put(k)
	k.mac.Reset()
	for _, part := range message {
		k.mac.Write(part)
	}
	k.mac.Sum(k.sum[:0])
	return k.sum
}

// keyed is a hash that a secret is worked into, with room for its result.
type keyed struct {
	mac hash.Hash
	sum [sha256.Size]byte
}

// keys are the secrets used lately, each with hashes that it is worked into
// already: that takes as long as a kilobyte of a body.
var keys = struct {
	sync.RWMutex
	of map[string]*sync.Pool
}{of: map[string]*sync.Pool{}}

// maxKeys bounds how many secrets are remembered.
const maxKeys = 4096

func keyOf(secret string) *sync.Pool {
	keys.RLock()
	key := keys.of[secret]
	keys.RUnlock()
	if key != nil {
		return key
	}
	key = &sync.Pool{New: func() any { return &keyed{mac: hmac.New(sha256.New, []byte(secret))} }}
	keys.Lock()
	defer keys.Unlock()
	if len(keys.of) >= maxKeys {
		clear(keys.of)
	}
	keys.of[secret] = key
	return key
}
