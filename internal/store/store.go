// Package store is the contract of durable storage. Two packages fulfil it,
// store/sqlite and store/postgres, and store/storetest checks both.
//
// The model. An event is appended once and never changed. In the same
// transaction one delivery row is written for each endpoint that is owed it,
// and that row stays until the delivery is settled: "owed" is a row, and
// nothing else. Settling takes the row away and leaves the outcome, as attempts
// (one per request made) and, when it was given up, as an exhausted row.
//
// Who works on an owed delivery is a lease, never a status. A row names the
// node that has it in hand, or none. A node's lease runs out unless it is
// renewed; what it had in hand then belongs to nobody and is due. Every
// write-back names the node, and one by a node whose lease has run out, or for
// a row that is no longer its own, changes nothing and says so. A node that
// lost its lease joins again under a new NodeID, so nothing it did before can
// be mistaken for its present work.
//
// Whose a row is. Each table's key begins with the tenant or leads to it:
//
//	tenants                       id
//	numbers, endpoints, keys      tenant_id
//	sources, audit                tenant_id; 0: the installation's own
//	events                        tenant_id; 0: nobody's yet, see Reroute
//	deliveries                    event_id and endpoint_id, both of one tenant
//	attempts, exhausted           event_id and endpoint_id, as their delivery
//	dedupe, dedupe_recent,        event_id
//	duplicates
//	nodes, facts,                 the installation's own
//	settings_revision
//
// No operation needs rows of two tenants to change together. That a batch of
// arrivals or results is one transaction, whoever they belong to, is for speed,
// and so is a step of Prune; ending a lease frees rows of many tenants, but each
// for itself, because of the lease. What tenants share is only ever read or
// counted up: phone number ids and credentials are unique over all of them, and
// each settings write moves the one revision on.
//
// All times come in as arguments, except that PostgreSQL judges leases by its
// own clock, which all nodes share, and by it what was just accepted is due at
// once. Errors are waypost.Error where a kind says more than "internal":
// KindNotFound, KindConflict, KindUnavailable (the database can't be reached or
// can't commit; nothing was changed).
package store

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// ErrLeaseLost is returned to a node whose lease has run out. It must drop
// what it has in hand and join again.
var ErrLeaseLost = errors.New("this node's lease has run out")

// Store is everything the gateway keeps.
type Store interface {
	Queue
	Interventions
	Nodes
	Log
	Settings
	Audit
	Retention
	// Ping tells whether a commit would succeed now.
	Ping(ctx context.Context) error
	io.Closer
}

// Queue is what ingest and the delivery engine ask for, and all they ask for:
// append durably, hand out, settle, put off. Nothing in it needs more than one
// event's rows to change together, so a queue may be spread over many logs as
// long as one event's deliveries stay in one; that a batch is one transaction is
// for speed.
type Queue interface {
	// Accept appends events and what they are owed, all in one transaction that
	// is on disk when it returns. Arrivals whose dedupe key is already known
	// (from earlier, or earlier in the batch) are not stored again: their
	// receipt names the first event, and the duplicate is counted there.
	// receipts[i] belongs to batch[i]. ErrLeaseLost if node may not accept.
	// After any other error the node has none of it in hand, even if it can't be
	// told whether the commit went through: then the store sees to it that what
	// is owed becomes due. The same holds for Take.
	Accept(ctx context.Context, node waypost.NodeID, batch []Arrival) (receipts []Receipt, err error)

	// Take hands node up to limit deliveries of one endpoint that are due and
	// in nobody's hand, with their events, in the order asked for.
	Take(ctx context.Context, node waypost.NodeID, endpoint waypost.EndpointID, now time.Time, limit int, order Order) ([]Owed, error)

	// Due lists every endpoint with deliveries in nobody's hand, each with the
	// time the first of them is due (which may be in the future). Deliveries
	// that wait for another (Owing.After) are left out. It costs about one index
	// seek per endpoint, however many rows there are.
	Due(ctx context.Context) ([]Due, error)

	// Settle writes back what became of deliveries node has in hand, all in one
	// transaction. Results for rows that are not in the node's hand are
	// skipped, attempt included, and listed in Settled.Lost by index; but see
	// Result.Earlier.
	// Outcomes may reach the disk a little after Settle returns only if whatever
	// loses them ends the node as well: a node forgets what it has settled, so a
	// row that came back into its hand would stay there. ErrLeaseLost if the lease has run out.
	Settle(ctx context.Context, node waypost.NodeID, results []Result) (Settled, error)
}

