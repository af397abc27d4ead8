package dialect

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

func read(t *testing.T, body string) Object {
	t.Helper()
	object, err := ReadObject(httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	return object
}

func TestReadObjectRefuses(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]waypost.Kind{
		"": waypost.KindMalformed, "null": waypost.KindMalformed, "[]": waypost.KindMalformed, `"x"`: waypost.KindMalformed,
		`{"a":1`: waypost.KindMalformed, `{"a":1}{}`: waypost.KindMalformed, "{\"a\":\"\xff\"}": waypost.KindMalformed, `{'a':1}`: waypost.KindMalformed,
		`{}` + strings.Repeat(" ", MaxBody-1): waypost.KindTooLarge,
	} {
		_, err := ReadObject(httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
		if err == nil || waypost.KindOf(err) != want {
			t.Errorf("%.20q: got %v, want kind %d", body, err, want)
		}
	}
	read(t, `{}`+strings.Repeat(" ", MaxBody-2))
}

func TestObject(t *testing.T) {
	t.Parallel()
	object := read(t, `{"s":"x","S":"y","b":true,"h":{"A":"1"},"l":[{"n":"1"}],"none":null,"twice":"1","twice":"2"}`)
	if s, err := object.String("s"); s != "x" || err != nil {
		t.Errorf("got %q, %v", s, err)
	}
	if s, err := object.String("twice"); s != "2" || err != nil {
		t.Errorf("got %q, %v", s, err)
	}
	if s, err := object.String("absent"); s != "" || err != nil || object.Has("absent") || object.Has("none") {
		t.Errorf("got %q, %v", s, err)
	}
	if b, err := object.Bool("b"); !b || err != nil {
		t.Errorf("got %v, %v", b, err)
	}
	if h, err := object.Headers("h"); len(h) != 1 || h["A"].Reveal() != "1" || err != nil {
		t.Errorf("got %v, %v", h, err)
	}
	if l, err := object.Objects("l"); len(l) != 1 || err != nil {
		t.Errorf("got %v, %v", l, err)
	}
}

func TestObjectNamesTheMember(t *testing.T) {
	t.Parallel()
	object := read(t, `{"n":7,"s":"hush","l":[1],"h":{"A":{"hush":1}},"null":{"A":null},"deep":[{"x":1},null]}`)
	errs := map[string]error{}
	note := func(want string, err error) { errs[want] = err }
	_, err := object.String("n")
	note("n", err)
	_, err = object.Bool("s")
	note("s", err)
	_, err = object.Headers("l")
	note("l", err)
	_, err = object.Headers("h")
	note("h.A", err)
	_, err = object.Headers("null")
	note("null.A", err)
	_, err = object.Objects("deep")
	note("deep", err)
	for want, err := range errs {
		if diff := cmp.Diff([]string{want}, FieldsOf(err)); diff != "" {
			t.Errorf("%v (-want +got)\n%s", err, diff)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%v shows a value", err)
		}
	}
}

func FuzzReadObject(f *testing.F) {
	f.Add(`{"url":"https://a.test","headers":{"A":"b"},"on":true,"list":[{}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		object, err := ReadObject(httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
		if err != nil {
			return
		}
		for name := range object {
			_, e1 := object.String(name)
			_, e2 := object.Bool(name)
			_, e3 := object.Headers(name)
			_, e4 := object.Objects(name)
			for _, err := range []error{e1, e2, e3, e4} {
				if err != nil && waypost.KindOf(err) != waypost.KindInvalid {
					t.Errorf("%q: %v", name, err)
				}
			}
		}
	})
}

func TestServe(t *testing.T) {
	t.Parallel()
	handler := Serve(Routes{
		"/a/{id}": {
			http.MethodGet:  func(r *http.Request) (any, error) { return r.PathValue("id") + "<&>", nil },
			http.MethodPost: func(*http.Request) (any, error) { return nil, errors.New("hush") },
		},
	}, func(w http.ResponseWriter, _ *http.Request, err error) {
		WriteJSON(w, StatusOf(err), MessageOf(err))
	})
	for request, want := range map[string]string{
		"GET /a/7":    `200 "7<&>"`,
		"POST /a/7":   `500 "internal error"`,
		"DELETE /a/7": `405 "this path does not have this method"`,
		"GET /b":      `404 "there is no such path"`,
		"GET /":       `404 "there is no such path"`,
	} {
		method, path, _ := strings.Cut(request, " ")
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(method, path, nil))
		status, body, _ := strings.Cut(want, " ")
		if http.StatusText(answer.Code) != http.StatusText(atoi(status)) || answer.Body.String() != body {
			t.Errorf("%s: %d %s, want %s", request, answer.Code, answer.Body, want)
		}
		if answer.Code == http.StatusMethodNotAllowed && answer.Header().Get("Allow") != "GET, POST" {
			t.Errorf("%s: allows %q", request, answer.Header().Get("Allow"))
		}
	}
}

func atoi(digits string) (n int) {
	for _, digit := range digits {
		n = n*10 + int(digit-'0')
	}
	return n
}

func TestWithin(t *testing.T) {
	t.Parallel()
	err := Within(waypost.Invalid(waypost.FieldError{Field: "url", Message: "is bad"}), "list[2].")
	if err.Error() != "list[2].url: is bad" {
		t.Errorf("got %v", err)
	}
	plain := errors.New("x")
	if !errors.Is(Within(plain, "p."), plain) {
		t.Error("an error without members was changed")
	}
}

func TestReasonError(t *testing.T) {
	t.Parallel()
	blocked := waypost.Errorf(waypost.KindRateLimited, "slow down")
	for _, tt := range []struct {
		err    error
		reason int
		kind   waypost.Kind
		text   string
	}{
		{Refuse(4, "50% of it is missing"), 4, waypost.KindInvalid, "50% of it is missing"},
		{&ReasonError{Reason: 3, Err: blocked}, 3, waypost.KindRateLimited, "slow down"},
	} {
		var refused *ReasonError
		if !errors.As(tt.err, &refused) || refused.Reason != tt.reason || waypost.KindOf(tt.err) != tt.kind || tt.err.Error() != tt.text {
			t.Errorf("%v: %+v of kind %d", tt.err, refused, waypost.KindOf(tt.err))
		}
	}
}
