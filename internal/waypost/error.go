package waypost

import (
	"errors"
	"fmt"
)

// Kind classes an error for programs. Each edge (a provider's API, the
// management API, the command line) has one function that turns a kind into
// its own wire form.
type Kind uint8

// The kinds of error. The zero kind is KindInternal: an error that nobody
// classed is our own fault.
const (
	KindInternal     Kind = iota
	KindMalformed         // the request can't be read (bad JSON)
	KindInvalid           // it can be read but a value in it is refused; see Error.Fields
	KindUnauthorized      // no credential, or an unknown one
	KindForbidden         // a known credential that may not do this
	KindNotFound
	KindConflict    // it clashes with the present state
	KindTooLarge    // the body is over the limit
	KindRateLimited // too many tries; wait
	KindUnavailable // we can't commit just now; try again
)

// Kinds lists every kind, for tests that an edge covers them all.
func Kinds() []Kind {
	return []Kind{
		KindInternal, KindMalformed, KindInvalid, KindUnauthorized, KindForbidden,
		KindNotFound, KindConflict, KindTooLarge, KindRateLimited, KindUnavailable,
	}
}

// FieldError names one refused member of a request and says what to do.
type FieldError struct {
	Field   string // path in the request, for example "policy.timeout"
	Message string
}

// Error is an error that a caller outside may see. Message is for people and
// says what to do; Kind is for programs; Err is the cause, for logs only.
type Error struct {
	Kind    Kind
	Message string
	Fields  []FieldError
	Err     error
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of the given kind with a message for people.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Invalid makes a KindInvalid error about the named members.
func Invalid(fields ...FieldError) *Error {
	message := "the request was refused"
	if len(fields) > 0 {
		message = fields[0].Field + ": " + fields[0].Message
	}
	return &Error{Kind: KindInvalid, Message: message, Fields: fields}
}

// KindOf is the kind of the first Error in err's chain, or KindInternal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}
