// Package partner99 is the dialect of 99digital's Partner API: the webhook of a
// whole partner account, and hooks that tell what became of the accounts in it.
//
// A partner trades its client id and secret for an access token that lives an
// hour, and sets and reads its one URL with that. Hooks are made of events that
// the platform publishes: platform.whatsapp, platform.builder and
// platform.online, whose data has the provider's own member names. They are
// written anew in the provider's order and types, and members that it does not
// have, or does not send with a given code, are left out.
package partner99

import (
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const id = "99digital-partner"

// slotPartner is the slot of the partner account's webhook.
const slotPartner = "partner"

// Dialect is 99digital's Partner API. The zero value is ready.
type Dialect struct{}

// New makes the dialect.
func New() Dialect { return Dialect{} }

// Info implements dialect.Dialect.
func (Dialect) Info() dialect.Info {
	return dialect.Info{
		ID:    id,
		Title: "99digital Partner",
		Docs:  "https://docs.99digital.co.il/partners-api/settings/webhook",
		Events: []string{
			waypost.TypePlatformWhatsApp, waypost.TypePlatformBuilder, waypost.TypePlatformOnline,
		},
		URL:              dialect.URLRules{AllowHTTP: true, MaxLength: 512},
		Paths:            []string{pathToken, pathSet, pathGet},
		CredentialHeader: "Authorization",
		Keys: &dialect.KeySpec{
			KeyMember:      "client_secret",
			AccountMember:  "client_id",
			Tokens:         true,
			BadTries:       10,
			BadTriesWindow: 10 * time.Minute,
			Block:          15 * time.Minute,
		},
	}
}

// Policy implements dialect.Dialect: status 200 within 5 seconds. The provider
// names no retries here; these are those of its other API.
func (Dialect) Policy(*waypost.Endpoint) waypost.Policy {
	return waypost.Policy{
		Success:  waypost.Success200,
		Timeout:  5 * time.Second,
		Schedule: []time.Duration{0, 5 * time.Minute, 20 * time.Minute, time.Hour, 4 * time.Hour, 24 * time.Hour},
	}
}
