package directory_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/dialect/d360"
	"github.com/waypost-gateway/waypost/internal/dialect/metacloud"
	"github.com/waypost-gateway/waypost/internal/dialect/whizard"
	"github.com/waypost-gateway/waypost/internal/directory"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// fixed is a store whose settings never change.
type fixed struct{ changes store.Changes }

func (f fixed) Changes(context.Context, int64) (store.Changes, error) { return f.changes, nil }
func (f fixed) Revision(context.Context) (int64, error)               { return f.changes.Revision, nil }
func (f fixed) Notices() <-chan store.Notice                          { return nil }

const (
	acme, other         = waypost.TenantID(1), waypost.TenantID(2)
	one, two, elsewhere = waypost.NumberID(11), waypost.NumberID(12), waypost.NumberID(13)
)

func router(t *testing.T, endpoints ...waypost.Endpoint) *directory.Router {
	t.Helper()
	for i := range endpoints {
		endpoints[i].ID = waypost.EndpointID(100 + i)
		if endpoints[i].TenantID == 0 {
			endpoints[i].TenantID = acme
		}
	}
	d := directory.New(fixed{store.Changes{
		Revision: 1,
		Tenants:  []waypost.Tenant{{ID: acme}, {ID: other}},
		Numbers: []waypost.Number{
			{ID: one, TenantID: acme, Phone: "1555010001", PhoneNumberID: "p1", WABAID: "w1"},
			{ID: two, TenantID: acme, Phone: "1555010002", PhoneNumberID: "p2", WABAID: "w1"},
			{ID: elsewhere, TenantID: other, Phone: "1555010003", PhoneNumberID: "p3", WABAID: "w2"},
		},
		Endpoints: endpoints,
	}}, nil)
	if err := d.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	return directory.NewRouter(d, []dialect.Dialect{metacloud.New(), d360.New(), whizard.New()})
}

// owed lists the owed endpoints by number (0 for the first), each with the one
// it waits for, if any, after a slash.
func owed(r *directory.Router, event waypost.Event) map[int]int {
	found := map[int]int{}
	for _, owing := range r.Owed(&event) {
		after := -1
		if owing.After != 0 {
			after = int(owing.After) - 100
		}
		found[int(owing.Endpoint)-100] = after
	}
	return found
}

const url = "https://hooks.example/x"

func message(number waypost.NumberID) waypost.Event {
	return waypost.Event{Type: "whatsapp.message.text", TenantID: acme, NumberID: number, WABAID: "w1"}
}

func template() waypost.Event {
	return waypost.Event{Type: "whatsapp.message_template_status_update", TenantID: acme, WABAID: "w1"}
}

func TestAMessageGoesToItsNumberItsAccountAndItsTenant(t *testing.T) {
	t.Parallel()
	r := router(t,
		waypost.Endpoint{Dialect: "meta", NumberID: one, URL: url},
		waypost.Endpoint{Dialect: "meta", NumberID: two, URL: url},
		waypost.Endpoint{Dialect: "meta", WABAID: "w1", URL: url},
		waypost.Endpoint{Dialect: "meta", WABAID: "w2", URL: url},
		waypost.Endpoint{Dialect: "meta", URL: url},
		waypost.Endpoint{Dialect: "meta", NumberID: one},
		waypost.Endpoint{Dialect: "meta", NumberID: one, URL: url, Events: []string{"whatsapp.status.*"}},
		waypost.Endpoint{Dialect: "meta", TenantID: other, URL: url},
		waypost.Endpoint{Dialect: "whizard", Slot: "number", NumberID: one, URL: url},
		waypost.Endpoint{Dialect: "meta", NumberID: one, URL: url, State: waypost.EndpointPaused},
	)
	want := map[int]int{0: -1, 2: -1, 4: -1, 8: -1, 9: -1}
	if diff := cmp.Diff(want, owed(r, message(one))); diff != "" {
		t.Error(diff)
	}
}

