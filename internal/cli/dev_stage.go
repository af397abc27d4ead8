package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/waypost-gateway/waypost/internal/emulator"
)

// What the demonstration's gateway is set up with. It listens on loopback only,
// so there is nothing to protect, and the printed commands stay true from one
// run to the next.
const (
	devAdminToken  = "waypost-dev-admin-token"
	devAppSecret   = "waypost-dev-app-secret"
	devVerifyToken = "waypost-dev-verify-token"
	devIngestPath  = "/ingest/meta/default"
)

// devStage is everything the demonstration has set up: a tenant with two
// numbers, Meta, and one receiver per dialect.
type devStage struct {
	api      *devAPI
	meta     *emulator.Meta
	table    *devTable
	tenant   string   // id
	numbers  []string // ids, in the order of meta.Numbers()
	stations []*devStation
}

// devStation is the receiver of one dialect.
type devStation struct {
	dialect  devDialect
	receiver *emulator.Receiver
	table    *devTable
	// endpoints are the ids of what registering made: one, or one per topic.
	endpoints []string

	mu      sync.Mutex
	account devAccount
	tries   map[string]int // by hook
}

// newDevStage starts the receivers and makes all that is needed, over HTTP.
// The caller closes the stage, also after an error.
func newDevStage(ctx context.Context, base string, o devOptions, table *devTable) (*devStage, error) {
	s := &devStage{
		api:   newDevAPI(base, devAdminToken),
		table: table,
		meta: emulator.NewMeta(emulator.Options{
			URL: base + devIngestPath, AppSecret: devAppSecret, Seed: o.Seed, Start: time.Now().Truncate(time.Second),
		}),
	}
	if err := s.makeTenant(ctx); err != nil {
		return s, err
	}
	for _, dialect := range o.dialects {
		if err := s.addStation(ctx, dialect); err != nil {
			return s, fmt.Errorf("register a receiver for %s: %w", dialect.id, err)
		}
	}
	return s, nil
}

func (s *devStage) close() {
	for _, station := range s.stations {
		station.receiver.Close()
	}
}

func (s *devStage) makeTenant(ctx context.Context) (err error) {
	s.tenant, err = s.api.create(ctx, "/api/v1/tenants", map[string]any{"name": "Cedar & Finch"})
	if err != nil {
		return err
	}
	for _, n := range s.meta.Numbers() {
		id, err := s.api.create(ctx, "/api/v1/numbers", map[string]any{
			"tenant_id": s.tenant, "phone": n.Phone, "phone_number_id": n.PhoneNumberID, "waba_id": n.WABAID,
		})
		if err != nil {
			return err
		}
		s.numbers = append(s.numbers, id)
	}
	return nil
}

// devKey is a key of a settings API, with what some dialects have instead of
// it or beside it.
type devKey struct {
	Key           string
	BusinessID    string `json:"business_id"`
	SigningSecret string `json:"signing_secret"`
	ClientID      string `json:"client_id"`
	ClientSecret  string `json:"client_secret"`
}

// numberKey makes a key that speaks for the first number.
func (s *devStage) numberKey(ctx context.Context, dialect string) (made devKey, err error) {
	err = s.api.manage(ctx, http.MethodPost, "/api/v1/keys", map[string]any{"dialect": dialect, "number_id": s.numbers[0]}, &made)
	return made, err
}

// tenantKey makes a key that speaks for the tenant.
func (s *devStage) tenantKey(ctx context.Context, dialect string) (made devKey, err error) {
	err = s.api.manage(ctx, http.MethodPost, "/api/v1/keys", map[string]any{"dialect": dialect, "tenant_id": s.tenant}, &made)
	return made, err
}

func (s *devStage) addStation(ctx context.Context, dialect devDialect) error {
	station := &devStation{dialect: dialect, table: s.table, tries: map[string]int{}}
	options := emulator.ReceiverOptions{VerifyToken: devVerifyToken, Seen: station.show}
	if len(dialect.failures) > 0 {
		options.Answers = failFirst(dialect.failures)
	}
	receiver, err := emulator.NewReceiver(options)
	if err != nil {
		return err
	}
	station.receiver = receiver
	s.stations = append(s.stations, station)
	account, err := dialect.register(ctx, s, receiver)
	if err != nil {
		return err
	}
	station.mu.Lock()
	station.account = account
	station.mu.Unlock()
	if station.endpoints, err = s.findEndpoints(ctx, dialect.id); err != nil {
		return err
	}
	if len(dialect.failures) > 0 {
		return s.hurry(ctx, station.endpoints)
	}
	return nil
}

// failFirst answers the first tries of the first hook with the given statuses,
// and everything else with 200.
func failFirst(statuses []int) func(emulator.Request) emulator.Answer {
	var first []byte
	tries := 0
	return func(hook emulator.Request) emulator.Answer {
		if hook.N == 1 {
			first = hook.Body
		}
		if tries == len(statuses) || !bytes.Equal(hook.Body, first) {
			return emulator.Answer{}
		}
		tries++
		return emulator.Answer{Status: statuses[tries-1]}
	}
}

func (s *devStage) findEndpoints(ctx context.Context, dialect string) (ids []string, err error) {
	var list devList
	query := url.Values{"tenant_id": {s.tenant}, "dialect": {dialect}}
	if err := s.api.manage(ctx, http.MethodGet, "/api/v1/endpoints?"+query.Encode(), nil, &list); err != nil {
		return nil, err
	}
	for _, endpoint := range list.Data {
		ids = append(ids, endpoint.ID)
	}
	if len(ids) == 0 {
		return nil, errors.New("the gateway lists no endpoint of it")
	}
	return ids, nil
}

// devList is what matters of a list in the management API.
type devList struct{ Data []struct{ ID string } }

// hurry shortens the waits of the endpoints' retries so that one can watch them.
func (s *devStage) hurry(ctx context.Context, endpoints []string) error {
	for _, id := range endpoints {
		err := s.api.manage(ctx, http.MethodPatch, "/api/v1/endpoints/"+id, map[string]any{
			"policy": map[string]any{"schedule": []string{"200ms", "300ms", "1s", "2s", "5s"}},
		}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// show prints a hook that has just come in.
func (st *devStation) show(hook emulator.Request) {
	read := st.dialect.read(hook.Body)
	st.mu.Lock()
	st.tries[read.key]++
	try, account := st.tries[read.key], st.account
	st.mu.Unlock()
	answer := hook.Answer.Status
	if hook.Answer.Received() {
		answer = http.StatusOK
	}
	st.table.row(devRow{
		at: hook.At, flow: "-> " + st.dialect.id, event: read.event, what: read.what,
		try: strconv.Itoa(try), answer: strconv.Itoa(answer), signed: st.dialect.signature(account, hook),
	})
}

// signature says in one word whether the hook's signature holds.
func (d devDialect) signature(account devAccount, hook emulator.Request) string {
	switch {
	case d.signed == nil:
		return "-"
	case d.signed(account, hook) == nil:
		return "ok"
	default:
		return "BAD"
	}
}

// describe prints what was set up.
func (s *devStage) describe() {
	var phones []string
	for _, n := range s.meta.Numbers() {
		phones = append(phones, "+"+n.Phone)
	}
	s.table.printf("Tenant %s with the numbers %s.\nReceivers, each registered the way its own clients do it:\n",
		s.tenant, strings.Join(phones, " and "))
	for _, st := range s.stations {
		s.table.printf("  %-17s %-23s %s\n", st.dialect.id, st.receiver.URL(), st.account.how)
	}
	s.table.printf("\n")
}
