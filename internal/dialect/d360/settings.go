package d360

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const (
	keyHeader = "D360-API-KEY"

	pathWebhook     = "/v1/configs/webhook"
	pathPhoneNumber = "/v1/configs/phone_number"
	pathWABA        = "/waba_webhook"
	pathMulti       = "/multi_webhook"
)

// Handler implements dialect.Dialect.
func (d Dialect) Handler(admin dialect.Admin) http.Handler {
	s := settings{admin: admin, id: d.Info().ID}
	webhook := map[string]dialect.Call{
		http.MethodGet:    s.with(getWebhook),
		http.MethodPost:   s.with(setWebhook),
		http.MethodDelete: s.with(clearWebhook),
	}
	waba := map[string]dialect.Call{
		http.MethodGet:  s.with(getWABA),
		http.MethodPost: s.with(setWABA),
	}
	multi := map[string]dialect.Call{
		http.MethodGet:    s.with(getMulti),
		http.MethodPost:   s.with(switchMulti),
		http.MethodPut:    s.with(addDestinations),
		http.MethodPatch:  s.with(changeDestination),
		http.MethodDelete: s.with(removeDestination),
	}
	return dialect.Serve(dialect.Routes{
		pathWebhook:        webhook,
		"/configs/webhook": webhook,
		pathPhoneNumber:    {http.MethodGet: s.with(getPhoneNumber)},
		pathWABA:           waba,
		"/v1" + pathWABA:   waba,
		pathMulti:          multi,
		"/v1" + pathMulti:  multi,
	}, fail)
}

type settings struct {
	admin dialect.Admin
	id    string
}

// caller is who makes a call: the account of a key, and the key's number.
type caller struct {
	dialect.Account
	number *waypost.Number
}

// with lets a call be made with a number's key only.
func (s settings) with(call func(*http.Request, caller) (any, error)) dialect.Call {
	return func(r *http.Request) (any, error) {
		account, err := s.admin.Authenticate(r.Context(), dialect.Credential{
			Dialect: s.id, Key: r.Header.Get(keyHeader), Remote: dialect.Remote(r),
		})
		if err != nil {
			return nil, err
		}
		c := caller{Account: account, number: account.Number()}
		if c.number == nil {
			return nil, waypost.Errorf(waypost.KindForbidden, "this key is not the key of a number")
		}
		answer, err := call(r, c)
		if err != nil && c.isOnPrem(r.Context()) {
			err = &onPremError{err}
		}
		return answer, err
	}
}

// onPremError is a refusal of a call for a number that is hosted On-Premises.
type onPremError struct{ err error }

func (e *onPremError) Error() string { return e.err.Error() }

func (e *onPremError) Unwrap() error { return e.err }

func (c caller) isOnPrem(ctx context.Context) bool {
	webhook, err := c.find(ctx, c.place())
	return err == nil && webhook != nil && payloadOf(webhook) == PayloadOnPrem
}

// fail writes a refusal: in the shape of On-Premises hosting where the caller
// uses its host name or has a webhook of that form, else in that of Cloud hosting.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	message := dialect.MessageOf(err)
	if waypost.KindOf(err) == waypost.KindUnauthorized {
		message = "Invalid API key"
	}
	var onPrem *onPremError
	if errors.As(err, &onPrem) || strings.HasPrefix(strings.ToLower(r.Host), "waba.") {
		WriteMetaError(w, err, message)
		return
	}
	dialect.WriteJSON(w, dialect.StatusOf(err), cloudError{Error: message})
}

// WriteMetaError answers with an error in the shape of On-Premises hosting.
func WriteMetaError(w http.ResponseWriter, err error, message string) {
	status := dialect.StatusOf(err)
	answer := metaError{Meta: metaStatus{HTTPCode: status, DeveloperMessage: message}}
	if status < http.StatusInternalServerError {
		answer.Meta.Details = dialect.FieldsOf(err)
	}
	dialect.WriteJSON(w, status, answer)
}

// place is that of the number's own webhook.
func (c caller) place() dialect.Place { return dialect.Place{NumberID: c.number.ID, Slot: SlotNumber} }

// find gives the endpoint in a place, nil if there is none.
func (c caller) find(ctx context.Context, place dialect.Place) (*waypost.Endpoint, error) {
	return Find(ctx, c.Account, place)
}

// Find gives the account's endpoint in a place, nil if there is none.
func Find(ctx context.Context, account dialect.Account, place dialect.Place) (*waypost.Endpoint, error) {
	endpoints, err := account.Endpoints(ctx)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(endpoints, func(e waypost.Endpoint) bool { return placeOf(e) == place })
	if at < 0 {
		return nil, nil //nolint:nilnil // none is a good answer: a webhook that was never set reads as an empty one
	}
	return &endpoints[at], nil
}

func placeOf(e waypost.Endpoint) dialect.Place {
	return dialect.Place{NumberID: e.NumberID, WABAID: e.WABAID, Slot: e.Slot}
}

// Show gives an endpoint, which may be nil, as the settings API shows it.
func Show(endpoint *waypost.Endpoint) Webhook {
	if endpoint == nil || endpoint.URL == "" {
		return Webhook{Headers: map[string]string{}}
	}
	return Webhook{URL: endpoint.URL, Headers: dialect.ShowHeaders(endpoint.Headers)}
}

// Set replaces the URL and all headers of the webhook in a place.
func Set(ctx context.Context, account dialect.Account, place dialect.Place, url string, headers map[string]waypost.Secret) (waypost.Endpoint, error) {
	return account.Change(ctx, place, func(e *waypost.Endpoint) error {
		e.URL, e.Headers = url, headers
		return nil
	})
}

// set is Set, except that an empty URL makes no endpoint where there is none.
func (c caller) set(ctx context.Context, place dialect.Place, url string, headers map[string]waypost.Secret) (Webhook, error) {
	if url == "" {
		old, err := c.find(ctx, place)
		if err != nil || old == nil {
			return Show(nil), err
		}
		headers = nil
	}
	endpoint, err := Set(ctx, c.Account, place, url, headers)
	return Show(&endpoint), err
}

// readWebhook reads url, which must be there but may be empty, and headers.
func readWebhook(body dialect.Object) (url string, headers map[string]waypost.Secret, err error) {
	if !body.Has("url") {
		return "", nil, required("url")
	}
	if url, err = body.String("url"); err != nil {
		return "", nil, err
	}
	headers, err = body.Headers("headers")
	return url, headers, err
}

func required(member string) error {
	return waypost.Invalid(waypost.FieldError{Field: member, Message: "is required"})
}

func getWebhook(r *http.Request, c caller) (any, error) {
	webhook, err := c.find(r.Context(), c.place())
	if err != nil {
		return nil, err
	}
	return Show(webhook), nil
}

func setWebhook(r *http.Request, c caller) (any, error) {
	body, err := dialect.ReadObject(r)
	if err != nil {
		return nil, err
	}
	url, headers, err := readWebhook(body)
	if err != nil {
		return nil, err
	}
	return c.set(r.Context(), c.place(), url, headers)
}

func clearWebhook(r *http.Request, c caller) (any, error) {
	return c.set(r.Context(), c.place(), "", nil)
}

func getPhoneNumber(_ *http.Request, c caller) (any, error) {
	return phoneNumber{PhoneNumber: c.number.Phone, DisplayPhoneNumber: c.number.Phone, ID: c.number.PhoneNumberID}, nil
}
