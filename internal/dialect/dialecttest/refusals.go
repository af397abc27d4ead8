package dialecttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var wildcard = regexp.MustCompile(`\{[^}]*\}`)

// testPaths asks for what is not there.
func testPaths(t *testing.T, d dialect.Dialect) {
	t.Helper()
	w := (&vector{}).world(d)
	s := newShapes()
	s.wantRefusal(t, "unknown path", w.do("GET /no/such/path\n", w.variables()))
	for _, path := range d.Info().Paths {
		path = wildcard.ReplaceAllString(path, AccountName)
		s.wantRefusal(t, "wrong method on "+path, w.do("PROPFIND "+path+"\n", w.variables()))
	}
}

// testRefusals takes every call of the vectors that shows a credential apart.
func testRefusals(t *testing.T, d dialect.Dialect, vectors []vector) {
	t.Helper()
	s := newShapes()
	calls := 0
	for i := range vectors {
		for at, p := range vectors[i].archive.parts {
			if p.name != "request" || !showsCredential(p.text) {
				continue
			}
			calls++
			line, _, _ := strings.Cut(p.text, "\n")
			c := &call{dialect: d, vector: &vectors[i], at: at, request: p.text, shapes: s}
			t.Run(vectors[i].name+"/"+line, c.test)
		}
	}
	if calls == 0 {
		t.Error("no vector has a request that shows a credential")
	}
}

func showsCredential(request string) bool {
	return strings.Contains(request, "KEY}") || strings.Contains(request, "${BASIC}") || strings.Contains(request, "${answer.")
}

// call is one request of a vector, to be spoiled in every way.
type call struct {
	dialect dialect.Dialect
	vector  *vector
	at      int // of the part
	request string
	shapes  *shapes
}

// before is a new world in which the requests before this one were made.
func (c *call) before() *world {
	w := c.vector.world(c.dialect)
	for _, p := range c.vector.archive.parts[:c.at] {
		if p.name == "request" {
			w.do(p.text, w.variables())
		}
	}
	return w
}

func (c *call) test(t *testing.T) {
	good := c.before()
	clear(good.admin.called)
	answer := good.do(c.request, good.variables())
	c.refused(t, answer, "no key", withoutCredential(c.request), nil)
	c.refused(t, answer, "wrong key", c.request, func(variables map[string]string) {
		for name := range variables {
			if showsCredential(name) {
				variables[name] = "wrong"
			}
		}
	})
	head, body, _ := strings.Cut(c.request, "\n\n")
	if strings.TrimSpace(body) != "" {
		c.refused(t, answer, "no body", head+"\n\n", nil)
		c.refused(t, answer, "broken JSON", head+"\n\n"+strings.TrimRight(body, "\n} "), nil)
		c.refused(t, answer, "not an object", head+"\n\n[]\n", nil)
		c.refused(t, answer, "over-long body", head+"\n\n"+strings.TrimSuffix(body, "\n")+strings.Repeat(" ", dialect.MaxBody), nil)
	}
	for method := range good.admin.called {
		for _, kind := range waypost.Kinds() {
			c.fails(t, answer, method, kind)
		}
	}
}

// withoutCredential drops the header lines that show one, and empties those
// that stand in the body or the path.
func withoutCredential(request string) string {
	head, body, found := strings.Cut(request, "\n\n")
	lines := strings.Split(head, "\n")
	kept := append(lines[:1:1], slices.DeleteFunc(lines[1:], showsCredential)...)
	blank := regexp.MustCompile(`\$\{([A-Z_]*KEY|BASIC|answer\.[^}]*)\}`)
	head = strings.Join(kept, "\n")
	if found {
		head += "\n\n"
	}
	return head + blank.ReplaceAllString(body, "")
}

// refused wants a refusal that changes nothing. A call that fails anyway may
// fail the same way.
func (c *call) refused(t *testing.T, good *httptest.ResponseRecorder, what, request string, spoil func(map[string]string)) {
	t.Helper()
	w := c.before()
	variables, endpoints := w.variables(), w.admin.dump()
	if spoil != nil {
		spoil(variables)
	}
	answer := w.do(request, variables)
	c.shapes.wantRefusal(t, what, answer)
	if good.Code < http.StatusBadRequest && answer.Code == good.Code && answer.Body.String() == good.Body.String() && !c.shapes.refusal(good) {
		t.Errorf("%s: answered as if nothing was wrong: %s", what, mask(answer.Body.String()))
	}
	if w.admin.dump() != endpoints {
		t.Errorf("%s: the call was refused but changed the endpoints", what)
	}
}

// fails makes one method of the gateway fail, with a cause nobody may read. A
// call that is refused anyway may be refused for its own reason.
func (c *call) fails(t *testing.T, good *httptest.ResponseRecorder, method string, kind waypost.Kind) {
	t.Helper()
	what := fmt.Sprintf("%s fails with kind %d", method, kind)
	w := c.before()
	e := waypost.Errorf(kind, "refused by the test")
	if kind == waypost.KindInvalid {
		e = waypost.Invalid(waypost.FieldError{Field: "url", Message: "refused by the test"})
	}
	e.Err = errors.New("cause with " + PlantedText)
	w.admin.Fail(method, fmt.Errorf("ask the gateway: %w", e))
	answer := w.do(c.request, w.variables())
	mayIgnore := method == "Remove" && kind == waypost.KindNotFound // gone is what was asked for
	if !w.admin.failed || mayIgnore {
		return
	}
	c.shapes.wantRefusal(t, what, answer)
	ours := kind == waypost.KindInternal || kind == waypost.KindUnavailable
	if answer.Code >= http.StatusBadRequest && answer.Code != good.Code && ours != (answer.Code >= http.StatusInternalServerError) {
		t.Errorf("%s: answered with status %d", what, answer.Code)
	}
}

// shapes collects the forms that refusals take: the names of their members. A
// dialect has one, or two where it serves two generations of a provider.
type shapes struct{ seen map[string]bool }

func newShapes() *shapes { return &shapes{seen: map[string]bool{}} }

func shapeOf(body []byte) (string, bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil || len(members) == 0 {
		return "", false
	}
	return strings.Join(slices.Sorted(maps.Keys(members)), ","), true
}

// refusal reports whether the answer looks like a refusal seen before; it is
// how refusals with status 200 are told from success.
func (s *shapes) refusal(r *httptest.ResponseRecorder) bool {
	shape, ok := shapeOf(r.Body.Bytes())
	return ok && s.seen[shape]
}

func (s *shapes) wantRefusal(t *testing.T, what string, r *httptest.ResponseRecorder) {
	t.Helper()
	media, _, err := mime.ParseMediaType(r.Header().Get("Content-Type"))
	if err != nil || media != "application/json" {
		t.Errorf("%s: answered as %q", what, r.Header().Get("Content-Type"))
	}
	shape, ok := shapeOf(r.Body.Bytes())
	if !ok {
		t.Errorf("%s: the answer is not a JSON object with members: %s", what, mask(r.Body.String()))
		return
	}
	if s.seen[shape] = true; len(s.seen) > 2 {
		t.Errorf("%s: one more shape of refusal: %s", what, mask(r.Body.String()))
		delete(s.seen, shape)
	}
	if r.Code < http.StatusOK || r.Code >= http.StatusMultipleChoices && r.Code < http.StatusBadRequest {
		t.Errorf("%s: status %d", what, r.Code)
	}
	wantNoSecret(t, r)
}
