package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/waypost-gateway/waypost/internal/settings"
)

// guard lets through who shows the admin token.
type guard struct {
	token   [sha256.Size]byte
	guesses *settings.Limiter
	next    http.Handler
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	shown := sha256.Sum256([]byte(strings.TrimSpace(token)))
	switch {
	case token != "" && strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(shown[:], g.token[:]) == 1:
		known := r.WithContext(settings.By(r.Context(), "admin"))
		g.next.ServeHTTP(w, known)
		r.Pattern = known.Pattern // for whoever logs the request
	case g.guesses.Failed(r.RemoteAddr):
		newProblem(http.StatusTooManyRequests, "too many wrong tokens came from this address; wait a minute").write(w)
	default:
		newProblem(http.StatusUnauthorized, "send the admin token as Authorization: Bearer <token>").write(w)
	}
}

// refuseUnknown answers for the mux where nothing matches, in our own form.
func refuseUnknown(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		refused := &refusedWriter{header: http.Header{}}
		handler.ServeHTTP(refused, r)
		if refused.status != http.StatusMethodNotAllowed {
			newProblem(http.StatusNotFound, "there is nothing at this path").write(w)
			return
		}
		w.Header().Set("Allow", refused.header.Get("Allow"))
		newProblem(http.StatusMethodNotAllowed, "this path takes "+refused.header.Get("Allow")).write(w)
	})
}

// refusedWriter keeps the status and headers of the mux's own refusal and
// drops its text.
type refusedWriter struct {
	header http.Header
	status int
}

func (w *refusedWriter) Header() http.Header { return w.header }

func (w *refusedWriter) Write(body []byte) (int, error) { return len(body), nil }

func (w *refusedWriter) WriteHeader(status int) { w.status = status }
