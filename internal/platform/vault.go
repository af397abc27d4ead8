package platform

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// memberAPIKey is the member of platform.whatsapp whose value is a secret.
const memberAPIKey = "whatsapp_apiKey"

// isSecret reports whether a member's value is kept sealed. Readers of JSON do
// not all heed the case of names, so neither is it heeded here.
func isSecret(eventType, name string) bool {
	return eventType == waypost.TypePlatformWhatsApp && strings.EqualFold(name, memberAPIKey)
}

// sealed stands in place of a secret value in what is stored.
type sealed struct {
	Sealed []byte `json:"sealed"`
}

// sealedText is what is sealed in a value, nil if it is not a sealed one.
func sealedText(value json.RawMessage) []byte {
	var s sealed
	if json.Unmarshal(value, &s) != nil {
		return nil
	}
	return s.Sealed
}

// Next is where published events go; ingest.Ingest is one.
type Next interface {
	Publish(ctx context.Context, tenant waypost.TenantID, number waypost.NumberID, eventType string, data json.RawMessage, idempotencyKey string) (waypost.EventID, error)
}

// Vault seals the secrets in what is published before it is stored, and opens
// them again when a hook is written.
type Vault struct {
	sealer store.Sealer
	next   Next
}

// NewVault makes a vault in front of what stores events.
func NewVault(sealer store.Sealer, next Next) *Vault { return &Vault{sealer: sealer, next: next} }

// Publish stores an event with its secrets sealed.
func (v *Vault) Publish(ctx context.Context, tenant waypost.TenantID, number waypost.NumberID, eventType string, data json.RawMessage, idempotencyKey string) (waypost.EventID, error) {
	kept, err := v.seal(tenant, eventType, data)
	if err != nil {
		return 0, err
	}
	return v.next.Publish(ctx, tenant, number, eventType, kept, idempotencyKey)
}

func (v *Vault) seal(tenant waypost.TenantID, eventType string, data []byte) ([]byte, error) {
	if eventType != waypost.TypePlatformWhatsApp {
		return data, nil
	}
	return replace(data, func(m member) (json.RawMessage, error) {
		if !isSecret(eventType, m.name) {
			return nil, nil
		}
		text, err := v.sealer.Seal(m.value, sealContext(tenant))
		if err != nil {
			return nil, fmt.Errorf("seal %s: %w", m.name, err)
		}
		return json.Marshal(sealed{text})
	})
}

// Open gives the event with its secrets in clear. The event itself stays as it
// is.
func (v *Vault) Open(event *waypost.Event) (*waypost.Event, error) {
	if event.Type != waypost.TypePlatformWhatsApp || event.Form != waypost.FormData {
		return event, nil
	}
	body, err := replace(event.Body, func(m member) (json.RawMessage, error) {
		text := sealedText(m.value)
		if text == nil || !isSecret(event.Type, m.name) {
			return nil, nil
		}
		value, err := v.sealer.Open(text, sealContext(event.TenantID))
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", m.name, err)
		}
		return value, nil
	})
	if err != nil {
		return nil, err
	}
	opened := *event
	opened.Body = body
	return &opened, nil
}

// sealContext ties a sealed value to its tenant; to change it locks every
// stored one out.
func sealContext(tenant waypost.TenantID) string { return "event of " + tenant.String() }

// Redact gives an event's body as it may be shown, with a placeholder for each
// secret.
func Redact(event *waypost.Event) []byte {
	if event.Type != waypost.TypePlatformWhatsApp || event.Form != waypost.FormData {
		return event.Body
	}
	shown, err := replace(event.Body, func(m member) (json.RawMessage, error) {
		if !isSecret(event.Type, m.name) {
			return nil, nil
		}
		return json.Marshal(waypost.Secret(""))
	})
	if err != nil {
		return nil // nobody can tell what is in it
	}
	return shown
}