func TestAnEventOfABusinessAccountGoesToAllItsNumbers(t *testing.T) {
	t.Parallel()
	r := router(t,
		waypost.Endpoint{Dialect: "360dialog", Slot: "number", NumberID: one, URL: url},
		waypost.Endpoint{Dialect: "360dialog", Slot: "number", NumberID: two, URL: url},
		waypost.Endpoint{Dialect: "meta", NumberID: two, URL: url},
		waypost.Endpoint{Dialect: "360dialog", Slot: "waba", WABAID: "w1", URL: url},
		waypost.Endpoint{Dialect: "whizard", Slot: "number", NumberID: one, URL: url},
	)
	// Both numbers have a webhook of their own, which comes before the account's;
	// Whizard has no form for it.
	if diff := cmp.Diff(map[int]int{0: -1, 1: -1, 2: -1}, owed(r, template())); diff != "" {
		t.Error(diff)
	}
}

func TestAnAccountsWebhookServesItsNumbersOnce(t *testing.T) {
	t.Parallel()
	r := router(t,
		waypost.Endpoint{Dialect: "360dialog", Slot: "number", NumberID: one},
		waypost.Endpoint{Dialect: "360dialog", Slot: "number", NumberID: two},
		waypost.Endpoint{Dialect: "360dialog", Slot: "waba", WABAID: "w1", URL: url},
	)
	if diff := cmp.Diff(map[int]int{2: -1}, owed(r, template())); diff != "" {
		t.Error(diff)
	}
}

func TestAnEventFilterDoesNotHandTheEventToAnother(t *testing.T) {
	t.Parallel()
	r := router(t,
		waypost.Endpoint{
			Dialect: "360dialog", Slot: "number", NumberID: one, URL: url, Events: []string{"whatsapp.status.*"},
			Options: map[string]any{"multi_webhook": true},
		},
		waypost.Endpoint{Dialect: "360dialog", Slot: "waba", WABAID: "w1", URL: url},
		waypost.Endpoint{Dialect: "360dialog", Slot: "multi:b", NumberID: one, URL: url},
	)
	// The clone has nobody to wait for.
	if diff := cmp.Diff(map[int]int{2: -1}, owed(r, message(one))); diff != "" {
		t.Error(diff)
	}
	status := message(one)
	status.Type = "whatsapp.status.read"
	if diff := cmp.Diff(map[int]int{0: -1, 2: 0}, owed(r, status)); diff != "" {
		t.Error(diff)
	}
}

func TestOwner(t *testing.T) {
	t.Parallel()
	r := router(t)
	for name, c := range map[string]struct {
		phoneNumberID, wabaID, phone string
		tenant                       waypost.TenantID
		number                       waypost.NumberID
	}{
		"by phone number id":                      {"p1", "", "", acme, one},
		"the id wins over everything":             {"p3", "w1", "1555010001", other, elsewhere},
		"an unknown id is nobody's":               {"p9", "w1", "1555010001", 0, 0},
		"by displayed phone within the account":   {"", "w1", "+1 555 010-002", acme, two},
		"another account's phone is not believed": {"", "w2", "1555010001", other, 0},
		"by business account alone":               {"", "w2", "", other, 0},
		"by displayed phone alone":                {"", "", "1555010003", other, elsewhere},
		"nothing that anybody knows":              {"", "w9", "", 0, 0},
		"nothing told in the item":                {"", "", "", 0, 0},
	} {
		if tenant, number := r.Owner(c.phoneNumberID, c.wabaID, c.phone); tenant != c.tenant || number != c.number {
			t.Errorf("%s: owner is %d, %d; want %d, %d", name, tenant, number, c.tenant, c.number)
		}
	}
}

func TestListsAreNewestFirst(t *testing.T) {
	t.Parallel()
	r := router(t, waypost.Endpoint{Dialect: "meta", NumberID: one}, waypost.Endpoint{Dialect: "meta", NumberID: two})
	endpoints := r.Endpoints(func(e *waypost.Endpoint) bool { return e.TenantID == acme })
	if !slices.IsSortedFunc(endpoints, func(a, b *waypost.Endpoint) int { return int(b.ID - a.ID) }) || len(endpoints) != 2 {
		t.Errorf("endpoints come as %v", endpoints)
	}
}
