package dialecttest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waypost-gateway/waypost/internal/dialect"
)

// Fuzz sends bodies nobody thought of to the settings calls of the vectors in
// dir: every one is answered in JSON.
func Fuzz(f *testing.F, d dialect.Dialect, dir string) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil {
		f.Fatal(err)
	}
	heads := []string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, p := range parseArchive(string(text)).parts {
			head, body, ok := strings.Cut(p.text, "\n\n")
			if p.name != "request" || !ok {
				continue
			}
			f.Add(uint8(len(heads)), strings.TrimSuffix(body, "\n"))
			heads = append(heads, head)
		}
	}
	if len(heads) == 0 {
		f.Fatalf("no requests with a body in %s", dir)
	}
	f.Fuzz(func(t *testing.T, call uint8, body string) {
		w := (&vector{}).world(d)
		answer := w.do(heads[int(call)%len(heads)]+"\n\n"+body+"\n", planted)
		if !json.Valid(answer.Body.Bytes()) {
			t.Errorf("status %d with a body that is not JSON: %q", answer.Code, answer.Body)
		}
	})
}
