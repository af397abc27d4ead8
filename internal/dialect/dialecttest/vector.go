package dialecttest

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// vector is one golden file.
type vector struct {
	name    string
	path    string
	archive archive
	given   []seat
}

func readVectors(t *testing.T, dir string) []vector {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatalf("no vectors in %s", dir)
	}
	var vectors []vector
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		v := vector{name: strings.TrimSuffix(filepath.Base(path), ".txtar"), path: path, archive: parseArchive(string(text))}
		if strings.TrimSpace(v.archive.comment) == "" {
			t.Errorf("%s: the comment must say where its facts come from", path)
		}
		for _, p := range v.archive.parts {
			if p.name == "given" {
				parseJSON(t, path, p, &v.given)
			}
		}
		vectors = append(vectors, v)
	}
	return vectors
}

func parseJSON(t *testing.T, path string, p part, into any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(p.text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("%s: read %s: %v", path, p.name, err)
	}
}

// run replays the file and compares, or rewrites what is expected.
func (v *vector) run(t *testing.T, d dialect.Dialect) {
	t.Helper()
	w := v.world(d)
	var item itemSpec
	var answer, hook string
	want := v.archive
	got := archive{comment: want.comment, parts: slices.Clone(want.parts)}
	for i, p := range want.parts {
		switch p.name {
		case "given":
		case "request":
			answer = w.answer(t, w.do(p.text, w.variables()))
		case "response":
			got.parts[i].text = answer
		case "endpoints":
			got.parts[i].text = mask(w.admin.dump())
		case "item":
			item = itemSpec{}
			parseJSON(t, v.path, p, &item)
		case "event":
			hook = hookText(d, item.item(p.text))
		case "hook":
			got.parts[i].text = hook
		default:
			t.Fatalf("%s: unknown part %q", v.path, p.name)
		}
	}
	if *update {
		if err := os.WriteFile(v.path, got.format(), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want.format()), string(got.format())); diff != "" {
		t.Errorf("%s (-want +got); -update accepts it\n%s", v.path, diff)
	}
}

// world is a gateway of its own for one replay.
type world struct {
	admin    *Admin
	handler  http.Handler
	captured map[string]string
}

func (v *vector) world(d dialect.Dialect) *world {
	w := &world{admin: NewAdmin(d.Info()), captured: map[string]string{}}
	for _, s := range v.given {
		w.admin.Put(s.endpoint())
	}
	w.handler = d.Handler(w.admin)
	return w
}

func (w *world) variables() map[string]string {
	variables := maps.Clone(planted)
	for name, value := range w.captured {
		variables["${answer."+name+"}"] = value
	}
	return variables
}

var planted = map[string]string{
	"${KEY}":           Key,
	"${SECOND_KEY}":    SecondKey,
	"${LONE_KEY}":      LoneKey,
	"${OTHER_KEY}":     OtherKey,
	"${ACCOUNT}":       AccountName,
	"${OTHER_ACCOUNT}": OtherName,
	"${BASIC}":         base64.StdEncoding.EncodeToString([]byte(AccountName + ":" + Key)),
	"${SECRET}":        PlantedText,
}

// secrets are what no refusal may show.
var secrets = []string{Key, SecondKey, LoneKey, OtherKey, PlantedText, TenantSign, planted["${BASIC}"]}

func expand(text string, variables map[string]string) string {
	for name, value := range variables {
		text = strings.ReplaceAll(text, name, value)
	}
	return text
}

func mask(text string) string {
	for name, value := range planted {
		text = strings.ReplaceAll(text, value, name)
	}
	return text
}

// do sends a request as the vector files write it.
func (w *world) do(text string, variables map[string]string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, parseRequest(expand(text, variables)))
	var members map[string]any
	if json.Unmarshal(recorder.Body.Bytes(), &members) == nil {
		for name, value := range members {
			if value, ok := value.(string); ok {
				w.captured[name] = value
			}
		}
	}
	return recorder
}

// parseRequest reads a request line without a version, header lines, an empty
// line and the body, whose last line break is not part of it.
func parseRequest(text string) *http.Request {
	head, body, _ := strings.Cut(text, "\n\n")
	body = strings.TrimSuffix(body, "\n")
	lines := strings.Split(strings.TrimSuffix(head, "\n"), "\n")
	method, target, _ := strings.Cut(lines[0], " ")
	header := "\r\n"
	if len(lines) > 1 {
		header = strings.Join(lines[1:], "\r\n") + "\r\n\r\n"
	}
	if !strings.Contains(strings.ToLower(header), "host:") {
		header = "Host: gateway.test\r\n" + header
	}
	raw := method + " " + target + " HTTP/1.1\r\n" + fmt.Sprintf("Content-Length: %d\r\n", len(body)) + header + body
	request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		panic(fmt.Sprintf("request in a vector: %v\n%s", err, text))
	}
	request.RemoteAddr = "192.0.2.1:4711"
	return request
}

func (w *world) answer(t *testing.T, r *httptest.ResponseRecorder) string {
	t.Helper()
	if r.Code >= http.StatusBadRequest {
		wantNoSecret(t, r)
	}
	return fmt.Sprintf("%d %s\n%s\n", r.Code, r.Header().Get("Content-Type"), mask(r.Body.String()))
}

func wantNoSecret(t *testing.T, r *httptest.ResponseRecorder) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(r.Body.String(), secret) {
			t.Errorf("a refusal shows a secret: %s", mask(r.Body.String()))
		}
	}
}

// itemSpec is a dialect.Item as the vector files write it.
type itemSpec struct {
	Type         string         `json:"type"`
	Form         waypost.Form   `json:"form"`      // default: cloud
	NoNumber     bool           `json:"no_number"` // the event concerns no known number; default: number 1
	Endpoint     seat           `json:"endpoint"`
	TenantSecret waypost.Secret `json:"tenant_secret"`
	Attempt      int            `json:"attempt"` // default: 1
	Media        string         `json:"media"`   // base of links to media objects; empty: there are none to give
}

func (s itemSpec) item(body string) dialect.Item {
	endpoint := s.Endpoint.endpoint()
	endpoint.ID, endpoint.TenantID, endpoint.State = 1, 1, waypost.EndpointActive
	event := eventOf(s.Type, s.Form, strings.TrimSuffix(body, "\n"))
	item := dialect.Item{
		Event: event, Endpoint: &endpoint, Number: numberByID(1), TenantSecret: s.TenantSecret,
		Now: Now, Attempt: max(s.Attempt, 1),
	}
	if s.Media != "" {
		item.MediaURL = func(mediaID string) string { return s.Media + mediaID }
	}
	if s.NoNumber {
		item.Number, event.NumberID, event.PhoneNumberID = nil, 0, ""
	}
	return item
}

func hookText(d dialect.Dialect, item dialect.Item) string {
	hook, err := d.Encode(item)
	if errors.Is(err, dialect.ErrNotWanted) {
		return "not wanted\n"
	}
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var text strings.Builder
	if hook.URL != "" { // else the endpoint's
		text.WriteString("POST " + hook.URL + "\n")
	}
	for _, name := range slices.Sorted(maps.Keys(hook.Header)) {
		for _, value := range hook.Header[name] {
			text.WriteString(name + ": " + value + "\n")
		}
	}
	text.WriteString("\n" + string(hook.Body) + "\n")
	return text.String()
}
