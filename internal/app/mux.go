package app

import (
	"net/http"
	"strings"

	"github.com/waypost-gateway/waypost/internal/dialect"
)

// mountDialects puts each settings API at its provider's own paths, and all of
// it once more below /dialects/{id}/. Where dialects share a path, the one
// whose credential header the request carries answers.
func mountDialects(mux *http.ServeMux, dialects []dialect.Dialect, admin dialect.Admin) {
	shared := map[string]*sharedPath{}
	for _, d := range dialects {
		handler := d.Handler(admin)
		if handler == nil {
			continue
		}
		info := d.Info()
		prefix := "/dialects/" + info.ID
		mux.Handle(prefix+"/", http.StripPrefix(prefix, handler))
		for _, path := range info.Paths {
			if shared[path] == nil {
				shared[path] = &sharedPath{}
				mux.Handle(path, shared[path])
			}
			shared[path].owners = append(shared[path].owners, pathOwner{info.CredentialHeader, handler})
		}
	}
}

// sharedPath is one path and the dialects that serve it.
type sharedPath struct{ owners []pathOwner }

type pathOwner struct {
	credentialHeader string
	handler          http.Handler
}

func (p *sharedPath) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for _, owner := range p.owners {
		if owner.credentialHeader != "" && r.Header.Get(owner.credentialHeader) != "" {
			owner.handler.ServeHTTP(w, r)
			return
		}
	}
	p.owners[0].handler.ServeHTTP(w, r)
}

// hostDialects sends what comes to a mapped host to that dialect alone.
func hostDialects(hosts map[string]string, dialects []dialect.Dialect, admin dialect.Admin, next http.Handler) http.Handler {
	if len(hosts) == 0 {
		return next
	}
	handlers := map[string]http.Handler{}
	for _, d := range dialects {
		if handler := d.Handler(admin); handler != nil {
			handlers[d.Info().ID] = handler
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(strings.ToLower(r.Host), ":")
		if handler := handlers[hosts[host]]; handler != nil {
			handler.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// before sends what begins with the path to the handler. It comes before the mux
// because the mux would take as long as half of all that ingest itself does before
// the commit.
func before(mux http.Handler, path string, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, path) {
			handler.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
