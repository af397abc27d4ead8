package ingest

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"

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
	mux.HandleFunc("POST /ingest/meta/{source}", in.receiveMeta)
	mux.HandleFunc("POST /ingest/onprem/{source}", in.receiveOnPrem)
	return mux
}

// safeChallenge is what Meta's challenges are made of; anything else is not
// echoed, so that the answer can't carry a script.
var safeChallenge = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,256}$`)

// verifyMeta answers the hub challenge
// (developers.facebook.com/docs/graph-api/webhooks/getting-started).
func (in *Ingest) verifyMeta(w http.ResponseWriter, r *http.Request) {
	source := in.source(w, r, waypost.SourceMeta)
	if source == nil {
		return
	}
	query := r.URL.Query()
	token, challenge := query.Get("hub.verify_token"), query.Get("hub.challenge")
	switch {
	case query.Get("hub.mode") != "subscribe":
		in.refuse(w, source.Kind, ResultMalformed, http.StatusBadRequest, `hub.mode must be "subscribe"`)
	case source.VerifyToken == "":
		in.refuse(w, source.Kind, ResultUnauthorized, http.StatusForbidden, "no verify token is configured for this source; set WAYPOST_META_VERIFY_TOKEN")
	case subtle.ConstantTimeCompare([]byte(token), []byte(source.VerifyToken.Reveal())) != 1:
		in.refuse(w, source.Kind, ResultUnauthorized, http.StatusForbidden, "hub.verify_token does not match the one configured here")
	case !safeChallenge.MatchString(challenge):
		in.refuse(w, source.Kind, ResultMalformed, http.StatusBadRequest, "hub.challenge is missing or holds unexpected characters")
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		io.WriteString(w, challenge)
	}
}

// receiveMeta takes one notification request. Meta counts nothing but 200 as
// received and repeats everything else for days.
func (in *Ingest) receiveMeta(w http.ResponseWriter, r *http.Request) {
	source := in.source(w, r, waypost.SourceMeta)
	if source == nil {
		return
	}
	body, held, ok := in.read(w, r, source.Kind)
	defer in.gate.leave(held)
	if !ok {
		return
	}
	if !in.signed(source, r.Header.Get("X-Hub-Signature-256"), body) {
		in.log.Warn("signature refused", "source", source.Name, "present", r.Header.Get("X-Hub-Signature-256") != "")
		in.refuse(w, source.Kind, ResultUnauthorized, http.StatusUnauthorized,
			"X-Hub-Signature-256 is missing or was not made with an app secret configured for this source")
		return
	}
	in.finish(w, r, source, in.arrivals(source, nil, body))
}

// finish commits what an authentic request brought and answers.
func (in *Ingest) finish(w http.ResponseWriter, r *http.Request, source *waypost.Source, arrivals []store.Arrival) {
	if err := in.commit(r.Context(), arrivals); err != nil {
		in.log.Error("request not seen through, sender asked to retry", "source", source.Name, "error", err)
		w.Header().Set("Retry-After", "1")
		in.refuse(w, source.Kind, ResultUnavailable, http.StatusServiceUnavailable, "not stored; send it again")
		return
	}
	in.observer.Ingested(source.Kind, ResultAccepted)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "ok\n")
}

// source finds the source named in the path, or answers 404.
func (in *Ingest) source(w http.ResponseWriter, r *http.Request, kind waypost.SourceKind) *waypost.Source {
	source := in.directory.Source(kind, r.PathValue("source"))
	if source == nil {
		in.refuse(w, kind, ResultUnknownSource, http.StatusNotFound, "no "+string(kind)+" source has this name")
		return nil
	}
	return source
}

// read reads the body within the limits. held bytes must be given back to the
// gate by the caller in any case.
func (in *Ingest) read(w http.ResponseWriter, r *http.Request, kind waypost.SourceKind) (body []byte, held int64, ok bool) {
	if r.ContentLength > MaxBody {
		in.refuse(w, kind, ResultTooLarge, http.StatusRequestEntityTooLarge, "the body is over 4 MiB")
		return nil, 0, false
	}
	size := r.ContentLength
	if size < 0 {
		size = MaxBody // chunked: it may become as large as the limit
	}
	if !in.gate.enter(size) {
		w.Header().Set("Retry-After", "1")
		in.refuse(w, kind, ResultOverload, http.StatusServiceUnavailable, "too much is coming in at once; send it again")
		return nil, 0, false
	}
	body, err := readBody(http.MaxBytesReader(w, r.Body, MaxBody), r.ContentLength)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		in.refuse(w, kind, ResultTooLarge, http.StatusRequestEntityTooLarge, "the body is over 4 MiB")
		return nil, size, false
	case err != nil:
		in.refuse(w, kind, ResultMalformed, http.StatusBadRequest, "the body could not be read to its end")
		return nil, size, false
	}
	return body, size, true
}

// readBody reads everything, in one allocation when the length is known.
func readBody(r io.Reader, length int64) ([]byte, error) {
	if length < 0 {
		return io.ReadAll(r)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	return body, nil
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

func (in *Ingest) refuse(w http.ResponseWriter, kind waypost.SourceKind, result Result, status int, message string) {
	in.observer.Ingested(kind, result)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": message}) // the client may be gone; nothing to do
}
