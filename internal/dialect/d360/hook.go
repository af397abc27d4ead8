package d360

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/meta"
	"github.com/waypost-gateway/waypost/internal/signature"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const signatureHeader = "X-360dialog-Signature"

// Encode implements dialect.Dialect. With a platform secret of the tenant the
// hook is signed; user and password in the URL become Basic authorization
// unless the endpoint's headers have an authorization of their own.
func (Dialect) Encode(item dialect.Item) (dialect.Hook, error) {
	body, err := Body(item.Event, payloadOf(item.Endpoint))
	if err != nil {
		return dialect.Hook{}, err
	}
	header := http.Header{}
	if secret := item.TenantSecret.Reveal(); secret != "" {
		header.Set(signatureHeader, signature.HexSHA256(secret, body))
	}
	if authorization := basicAuthorization(item.Endpoint); authorization != "" {
		header.Set("Authorization", authorization)
	}
	return dialect.Hook{Body: body, Header: header}, nil
}

// Body writes an event in the given form: the Cloud form as it came in.
// dialect.ErrNotWanted if that form can't hold it.
func Body(event *waypost.Event, payload string) ([]byte, error) {
	if event.Form != waypost.FormCloud || !Takes(payload, event.Type) {
		return nil, dialect.ErrNotWanted
	}
	if payload != PayloadOnPrem {
		return event.Body, nil
	}
	body, ok, err := meta.ToOnPrem(event.Body)
	if err != nil {
		return nil, fmt.Errorf("write on-premises form: %w", err)
	}
	if !ok {
		return nil, dialect.ErrNotWanted
	}
	return body, nil
}

func basicAuthorization(endpoint *waypost.Endpoint) string {
	if !strings.Contains(endpoint.URL, "@") { // as with most
		return ""
	}
	for name := range endpoint.Headers {
		if strings.EqualFold(name, "Authorization") {
			return ""
		}
	}
	u, err := url.Parse(endpoint.URL)
	if err != nil || u.User == nil {
		return ""
	}
	password, _ := u.User.Password()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
}
