// Package ingest takes events in. A request is authenticated over its raw
// bytes, split into items, each item routed to its owner and to the endpoints
// that are owed it, and all of it committed in one transaction; only then is
// the request answered 200. Who has to act on an event right away (see
// Options.OnAccepted) is told in between, and is told again when the sender
// repeats what was not answered so.
//
// What can go wrong, and what the sender hears: a bad or missing signature is
// 401 and stores nothing; a body over the limit is 413; a store that cannot
// commit, or more at once than memory allows, is 503 with Retry-After, and the
// sender's own retry brings the request back: nothing of it was stored, or it is
// told again of all that was. What requests take in memory is bounded whatever
// comes in (see intake); what does not fit is refused with as little of it read
// as can be. An authentic request that is not
// understood is kept whole as "unparsed" and answered 200, since a retry would
// not make it clearer. An item whose number nobody owns is kept as "unrouted".
package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/fnv"
	"log/slog"
	"time"

	"github.com/waypost-gateway/waypost/internal/meta"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// MaxBody is the largest request body taken, in bytes. Meta sends up to 3 MB.
const MaxBody = 4 << 20

// Directory tells who owns what and who is owed what.
type Directory interface {
	Source(kind waypost.SourceKind, name string) *waypost.Source
	Number(id waypost.NumberID) *waypost.Number
	Owner(phoneNumberID, wabaID, displayPhone string) (waypost.TenantID, waypost.NumberID)
	// Owed lists what the event is owed to, now.
	Owed(event *waypost.Event) []store.Owing
}

// Observer counts; see internal/metrics.
type Observer interface {
	// Ingested counts one request by source kind and result.
	Ingested(kind waypost.SourceKind, result Result)
	// Accepted counts one stored event by state, or a duplicate that was not stored.
	Accepted(state waypost.EventState, duplicate bool)
	// Refused counts one request that was authentic, as far as it was looked at,
	// and was asked to come again.
	Refused(why Refusal)
}

// Refusal is why a request was asked to come again.
type Refusal string

// The refusals; metric labels.
const (
	RefusedMemory  Refusal = "memory"  // too much comes in at once
	RefusedDisk    Refusal = "disk"    // Options.Refuse said so
	RefusedStore   Refusal = "store"   // it could not be committed, or not in time
	RefusedClosing Refusal = "closing" // the gateway stops
)

func refusalOf(err error) Refusal {
	if errors.Is(err, errClosed) {
		return RefusedClosing
	}
	return RefusedStore
}

// Result is what became of an ingest request.
type Result string

// The results of an ingest request; metric labels.
const (
	ResultAccepted      Result = "accepted"
	ResultUnauthorized  Result = "unauthorized"
	ResultTooLarge      Result = "too_large"
	ResultUnavailable   Result = "unavailable"
	ResultOverload      Result = "overload"
	ResultMalformed     Result = "malformed"
	ResultUnknownSource Result = "unknown_source"
)

// Options of an Ingest.
type Options struct {
	Directory Directory
	Committer *Committer
	Observer  Observer
	Log       *slog.Logger
	// OnAccepted is told of each event that is stored, before the request that
	// brought it is answered, and again of each repeat, under the id of the
	// first. An error is answered like one of the store, so that the sender comes
	// back and the event is told of once more. nil: nobody is told.
	OnAccepted func(ctx context.Context, event waypost.Event) error
	// Refuse is asked before a body is read; an error means that nothing can be
	// taken in for a while. nil: never.
	Refuse func() error
	// Memory bounds the bytes that requests take in memory at once; default 64 MiB.
	// Half is for bodies that arrive, half for what is made of them.
	Memory int64
}

// Ingest is the way in.
type Ingest struct {
	directory Directory
	committer *Committer
	observer  Observer
	accepted  func(ctx context.Context, event waypost.Event) error
	refuse    func() error
	log       *slog.Logger
	arriving  budget
	working   budget
}

// New makes the way in.
func New(options Options) *Ingest {
	if options.Memory <= 0 {
		options.Memory = 64 << 20
	}
	if options.Refuse == nil {
		options.Refuse = func() error { return nil }
	}
	if options.OnAccepted == nil {
		options.OnAccepted = func(context.Context, waypost.Event) error { return nil }
	}
	return &Ingest{
		directory: options.Directory,
		committer: options.Committer,
		observer:  options.Observer,
		accepted:  options.OnAccepted,
		refuse:    options.Refuse,
		log:       options.Log,
		arriving:  budget{limit: options.Memory / 2},
		working:   budget{limit: options.Memory / 2},
	}
}

func (in *Ingest) newIntake() *intake {
	return &intake{arriving: &in.arriving, working: &in.working}
}

// cost is what arrivals take in memory until they are committed.
func cost(arrivals []store.Arrival) int64 {
	bytes := int64(baseCost)
	for i := range arrivals {
		bytes += int64(len(arrivals[i].Event.Body)) + itemCost
	}
	return bytes
}

