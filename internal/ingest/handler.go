package ingest

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/waypost-gateway/waypost/internal/signature"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Handler serves the ingest paths:
//
//	GET  /ingest/meta/{source}  Meta's verification of the callback URL
//	POST /ingest/meta/{source}  Meta's notifications
//	POST /ingest/onprem/{source}?number=<digits>  callbacks of an On-Premises client
func (in *Ingest) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ingest/meta/{source}", in.verifyMeta)
	mux.HandleFunc(metaPattern, func(w http.ResponseWriter, r *http.Request) { in.receiveMeta(w, r, r.PathValue("source")) })
	mux.HandleFunc("POST /ingest/onprem/{source}", in.receiveOnPrem)
	// What nearly all requests are is seen without the mux, which costs as much as
	// finding out who is owed the event.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := strings.CutPrefix(r.URL.Path, "/ingest/meta/")
		if !ok || r.Method != http.MethodPost || r.URL.RawPath != "" || !isPlain(name) {
			mux.ServeHTTP(w, r)
			return
		}
		r.Pattern = metaPattern
		in.receiveMeta(w, r, name)
	})
}

const metaPattern = "POST /ingest/meta/{source}"

// isPlain reports whether a name is one whole segment of a path, as it is.
func isPlain(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return name != ""
}

