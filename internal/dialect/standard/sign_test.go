package standard_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	oracle "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/dialect/dialecttest"
	"github.com/waypost-gateway/waypost/internal/dialect/standard"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var v1a = map[string]any{"signature": "v1a"}

func anEvent() *waypost.Event {
	return &waypost.Event{ID: 1 << 50, Type: "acme.order", TenantID: 1, Form: waypost.FormData, Body: []byte("{\"n\" : 1,\n\"t\":\"Gr\u00fc\u00dfe\"}")}
}

func hookOf(t *testing.T, item dialect.Item) dialect.Hook {
	t.Helper()
	hook, err := standard.New().Encode(item)
	if err != nil {
		t.Fatal(err)
	}
	return hook
}

// verifies asks the specification's own library.
func verifies(t *testing.T, secret string, hook dialect.Hook) bool {
	t.Helper()
	receiver, err := oracle.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return receiver.VerifyIgnoringTimestamp(hook.Body, hook.Header) == nil
}

func TestLibraryVerifies(t *testing.T) {
	t.Parallel()
	for name, event := range events(t) {
		hook := encode(t, event)
		if !verifies(t, secret, hook) {
			t.Errorf("%s: the hook does not verify", name)
		}
		if verifies(t, oldSecret, hook) {
			t.Errorf("%s: the hook verifies with another secret", name)
		}
		if id := hook.Header.Get("webhook-id"); id != event.ID.String() {
			t.Errorf("%s: webhook-id is %s", name, id)
		}
	}
}

// TestTimestamp: it is the attempt's and not the event's, whose id stays.
func TestTimestamp(t *testing.T) {
	t.Parallel()
	first, later := item(anEvent(), nil), item(anEvent(), nil)
	later.Attempt, later.Now = 2, first.Now.Add(5*time.Second)
	a, b := hookOf(t, first), hookOf(t, later)
	if a.Header.Get("webhook-timestamp") != "1767614400" || b.Header.Get("webhook-timestamp") != "1767614405" {
		t.Errorf("timestamps %v and %v", a.Header, b.Header)
	}
	if a.Header.Get("webhook-id") != b.Header.Get("webhook-id") || !bytes.Equal(a.Body, b.Body) {
		t.Error("a second attempt is another hook")
	}
	b.Header.Set("webhook-timestamp", a.Header.Get("webhook-timestamp"))
	if verifies(t, secret, b) {
		t.Error("the timestamp is not signed")
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	hook := hookOf(t, item(anEvent(), v1a,
		waypost.SigningSecret{Value: secret},
		waypost.SigningSecret{Value: oldSecret, ExpiresAt: dialecttest.Now.Add(time.Second)},
		waypost.SigningSecret{Value: "whsec_Z29uZQ==", ExpiresAt: dialecttest.Now},
	))
	if !verifies(t, secret, hook) || !verifies(t, oldSecret, hook) {
		t.Error("a secret in force does not verify")
	}
	if verifies(t, "whsec_Z29uZQ==", hook) {
		t.Error("a secret that ran out still signs")
	}
	for _, s := range []waypost.Secret{secret, oldSecret} {
		if !verifiesEd25519(t, standard.PublicKey(s), hook) {
			t.Error("the public key of a secret in force does not verify")
		}
	}
	if newest, _, _ := strings.Cut(hook.Header.Get("webhook-signature"), " "); !strings.HasPrefix(newest, "v1,") ||
		!verifies(t, secret, dialect.Hook{Body: hook.Body, Header: withSignature(hook.Header, newest)}) {
		t.Errorf("the newest secret's signature is not first: %s", hook.Header.Get("webhook-signature"))
	}
}

func withSignature(header http.Header, signature string) http.Header {
	header = header.Clone()
	header.Set("webhook-signature", signature)
	return header
}

// verifiesEd25519 checks as the specification has it, with nothing of ours.
func verifiesEd25519(t *testing.T, publicKey string, hook dialect.Hook) bool {
	t.Helper()
	encoded, ok := strings.CutPrefix(publicKey, "whpk_")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) != ed25519.PublicKeySize {
		t.Fatalf("public key %q: %v", publicKey, err)
	}
	content := []byte(hook.Header.Get("webhook-id") + "." + hook.Header.Get("webhook-timestamp") + "." + string(hook.Body))
	for part := range strings.SplitSeq(hook.Header.Get("webhook-signature"), " ") {
		encoded, ok := strings.CutPrefix(part, "v1a,")
		if signature, err := base64.StdEncoding.DecodeString(encoded); ok && err == nil && ed25519.Verify(key, content, signature) {
			return true
		}
	}
	return false
}

