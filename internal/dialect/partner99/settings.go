package partner99

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const (
	pathToken = "/api/settings/accessToken"
	pathSet   = "/api/settings/setWebhook"
	pathGet   = "/api/settings/getWebhook"
)

// The reasons in answers. For accessToken, reasonToken says that the caller's
// address is blocked for a while after too many bad tries. 13 is a wrong method
// everywhere and a bad url as well.
const (
	reasonOK          = 1
	reasonCredentials = 2 // also a body that can't be read
	reasonToken       = 3
	reasonMethod      = 13
	reasonURL         = 13
	reasonFault       = 99 // our own fault; not a number of the provider's
)

const tokenLife = time.Hour

// Handler implements dialect.Dialect.
func (Dialect) Handler(admin dialect.Admin) http.Handler {
	s := settings{admin: admin}
	return dialect.Serve(dialect.Routes{
		pathToken: {http.MethodPost: s.issueToken},
		pathSet:   {http.MethodPost: s.set},
		pathGet:   {http.MethodGet: s.get},
	}, fail)
}

// fail writes a refusal. The outcome stands in the body and the status is 200,
// except where the path is unknown or we are at fault.
func fail(w http.ResponseWriter, _ *http.Request, err error) {
	status, reason := http.StatusOK, reasonCredentials
	var refused *dialect.ReasonError
	kind := waypost.KindOf(err)
	switch {
	case errors.As(err, &refused):
		reason = refused.Reason
	case errors.Is(err, dialect.ErrMethod):
		reason = reasonMethod
	case kind == waypost.KindInternal || kind == waypost.KindUnavailable:
		status, reason = dialect.StatusOf(err), reasonFault
	case kind == waypost.KindNotFound:
		status = http.StatusNotFound
	case slices.Contains(dialect.FieldsOf(err), "url"):
		reason = reasonURL
	}
	dialect.WriteJSON(w, status, refusal{Status: "FAIL", Reason: reason})
}

type settings struct{ admin dialect.Admin }

// authenticate finds the account; a refusal gets the given reason, and reason 3
// where the address is blocked.
func (s settings) authenticate(r *http.Request, key, account string, reason int) (dialect.Account, error) {
	found, err := s.admin.Authenticate(r.Context(), dialect.Credential{
		Dialect: id, Key: key, Account: account, Remote: dialect.Remote(r),
	})
	switch waypost.KindOf(err) {
	case waypost.KindUnauthorized, waypost.KindForbidden, waypost.KindNotFound:
		return nil, &dialect.ReasonError{Reason: reason, Err: err}
	case waypost.KindRateLimited:
		return nil, &dialect.ReasonError{Reason: reasonToken, Err: err}
	default:
		return found, err
	}
}

func (s settings) issueToken(r *http.Request) (any, error) {
	body, err := dialect.ReadObject(r)
	if err != nil {
		return nil, err
	}
	clientID, err := body.String("client_id")
	if err != nil {
		return nil, err
	}
	secret, err := body.String("client_secret")
	if err != nil {
		return nil, err
	}
	if clientID == "" || secret == "" { // without a name the secret would be taken for a token
		return nil, dialect.Refuse(reasonCredentials, "client_id or client_secret is missing")
	}
	account, err := s.authenticate(r, secret, clientID, reasonCredentials)
	if err != nil {
		return nil, err
	}
	tokens, ok := s.admin.(dialect.Tokens)
	if !ok {
		return nil, errors.New("issue token: the gateway has none")
	}
	token, expires, err := tokens.IssueToken(r.Context(), account, tokenLife)
	if err != nil {
		return nil, err
	}
	return tokenIssued{
		Status: statusOK, AccessToken: token, ExpirationTime: strconv.FormatInt(expires.Unix(), 10),
		TokenType: "Bearer", Reason: reasonOK,
	}, nil
}

// enter finds the account that a call's token speaks for.
func (s settings) enter(r *http.Request) (dialect.Account, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nil, dialect.Refuse(reasonCredentials, "there is no Bearer token in the Authorization header")
	}
	return s.authenticate(r, token, "", reasonToken)
}

func (s settings) set(r *http.Request) (any, error) {
	account, err := s.enter(r)
	if err != nil {
		return nil, err
	}
	body, err := dialect.ReadObject(r)
	if err != nil {
		return nil, err
	}
	url, err := body.String("url")
	if err != nil {
		return nil, err
	}
	if url == "" { // the provider has no way to take the URL away
		return nil, dialect.Refuse(reasonURL, "url is missing")
	}
	endpoint, err := account.Change(r.Context(), dialect.Place{Slot: slotPartner}, func(e *waypost.Endpoint) error {
		e.URL = url
		return nil
	})
	if err != nil {
		return nil, err
	}
	return webhook{Status: statusOK, URL: endpoint.URL, Reason: reasonOK}, nil
}

func (s settings) get(r *http.Request) (any, error) {
	account, err := s.enter(r)
	if err != nil {
		return nil, err
	}
	endpoints, err := account.Endpoints(r.Context())
	if err != nil {
		return nil, err
	}
	answer := webhook{Status: statusOK, Reason: reasonOK}
	for _, endpoint := range endpoints {
		if endpoint.Slot == slotPartner {
			answer.URL = endpoint.URL
		}
	}
	return answer, nil
}
