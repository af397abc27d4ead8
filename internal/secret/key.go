package secret

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// ParseKeys reads keys written as base64, separated by commas or white space;
// the first seals. Errors count the keys and never quote them.
func ParseKeys(text string) ([]Key, error) {
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' || r == '\r' })
	if len(words) == 0 {
		return nil, errors.New("there is no key")
	}
	keys := make([]Key, len(words))
	for i, word := range words {
		bytes, err := decode(word)
		if err != nil || len(bytes) != KeySize {
			return nil, fmt.Errorf("key %d of %d is not %d bytes in base64; make one with: openssl rand -base64 32", i+1, len(words), KeySize)
		}
		keys[i] = Key(bytes)
	}
	return keys, nil
}

// decode takes base64 in either alphabet, padded or not.
func decode(word string) ([]byte, error) {
	word = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(word, "="))
	return base64.RawStdEncoding.DecodeString(word)
}

// LoadOrMakeKey reads the key in a file, or makes one and the file with it, for
// its owner's eyes only. Several processes that start at once end up with the
// same key.
func LoadOrMakeKey(path string) (Key, error) {
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := makeKey(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return Key{}, fmt.Errorf("make key file: %w", err)
	}
	return readKey(path)
}

func readKey(path string) (Key, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Key{}, fmt.Errorf("read key file: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return Key{}, fmt.Errorf("read key file: %w", err)
	}
	// Group bits are let through: volume managers set them on everything they
	// mount for a group.
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0 {
		return Key{}, fmt.Errorf("read key file: everybody on this machine can read %s; mend it with: chmod 600 %s", path, path)
	}
	keys, err := ParseKeys(string(text))
	if err != nil {
		return Key{}, fmt.Errorf("read key file %s: %w", path, err)
	}
	if len(keys) > 1 {
		return Key{}, fmt.Errorf("read key file %s: it holds %d keys; several keys go into WAYPOST_SECRET_KEY", path, len(keys))
	}
	return keys[0], nil
}

// makeKey writes a new key. The file appears whole or not at all, and never
// takes the place of another: fs.ErrExist if there is one by then.
func makeKey(path string) (err error) {
	var key Key
	rand.Read(key[:])
	temp, err := os.CreateTemp(filepath.Dir(path), ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, os.Remove(temp.Name()))
	}()
	_, err = fmt.Fprintln(temp, base64.StdEncoding.EncodeToString(key[:]))
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the file's name as durable as its content.
func syncDir(name string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
