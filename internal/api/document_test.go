package api_test

import (
	"bytes"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/waypost-gateway/waypost/internal/api"
)

var update = flag.Bool("update", false, "write docs/openapi.json anew")

// TestDocument keeps docs/openapi.json what the types say. After a change run
// go test ./internal/api -run Document -update.
func TestDocument(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "docs", "openapi.json")
	document, err := api.Document()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, document, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(committed, document) {
		t.Errorf("%s is not what is served; run this test with -update", path)
	}
	out := start(t).send("GET", "/api/v1/openapi.json", "", "Authorization", "")
	if out.Status != http.StatusOK || out.Body["openapi"] != "3.1.0" {
		t.Errorf("served description: %d", out.Status)
	}
}

// description is the OpenAPI document, for checking that answers are as it says.
type description struct {
	paths   map[string]any
	mu      sync.Mutex // a compiler is not for several goroutines
	schemas *jsonschema.Compiler
}

const documentURL = "mem:openapi.json"

var described = sync.OnceValue(func() *description {
	document, err := api.Document()
	if err != nil {
		panic(err)
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		panic(err)
	}
	d := &description{paths: parsed.(map[string]any)["paths"].(map[string]any), schemas: jsonschema.NewCompiler()}
	if err := d.schemas.AddResource(documentURL, parsed); err != nil {
		panic(err)
	}
	return d
})

// check holds an answer against the description.
func (d *description) check(tb testing.TB, r *http.Request, out reply) {
	tb.Helper()
	mux := http.NewServeMux()
	for path := range d.paths {
		mux.Handle(path, http.NotFoundHandler())
	}
	_, path := mux.Handler(r)
	methods, _ := d.paths[path].(map[string]any)
	operation, ok := methods[strings.ToLower(r.Method)].(map[string]any)
	if !ok {
		return // no such call; the answer says so
	}
	responses := operation["responses"].(map[string]any)
	status, media := strconv.Itoa(out.Status), "application/json"
	if _, ok := responses[status]; !ok {
		if out.Status < http.StatusBadRequest {
			tb.Errorf("%s %s answers %s, which is not described", r.Method, path, status)
			return
		}
		status, media = "default", "application/problem+json"
	}
	content, _ := responses[status].(map[string]any)["content"].(map[string]any)
	if content == nil {
		if out.Text != "" {
			tb.Errorf("%s %s answers %s with a body, which is not described", r.Method, path, status)
		}
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	pointer := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D", "+", "%2B")
	schema, err := d.schemas.Compile(documentURL + "#/paths/" + pointer.Replace(path) + "/" + strings.ToLower(r.Method) +
		"/responses/" + status + "/content/" + pointer.Replace(media) + "/schema")
	if err != nil {
		tb.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(out.Text))
	if err != nil {
		tb.Fatal(err)
	}
	if err := schema.Validate(value); err != nil {
		tb.Errorf("%s %s: the answer is not as described: %v\n%s", r.Method, path, err, out.Text)
	}
}
