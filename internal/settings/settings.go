// Package settings holds the operations on what is configured, one set for all
// who may ask: the providers' settings APIs (through dialect.Admin), the
// management API and the delivery engine.
//
// Each operation checks everything first and then makes one write to the store,
// so a refused or failed call changed nothing. Before it returns, this process's
// directory has caught up with the write; other nodes follow within their poll.
// Where a write gives the engine something to do at once (an endpoint has a URL
// again, was resumed, or was deleted), the engine is woken.
//
// What moves a number's lifecycle is more than one write: the tenant is told by
// an event. By hand, a call that failed half-way is made again by whoever made
// it. A notice of Meta's is followed before Meta is answered, so after a crash or
// a failure in between Meta sends it again; every step can be made twice, and
// what was told is not told again.
//
// Errors are waypost.Error with a message for the caller and name the refused
// members; they hold no secret and no part of a URL. What comes from elsewhere
// is an internal error, for the log.
package settings

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/directory"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Store is what the operations need of the store.
type Store interface {
	store.Settings
	store.Log
	Retry(ctx context.Context, id waypost.DeliveryID, now time.Time) error
	Owe(ctx context.Context, event waypost.EventID, owed []store.Owing, now time.Time) error
	Reroute(ctx context.Context, event waypost.EventID, tenant waypost.TenantID, number waypost.NumberID) error
}

// Options of a Service. Store, Directory, Dialects and IDs are needed.
type Options struct {
	Store     Store
	Directory *directory.Directory
	Dialects  []dialect.Dialect
	IDs       func() int64
	// Trusted tells which hosts (IP literals, "localhost") may be reached by
	// http and on any port, whatever a dialect's rules say. nil: none.
	Trusted func(host string) bool
	// Forbidden says why nothing is ever sent to this host, as far as that can be
	// told without resolving it. nil: not known before the first attempt.
	Forbidden func(host string) error
	// Fetch makes the GET of a challenge, through the same guard as hooks.
	Fetch func(ctx context.Context, url string) (status int, body []byte, err error)
	// OnWork is told of endpoints that may now have something due.
	OnWork func(waypost.EndpointID)
	// Publish stores what is told of a number's lifecycle. nil: it is not told.
	Publish Publish
	// KeySecrets are what keys that are told again are derived from: new ones
	// from the first, known ones from any. Without one no key is told again.
	KeySecrets [][]byte
	Now        func() time.Time
	Log        *slog.Logger
}

// Service does the operations. Its methods are safe for concurrent use.
type Service struct {
	store     Store
	directory *directory.Directory
	router    *directory.Router
	dialects  map[string]registered
	order     []string // ids of the dialects, as they were given
	newID     func() int64
	trusted   func(host string) bool
	forbidden func(host string) error
	fetch     func(ctx context.Context, url string) (status int, body []byte, err error)
	onWork    func(waypost.EndpointID)
	publish   Publish
	secrets   [][]byte
	moving    sync.Mutex // held while a number's lifecycle moves
	now       func() time.Time
	log       *slog.Logger
}

// registered is a dialect with its constant description at hand, and who
// guesses at its keys.
type registered struct {
	dialect.Dialect
	info    dialect.Info
	guesses *Limiter
}

var (
	_ dialect.Admin  = (*Service)(nil)
	_ dialect.Tokens = (*Service)(nil)
)

// New makes the operations over a store and its directory.
func New(options Options) *Service {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	if options.OnWork == nil {
		options.OnWork = func(waypost.EndpointID) {}
	}
	if options.Forbidden == nil {
		options.Forbidden = func(string) error { return nil }
	}
	s := &Service{
		store:     options.Store,
		directory: options.Directory,
		router:    directory.NewRouter(options.Directory, options.Dialects),
		dialects:  make(map[string]registered, len(options.Dialects)),
		newID:     options.IDs,
		trusted:   options.Trusted,
		forbidden: options.Forbidden,
		fetch:     options.Fetch,
		onWork:    options.OnWork,
		publish:   options.Publish,
		secrets:   options.KeySecrets,
		now:       options.Now,
		log:       options.Log.With("component", "settings"),
	}
	for _, d := range options.Dialects {
		info := d.Info()
		s.dialects[info.ID] = registered{d, info, NewLimiter(limitsOf(info), options.Now)}
	}
	return s
}

// limitsOf are how many bad keys a dialect takes from one address.
func limitsOf(info dialect.Info) Limits {
	if info.Keys == nil {
		return Limits{}
	}
	return Limits{Tries: info.Keys.BadTries, Window: info.Keys.BadTriesWindow, Block: info.Keys.Block}
}

