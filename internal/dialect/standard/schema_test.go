package standard_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/waypost-gateway/waypost/internal/dialect/standard"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func schemaOf(t *testing.T, eventType string) *jsonschema.Schema {
	t.Helper()
	text, ok := standard.Schema(eventType)
	if !ok {
		t.Fatalf("%s has no schema", eventType)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("hook.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("hook.json") // checks it against the meta-schema, too
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func validate(t *testing.T, schema *jsonschema.Schema, hook []byte) error {
	t.Helper()
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(hook))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(instance)
}

func TestSamplesFitTheirSchemas(t *testing.T) {
	t.Parallel()
	schemas := map[string]*jsonschema.Schema{}
	for name, event := range events(t) {
		if schemas[event.Type] == nil {
			schemas[event.Type] = schemaOf(t, event.Type)
		}
		if err := validate(t, schemas[event.Type], encode(t, event).Body); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSchemasRefuse: the schemas say something.
func TestSchemasRefuse(t *testing.T) {
	t.Parallel()
	text := string(encode(t, &waypost.Event{
		ID: 1 << 50, Type: "whatsapp.message.text", TenantID: 1, NumberID: 1, Form: waypost.FormCloud, WABAID: "1",
		Body: []byte(`{"entry":[{"id":"1","changes":[{"value":{"messages":[{"id":"wamid.A","timestamp":"1","type":"text","text":{"body":"hi"}}]},"field":"messages"}]}]}`),
	}).Body)
	schema := schemaOf(t, "whatsapp.message.text")
	if err := validate(t, schema, []byte(text)); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string][2]string{
		"another type":        {"whatsapp.message.text", "whatsapp.status.read"},
		"no event id":         {`"id":"evt_`, `"id":"`},
		"another tenant's id": {"ten_", "num_"},
		"no time":             {`"timestamp":"20`, `"timestamp":"yesterday 20`},
		"another version":     {`"version":1`, `"version":2`},
		"no message":          {`"message":`, `"status":`},
		"text without body":   {`"body":"hi"`, `"b":"hi"`},
		"text that is none":   {`"text":{`, `"image":{`},
		"id that is no text":  {`"wamid.A"`, `7`},
	} {
		changed := strings.Replace(text, change[0], change[1], 1)
		if changed == text {
			t.Errorf("%s: nothing was changed in %s", what, text)
		}
		if err := validate(t, schema, []byte(changed)); err == nil {
			t.Errorf("%s: taken: %s", what, changed)
		}
	}
}

func TestSchemaHandler(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.Handle("/schemas/", standard.SchemaHandler())
	for path, title := range map[string]string{
		"/schemas/whatsapp.message.text.json":                   "A message that came in",
		"/schemas/whatsapp.message.hologram.json":               "A message that came in",
		"/schemas/whatsapp.message.json":                        "A message that came in",
		"/schemas/whatsapp.status.read.json":                    "What became of a message that was sent",
		"/schemas/whatsapp.error.json":                          "An error that is about no single message",
		"/schemas/whatsapp.message_template_status_update.json": "A change of any other of Meta's fields",
		"/schemas/whatsapp.messages.json":                       "A change of any other of Meta's fields",
		"/schemas/platform.whatsapp.json":                       "An event of the platform",
		"/schemas/unparsed.json":                                "A request that was not understood",
	} {
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		var schema struct {
			Dialect string `json:"$schema"`
			Title   string `json:"title"`
		}
		if err := json.Unmarshal(answer.Body.Bytes(), &schema); err != nil || answer.Code != http.StatusOK {
			t.Fatalf("%s: status %d, %v", path, answer.Code, err)
		}
		if schema.Title != title || schema.Dialect != "https://json-schema.org/draft/2020-12/schema" {
			t.Errorf("%s: %+v", path, schema)
		}
		if got := answer.Header().Get("Content-Type"); got != "application/schema+json" {
			t.Errorf("%s: answered as %s", path, got)
		}
	}
	for _, path := range []string{
		"/schemas/", "/schemas/acme.order.json", "/schemas/whatsapp.message.text", "/schemas/whatsapp.message.a.b.json",
		"/schemas/.json", "/schemas/whatsapp.json", "/schemas/whatsapp.field.json.json", "/schemas/WHATSAPP.ERROR.json",
	} {
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if answer.Code != http.StatusNotFound || answer.Header().Get("Content-Type") != "application/problem+json" || !json.Valid(answer.Body.Bytes()) {
			t.Errorf("%s: status %d, %s", path, answer.Code, answer.Body)
		}
	}
	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/schemas/unparsed.json", nil))
	if answer.Code != http.StatusMethodNotAllowed || answer.Header().Get("Allow") == "" {
		t.Errorf("POST: status %d", answer.Code)
	}
}
