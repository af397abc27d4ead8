// Package settings holds the operations on what is configured, one set for all
// who may ask: the providers' settings APIs (through dialect.Admin), the
// management API and the delivery engine.
//
// Each operation checks everything first and then makes one write to the store,
// so a refused or failed call changed nothing, and a refusal names all faults.
// Before it returns, this process's directory has caught up with the write; other
// nodes follow within their poll. Where a write gives the engine something to do
// at once (an endpoint has a URL again, was resumed, or was deleted), the engine
// is woken.
//
// What is done by hand, through the management API or a provider's settings API,
// is written in the audit trail once it was checked and before it is done. So
// nothing is done that the trail does not tell: if it can't be written, the
// operation fails with KindUnavailable and has changed nothing. What fails after
// that gets a second entry that says so, as does the end of a purge, the one
// operation that is many writes; these are written as well as can be, and a
// failure is logged. So are the entries of what the gateway does by itself (actor
// "engine": the breaker, a receiver's 410, a notice of Meta's that moves a
// lifecycle), which must happen in any case. What is done as part of something
// else has an entry of its own: the webhook that a new key clears, and the first
// key of a number, made when its lifecycle is told. Tokens have none: they are how
// a key is used.
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
	"cmp"
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
	store.Interventions
	store.Audit
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
	// InFlight is how many requests may be under way at a time to an endpoint that
	// does not say; the engine's own setting. Default 4.
	InFlight int
	// MaxTokens is how many tokens of one tenant may be alive at a time.
	// Default 1000.
	MaxTokens int
	Now       func() time.Time
	Log       *slog.Logger
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
	inFlight  int
	maxTokens int
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
	if options.InFlight <= 0 {
		options.InFlight = 4
	}
	if options.MaxTokens <= 0 {
		options.MaxTokens = 1000
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
		inFlight:  options.InFlight,
		maxTokens: options.MaxTokens,
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

// InFlight is how many requests may be under way to an endpoint at a time.
func (s *Service) InFlight(e *waypost.Endpoint) int { return cmp.Or(e.InFlight, s.inFlight) }

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

// together makes one refusal of what several checks found. A fault in the request
// counts for more than an id that is not known, and what is not about the request
// for more than both.
func together(errs ...error) error {
	var first error
	var faults []waypost.FieldError
	refused := false
	for _, err := range errs {
		if err == nil {
			continue
		}
		kind := waypost.KindOf(err)
		if kind != waypost.KindInvalid && kind != waypost.KindNotFound {
			return err
		}
		first = cmp.Or(first, err)
		refused = refused || kind == waypost.KindInvalid
		faults = append(faults, fieldsOf(err)...)
	}
	if refused {
		return waypost.Invalid(faults...)
	}
	return first
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
