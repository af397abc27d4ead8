package settings_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/settings"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// refused is what came of something, and the member that should be to blame.
type refused struct {
	err   error
	field string
}

// The databases differ in the text they can hold; what is refused is the same.
func TestTextNoDatabaseCanHold(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		account := w.account(perNumber, w.key(perNumber, 0, w.number.ID).Text)
		e := w.endpoint(signed)
		for _, bad := range []string{"a\x00b", "a\xffb", "a\nb", "\x00"} {
			acts := map[string]refused{}
			_, err := w.UpdateTenant(t.Context(), w.acme.ID, settings.TenantChange{Name: &bad})
			acts["tenant"] = refused{err, "name"}
			_, err = w.UpdateTenant(t.Context(), w.acme.ID, settings.TenantChange{Reference: &bad})
			acts["tenant's reference"] = refused{err, "reference"}
			_, err = w.UpdateNumber(t.Context(), w.number.ID, settings.NumberChange{Reference: &bad})
			acts["number's reference"] = refused{err, "reference"}
			_, err = w.UpdateNumber(t.Context(), w.number.ID, settings.NumberChange{WABAID: &bad})
			acts["number's business account"] = refused{err, "waba_id"}
			_, err = w.UpdateEndpoint(t.Context(), e.ID, settings.EndpointChange{WABAID: &bad})
			acts["endpoint's business account"] = refused{err, "waba_id"}
			_, err = account.Change(t.Context(), dialect.Place{NumberID: w.number.ID, Slot: "multi:" + bad}, func(e *waypost.Endpoint) error {
				e.URL = hook
				return nil
			})
			acts["slot"] = refused{err, "name"}
			for name, act := range acts {
				wantKind(t, name, act.err, waypost.KindInvalid)
				if diff := cmp.Diff([]string{act.field}, fields(act.err)); diff != "" {
					t.Errorf("%s %q: refused members (-want +got):\n%s", name, bad, diff)
				}
			}
		}
		name := "Grüße 你好 🎉"
		if tenant, err := w.UpdateTenant(t.Context(), w.acme.ID, settings.TenantChange{Name: &name, Reference: &name}); err != nil || tenant.Name != name {
			t.Errorf("%q became %q, %v", name, tenant.Name, err)
		}
	})
}