// Info describes a dialect; false when there is none with this id.
func (s *Service) Info(id string) (dialect.Info, bool) {
	d, ok := s.dialects[id]
	return d.info, ok
}

// Policy is how an endpoint is delivered to, in full.
func (s *Service) Policy(e *waypost.Endpoint) waypost.Policy {
	d, ok := s.dialects[e.Dialect]
	if !ok {
		return e.Policy.Apply(waypost.Policy{})
	}
	return e.Policy.Apply(d.Policy(e))
}

// PublicKey is what the endpoint's receiver checks signatures with; empty where
// the dialect signs with a shared secret or not at all.
func (s *Service) PublicKey(e *waypost.Endpoint) string {
	if keyer, ok := s.dialects[e.Dialect].Dialect.(dialect.PublicKeyer); ok {
		return keyer.PublicKey(e)
	}
	return ""
}

// written brings the directory up to a write that was just committed. The
// write stands whatever happens here: a failure is logged, and the directory's
// own poll makes up for it.
func (s *Service) written(ctx context.Context) {
	if err := s.directory.CatchUp(context.WithoutCancel(ctx)); err != nil {
		s.log.ErrorContext(ctx, "written settings are not in force here yet", "error", err)
	}
}

// look finds a row in the directory, and once more after catching up: another
// node may have written it just now.
func look[ID comparable, Row any](ctx context.Context, s *Service, find func(ID) *Row, id ID) *Row {
	if row := find(id); row != nil {
		return row
	}
	s.written(ctx)
	return find(id)
}

func missing(noun, member, id string) error {
	return &waypost.Error{
		Kind:    waypost.KindNotFound,
		Message: "no " + noun + " has the id " + id,
		Fields:  []waypost.FieldError{{Field: member, Message: "is not known"}},
	}
}

// Tenant is a tenant, or KindNotFound.
func (s *Service) Tenant(ctx context.Context, id waypost.TenantID) (*waypost.Tenant, error) {
	if tenant := look(ctx, s, s.directory.Tenant, id); tenant != nil {
		return tenant, nil
	}
	return nil, missing("tenant", "tenant_id", id.String())
}

// Number is a number, or KindNotFound.
func (s *Service) Number(ctx context.Context, id waypost.NumberID) (*waypost.Number, error) {
	if number := look(ctx, s, s.directory.Number, id); number != nil {
		return number, nil
	}
	return nil, missing("number", "number_id", id.String())
}

// Endpoint is an endpoint that was not deleted, or KindNotFound.
func (s *Service) Endpoint(ctx context.Context, id waypost.EndpointID) (*waypost.Endpoint, error) {
	endpoint := look(ctx, s, s.directory.Endpoint, id)
	if endpoint != nil && endpoint.DeletedAt.IsZero() {
		return endpoint, nil
	}
	return nil, missing("endpoint", "endpoint_id", id.String())
}

// owns checks that the number, if one is given, belongs to the tenant.
func (s *Service) owns(ctx context.Context, tenant waypost.TenantID, number waypost.NumberID) error {
	if number == 0 {
		return nil
	}
	n, err := s.Number(ctx, number)
	if err != nil {
		return err
	}
	if n.TenantID != tenant {
		return waypost.Invalid(waypost.FieldError{Field: "number_id", Message: "belongs to another tenant"})
	}
	return nil
}

// invalid is the refusal of the named members, or nil when there are none.
func invalid(faults []waypost.FieldError) error {
	if len(faults) == 0 {
		return nil
	}
	return waypost.Invalid(faults...)
}

// Tenants lists the tenants, newest first.
func (s *Service) Tenants() []*waypost.Tenant { return s.directory.Tenants() }

// Sources lists the sources, newest first.
func (s *Service) Sources() []*waypost.Source { return s.directory.Sources() }

// Numbers lists the numbers that keep admits, newest first.
func (s *Service) Numbers(keep func(*waypost.Number) bool) []*waypost.Number {
	return s.directory.Numbers(keep)
}

// Endpoints lists the endpoints that keep admits, newest first.
func (s *Service) Endpoints(keep func(*waypost.Endpoint) bool) []*waypost.Endpoint {
	return s.directory.Endpoints(keep)
}

// CheckOwner checks that the tenant exists and that the number, if one is
// given, is its own.
func (s *Service) CheckOwner(ctx context.Context, tenant waypost.TenantID, number waypost.NumberID) error {
	if _, err := s.Tenant(ctx, tenant); err != nil {
		return err
	}
	return s.owns(ctx, tenant, number)
}
