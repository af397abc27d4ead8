package sqlite_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/waypost-gateway/waypost/internal/secret"
	"github.com/waypost-gateway/waypost/internal/store/sqlite"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// A password in a receiver's URL can't be read from the files.
func TestPasswordOfURLIsSealed(t *testing.T) {
	t.Parallel()
	box, err := secret.NewBox(secret.Key(bytes.Repeat([]byte{7}, secret.KeySize)))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Dir: dir, Sealer: box})
	if err != nil {
		t.Fatal(err)
	}
	const url = "https://planted-user:planted-word@hooks.acme.test/in"
	e := waypost.Endpoint{ID: 1, TenantID: 1, Dialect: "standard", URL: url, State: waypost.EndpointActive}
	if err := s.CreateEndpoint(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	updated, err := s.UpdateEndpoint(t.Context(), e.ID, func(e *waypost.Endpoint) error { e.InFlight = 2; return nil })
	if err != nil || updated.URL != url {
		t.Errorf("after an update the URL is %q, %v", updated.URL, err)
	}
	changes, err := s.Changes(t.Context(), 0)
	if err != nil || len(changes.Endpoints) != 1 || changes.Endpoints[0].URL != url {
		t.Errorf("read back: %v, %v", changes.Endpoints, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	found := false
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found = found || bytes.Contains(content, []byte("hooks.acme.test"))
		if bytes.Contains(content, []byte("planted")) {
			t.Errorf("%s holds the password in clear", filepath.Base(file))
		}
	}
	if !found {
		t.Error("the rest of the URL is in none of the files: this test looks in the wrong place")
	}
}
