package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// problem is the body of every refusal (RFC 9457). Code is for programs and
// never changes its meaning; Detail is for people.
type problem struct {
	Type   string         `json:"type" doc:"urn:waypost:problem: and the code"`
	Title  string         `json:"title" doc:"the status in words"`
	Status int            `json:"status"`
	Detail string         `json:"detail" doc:"what went wrong and what to do, for people"`
	Code   string         `json:"code" enum:"malformed,invalid,unauthorized,forbidden,not_found,method_not_allowed,not_acceptable,conflict,too_large,unsupported_media_type,timeout,rate_limited,unavailable,internal" doc:"what went wrong, for programs"`
	Errors []problemField `json:"errors,omitempty" doc:"the members that were refused"`
}

type problemField struct {
	Field   string `json:"field" doc:"path of the member in the request, for example policy.timeout"`
	Message string `json:"message"`
}

var (
	_ huma.StatusError       = (*problem)(nil)
	_ huma.HeadersError      = (*problem)(nil)
	_ huma.ContentTypeFilter = (*problem)(nil)
)

func (p *problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders implements huma.HeadersError.
func (p *problem) GetHeaders() http.Header {
	switch p.Status {
	case http.StatusServiceUnavailable:
		return http.Header{"Retry-After": {"1"}}
	case http.StatusTooManyRequests:
		return http.Header{"Retry-After": {"60"}}
	case http.StatusUnauthorized:
		return http.Header{"Www-Authenticate": {`Bearer realm="waypost"`}}
	default:
		return nil
	}
}

func (p *problem) write(w http.ResponseWriter) {
	for name, values := range p.GetHeaders() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client may be gone; nothing to do
}

var codes = map[int]string{
	http.StatusBadRequest:            "malformed",
	http.StatusUnauthorized:          "unauthorized",
	http.StatusForbidden:             "forbidden",
	http.StatusNotFound:              "not_found",
	http.StatusMethodNotAllowed:      "method_not_allowed",
	http.StatusNotAcceptable:         "not_acceptable",
	http.StatusRequestTimeout:        "timeout",
	http.StatusConflict:              "conflict",
	http.StatusRequestEntityTooLarge: "too_large",
	http.StatusUnsupportedMediaType:  "unsupported_media_type",
	http.StatusUnprocessableEntity:   "invalid",
	http.StatusTooManyRequests:       "rate_limited",
	http.StatusServiceUnavailable:    "unavailable",
}

func newProblem(status int, detail string, fields ...problemField) *problem {
	code, ok := codes[status]
	if !ok {
		code = "internal"
	}
	return &problem{
		Type:   "urn:waypost:problem:" + code,
		Title:  http.StatusText(status),
		Status: status,
		Detail: detail,
		Code:   code,
		Errors: fields,
	}
}

// statusOf is the one place where a kind of error becomes a status.
func statusOf(kind waypost.Kind) int {
	switch kind {
	case waypost.KindMalformed:
		return http.StatusBadRequest
	case waypost.KindInvalid:
		return http.StatusUnprocessableEntity
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
	case waypost.KindInternal:
	}
	return http.StatusInternalServerError
}

// problem turns an error into what the caller is told.
func (r *registrar) problem(ctx context.Context, operation string, err error) *problem {
	status := statusOf(waypost.KindOf(err))
	var known *waypost.Error
	if status == http.StatusInternalServerError || !errors.As(err, &known) {
		r.log.ErrorContext(ctx, "management call failed", "operation", operation, "error", err)
		return newProblem(http.StatusInternalServerError, "something went wrong here; the log says what")
	}
	if status == http.StatusServiceUnavailable {
		r.log.WarnContext(ctx, "management call refused", "operation", operation, "error", err)
	}
	fields := make([]problemField, len(known.Fields))
	for i, field := range known.Fields {
		fields[i] = problemField{Field: field.Field, Message: field.Message}
	}
	return newProblem(status, known.Message, fields...)
}

// The settings below are global in huma. They are the same for every API made
// here, and nothing else in this program uses it.
func init() {
	huma.ValidateStrictCasing = true
	huma.DefaultArrayNullable = false
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		return refusal(status, message, errs)
	}
}

// refusal is a problem that was found before a handler was called. The refused
// values are left out: they may be secrets.
func refusal(status int, message string, errs []error) *problem {
	if status >= http.StatusInternalServerError {
		return newProblem(status, message)
	}
	var fields []problemField
	for _, err := range errs {
		var detail *huma.ErrorDetail
		if errors.As(err, &detail) {
			fields = addField(fields, fieldOf(detail))
		}
	}
	switch {
	case status == http.StatusBadRequest && len(fields) > 0:
		fields = fields[:1] // what else was found is not in the body that was sent
		message = "the body is not valid JSON: " + fields[0].Message
	case status == http.StatusUnsupportedMediaType:
		return newProblem(status, "send the body as application/json")
	case len(fields) > 0:
		message = fields[0].Field + ": " + fields[0].Message
	}
	return newProblem(status, message, fields...)
}

// addField adds a finding about a member that nothing was found about yet.
func addField(fields []problemField, found problemField) []problemField {
	if slices.ContainsFunc(fields, func(f problemField) bool { return f.Field == found.Field }) {
		return fields
	}
	return append(fields, found)
}

// findings are what speaks against a body beyond its schema, for huma to tell
// together with what the schema says. Anything but a refused member is left to the
// call itself, which fails with the same error.
func findings(errs ...error) []error {
	refused := false
	var found []error
	for _, err := range errs {
		var known *waypost.Error
		if !errors.As(err, &known) {
			continue
		}
		refused = refused || known.Kind == waypost.KindInvalid
		for _, field := range known.Fields {
			found = append(found, &huma.ErrorDetail{Location: "body." + field.Field, Message: field.Message})
		}
	}
	if !refused {
		return nil
	}
	return found
}

// fieldOf names the member that huma's finding is about. A location is where it
// stands in the request ("body.policy.timeout"); of a missing member it is that
// of the object around it.
func fieldOf(detail *huma.ErrorDetail) problemField {
	place, member, within := strings.Cut(detail.Location, ".")
	missing, isMissing := strings.CutPrefix(detail.Message, beforeMissing)
	missing = strings.TrimSuffix(missing, afterMissing)
	switch {
	case isMissing && within:
		return problemField{Field: member + "." + missing, Message: "is needed"}
	case isMissing:
		return problemField{Field: missing, Message: "is needed"}
	case detail.Message == validation.MsgUnexpectedProperty:
		return problemField{Field: member, Message: "is not a known member"}
	case within:
		return problemField{Field: member, Message: detail.Message}
	default:
		return problemField{Field: place, Message: detail.Message}
	}
}

var beforeMissing, afterMissing, _ = strings.Cut(validation.MsgExpectedRequiredProperty, "%s")
