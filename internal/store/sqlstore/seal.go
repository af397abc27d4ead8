package sqlstore

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// The types here are how secrets look inside a sealed blob. waypost.Secret hides
// itself from JSON, so they hold plain text, and only ever on the way in or out.

type sealedTenant struct {
	Secrets map[string]string `json:"secrets,omitempty"`
}

type sealedNumber struct {
	AccessToken string `json:"access_token,omitempty"`
}

type sealedSource struct {
	Secrets     []string `json:"secrets,omitempty"`
	VerifyToken string   `json:"verify_token,omitempty"`
}

type sealedEndpoint struct {
	Headers map[string]string `json:"headers,omitempty"`
	Options map[string]any    `json:"options,omitempty"`
	Secrets []sealedSecret    `json:"secrets,omitempty"`
	// UserInfo is what the receiver's URL has before its host, with the "@".
	UserInfo string `json:"user_info,omitempty"`
}

type sealedSecret struct {
	Value     string `json:"value"`
	ExpiresAt int64  `json:"expires_at,omitempty"`
}

// seal writes v as JSON that opens for this row only.
func (s *Store) seal(v any, row fmt.Stringer) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode secrets of %s: %w", row, err)
	}
	sealed, err := s.sealer.Seal(plain, sealContext(row))
	if err != nil {
		return nil, fmt.Errorf("seal secrets of %s: %w", row, err)
	}
	return sealed, nil
}

func (s *Store) open(sealed []byte, v any, row fmt.Stringer) error {
	plain, err := s.sealer.Open(sealed, sealContext(row))
	if err != nil {
		return fmt.Errorf("open secrets of %s: %w", row, err)
	}
	if err := json.Unmarshal(plain, v); err != nil {
		return fmt.Errorf("decode secrets of %s", row) // the cause would quote the plain text
	}
	return nil
}

// sealContext ties a blob to its row; renaming a noun here locks every row out.
func sealContext(row fmt.Stringer) string {
	noun := "unknown"
	switch row.(type) {
	case waypost.TenantID:
		noun = "tenant"
	case waypost.NumberID:
		noun = "number"
	case waypost.SourceID:
		noun = "source"
	case waypost.EndpointID:
		noun = "endpoint"
	}
	return noun + ":" + row.String()
}

func reveal(secrets map[string]waypost.Secret) map[string]string {
	plain := make(map[string]string, len(secrets))
	for name, secret := range secrets {
		plain[name] = secret.Reveal()
	}
	return plain
}

func conceal(plain map[string]string) map[string]waypost.Secret {
	if len(plain) == 0 {
		return nil
	}
	secrets := make(map[string]waypost.Secret, len(plain))
	for name, text := range plain {
		secrets[name] = waypost.Secret(text)
	}
	return secrets
}

// storedPolicy is a waypost.PolicyChange in JSON. A schedule that is empty says
// "no retries" and one that is absent says "as the dialect has it".
type storedPolicy struct {
	Success  *waypost.Success `json:"success,omitempty"`
	Timeout  *time.Duration   `json:"timeout_ns,omitempty"`
	Schedule *[]time.Duration `json:"schedule_ns,omitempty"`
}

func encodePolicy(p waypost.PolicyChange) (string, error) {
	if p.Schedule != nil && *p.Schedule == nil {
		p.Schedule = &[]time.Duration{}
	}
	text, err := json.Marshal(storedPolicy(p))
	return string(text), err
}

func decodePolicy(text string) (waypost.PolicyChange, error) {
	var p storedPolicy
	err := json.Unmarshal([]byte(text), &p)
	return waypost.PolicyChange(p), err
}
