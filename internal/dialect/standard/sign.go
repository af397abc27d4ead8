package standard

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/signature"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"

	secretPrefix    = "whsec_"
	publicKeyPrefix = "whpk_"

	// keyPurpose keeps the Ed25519 key apart from whatever else a secret is used
	// for. Receivers hold public keys made with it: it must never change.
	keyPurpose = "waypost standard webhooks v1a"
)

// sign gives the headers for a body: the event's id, the time of this attempt,
// and signatures by every secret in force, newest first.
func sign(item dialect.Item, id string, body []byte) (http.Header, error) {
	timestamp := strconv.FormatInt(item.Now.Unix(), 10)
	opening := []byte(id + "." + timestamp + ".") // of what is signed, before the body

	var hmacs, ed25519s []string
	for _, secret := range item.Endpoint.LiveSecrets(item.Now) {
		key, err := keyOf(secret)
		if err != nil {
			return nil, err
		}
		sum := signature.SHA256(string(key), opening, body)
		hmacs = append(hmacs, labelled(schemeHMAC, sum[:]))
		if item.Endpoint.OptionString(optionSignature, schemeHMAC) == schemeEd25519 {
			content := slices.Concat(opening, body)
			ed25519s = append(ed25519s, labelled(schemeEd25519, ed25519.Sign(privateKey(key), content)))
		}
	}
	if len(hmacs) == 0 {
		return nil, errors.New("sign hook: the endpoint has no secret in force")
	}
	return http.Header{
		headerID:        {id},
		headerTimestamp: {timestamp},
		headerSignature: {strings.Join(append(hmacs, ed25519s...), " ")},
	}, nil
}

func labelled(scheme string, sum []byte) string {
	return scheme + "," + base64.StdEncoding.EncodeToString(sum)
}

// keyOf are the bytes of a secret, which is whsec_ and their base64.
func keyOf(secret waypost.Secret) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret.Reveal(), secretPrefix))
	if err != nil || len(key) == 0 {
		return nil, errors.New("sign hook: a secret of the endpoint is not whsec_ and base64") // the cause would quote it
	}
	return key, nil
}

// privateKey derives the Ed25519 key that goes with a secret: its seed is
// HKDF-SHA256 of the secret's bytes, without salt, for keyPurpose.
func privateKey(key []byte) ed25519.PrivateKey {
	seed, err := hkdf.Key(sha256.New, key, nil, keyPurpose, ed25519.SeedSize)
	if err != nil {
		panic("derive key: " + err.Error()) // the length asked for is too much, and it isn't
	}
	return ed25519.NewKeyFromSeed(seed)
}

// PublicKey gives the key that checks Ed25519 signatures made with a secret, as
// whpk_ and base64: the form that libraries take. It is empty for a text that
// is no such secret.
func PublicKey(secret waypost.Secret) string {
	key, err := keyOf(secret)
	if err != nil {
		return ""
	}
	public := privateKey(key).Public().(ed25519.PublicKey)
	return publicKeyPrefix + base64.StdEncoding.EncodeToString(public)
}
