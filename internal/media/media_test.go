package media_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/egress"
	"github.com/waypost-gateway/waypost/internal/media"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var picture = bytes.Repeat([]byte("\x89PNG picture "), 20_000)

// graph is Meta's side: it knows one object and one token.
func graph(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	var server *httptest.Server
	authorized := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "Bearer graph-token" {
			w.WriteHeader(http.StatusUnauthorized)
			return false
		}
		return true
	}
	mux.HandleFunc("GET /v24.0/{id}", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !authorized(w, r):
		case r.PathValue("id") == "1201866346946993":
			fmt.Fprintf(w, `{"url":"%s/download?x=1","mime_type":"image/png","sha256":"00","file_size":%d,"id":"1201866346946993","messaging_product":"whatsapp"}`, server.URL, len(picture))
		case r.PathValue("id") == "777":
			fmt.Fprintf(w, `{"url":"%s/download","mime_type":"video/mp4","file_size":"999999999"}`, server.URL)
		case r.PathValue("id") == "888":
			io.WriteString(w, `<html>`)
		default:
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("GET /download", func(w http.ResponseWriter, r *http.Request) {
		if authorized(w, r) {
			w.Header().Set("Content-Length", strconv.Itoa(len(picture)))
			_, _ = w.Write(picture)
		}
	})
	server = httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

type rig struct {
	links *media.Links
	http.Handler
}

const (
	known   = waypost.NumberID(1 << 40)
	noToken = waypost.NumberID(2 << 40)
	revoked = waypost.NumberID(3 << 40)
)

func newRig(t *testing.T, graphURL string) rig {
	t.Helper()
	client, err := egress.New(egress.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	links := media.NewLinks("https://waypost.example/", []byte("key"), []byte("older key"))
	mux := http.NewServeMux()
	mux.Handle("GET /media/{token}", media.NewServer(media.Options{
		Links: links, Opener: client, Graph: graphURL + "/v24.0",
		Number: func(id waypost.NumberID) *waypost.Number {
			return map[waypost.NumberID]*waypost.Number{
				known: {ID: known, AccessToken: "graph-token"}, noToken: {ID: noToken}, revoked: {ID: revoked, AccessToken: "old-token"},
			}[id]
		},
	}))
	return rig{links, mux}
}

func (r rig) get(t *testing.T, method, link string) *httptest.ResponseRecorder {
	t.Helper()
	answer := httptest.NewRecorder()
	r.ServeHTTP(answer, httptest.NewRequest(method, strings.TrimPrefix(link, "https://waypost.example"), nil))
	return answer
}

func TestALinkLeadsToTheObject(t *testing.T) {
	t.Parallel()
	r := newRig(t, graph(t).URL)
	link := r.links.URL(known, "1201866346946993", time.Now().Add(time.Hour))
	answer := r.get(t, http.MethodGet, link)
	if answer.Code != http.StatusOK || !bytes.Equal(answer.Body.Bytes(), picture) {
		t.Fatalf("answered %d with %d bytes", answer.Code, answer.Body.Len())
	}
	for name, want := range map[string]string{
		"Content-Type": "image/png", "Content-Length": fmt.Sprint(len(picture)), "X-Content-Type-Options": "nosniff",
	} {
		if got := answer.Header().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if head := r.get(t, http.MethodHead, link); head.Code != http.StatusOK || head.Body.Len() != 0 {
		t.Errorf("HEAD answered %d with %d bytes", head.Code, head.Body.Len())
	}
}

func TestLinksAreStableAndSignedWithTheFirstKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http://127.0.0.1:1")
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	if a, b := r.links.URL(known, "1", at), r.links.URL(known, "1", at.Add(time.Millisecond)); a != b {
		t.Errorf("one event has the links %s and %s", a, b)
	}
	// A link made before the key was changed still leads somewhere.
	older := media.NewLinks("https://waypost.example", []byte("older key")).URL(noToken, "1", time.Now().Add(time.Hour))
	if answer := r.get(t, http.MethodGet, older); answer.Code != http.StatusNotFound || !strings.Contains(answer.Body.String(), "access token") {
		t.Errorf("answered %d %s", answer.Code, answer.Body)
	}
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, graph(t).URL)
	later := time.Now().Add(time.Hour)
	good := r.links.URL(known, "1201866346946993", later)
	turned := []byte(good)
	turned[len(turned)-5] ^= 1
	for name, c := range map[string]struct {
		link string
		want int
	}{
		"altered":         {string(turned), 404},
		"another's key":   {media.NewLinks("https://waypost.example", []byte("x")).URL(known, "1201866346946993", later), 404},
		"not a token":     {"https://waypost.example/media/abc", 404},
		"ended":           {r.links.URL(known, "1201866346946993", time.Now().Add(-time.Second)), 410},
		"number unknown":  {r.links.URL(99, "1201866346946993", later), 404},
		"no access token": {r.links.URL(noToken, "1201866346946993", later), 404},
		"token revoked":   {r.links.URL(revoked, "1201866346946993", later), 502},
		"gone at Meta":    {r.links.URL(known, "1", later), 404},
		"too large":       {r.links.URL(known, "777", later), 413},
		"nonsense":        {r.links.URL(known, "888", later), 502},
		"path in the id":  {r.links.URL(known, "../../me", later), 404},
	} {
		answer := r.get(t, http.MethodGet, c.link)
		if answer.Code != c.want || !strings.HasPrefix(answer.Body.String(), `{"error":`) {
			t.Errorf("%s: answered %d %s, want %d", name, answer.Code, answer.Body, c.want)
		}
		if strings.Contains(answer.Body.String(), "token\"") || strings.Contains(answer.Body.String(), "graph-token") {
			t.Errorf("%s: the answer shows a token: %s", name, answer.Body)
		}
	}
	if answer := newRig(t, "http://127.0.0.1:1").get(t, http.MethodGet, good); answer.Code != http.StatusBadGateway {
		t.Errorf("with Meta out of reach: answered %d", answer.Code)
	}
}

func FuzzToken(f *testing.F) {
	links := media.NewLinks("https://waypost.example", []byte("key"))
	handler := media.NewServer(media.Options{Links: links, Number: func(waypost.NumberID) *waypost.Number { return nil }})
	f.Add(strings.TrimPrefix(links.URL(1, "1", time.Unix(1<<31, 0)), "https://waypost.example/media/"))
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		request := httptest.NewRequest(http.MethodGet, "/media/x", nil)
		request.SetPathValue("token", token)
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		if answer.Code != http.StatusNotFound && answer.Code != http.StatusGone {
			t.Errorf("answered %d", answer.Code)
		}
	})
}
