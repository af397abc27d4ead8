package cli

import (
	"context"
	"net/http"

	"github.com/waypost-gateway/waypost/internal/emulator"
)

// devDialect is what the demonstration must know of one dialect, and all it
// must know: a new dialect is one more entry in devDialects.
type devDialect struct {
	id string
	// tenantWide: the receiver is owed events of all the tenant's numbers, not
	// of the first alone.
	tenantWide bool
	// failures are the answers to the first tries of the first hook.
	failures []int
	// register makes the receiver known to the gateway, through the dialect's
	// own API.
	register func(ctx context.Context, s *devStage, r *emulator.Receiver) (devAccount, error)
	// read tells what a hook is about.
	read func(body []byte) devHook
	// want is what an item of a step must become; an empty key: nothing.
	want func(item emulator.Item, step devStep) devWant
	// signed checks the signature of a hook; nil: the dialect does not sign.
	signed func(account devAccount, hook emulator.Request) error
}

// devAccount is what registering gave: what is needed to check hooks and to go
// on from the command line.
type devAccount struct {
	secret string // signs the hooks; empty where nothing is signed
	how    string // how the receiver was registered, for the reader
	show   string // a curl command that shows the registration
}

// devWant is one hook that a receiver must get, once.
type devWant struct {
	key   string // as read gives it; empty: there is no such hook
	check func(emulator.Request) error
}

// devDialects lists the dialects in the order they are shown.
func devDialects() []devDialect {
	return []devDialect{
		{
			id:         "meta",
			tenantWide: true,
			register:   registerMeta,
			read:       readCloud,
			want:       wantCloud,
			signed: func(a devAccount, hook emulator.Request) error {
				return emulator.CheckHub(a.secret, hook)
			},
		},
		{
			id:       "360dialog",
			failures: []int{http.StatusInternalServerError, http.StatusServiceUnavailable},
			register: register360dialog,
			read:     readCloud,
			want:     withBasicAuth(wantCloud),
			signed: func(a devAccount, hook emulator.Request) error {
				return emulator.CheckHex("X-360dialog-Signature", a.secret, hook)
			},
		},
		{
			id:       "whizard",
			register: registerWhizard,
			read:     readOnPrem,
			want:     withBasicAuth(wantOnPrem),
		},
		{
			id:       "99digital",
			register: register99digital,
			read:     read99digital,
			want:     want99digital,
		},
		{
			id:         "99digital-partner",
			tenantWide: true,
			register:   registerPartner,
			read:       readPartner,
			want:       wantPartner,
		},
		{
			id:         "connectly",
			tenantWide: true,
			register:   registerConnectly,
			read:       readConnectly,
			want:       wantConnectly,
			signed:     signedByConnectly,
		},
		{
			id:         "standard",
			tenantWide: true,
			register:   registerStandard,
			read:       readStandard,
			want:       wantStandard,
			signed:     signedStandard,
		},
	}
}
