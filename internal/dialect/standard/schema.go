package standard

import (
	"embed"
	"encoding/json"
	"net/http"
	"path"
	"regexp"
	"strings"
)

//go:embed schemas/*.json
var schemas embed.FS

// families are the schemas that serve many types, most particular first.
var families = []struct {
	types  *regexp.Regexp
	schema string
}{
	{regexp.MustCompile(`^whatsapp\.message(\.[a-z0-9_-]+)?$`), "whatsapp.message"},
	{regexp.MustCompile(`^whatsapp\.status(\.[a-z0-9_-]+)?$`), "whatsapp.status"},
	{regexp.MustCompile(`^whatsapp\.error$`), "whatsapp.error"},
	{regexp.MustCompile(`^whatsapp\.[a-z0-9_-]+$`), "whatsapp.field"},
	{regexp.MustCompile(`^platform(\.[a-z0-9_]+)*$`), "platform"},
	{regexp.MustCompile(`^unparsed$`), "unparsed"},
}

// Schema gives the JSON Schema (draft 2020-12) of hooks of a type, which is that
// of its family: whatsapp.message.text has that of messages. There is none for
// types that only their publisher knows.
func Schema(eventType string) (schema []byte, ok bool) {
	for _, family := range families {
		if !family.types.MatchString(eventType) {
			continue
		}
		schema, err := schemas.ReadFile("schemas/" + family.schema + ".json")
		return schema, err == nil
	}
	return nil, false
}

// SchemaHandler serves the schemas to anyone, at any path whose last part is an
// event type and ".json". All else is 404 with problem details.
func SchemaHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			refuse(w, http.StatusMethodNotAllowed, "method_not_allowed", "schemas can only be read")
			return
		}
		eventType, isJSON := strings.CutSuffix(path.Base(r.URL.Path), ".json")
		schema, ok := Schema(eventType)
		if !isJSON || !ok {
			refuse(w, http.StatusNotFound, "not_found",
				"there is no schema here; ask for /schemas/{type}.json, such as /schemas/whatsapp.message.text.json")
			return
		}
		w.Header().Set("Content-Type", "application/schema+json")
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.Write(schema)
	})
}

// problem is a refusal in the form of the management API's (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

func refuse(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(problem{ // the client may be gone; nothing to do
		Type: "urn:waypost:problem:" + code, Title: http.StatusText(status), Status: status, Detail: detail, Code: code,
	})
}