// safeChallenge is what Meta's challenges are made of; anything else is not
// echoed, so that the answer can't carry a script.
var safeChallenge = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,256}$`)

// verifyMeta answers the hub challenge
// (developers.facebook.com/docs/graph-api/webhooks/getting-started).
func (in *Ingest) verifyMeta(w http.ResponseWriter, r *http.Request) {
	source := in.source(w, waypost.SourceMeta, r.PathValue("source"))
	if source == nil {
		return
	}
	query := r.URL.Query()
	token, challenge := query.Get("hub.verify_token"), query.Get("hub.challenge")
	switch {
	case query.Get("hub.mode") != "subscribe":
		in.reject(w, source.Kind, ResultMalformed, http.StatusBadRequest, `hub.mode must be "subscribe"`)
	case source.VerifyToken == "":
		in.reject(w, source.Kind, ResultUnauthorized, http.StatusForbidden, "no verify token is configured for this source; set WAYPOST_META_VERIFY_TOKEN")
	case subtle.ConstantTimeCompare([]byte(token), []byte(source.VerifyToken.Reveal())) != 1:
		in.reject(w, source.Kind, ResultUnauthorized, http.StatusForbidden, "hub.verify_token does not match the one configured here")
	case !safeChallenge.MatchString(challenge):
		in.reject(w, source.Kind, ResultMalformed, http.StatusBadRequest, "hub.challenge is missing or holds unexpected characters")
	default:
		w.Header()["Content-Type"] = plainText
		w.Header().Set("X-Content-Type-Options", "nosniff")
		io.WriteString(w, challenge)
	}
}

// receiveMeta takes one notification request. Meta counts nothing but 200 as
// received and repeats everything else for days.
func (in *Ingest) receiveMeta(w http.ResponseWriter, r *http.Request, name string) {
	source := in.source(w, waypost.SourceMeta, name)
	if source == nil {
		return
	}
	load := in.newIntake()
	defer load.leave()
	body, ok := in.read(w, r, source.Kind, load)
	if !ok {
		return
	}
	if !in.signed(source, r.Header.Get("X-Hub-Signature-256"), body) {
		in.log.Warn("signature refused", "source", source.Name, "present", r.Header.Get("X-Hub-Signature-256") != "")
		in.reject(w, source.Kind, ResultUnauthorized, http.StatusUnauthorized,
			"X-Hub-Signature-256 is missing or was not made with an app secret configured for this source")
		return
	}
	in.take(w, r, source, load, len(body), func() []store.Arrival { return in.arrivals(source, nil, body) })
}

// take takes in what an authentic request of a size brought, and answers. makes
// takes it apart, once there is memory for that.
func (in *Ingest) take(w http.ResponseWriter, r *http.Request, source *waypost.Source, load *intake, size int, makes func() []store.Arrival) {
	if !load.work(r.Context(), size) {
		in.overload(w, source.Kind)
		return
	}
	arrivals := makes()
	load.settle(cost(arrivals))
	if err := in.commit(r.Context(), arrivals); err != nil {
		because(w, fmt.Errorf("source %s: %w", source.Name, err))
		in.observer.Refused(refusalOf(err))
		in.later(w, source.Kind, ResultUnavailable, soon, "not stored; send it again")
		return
	}
	in.observer.Ingested(source.Kind, ResultAccepted)
	w.Header()["Content-Type"] = plainText
	w.Write(okAnswer)
}

// What most requests are answered with, made once.
var (
	plainText = []string{"text/plain; charset=utf-8"}
	okAnswer  = []byte("ok\n")
)

// source finds the source named in the path, or answers 404.
func (in *Ingest) source(w http.ResponseWriter, kind waypost.SourceKind, name string) *waypost.Source {
	source := in.directory.Source(kind, name)
	if source == nil {
		in.reject(w, kind, ResultUnknownSource, http.StatusNotFound, "no "+string(kind)+" source has this name")
		return nil
	}
	return source
}

// read reads the body within the limits, if anything is taken in at all now; on
// false the request is answered.
func (in *Ingest) read(w http.ResponseWriter, r *http.Request, kind waypost.SourceKind, load *intake) (body []byte, ok bool) {
	if err := in.refuse(); err != nil {
		because(w, err)
		in.observer.Refused(RefusedDisk)
		in.later(w, kind, ResultUnavailable, inAWhile, "nothing can be stored at the moment; send it again later")
		return nil, false
	}
	if r.ContentLength > MaxBody {
		in.tooLarge(w, kind)
		return nil, false
	}
	body, err := readBody(r.Body, r.ContentLength, load)
	switch {
	case errors.Is(err, errTooLarge):
		in.tooLarge(w, kind)
	case errors.Is(err, errOverload):
		in.overload(w, kind)
	case err != nil:
		in.reject(w, kind, ResultMalformed, http.StatusBadRequest, "the body could not be read to its end")
	}
	return body, err == nil
}

var (
	errTooLarge = errors.New("the body is over the limit")
	errOverload = errors.New("there is no memory for the body")
)

const (
	firstRead = 64 << 10 // for which most bodies need no second
	blindRead = 4 << 10  // the same, where the length is not told
)

// readBody reads everything. Memory is taken for what comes and not for what is
// promised, unless that is little.
func readBody(r io.Reader, length int64, load *intake) ([]byte, error) {
	limit, step := length, int64(firstRead)
	if length < 0 {
		limit, step = MaxBody+1, blindRead
	}
	var body []byte
	for ; ; step *= 4 {
		grown := make([]byte, min(limit, step))
		if !load.arrive(int64(len(grown) - len(body))) {
			return nil, errOverload
		}
		n, err := fill(r, grown[copy(grown, body):])
		body = grown[:len(body)+n]
		switch ended := errors.Is(err, io.EOF); {
		case err != nil && !ended:
			return nil, err
		case length < 0 && ended, int64(len(body)) == length:
			return body, nil
		case ended:
			return nil, io.ErrUnexpectedEOF
		case len(body) > MaxBody:
			return nil, errTooLarge
		}
	}
}

// fill reads until the buffer is full or the reader errs. Unlike io.ReadFull it
// leaves the error as it is: a body that is cut off must not look like a short one.
func fill(r io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var m int
		m, err = r.Read(buffer[n:])
		n += m
	}
	return n, err
}

// signed checks the body against every secret of the source, so that a secret
// can be rotated without a gap.
func (in *Ingest) signed(source *waypost.Source, header string, body []byte) bool {
	for _, secret := range source.Secrets {
		if signature.VerifyMeta(secret.Reveal(), header, body) {
			return true
		}
	}
	return false
}

func (in *Ingest) tooLarge(w http.ResponseWriter, kind waypost.SourceKind) {
	in.reject(w, kind, ResultTooLarge, http.StatusRequestEntityTooLarge, "the body is over 4 MiB")
}

func (in *Ingest) overload(w http.ResponseWriter, kind waypost.SourceKind) {
	in.observer.Refused(RefusedMemory)
	in.later(w, kind, ResultOverload, soon, "too much is coming in at once; send it again")
}

// When those who are asked to come again are to do so, in seconds.
const (
	soon     = "1"
	inAWhile = "30"
)

// because has the request's line in the log say why it was not seen through; one
// of our own beside it would tell the same once more.
func because(w http.ResponseWriter, reason error) {
	if line, ok := w.(interface{ Because(reason error) }); ok {
		line.Because(reason)
	}
}

// later answers a request that is to come again.
func (in *Ingest) later(w http.ResponseWriter, kind waypost.SourceKind, result Result, when, message string) {
	w.Header().Set("Retry-After", when)
	in.reject(w, kind, result, http.StatusServiceUnavailable, message)
}

func (in *Ingest) reject(w http.ResponseWriter, kind waypost.SourceKind, result Result, status int, message string) {
	in.observer.Ingested(kind, result)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": message}) // the client may be gone; nothing to do
}
