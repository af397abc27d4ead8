// Package secret keeps what must not be read: it seals values for the
// database, finds or makes the key they are sealed under, and makes and
// compares tokens.
//
// A Box holds one or more keys. The first seals; every one opens. A key is
// changed without downtime by putting a new one in front, restarting, and
// taking the old one away once everything was sealed anew.
//
// What happens on failure: a value that was sealed under a key the Box does
// not hold, that belongs to another context, or of which one bit was changed
// does not open, and the error says which of these can be the case without a
// word of the value.
package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

// KeySize is the length of a key in bytes (AES-256).
const KeySize = 32

// Key is one key to seal under.
type Key [KeySize]byte

// String hides the key.
func (Key) String() string { return "[redacted]" }

// GoString hides the key from %#v.
func (Key) GoString() string { return "[redacted]" }

// A sealed value is
//
//	version (1 byte) | key id (4) | nonce (12) | ciphertext | tag (16)
//
// with AES-256-GCM, where version, key id and context are authenticated too.
const (
	version   = 1
	idSize    = 4
	prefixLen = 1 + idSize
)

type keyID [idSize]byte

// id names a key in what it sealed. It is a digest, so it tells nothing.
func (k Key) id() keyID {
	sum := sha256.Sum256(append([]byte("waypost key id\x00"), k[:]...))
	return keyID(sum[:idSize])
}

// Box seals and opens. It is safe for concurrent use.
type Box struct {
	seal keyID // of the first key
	open map[keyID]cipher.AEAD
}

// NewBox makes a Box that seals under the first key and opens under all.
func NewBox(keys ...Key) (*Box, error) {
	if len(keys) == 0 {
		return nil, errors.New("make box: no key")
	}
	box := &Box{seal: keys[0].id(), open: map[keyID]cipher.AEAD{}}
	for _, key := range keys {
		block, err := aes.NewCipher(key[:])
		if err != nil {
			return nil, fmt.Errorf("make box: %w", err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("make box: %w", err)
		}
		box.open[key.id()] = aead
	}
	return box, nil
}

// Seal encrypts plain for the given context (the row and column it will be
// stored in). Sealing the same value twice gives different bytes.
func (b *Box) Seal(plain []byte, context string) ([]byte, error) {
	aead := b.open[b.seal]
	sealed := make([]byte, prefixLen, prefixLen+len(plain)+aead.Overhead())
	sealed[0] = version
	copy(sealed[1:], b.seal[:])
	return aead.Seal(sealed, nil, plain, additional(sealed, context)), nil
}

// Open gives back what Seal was given for the same context.
func (b *Box) Open(sealed []byte, context string) ([]byte, error) {
	if len(sealed) < prefixLen || sealed[0] != version {
		return nil, errors.New("open sealed value: it was not sealed by this program")
	}
	prefix := sealed[:prefixLen]
	aead, ok := b.open[keyID(prefix[1:])]
	if !ok {
		return nil, errors.New("open sealed value: it was sealed under a key that is not configured now (see WAYPOST_SECRET_KEY)")
	}
	plain, err := aead.Open(nil, nil, sealed[prefixLen:], additional(prefix, context))
	if err != nil {
		return nil, errors.New("open sealed value: it was changed, or belongs to another row")
	}
	return plain, nil
}

func additional(prefix []byte, context string) []byte {
	return append(prefix[:prefixLen:prefixLen], context...)
}

// NewToken makes a token that can't be guessed: the prefix and 256 random
// bits, as text that needs no escaping in URLs and headers.
func NewToken(prefix string) string {
	var random [32]byte
	rand.Read(random[:]) // never fails: the program dies rather than go on without randomness
	return prefix + base64.RawURLEncoding.EncodeToString(random[:])
}

// Digest is what is stored of a token in place of it. A token of NewToken
// needs no slow hash: there is nothing to guess.
func Digest(text string) [32]byte { return sha256.Sum256([]byte(text)) }
