package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// MaxBody is the most bytes the body of a settings call may have.
const MaxBody = 64 << 10

// ErrMethod is the refusal of a method that a path does not have. Its kind is
// KindInvalid; StatusOf makes it 405.
var ErrMethod = waypost.Errorf(waypost.KindInvalid, "this path does not have this method")

var errPath = waypost.Errorf(waypost.KindNotFound, "there is no such path")

// Call is one call of a settings API: it gives what is answered with status
// 200, as a value for WriteJSON, or says why not.
type Call func(r *http.Request) (answer any, err error)

// Routes are the calls of a settings API, by path (an http.ServeMux pattern
// without a method) and method.
type Routes map[string]map[string]Call

// Serve makes the routes a handler. All that is refused, unknown paths and
// methods included, is answered by fail, which writes the provider's own shape.
func Serve(routes Routes, fail func(http.ResponseWriter, *http.Request, error)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fail(w, r, errPath) })
	for path, methods := range routes {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			call := methods[r.Method]
			if call == nil {
				w.Header().Set("Allow", allow(methods))
				fail(w, r, ErrMethod)
				return
			}
			answer, err := call(r)
			if err != nil {
				fail(w, r, err)
				return
			}
			WriteJSON(w, http.StatusOK, answer)
		})
	}
	return mux
}

func allow(methods map[string]Call) string {
	var names []string
	for name := range methods {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// WriteJSON answers with the value as EncodeJSON writes it. The value must be
// one that can be written.
func WriteJSON(w http.ResponseWriter, status int, value any) {
	body, err := EncodeJSON(value)
	if err != nil {
		panic(fmt.Sprintf("write answer: %v", err)) // an answer type that JSON can't hold
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body)
}

// EncodeJSON writes JSON as hooks and answers have it: UTF-8 in one line, with
// "<", ">" and "&" left as they are.
func EncodeJSON(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}

// StatusOf is the HTTP status for an error, for providers that use statuses
// the usual way.
func StatusOf(err error) int {
	if errors.Is(err, ErrMethod) {
		return http.StatusMethodNotAllowed
	}
	switch waypost.KindOf(err) {
	case waypost.KindMalformed, waypost.KindInvalid:
		return http.StatusBadRequest
	case waypost.KindUnauthorized:
		return http.StatusUnauthorized
	case waypost.KindForbidden:
		return http.StatusForbidden
	case waypost.KindNotFound:
		return http.StatusNotFound
	case waypost.KindConflict:
		return http.StatusConflict
	case waypost.KindTooLarge:
		return http.StatusRequestEntityTooLarge
	case waypost.KindRateLimited:
		return http.StatusTooManyRequests
	case waypost.KindUnavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// MessageOf is what a customer may read of an error: never its cause, and
// nothing of an error that is our own fault.
func MessageOf(err error) string {
	var e *waypost.Error
	if errors.As(err, &e) && e.Kind != waypost.KindInternal {
		return e.Message
	}
	return "internal error"
}

// FieldsOf names the members of the request that the error is about. It is
// never nil.
func FieldsOf(err error) []string {
	names := []string{}
	var e *waypost.Error
	if errors.As(err, &e) {
		for _, field := range e.Fields {
			names = append(names, field.Field)
		}
	}
	return names
}

// ReasonError is a refusal for which the provider has a number of its own.
type ReasonError struct {
	Reason int
	Err    error
}

func (e *ReasonError) Error() string { return e.Err.Error() }

func (e *ReasonError) Unwrap() error { return e.Err }

// Refuse is a refusal of kind KindInvalid for the provider's reason.
func Refuse(reason int, message string) error {
	return &ReasonError{Reason: reason, Err: waypost.Errorf(waypost.KindInvalid, "%s", message)}
}

// Remote is the address a request came from, for Credential.Remote.
func Remote(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return r.RemoteAddr
}

// Object is the JSON object of a request, member by member. Names are matched
// exactly; of a name given twice the last counts; null is as good as absent.
type Object map[string]json.RawMessage

// ReadObject reads the body of a request, which must be one JSON object.
// Errors: KindTooLarge over MaxBody, KindMalformed.
func ReadObject(r *http.Request) (Object, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	if err != nil {
		return nil, &waypost.Error{Kind: waypost.KindMalformed, Message: "the body could not be read", Err: err}
	}
	if len(body) > MaxBody {
		return nil, waypost.Errorf(waypost.KindTooLarge, "the body has more than %d bytes", MaxBody)
	}
	if !utf8.Valid(body) {
		return nil, waypost.Errorf(waypost.KindMalformed, "the body must be UTF-8")
	}
	var object Object
	if err := json.Unmarshal(body, &object); err != nil || object == nil {
		return nil, &waypost.Error{Kind: waypost.KindMalformed, Message: "the body must be a JSON object", Err: err}
	}
	return object, nil
}

// Has reports whether the member is there and not null.
func (o Object) Has(name string) bool {
	raw, ok := o[name]
	return ok && string(raw) != "null"
}

// String is a text member; "" when it is absent. The error is KindInvalid and
// names the member, as it is with the other readers.
func (o Object) String(name string) (string, error) {
	return member[string](o, name, "must be a string")
}

// Bool is a true-or-false member; false when it is absent.
func (o Object) Bool(name string) (bool, error) {
	return member[bool](o, name, "must be true or false")
}

// Headers is a member that maps header names to values; nil when it is absent.
func (o Object) Headers(name string) (map[string]waypost.Secret, error) {
	members, err := member[Object](o, name, "must be an object of strings")
	if err != nil || members == nil {
		return nil, err
	}
	headers := make(map[string]waypost.Secret, len(members))
	for header := range members {
		value, err := member[*string](members, header, "must be a string")
		if err == nil && value == nil {
			err = waypost.Invalid(waypost.FieldError{Field: header, Message: "must be a string"})
		}
		if err != nil {
			return nil, Within(err, name+".")
		}
		headers[header] = waypost.Secret(*value)
	}
	return headers, nil
}

// Objects is a member that is a list of objects; nil when it is absent.
func (o Object) Objects(name string) ([]Object, error) {
	list, err := member[[]Object](o, name, "must be a list of objects")
	if err == nil && slices.ContainsFunc(list, func(item Object) bool { return item == nil }) {
		err = waypost.Invalid(waypost.FieldError{Field: name, Message: "must be a list of objects"})
	}
	return list, err
}

// member drops the decoder's own error: it may quote a value, and values may
// be secrets.
func member[T any](o Object, name, rule string) (value T, err error) {
	if !o.Has(name) {
		return value, nil
	}
	if json.Unmarshal(o[name], &value) != nil {
		var none T
		return none, waypost.Invalid(waypost.FieldError{Field: name, Message: rule})
	}
	return value, nil
}

// Within puts prefix before the members that an error names, for an error from
// deeper inside the request. Other errors are left as they are.
func Within(err error, prefix string) error {
	var e *waypost.Error
	if !errors.As(err, &e) || len(e.Fields) == 0 {
		return err
	}
	fields := slices.Clone(e.Fields)
	for i := range fields {
		fields[i].Field = prefix + fields[i].Field
	}
	return waypost.Invalid(fields...)
}

// ShowHeaders gives header values in clear, for providers that show them to
// the key's holder. It is never nil.
func ShowHeaders(headers map[string]waypost.Secret) map[string]string {
	shown := make(map[string]string, len(headers))
	for name, value := range headers {
		shown[name] = value.Reveal()
	}
	return shown
}
