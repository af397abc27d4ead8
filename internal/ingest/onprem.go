package ingest

import (
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"

	"github.com/waypost-gateway/waypost/internal/meta"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// receiveOnPrem takes one callback of an On-Premises client. Its payload names
// no receiving number, so the source is bound to one or the request says which;
// it is turned into the Cloud form here, once, and everything behind the door
// knows that form only.
func (in *Ingest) receiveOnPrem(w http.ResponseWriter, r *http.Request) {
	source := in.source(w, waypost.SourceOnPrem, r.PathValue("source"))
	if source == nil {
		return
	}
	if !authorized(source, r) {
		in.log.Warn("on-premises token refused", "source", source.Name)
		w.Header().Set("WWW-Authenticate", `Basic realm="waypost", charset="UTF-8"`)
		in.reject(w, source.Kind, ResultUnauthorized, http.StatusUnauthorized,
			"send the source's token as a Bearer token or as the password of Basic credentials")
		return
	}
	phone := strings.TrimPrefix(strings.TrimSpace(r.URL.Query().Get("number")), "+")
	number := in.onPremNumber(source, phone)
	if number == nil && phone == "" {
		in.reject(w, source.Kind, ResultMalformed, http.StatusBadRequest,
			"which number is this for? add ?number=<phone digits>, or bind the source to a number")
		return
	}
	load := in.newIntake()
	defer load.leave()
	body, ok := in.read(w, r, source.Kind, load)
	if !ok {
		return
	}
	in.take(w, r, source, load, len(body), func() []store.Arrival { return in.onPremArrivals(source, number, phone, body) })
}

var errNotOnPrem = errors.New("no contacts, messages, statuses or errors array")

func (in *Ingest) onPremArrivals(source *waypost.Source, number *waypost.Number, phone string, body []byte) []store.Arrival {
	if !meta.IsOnPrem(body) {
		return in.unparsed(source, body, errNotOnPrem)
	}
	known := waypost.Number{Phone: phone}
	if number != nil {
		known = *number
	}
	cloud, err := meta.FromOnPrem(body, known.PhoneNumberID, known.Phone, known.WABAID)
	if err != nil {
		return in.unparsed(source, body, err)
	}
	return in.arrivals(source, number, cloud)
}

// onPremNumber is the number a callback is for: the one the source is bound to,
// else the one with the phone the request names. nil: nobody has registered it.
func (in *Ingest) onPremNumber(source *waypost.Source, phone string) *waypost.Number {
	if source.NumberID != 0 {
		return in.directory.Number(source.NumberID)
	}
	if phone == "" {
		return nil
	}
	_, id := in.directory.Owner("", "", phone)
	return in.directory.Number(id)
}

func authorized(source *waypost.Source, r *http.Request) bool {
	token, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !isBearer {
		_, token, _ = r.BasicAuth()
	}
	for _, secret := range source.Secrets {
		if secret != "" && subtle.ConstantTimeCompare([]byte(token), []byte(secret.Reveal())) == 1 {
			return true
		}
	}
	return false
}
