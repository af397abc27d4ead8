// Package directory is what is configured, held in memory: tenants, numbers,
// sources and endpoints, with the indexes that ingest needs to find who owns an
// event and who is owed it.
//
// What it hands out are snapshots: a pointer it gave away is never written to
// again, and a later look gives a later snapshot. The store stays the truth. A
// Directory follows it by revision: CatchUp reads what was written since the
// last look, in work proportional to the change. This process calls it after
// each of its own writes, so that a client who was answered finds its change in
// force; what other nodes write is seen within a poll.
//
// When the store cannot be read the last known state stays in force, the error
// is logged, and the next poll tries again. When the store has fallen behind what
// was read (a database that was restored, or lost its last moments in a
// failover), everything is read anew.
//
// Notices from other nodes arrive here too. Those about settings are acted on;
// those about work are passed on.
package directory

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// pollInterval is how soon a change made by another node is in force at the latest.
const pollInterval = 500 * time.Millisecond

// Source is the part of the store that a Directory follows; store.Settings has it.
type Source interface {
	Changes(ctx context.Context, since int64) (store.Changes, error)
	Revision(ctx context.Context) (int64, error)
	Notices() <-chan store.Notice
}

// Directory is the present configuration. Its methods are safe for concurrent use.
type Directory struct {
	source   Source
	log      *slog.Logger
	onChange func([]waypost.EndpointID)
	onDue    func([]waypost.EndpointID)

	reading sync.Mutex // held while catching up, so that changes are applied in order

	mu       sync.RWMutex
	revision int64
	index    index
}

// New makes an empty directory; CatchUp fills it.
func New(source Source, log *slog.Logger) *Directory {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ignore := func([]waypost.EndpointID) {}
	return &Directory{
		source: source, log: log.With("component", "directory"),
		onChange: ignore, onDue: ignore, index: newIndex(),
	}
}

// OnChange sets what is called after the snapshot changed, with the endpoints
// that are not what they were (maybe none). It is also called when another node
// may have released work. Set it before Run.
func (d *Directory) OnChange(onChange func(endpoints []waypost.EndpointID)) { d.onChange = onChange }

// OnDue sets what is called when another node tells that deliveries of endpoints
// became due. Set it before Run.
func (d *Directory) OnDue(onDue func(endpoints []waypost.EndpointID)) { d.onDue = onDue }

// CatchUp reads what was written since the last look. After it returned, every
// write that was committed before it was called is in force.
func (d *Directory) CatchUp(ctx context.Context) error {
	changed, touched, err := d.read(ctx)
	if changed {
		d.onChange(touched)
	}
	return err
}

// read applies what is new and tells which endpoints are among it.
func (d *Directory) read(ctx context.Context) (changed bool, touched []waypost.EndpointID, err error) {
	d.reading.Lock()
	defer d.reading.Unlock()
	changes, err := d.source.Changes(ctx, d.revision) // written only while reading is held
	if err != nil {
		return false, nil, fmt.Errorf("read changed settings: %w", err)
	}
	if changes.Revision == d.revision {
		return false, nil, nil
	}
	if changes.Revision < d.revision {
		return d.readAnew(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.revision = changes.Revision
	return true, d.index.apply(&changes), nil
}

// readAnew forgets what was known. Endpoints that are there no more are touched
// as well.
func (d *Directory) readAnew(ctx context.Context) (changed bool, touched []waypost.EndpointID, err error) {
	changes, err := d.source.Changes(ctx, 0)
	if err != nil {
		return false, nil, fmt.Errorf("read settings anew: %w", err)
	}
	fresh := newIndex()
	touched = fresh.apply(&changes)
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.index.endpoints {
		if fresh.endpoints[id] == nil {
			touched = append(touched, id)
		}
	}
	d.revision, d.index = changes.Revision, fresh
	return true, touched, nil
}

// Run follows the store until ctx ends.
func (d *Directory) Run(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case notice := <-d.source.Notices():
			d.heed(ctx, notice)
		case <-ticker.C:
			d.poll(ctx)
		}
	}
}

// heed acts on a notice. One that names no endpoints may mean released work as
// well as settings.
func (d *Directory) heed(ctx context.Context, notice store.Notice) {
	if len(notice.Due) > 0 {
		d.onDue(notice.Due)
		return
	}
	_, touched, err := d.read(ctx)
	d.complain(ctx, err)
	d.onChange(touched)
}

func (d *Directory) poll(ctx context.Context) {
	revision, err := d.source.Revision(ctx)
	if err == nil && revision != d.known() {
		err = d.CatchUp(ctx)
	}
	d.complain(ctx, err)
}

func (d *Directory) complain(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		d.log.ErrorContext(ctx, "settings not read, the last known ones stay in force", "error", err)
	}
}

func (d *Directory) known() int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.revision
}

// Endpoint is the endpoint, or nil. A deleted one is known, with DeletedAt set,
// until this process ends, and after that as long as something is owed to it.
func (d *Directory) Endpoint(id waypost.EndpointID) *waypost.Endpoint {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.index.endpoints[id]
}

// Number is the number, or nil.
func (d *Directory) Number(id waypost.NumberID) *waypost.Number {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.index.numbers[id]
}

// Tenant is the tenant, or nil.
func (d *Directory) Tenant(id waypost.TenantID) *waypost.Tenant {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.index.tenants[id]
}

// Source is the source of that kind and name, or nil.
func (d *Directory) Source(kind waypost.SourceKind, name string) *waypost.Source {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.index.sources[sourceKey{kind, name}]
}

// Owner tells whose an event is, by the ids Meta put into it; zeros when nobody
// is known. A phone_number_id decides alone: an unknown one must not end up
// with another number's owner. Without one the displayed phone decides, within
// the business account if that is given; then the business account, which gives
// a tenant but no number. What two tenants could claim belongs to neither.
func (d *Directory) Owner(phoneNumberID, wabaID, displayPhone string) (waypost.TenantID, waypost.NumberID) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.index.owner(phoneNumberID, wabaID, digits(displayPhone))
}

// Candidates are the tenant's endpoints that could take such an event by their
// scope, whatever their state and event filter and with or without a URL: those
// of the number, those of the business account, those of the whole tenant. An
// event of a business account that concerns no single number goes to the
// endpoints of all its numbers as well. Oldest first within each scope.
func (d *Directory) Candidates(tenant waypost.TenantID, number waypost.NumberID, wabaID string) []*waypost.Endpoint {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.index.candidates(tenant, number, wabaID)
}