// Interventions are what people, and what acts for them, do to deliveries.
type Interventions interface {
	// Retry makes a delivery due now. A settled one becomes owed again with its
	// ladder at the start; a pending one is due now, or, if it is in a node's
	// hand, as soon as that node puts it off. KindNotFound if the event or the
	// endpoint is gone or the delivery never was.
	Retry(ctx context.Context, id waypost.DeliveryID, now time.Time) error

	// Owe adds deliveries of a stored event, due now, for a replay. Those
	// already owed are left alone.
	Owe(ctx context.Context, event waypost.EventID, owed []Owing, now time.Time) error

	// Reroute gives an unrouted event its owner.
	Reroute(ctx context.Context, event waypost.EventID, tenant waypost.TenantID, number waypost.NumberID) error

	// Drop gives up to limit deliveries of an endpoint that are in nobody's
	// hand and whose event is older than before, as exhausted with the reason.
	// It returns how many; fewer than limit means none is left.
	Drop(ctx context.Context, endpoint waypost.EndpointID, before waypost.EventID, reason waypost.Reason, now time.Time, limit int) (int, error)
}

// Arrival is one event to accept.
type Arrival struct {
	Event waypost.Event // with its ID, which must be above all this node made before
	// DedupeKey tells repeats: 4 bytes of big-endian unix seconds as told by
	// the item (0 if it tells none) and a 16-byte digest of source and identity.
	// The time in front keeps new keys at one edge of the index. Empty: never a
	// duplicate. Kept for at least 8 days.
	DedupeKey []byte
	Owed      []Owing
}

// Owing is one delivery to create.
type Owing struct {
	Endpoint waypost.EndpointID
	Place    Place
	// After is the endpoint whose delivery of the same event must be received
	// first; 0 for none. Such a row is in nobody's hand and not due until then.
	After waypost.EndpointID
}

// Place is where a delivery begins.
type Place uint8

// The places.
const (
	InTable   Place = iota // in nobody's hand, due at once
	InHand                 // in the accepting node's hand, which starts it from memory right after the commit
	Elsewhere              // in nobody's hand, and the other nodes are told that it is due (see Notice.Due)
)

// Order is which of the deliveries that are due come first.
type Order uint8

// The orders.
const (
	OldestDue   Order = iota // by due time
	NewestEvent              // by event, newest first
)

// Receipt tells what became of an arrival.
type Receipt struct {
	Event     waypost.EventID // the stored event: the arrival's own, or the first with its key
	Duplicate bool
}

// Owed is a delivery in a node's hand.
type Owed struct {
	Event    *waypost.Event
	Endpoint waypost.EndpointID
	Attempts int // requests made so far
	Step     int // waits of the schedule used so far
}

// Due is an endpoint with work in nobody's hand.
type Due struct {
	Endpoint waypost.EndpointID
	At       time.Time
}

// Result is what became of one delivery in hand.
type Result struct {
	Delivery waypost.DeliveryID
	Attempt  *waypost.Attempt // nil: no request was made
	// Earlier: it came about under an earlier lease of this process, and could
	// not be written then. It is written if the delivery is in nobody's hand and
	// no other request was made for it since (its attempts are Attempt.N-1), and
	// is lost otherwise. Such a result has an Attempt, and InHand means nothing
	// with it. Several of one delivery are written one after the other, in the
	// order given.
	Earlier bool
	Next    Next
	// For NextRetry:
	At     time.Time // when it is due
	Step   int       // waits of the schedule used, this one included
	InHand bool      // it stays in this node's hand (a short wait)
	// For NextExhausted:
	Reason waypost.Reason
}

// Next is where a delivery goes.
type Next uint8

// The ways a delivery can go.
const (
	// NextDelivered settles it and makes due what waited for it.
	NextDelivered Next = iota
	// NextExhausted settles it as given up, and with it what waited for it
	// (waypost.ReasonMainFailed).
	NextExhausted
	// NextRetry keeps it owed, due at At.
	NextRetry
)

// Settled is what Settle did.
type Settled struct {
	Lost     []int                // indexes into results that were not the node's any more
	Released []waypost.EndpointID // endpoints for which a delivery became due because the one it waited for was received
}

// Nodes keeps the leases.
type Nodes interface {
	// Join registers a new node with a lease of ttl. slot is free among the
	// living nodes, for waypost.NewIDs; floor is the highest event id any node
	// has stored.
	Join(ctx context.Context, ttl time.Duration, now time.Time) (id waypost.NodeID, slot int, floor int64, err error)
	// Renew extends the lease, notes seen for the other nodes to read, and gives
	// all nodes whose lease is live, this one included, ordered by id.
	// ErrLeaseLost if it had run out.
	Renew(ctx context.Context, node waypost.NodeID, ttl time.Duration, now time.Time, seen waypost.NodeID) ([]Member, error)
	// Leave gives the lease back; all that was in the node's hand is due now.
	Leave(ctx context.Context, node waypost.NodeID, now time.Time) error
	// Clock is the time by the clock that leases are judged by, which is the same
	// for all nodes.
	Clock(ctx context.Context) (time.Time, error)
	// Adopt ends the leases that have run out; what was in those nodes' hands is
	// due now. It returns how many deliveries that was.
	Adopt(ctx context.Context, now time.Time) (int, error)
}

// Member is a node whose lease is live.
type Member struct {
	Node waypost.NodeID
	// Seen is the highest id of a node whose presence this one takes into
	// account in all that it does. -1: it is of a version that does not tell.
	Seen waypost.NodeID
}

