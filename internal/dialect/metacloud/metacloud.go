// Package metacloud is the dialect that looks like Meta itself: a receiver
// written for Meta's own webhooks works unchanged. Hooks are Cloud API bodies,
// byte for byte as they came in, signed as Meta signs, but with the endpoint's
// own secret in the place of Meta's app secret.
//
// There is no settings API; endpoints are made through the management API. With
// a verify token set, the receiver is put Meta's question (the hub challenge)
// before the endpoint is made.
package metacloud

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/signature"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const (
	optionVerifyToken = "verify_token"
	signatureHeader   = "X-Hub-Signature-256"
)

// Dialect is Meta's. The zero value is ready.
type Dialect struct{}

// New makes the dialect.
func New() Dialect { return Dialect{} }

// Info implements dialect.Dialect.
func (Dialect) Info() dialect.Info {
	plain := "" // Meta's app secrets have no prefix
	return dialect.Info{
		ID:     "meta",
		Title:  "Meta Cloud API",
		Docs:   "https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview",
		Events: []string{"whatsapp.*"},
		Options: []dialect.Option{{
			Name: optionVerifyToken, Type: dialect.OptionText, Secret: true,
			Doc: "If set, the receiver must answer Meta's hub challenge with this verify token before the endpoint is made.",
		}},
		SecretPrefix: &plain,
	}
}

// Handler implements dialect.Dialect: there is no settings API.
func (Dialect) Handler(dialect.Admin) http.Handler { return nil }

// schedule is as long as Meta's own; built once, since every attempt asks for it.
var schedule = waypost.Doubling(5*time.Second, time.Hour, 7*24*time.Hour)

// Policy implements dialect.Dialect: status 200 within 5 seconds, and retries
// for the 7 days that Meta itself keeps trying.
func (Dialect) Policy(*waypost.Endpoint) waypost.Policy {
	return waypost.Policy{
		Success:  waypost.Success200,
		Timeout:  5 * time.Second,
		Schedule: schedule,
	}
}

// Encode implements dialect.Dialect. The newest secret in force signs: Meta's
// header has room for one signature.
func (Dialect) Encode(item dialect.Item) (dialect.Hook, error) {
	if item.Event.Form != waypost.FormCloud {
		return dialect.Hook{}, dialect.ErrNotWanted
	}
	secrets := item.Endpoint.LiveSecrets(item.Now)
	if len(secrets) == 0 {
		return dialect.Hook{}, errors.New("sign hook: the endpoint has no secret in force")
	}
	return dialect.Hook{
		Body:   item.Event.Body,
		Header: http.Header{signatureHeader: {signature.Meta(secrets[0].Reveal(), item.Event.Body)}},
	}, nil
}

// Challenge implements dialect.Challenger: Meta's hub challenge, added to what
// query the URL has of its own.
func (Dialect) Challenge(endpoint *waypost.Endpoint, nonce string) *dialect.Challenge {
	token := endpoint.OptionString(optionVerifyToken, "")
	u, err := url.Parse(endpoint.URL)
	if token == "" || endpoint.URL == "" || err != nil {
		return nil
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += "hub.mode=subscribe&hub.challenge=" + url.QueryEscape(nonce) + "&hub.verify_token=" + url.QueryEscape(token)
	return &dialect.Challenge{
		URL:   u.String(),
		Check: func(status int, body []byte) error { return checkAnswer(nonce, status, body) },
	}
}

func checkAnswer(nonce string, status int, body []byte) error {
	if status != http.StatusOK {
		return fmt.Errorf("the receiver answered Meta's verification request with status %d; "+
			"it must answer 200 if hub.verify_token is the token in options.verify_token", status)
	}
	if string(bytes.TrimRight(body, " \t\r\n")) != nonce {
		return errors.New("the receiver's answer to Meta's verification request " +
			"must be the value of hub.challenge and nothing else")
	}
	return nil
}