// arrivals makes what is to be committed of an authentic Cloud API body.
// number, if not nil, is known to be the receiving one from elsewhere.
func (in *Ingest) arrivals(source *waypost.Source, number *waypost.Number, body []byte) []store.Arrival {
	items, err := meta.Split(body)
	if err != nil {
		return in.unparsed(source, body, err)
	}
	arrivals := make([]store.Arrival, len(items))
	for i := range items {
		item, arrival := &items[i], &arrivals[i]
		arrival.Event = waypost.Event{
			Type:          item.Type,
			SourceID:      source.ID,
			PhoneNumberID: item.PhoneNumberID,
			WABAID:        item.WABAID,
			Conversation:  conversation(item.PhoneNumberID, item.Contact),
			Form:          waypost.FormCloud,
			Body:          item.Body,
			OccurredAt:    item.OccurredAt,
		}
		in.route(&arrival.Event, source, number, item.DisplayPhone)
		arrival.DedupeKey = itemKey(item, source.ID, time.Now())
		arrival.Owed = in.directory.Owed(&arrival.Event)
	}
	return arrivals
}

// itemKey is the item's dedupe key. An error tells neither an id nor a time:
// within the hour the same one is a repeat, later it is news.
func itemKey(item *meta.Item, source waypost.SourceID, now time.Time) []byte {
	key := item.DedupeKey(source)
	if item.Type == waypost.TypeError && item.OccurredAt.IsZero() {
		binary.BigEndian.PutUint32(key, uint32(now.Truncate(time.Hour).Unix()))
	}
	return key
}

// route finds the event's owner: the number, else the business account, else
// whoever owns the source.
func (in *Ingest) route(event *waypost.Event, source *waypost.Source, number *waypost.Number, displayPhone string) {
	if number != nil {
		event.TenantID, event.NumberID = number.TenantID, number.ID
	} else {
		event.TenantID, event.NumberID = in.directory.Owner(event.PhoneNumberID, event.WABAID, displayPhone)
	}
	if event.TenantID == 0 {
		event.TenantID = source.TenantID
	}
	switch {
	case event.Type == waypost.TypeUnparsed:
		event.State = waypost.EventUnparsed
	case event.TenantID == 0:
		event.State = waypost.EventUnrouted
	default:
		event.State = waypost.EventRouted
	}
}

// unparsed keeps an authentic body that was not understood, whole.
func (in *Ingest) unparsed(source *waypost.Source, body []byte, reason error) []store.Arrival {
	in.log.Warn("request not understood, kept whole", "source", source.Name, "bytes", len(body), "error", reason)
	return []store.Arrival{{
		Event: waypost.Event{
			Type:     waypost.TypeUnparsed,
			State:    waypost.EventUnparsed,
			SourceID: source.ID,
			TenantID: source.TenantID,
			Form:     waypost.FormRaw,
			Body:     body,
		},
		DedupeKey: dedupeKey("unparsed", source.ID.String(), body),
	}}
}

// commit stores the arrivals, counts what became of them and tells who wants to
// know.
func (in *Ingest) commit(ctx context.Context, arrivals []store.Arrival) error {
	receipts, err := in.committer.Commit(ctx, arrivals)
	if err != nil {
		return err
	}
	for i, receipt := range receipts {
		in.observer.Accepted(arrivals[i].Event.State, receipt.Duplicate)
	}
	for i, receipt := range receipts {
		event := arrivals[i].Event
		event.ID = receipt.Event
		if err := in.accepted(ctx, event); err != nil {
			return err
		}
	}
	return nil
}

// Publish accepts an event that a platform made itself. A repeat of the
// tenant's idempotency key gives the first event's id and delivers nothing.
func (in *Ingest) Publish(ctx context.Context, tenant waypost.TenantID, number waypost.NumberID, eventType string, data json.RawMessage, idempotencyKey string) (waypost.EventID, error) {
	if err := in.refuse(); err != nil {
		in.observer.Refused(RefusedDisk)
		return 0, &waypost.Error{Kind: waypost.KindUnavailable, Message: "nothing can be stored at the moment; try again later", Err: err}
	}
	load := in.newIntake()
	defer load.leave()
	if !load.work(ctx, len(data)) {
		in.observer.Refused(RefusedMemory)
		return 0, waypost.Errorf(waypost.KindUnavailable, "too much is coming in at once; try again in a second")
	}
	event := waypost.Event{
		Type:     eventType,
		State:    waypost.EventRouted,
		TenantID: tenant,
		NumberID: number,
		Form:     waypost.FormData,
		Body:     data,
	}
	if n := in.directory.Number(number); n != nil {
		event.PhoneNumberID, event.WABAID = n.PhoneNumberID, n.WABAID
	}
	arrival := store.Arrival{Event: event, Owed: in.directory.Owed(&event)}
	if idempotencyKey != "" {
		arrival.DedupeKey = dedupeKey("publish", tenant.String(), []byte(idempotencyKey))
	}
	receipts, err := in.committer.Commit(ctx, []store.Arrival{arrival})
	if err != nil {
		in.observer.Refused(refusalOf(err))
		return 0, err
	}
	in.observer.Accepted(event.State, receipts[0].Duplicate)
	return receipts[0].Event, nil
}

// dedupeKey is the key of what tells no time of its own.
func dedupeKey(kind, scope string, identity []byte) []byte {
	digest := sha256.New()
	digest.Write([]byte(kind + "\x00" + scope + "\x00"))
	digest.Write(identity)
	return append(make([]byte, 4, 4+sha256.Size), digest.Sum(nil)...)[:20]
}

// conversation is the digest of number and contact that groups events of one chat.
func conversation(number, contact string) int64 {
	if contact == "" {
		return 0
	}
	digest := fnv.New64a()
	digest.Write([]byte(number + "\x00" + contact))
	return int64(binary.BigEndian.Uint64(digest.Sum(nil)) >> 1)
}
