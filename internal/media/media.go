// Package media hands out links to the media objects of WhatsApp messages and
// serves them.
//
// A message names its media by an id that only the holder of the number's
// access token can fetch, from Meta, for seven days. Receivers of other
// dialects expect a link. A link of ours carries the number, the media id and
// when it ends, and a code over all three that nobody else can make: it can't
// be guessed or turned to another object. What it leads to is fetched from the
// Graph API with the number's token when it is asked for, streamed through and
// never kept.
//
// What can go wrong, and what is answered: a link that we did not make 404, one
// that has ended 410, a number without a token 404, an object that Meta does
// not have (any more) 404, one over the size limit 413, Meta unreachable 502.
package media

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Lifetime is how long a link works, from the acceptance of its event: as long
// as Meta keeps what it received for a webhook
// (developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media).
const Lifetime = 7 * 24 * time.Hour

// MaxSize is the largest object that is passed through, in bytes: WhatsApp's
// own limit for documents.
const MaxSize = 100 << 20

// Links makes and reads links.
type Links struct {
	keys [][]byte
	base string
}

// NewLinks makes links below the public URL, signed with the first key and
// read with any. There must be a key.
func NewLinks(publicURL string, keys ...[]byte) *Links {
	return &Links{keys: keys, base: strings.TrimSuffix(publicURL, "/") + "/media/"}
}

const macSize = 16

// URL is the link to a number's media object. It is the same whenever it is
// made for the same event.
func (l *Links) URL(number waypost.NumberID, mediaID string, expires time.Time) string {
	token := binary.BigEndian.AppendUint64(nil, uint64(number))
	token = binary.BigEndian.AppendUint32(token, uint32(expires.Unix()))
	token = append(token, mediaID...)
	return l.base + base64.RawURLEncoding.EncodeToString(append(token, mac(l.keys[0], token)...))
}

func mac(key, text []byte) []byte {
	code := hmac.New(sha256.New, key)
	code.Write(text)
	return code.Sum(nil)[:macSize]
}

// read takes a link's token apart; ok false: it is none of ours.
func (l *Links) read(token string) (number waypost.NumberID, mediaID string, expires time.Time, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) <= 12+macSize {
		return 0, "", time.Time{}, false
	}
	text, code := raw[:len(raw)-macSize], raw[len(raw)-macSize:]
	for _, key := range l.keys {
		if hmac.Equal(code, mac(key, text)) {
			number = waypost.NumberID(binary.BigEndian.Uint64(text))
			return number, string(text[12:]), time.Unix(int64(binary.BigEndian.Uint32(text[8:])), 0), true
		}
	}
	return 0, "", time.Time{}, false
}

// Opener fetches; egress.Client is one. The answer's body is the caller's to
// close.
type Opener interface {
	Open(ctx context.Context, url string, header http.Header) (*http.Response, error)
}

// Options of a Server. All but Log and Now are needed.
type Options struct {
	Links  *Links
	Number func(waypost.NumberID) *waypost.Number // nil for an unknown one
	Opener Opener
	// Graph is the base of the Graph API with its version, such as
	// https://graph.facebook.com/v24.0.
	Graph string
	Log   *slog.Logger
	Now   func() time.Time
}

// Server serves GET /media/{token}.
type Server struct{ options Options }

// NewServer makes a server.
func NewServer(options Options) *Server {
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	return &Server{options}
}

// fetchTimeout bounds one download, both calls to Meta and the client's reading.
const fetchTimeout = 5 * time.Minute

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), fetchTimeout)
	defer cancel()
	object, fault := s.open(ctx, r.PathValue("token"))
	if fault != nil {
		s.options.Log.Info("media not served", "status", fault.status, "error", fault.message)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(fault.status)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": fault.message}) // the client may be gone
		return
	}
	defer object.body.Close()
	header := w.Header()
	header.Set("Content-Type", object.mimeType)
	if object.size >= 0 {
		header.Set("Content-Length", strconv.FormatInt(object.size, 10))
	}
	header.Set("Cache-Control", "private, max-age=3600")
	// What a stranger sent must not run as a page of ours.
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	header.Set("Content-Disposition", "attachment")
	if r.Method == http.MethodHead {
		return
	}
	if _, err := io.Copy(w, io.LimitReader(object.body, MaxSize)); err != nil {
		s.options.Log.Info("media broke off", "error", err)
	}
}

// fault is an answer that is no object.
type fault struct {
	status  int
	message string
}

// object is a media object that is being fetched.
type object struct {
	mimeType string
	size     int64 // -1: not told
	body     io.ReadCloser
}

func (s *Server) open(ctx context.Context, token string) (*object, *fault) {
	id, mediaID, expires, ok := s.options.Links.read(token)
	if !ok {
		return nil, &fault{http.StatusNotFound, "this link was not made here"}
	}
	if s.options.Now().After(expires) {
		return nil, &fault{http.StatusGone, "this link has ended; WhatsApp keeps media for seven days"}
	}
	number := s.options.Number(id)
	if number == nil || number.AccessToken == "" {
		return nil, &fault{http.StatusNotFound, "no access token is set for this number; set it with PATCH /api/v1/numbers/{id}"}
	}
	bearer := http.Header{"Authorization": {"Bearer " + number.AccessToken.Reveal()}}
	described, f := s.describe(ctx, mediaID, bearer)
	if f != nil {
		return nil, f
	}
	response, err := s.options.Opener.Open(ctx, described.URL, bearer)
	if err != nil {
		return nil, &fault{http.StatusBadGateway, "the object could not be fetched from Meta"}
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, refused(response.StatusCode)
	}
	if response.ContentLength > MaxSize {
		response.Body.Close()
		return nil, tooLarge
	}
	return &object{described.MIMEType, response.ContentLength, response.Body}, nil
}

// description is Graph's answer to GET /{media-id}.
type description struct {
	URL      string      `json:"url"`
	MIMEType string      `json:"mime_type"`
	FileSize json.Number `json:"file_size"`
}

var tooLarge = &fault{http.StatusRequestEntityTooLarge, "the object is over 100 MiB"}

func (s *Server) describe(ctx context.Context, mediaID string, bearer http.Header) (description, *fault) {
	response, err := s.options.Opener.Open(ctx, s.options.Graph+"/"+url.PathEscape(mediaID), bearer)
	if err != nil {
		return description{}, &fault{http.StatusBadGateway, "Meta could not be reached"}
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return description{}, refused(response.StatusCode)
	}
	var d description
	if err := json.NewDecoder(io.LimitReader(response.Body, 64<<10)).Decode(&d); err != nil || d.URL == "" {
		return description{}, &fault{http.StatusBadGateway, "Meta's description of the object was not understood"}
	}
	if size, err := d.FileSize.Int64(); err == nil && size > MaxSize {
		return description{}, tooLarge
	}
	return d, nil
}

// refused is what Meta's refusal means for the client.
func refused(status int) *fault {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return &fault{http.StatusBadGateway, "Meta refused the number's access token; renew it with PATCH /api/v1/numbers/{id}"}
	case http.StatusBadRequest, http.StatusNotFound, http.StatusGone:
		return &fault{http.StatusNotFound, "Meta does not have this object, or not any more"}
	}
	return &fault{http.StatusBadGateway, "Meta answered " + strconv.Itoa(status)}
}
