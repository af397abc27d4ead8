package secret

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func key(b byte) Key { return Key(bytes.Repeat([]byte{b}, KeySize)) }

func text(k Key) string { return base64.StdEncoding.EncodeToString(k[:]) }

func newBox(t *testing.T, keys ...Key) *Box {
	t.Helper()
	box, err := NewBox(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func TestWhatWasSealedOpens(t *testing.T) {
	t.Parallel()
	box := newBox(t, key(1), key(2))
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		context := rapid.String().Draw(t, "context")
		sealed, err := box.Seal(plain, context)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := box.Open(sealed, context)
		if err != nil || !bytes.Equal(opened, plain) {
			t.Fatalf("got %x, %v", opened, err)
		}
		again, _ := box.Seal(plain, context)
		if bytes.Equal(sealed, again) {
			t.Fatal("sealing twice gave the same bytes")
		}
		if len(plain) > 3 && bytes.Contains(sealed, plain) {
			t.Fatal("the sealed value shows the plain one")
		}
		if _, err := box.Open(sealed, context+"x"); err == nil {
			t.Fatal("opened for another context")
		}
		bit := rapid.IntRange(0, len(sealed)*8-1).Draw(t, "bit")
		sealed[bit/8] ^= 1 << (bit % 8)
		if _, err := box.Open(sealed, context); err == nil {
			t.Fatalf("opened with bit %d changed", bit)
		}
	})
}

func TestRotation(t *testing.T) {
	t.Parallel()
	before, during, after := newBox(t, key(1)), newBox(t, key(2), key(1)), newBox(t, key(2))
	old, _ := before.Seal([]byte("v"), "c")
	if plain, err := during.Open(old, "c"); err != nil || string(plain) != "v" {
		t.Errorf("the old key's value during rotation: %q, %v", plain, err)
	}
	renewed, _ := during.Seal([]byte("v"), "c")
	if plain, err := after.Open(renewed, "c"); err != nil || string(plain) != "v" {
		t.Errorf("the new key's value after rotation: %q, %v", plain, err)
	}
	if _, err := after.Open(old, "c"); err == nil || !strings.Contains(err.Error(), "not configured") {
		t.Errorf("the old key's value after rotation: %v", err)
	}
}

func TestOpenRefusesWhatIsNotSealed(t *testing.T) {
	t.Parallel()
	box := newBox(t, key(1))
	sealed, _ := box.Seal(nil, "")
	for n := range len(sealed) {
		if _, err := box.Open(sealed[:n], ""); err == nil {
			t.Errorf("opened the first %d bytes", n)
		}
	}
	if _, err := NewBox(); err == nil {
		t.Error("a box without keys")
	}
}

func TestTheKeyIsMadeOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret.key")
	first, err := LoadOrMakeKey(path)
	if err != nil || first == (Key{}) {
		t.Fatalf("first: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if second, err := LoadOrMakeKey(path); err != nil || second != first {
		t.Errorf("second: %v, or another key", err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestManyMakeOneKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret.key")
	const n = 16
	var keys [n]Key
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			key, err := LoadOrMakeKey(path)
			if err != nil {
				t.Error(err)
			}
			keys[i] = key
		})
	}
	wg.Wait()
	for _, k := range keys {
		if k != keys[0] {
			t.Fatal("two processes have different keys")
		}
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"open":   {text(key(1)), 0o644, "chmod 600"},
		"broken": {"s3cret", 0o600, "openssl rand -base64 32"},
		"empty":  {"", 0o600, "no key"},
		"two":    {text(key(1)) + "\n" + text(key(2)), 0o600, "WAYPOST_SECRET_KEY"},
	}
	for name, file := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(file.text), file.mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadOrMakeKey(path)
		checkRefusal(t, err, file.want)
	}
	_, err := LoadOrMakeKey(filepath.Join(dir, "no", "such", "dir"))
	checkRefusal(t, err, "make key file")
	for value, want := range map[string]string{
		"c2hvcnQ=":               "key 1 of 1",
		text(key(1)) + ",s3cret": "key 2 of 2",
		" , ":                    "no key",
	} {
		_, err := ParseKeys(value)
		checkRefusal(t, err, want)
	}
}

func checkRefusal(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want …%s…", err, want)
	} else if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error tells the key: %v", err)
	}
}

func TestParseKeysTakesEveryBase64(t *testing.T) {
	t.Parallel()
	k := key(0xfb) // has characters that differ between the alphabets
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		keys, err := ParseKeys(" " + encoding.EncodeToString(k[:]) + ",\n" + text(key(2)) + "\n")
		if err != nil || len(keys) != 2 || keys[0] != k || keys[1] != key(2) {
			t.Errorf("got %d keys, %v", len(keys), err)
		}
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, key(1)); got != "[redacted]" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	a, b := NewToken("wp_"), NewToken("wp_")
	if a == b || len(a) != len("wp_")+43 || !strings.HasPrefix(a, "wp_") {
		t.Errorf("got %q and %q", a, b)
	}
	if got := fmt.Sprintf("%x", Digest("abc")); got != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("Digest is not SHA-256: %s", got)
	}
}
