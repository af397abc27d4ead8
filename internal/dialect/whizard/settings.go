package whizard

import (
	"mime"
	"net/http"
	"net/url"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/dialect/d360"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const (
	keyHeader = "WHIZARD-KEY"

	pathWebhook          = "/v1/configs/webhook"
	pathPhoneNumber      = "/v1/configs/phone_number"
	pathPhoneNumberShort = "/phone_number"
)

// phoneNumber answers GET /phone_number: {"phone_number":"34600111222"}.
type phoneNumber struct {
	PhoneNumber string `json:"phone_number"`
}

// Handler implements dialect.Dialect.
func (d Dialect) Handler(admin dialect.Admin) http.Handler {
	s := settings{admin: admin, id: d.Info().ID}
	number := map[string]dialect.Call{http.MethodGet: s.getPhoneNumber}
	return dialect.Serve(dialect.Routes{
		pathWebhook:          {http.MethodGet: s.getWebhook, http.MethodPost: s.setWebhook},
		pathPhoneNumber:      number,
		pathPhoneNumberShort: number,
	}, fail)
}

type settings struct {
	admin dialect.Admin
	id    string
}

func (s settings) authenticate(r *http.Request) (dialect.Account, *waypost.Number, error) {
	account, err := s.admin.Authenticate(r.Context(), dialect.Credential{
		Dialect: s.id, Key: r.Header.Get(keyHeader), Remote: dialect.Remote(r),
	})
	if err != nil {
		return nil, nil, err
	}
	number := account.Number()
	if number == nil {
		return nil, nil, waypost.Errorf(waypost.KindForbidden, "this key is not the key of a number")
	}
	return account, number, nil
}

func placeOf(number *waypost.Number) dialect.Place {
	return dialect.Place{NumberID: number.ID, Slot: d360.SlotNumber}
}

func (s settings) getWebhook(r *http.Request) (any, error) {
	account, number, err := s.authenticate(r)
	if err != nil {
		return nil, err
	}
	webhook, err := d360.Find(r.Context(), account, placeOf(number))
	if err != nil {
		return nil, err
	}
	return d360.Show(webhook), nil
}

func (s settings) setWebhook(r *http.Request) (any, error) {
	account, number, err := s.authenticate(r)
	if err != nil {
		return nil, err
	}
	target, headers, err := readWebhook(r)
	if err != nil {
		return nil, err
	}
	webhook, err := d360.Set(r.Context(), account, placeOf(number), target, headers)
	if err != nil {
		return nil, err
	}
	return d360.Show(&webhook), nil
}

func (s settings) getPhoneNumber(r *http.Request) (any, error) {
	_, number, err := s.authenticate(r)
	if err != nil {
		return nil, err
	}
	return phoneNumber{PhoneNumber: number.Phone}, nil
}

// readWebhook reads a webhook. The documentation spells its URL both "url" and
// "URL"; where both are given the former counts.
func readWebhook(r *http.Request) (target string, headers map[string]waypost.Secret, err error) {
	if err := checkContentType(r); err != nil {
		return "", nil, err
	}
	body, err := dialect.ReadObject(r)
	if err != nil {
		return "", nil, err
	}
	spelling := "url"
	if !body.Has(spelling) {
		spelling = "URL"
	}
	if target, err = body.String(spelling); err != nil {
		return "", nil, err
	}
	if target == "" {
		return "", nil, refuse("url", "is required")
	}
	if u, err := url.Parse(target); err == nil && u.User != nil {
		return "", nil, refuse("url", "must not have a user or password; send an Authorization header instead")
	}
	headers, err = body.Headers("headers")
	return target, headers, err
}

// checkContentType refuses what calls itself something other than JSON; a
// request that does not say is read as JSON.
func checkContentType(r *http.Request) error {
	given := r.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(given); given == "" || err == nil && media == "application/json" {
		return nil
	}
	return refuse("Content-Type", "must be application/json")
}

func refuse(member, message string) error {
	return waypost.Invalid(waypost.FieldError{Field: member, Message: message})
}

// fail writes a refusal. Its one shape serves every status.
func fail(w http.ResponseWriter, _ *http.Request, err error) {
	message := dialect.MessageOf(err)
	if waypost.KindOf(err) == waypost.KindUnauthorized {
		message = "Invalid api key"
	}
	d360.WriteMetaError(w, err, message)
}