func TestEd25519(t *testing.T) {
	t.Parallel()
	hook := hookOf(t, item(anEvent(), v1a))
	if !verifiesEd25519(t, standard.PublicKey(secret), hook) || verifiesEd25519(t, standard.PublicKey(oldSecret), hook) {
		t.Errorf("signed %s", hook.Header.Get("webhook-signature"))
	}
	if !verifies(t, secret, hook) {
		t.Error("the HMAC is gone")
	}
	hook.Body[0] = ' '
	if verifiesEd25519(t, standard.PublicKey(secret), hook) {
		t.Error("a changed body verifies")
	}
	if plain := hookOf(t, item(anEvent(), nil)); strings.Contains(plain.Header.Get("webhook-signature"), "v1a") {
		t.Error("Ed25519 without being asked for")
	}
}

// TestPublicKey derives a key with HKDF spelled out. Receivers keep public keys,
// so that the derivation must never change.
func TestPublicKey(t *testing.T) {
	t.Parallel()
	mac := func(key, text []byte) []byte {
		m := hmac.New(sha256.New, key)
		m.Write(text)
		return m.Sum(nil)
	}
	extracted := mac(make([]byte, sha256.Size), []byte("waypost-standard-test-secret"))
	seed := mac(extracted, append([]byte("waypost standard webhooks v1a"), 1))
	want := "whpk_" + base64.StdEncoding.EncodeToString(ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
	if got := standard.PublicKey(secret); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := standard.PublicKey("whsec_%"); got != "" {
		t.Errorf("a text that is no secret has the key %s", got)
	}
	endpoint := item(anEvent(), v1a, waypost.SigningSecret{Value: secret}, waypost.SigningSecret{Value: oldSecret}).Endpoint
	if got := standard.New().PublicKey(endpoint); got != want {
		t.Errorf("the endpoint's key is %s, want %s", got, want)
	}
	endpoint.Options = nil
	if got := standard.New().PublicKey(endpoint); got != "" {
		t.Errorf("an endpoint without Ed25519 has the key %s", got)
	}
}

func TestSecretsStayOutOfErrors(t *testing.T) {
	t.Parallel()
	_, err := standard.New().Encode(item(anEvent(), nil, waypost.SigningSecret{Value: "whsec_planted secret"}))
	if err == nil || strings.Contains(err.Error(), "planted") {
		t.Errorf("got %v", err)
	}
}

// TestNodeLibraryVerifies asks the specification's library for Node, if there is
// a Node here and npm can get it.
func TestNodeLibraryVerifies(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it installs a package")
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s here: %v", program, err)
		}
	}
	install := exec.CommandContext(ctx, "npm", "install", "--prefix", dir, "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=0", "standardwebhooks@1.0.0")
	install.WaitDelay = time.Second
	if output, err := install.CombinedOutput(); err != nil {
		t.Skipf("npm can't get the package: %v\n%s", err, output)
	}
	it := item(anEvent(), v1a, waypost.SigningSecret{Value: oldSecret}, waypost.SigningSecret{Value: secret})
	it.Now = time.Now() // the library refuses what is five minutes old
	hook := hookOf(t, it)
	headers := map[string]string{}
	for name := range hook.Header {
		headers[strings.ToLower(name)] = hook.Header.Get(name)
	}
	input, err := json.Marshal(map[string]any{"secret": secret, "body": string(hook.Body), "headers": headers})
	if err != nil {
		t.Fatal(err)
	}
	const script = `
const { Webhook } = require(process.argv[1]);
const { secret, body, headers } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const receiver = new Webhook(secret);
receiver.verify(body, headers);
let refused = false;
try { receiver.verify(body + " ", headers); } catch { refused = true; }
if (!refused) throw new Error("a changed body verifies");
`
	node := exec.CommandContext(ctx, "node", "-e", script, filepath.Join(dir, "node_modules", "standardwebhooks"))
	node.Stdin = bytes.NewReader(input)
	if output, err := node.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}