// Log is what happened, for people.
type Log interface {
	Event(ctx context.Context, id waypost.EventID) (EventRecord, error)
	// Events lists newest first, without bodies.
	Events(ctx context.Context, f EventFilter) ([]waypost.Event, error)
	Delivery(ctx context.Context, id waypost.DeliveryID) (waypost.Delivery, error)
	// Deliveries lists newest event first. State pending and held are told apart
	// by the endpoint's own state.
	Deliveries(ctx context.Context, f DeliveryFilter) ([]waypost.Delivery, error)
	// Attempts of one event, ordered by endpoint and number.
	Attempts(ctx context.Context, event waypost.EventID) ([]waypost.Attempt, error)
	// Backlog counts what is owed to an endpoint, of events older than before
	// (0: of all), whoever has it in hand.
	Backlog(ctx context.Context, endpoint waypost.EndpointID, before waypost.EventID) (Backlog, error)
}

// Backlog is what is owed to an endpoint.
type Backlog struct {
	Count          int
	Oldest, Newest waypost.EventID // 0 if there is none
}

// EventRecord is one event with what the log knows of it.
type EventRecord struct {
	waypost.Event
	Duplicates int // repeats that were acknowledged and not stored
}

// EventFilter selects events. Zero members do not filter.
type EventFilter struct {
	TenantID waypost.TenantID
	NumberID waypost.NumberID
	Type     string // exact, or a glob as in waypost.MatchType
	State    waypost.EventState
	Since    time.Time       // accepted at or after
	Until    time.Time       // accepted before
	Before   waypost.EventID // continue below this id
	Limit    int             // at most 1000
}

// DeliveryFilter selects deliveries. Zero members do not filter.
type DeliveryFilter struct {
	EndpointID waypost.EndpointID
	EventID    waypost.EventID
	State      waypost.DeliveryState
	Before     waypost.DeliveryID // continue below this one, ordered by event and then endpoint
	Limit      int
}

// Settings is what the operator and the customers configure. Every write gets
// the next revision, so that a reader can catch up with Changes.
type Settings interface {
	CreateTenant(ctx context.Context, t waypost.Tenant) error
	// UpdateTenant edits in a transaction; so do the other Update methods.
	UpdateTenant(ctx context.Context, id waypost.TenantID, edit func(*waypost.Tenant) error) (waypost.Tenant, error)
	// CreateNumber: KindConflict if another number has the phone_number_id.
	CreateNumber(ctx context.Context, n waypost.Number) error
	UpdateNumber(ctx context.Context, id waypost.NumberID, edit func(*waypost.Number) error) (waypost.Number, error)
	// PutSource creates or replaces by kind and name; the id stays the first one's.
	PutSource(ctx context.Context, s waypost.Source) error
	// CreateKey stores a key and revokes the earlier one of the same dialect for
	// the same number (or, when NumberID is 0, the same tenant).
	CreateKey(ctx context.Context, k waypost.Key) error
	// KeyByDigest: KindNotFound if there is no such key or it was revoked.
	KeyByDigest(ctx context.Context, dialect string, digest [32]byte) (waypost.Key, error)
	// KeysOf lists the living keys of a tenant.
	KeysOf(ctx context.Context, tenant waypost.TenantID) ([]waypost.Key, error)
	// CreateEndpoint: KindConflict if its slot is taken.
	CreateEndpoint(ctx context.Context, e waypost.Endpoint) error
	// UpdateEndpoint: KindNotFound if it does not exist or is deleted.
	UpdateEndpoint(ctx context.Context, id waypost.EndpointID, edit func(*waypost.Endpoint) error) (waypost.Endpoint, error)
	// Changes gives all rows written after the revision, and the revision now.
	// Deleted endpoints are among them, with DeletedAt set. Since 0: everything,
	// except endpoints deleted before and owed nothing.
	Changes(ctx context.Context, since int64) (Changes, error)
	// Revision is the revision of the last write.
	Revision(ctx context.Context) (int64, error)
	// Notices delivers what other nodes tell. It may miss some: poll as well.
	// nil where there is no other node.
	Notices() <-chan Notice
	// Value and SetValue keep small facts of the installation itself (such as
	// the digest of the admin token). Value gives "" for what was never set.
	Value(ctx context.Context, name string) (string, error)
	SetValue(ctx context.Context, name, value string) error
}

// Notice says that something happened in the store that this node may not know.
type Notice struct {
	// Due are endpoints with deliveries that became due. Empty: settings may have
	// changed, or work of any endpoint was released.
	Due []waypost.EndpointID
}

// Changes is what was written since a revision.
type Changes struct {
	Revision  int64
	Tenants   []waypost.Tenant
	Numbers   []waypost.Number
	Sources   []waypost.Source
	Endpoints []waypost.Endpoint
}

// Sealer encrypts what must not be readable in the database. Context names the
// row; what was sealed for one row does not open for another.
type Sealer interface {
	Seal(plain []byte, context string) ([]byte, error)
	Open(sealed []byte, context string) ([]byte, error)
}
