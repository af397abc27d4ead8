package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/waypost-gateway/waypost/internal/emulator"
)

// devBasicAuth is the header that the receivers which can, ask for.
const devBasicAuth = "Basic ZGV2OnJlY2VpdmVy"

func registerMeta(ctx context.Context, s *devStage, r *emulator.Receiver) (devAccount, error) {
	var made struct{ ID, Secret string }
	err := s.api.manage(ctx, http.MethodPost, "/api/v1/endpoints", map[string]any{
		"tenant_id": s.tenant,
		"dialect":   "meta",
		"url":       r.URL() + "/hooks",
		"options":   map[string]string{"verify_token": devVerifyToken},
	}, &made)
	if err != nil {
		return devAccount{}, err
	}
	if len(r.Challenges()) == 0 {
		return devAccount{}, errors.New("the receiver was not asked for the hub challenge")
	}
	return devAccount{
		secret: made.Secret,
		how:    "POST /api/v1/endpoints, hub challenge answered",
		show:   s.curl("/api/v1/endpoints/"+made.ID, "Authorization: Bearer "+devAdminToken),
	}, nil
}

func register360dialog(ctx context.Context, s *devStage, r *emulator.Receiver) (devAccount, error) {
	const platformSecret = "dev-360dialog-secret"
	err := s.api.manage(ctx, http.MethodPatch, "/api/v1/tenants/"+s.tenant, map[string]any{
		"secrets": map[string]string{"360dialog": platformSecret},
	}, nil)
	if err != nil {
		return devAccount{}, err
	}
	account, err := registerConfigsWebhook(ctx, s, r, "360dialog", "D360-API-KEY")
	account.secret = platformSecret
	return account, err
}

func registerWhizard(ctx context.Context, s *devStage, r *emulator.Receiver) (devAccount, error) {
	return registerConfigsWebhook(ctx, s, r, "whizard", "WHIZARD-KEY")
}

// registerConfigsWebhook registers a receiver of the first number by the call
// that 360dialog and Whizard share, each with its own key header.
func registerConfigsWebhook(ctx context.Context, s *devStage, r *emulator.Receiver, dialect, keyHeader string) (devAccount, error) {
	const path = "/v1/configs/webhook"
	key, err := s.numberKey(ctx, dialect)
	if err != nil {
		return devAccount{}, err
	}
	err = s.api.call(ctx, http.MethodPost, path, map[string]string{keyHeader: key.Key}, map[string]any{
		"url":     r.URL() + "/hooks",
		"headers": map[string]string{"Authorization": devBasicAuth},
	}, nil)
	if err != nil {
		return devAccount{}, err
	}
	return devAccount{
		how:  fmt.Sprintf("POST %s with %s", path, keyHeader),
		show: s.curl(path, keyHeader+": "+key.Key),
	}, nil
}

// wantCloud is the Cloud API form: the very bytes that Meta sent if the item
// came alone, else the same JSON as if it had.
func wantCloud(item emulator.Item, step devStep) devWant {
	if step.published != nil {
		return devWant{}
	}
	body := emulator.Body(item)
	same := emulator.SameJSON
	if len(step.items) == 1 {
		same = emulator.SameBytes
	}
	return devWant{readCloud(body).key, func(hook emulator.Request) error { return same(body, hook.Body) }}
}

// wantOnPrem is the form of the On-Premises client, which has no envelope.
func wantOnPrem(item emulator.Item, step devStep) devWant {
	if step.published != nil {
		return devWant{}
	}
	body := emulator.OnPremises(item)
	return devWant{readOnPrem(body).key, func(hook emulator.Request) error { return emulator.HoldsJSON(body, hook.Body) }}
}

// withBasicAuth adds that the header given at registration comes with the hook.
func withBasicAuth(plain func(emulator.Item, devStep) devWant) func(emulator.Item, devStep) devWant {
	return func(item emulator.Item, step devStep) devWant {
		want := plain(item, step)
		return devWant{want.key, func(hook emulator.Request) error {
			if got := hook.Header.Get("Authorization"); got != devBasicAuth {
				return fmt.Errorf("the Authorization header is %q, want %q", got, devBasicAuth)
			}
			return want.check(hook)
		}}
	}
}
