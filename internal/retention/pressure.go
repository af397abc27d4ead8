package retention

import (
	"context"
	"fmt"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Level is how short the room for data is.
type Level uint8

// The levels.
const (
	Calm  Level = iota
	Early       // what is settled is forgotten before its time
	Full        // and ingest refuses
)

const (
	earlyShare = 0.80 // of the limit
	fullShare  = 0.95
	// mostFloor is what the file system shall keep free; of a small one, floorShare.
	mostFloor  = 512 << 20
	floorShare = 0.05
	// leave is how far beyond its bound a level has to be left for it to end, so
	// that it does not come and go.
	leave = 0.98
)

// assess gives the level that follows on the present one.
func assess(u *store.Usage, limit int64, present Level) Level {
	for level := Full; level > Calm; level-- {
		share, floors := fullShare, 1.0
		if level == Early {
			share, floors = earlyShare, 2
		}
		slack := 1.0
		if present >= level {
			slack = leave
		}
		if limit > 0 && float64(u.Used) >= slack*share*float64(limit) {
			return level
		}
		if u.Free >= 0 && u.Size > 0 && slack*float64(u.Free) < floors*floor(u.Size) {
			return level
		}
	}
	return Calm
}

func floor(size int64) float64 { return min(mostFloor, floorShare*float64(size)) }

// Gauges are what can be seen from outside.
type Gauges struct {
	Used, Free int64         // bytes, as in store.Usage
	OldestAge  time.Duration // of the oldest event; 0 if there is none
	Level      Level
	Forgotten  int64 // rows, bodies among them, that this node has forgotten since it started
}

// Gauges tells how it stands, as of the last look.
func (k *Keeper) Gauges() Gauges {
	k.mu.Lock()
	defer k.mu.Unlock()
	g := Gauges{Used: k.usage.Used, Free: k.usage.Free, Level: k.level, Forgotten: k.forgotten.Load()}
	if k.usage.Oldest != 0 {
		g.OldestAge = k.o.Now().Sub(k.usage.Oldest.Time())
	}
	return g
}

// look measures the room and acts on a change of level.
func (k *Keeper) look(ctx context.Context) {
	usage, err := k.o.Store.Usage(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil && !k.blind {
			k.blind = true
			k.o.Log.Warn("the room that the data takes can't be measured", "error", err)
		}
		return
	}
	k.blind = false
	before := k.level
	k.usage, k.level = usage, assess(&usage, k.o.DiskLimit, k.level)
	if k.level != before {
		k.changed(before)
	}
}

// advice is what to do about it.
const advice = "give the data more room (a larger disk, or WAYPOST_DISK_LIMIT), or keep less (WAYPOST_RETAIN_BODIES, WAYPOST_RETAIN_ATTEMPTS, WAYPOST_RETAIN_EVENTS); what is owed to webhooks that do not answer is never forgotten, see the deliveries that are held"

func (k *Keeper) changed(before Level) {
	log := k.o.Log.With("used_bytes", k.usage.Used, "limit_bytes", k.o.DiskLimit, "free_bytes", k.usage.Free)
	k.full.Store(nil)
	switch k.level {
	case Calm:
		k.spent = false
		log.Info("there is room for data again")
	case Early:
		if before == Full {
			log.Warn("there is a little room for data again: webhooks are accepted")
			break
		}
		log.Warn("room for data runs short: what is settled is forgotten before its time, oldest first", "advice", advice)
	case Full:
		k.full.Store(waypost.Errorf(waypost.KindUnavailable, "there is no room for more data: %s", k.shortage()))
		log.Error("there is no room for data: webhooks are refused until there is, deliveries go on", "advice", advice)
	}
	if k.level > before {
		select {
		case k.tight <- struct{}{}:
		default:
		}
	}
}

func (k *Keeper) shortage() string {
	if limit := k.o.DiskLimit; limit > 0 && float64(k.usage.Used) >= leave*fullShare*float64(limit) {
		return fmt.Sprintf("it takes %d MiB of %d MiB", k.usage.Used>>20, limit>>20)
	}
	return fmt.Sprintf("%d MiB are left on the disk", k.usage.Free>>20)
}

// Ahead of the clocks it goes in slices: a sixteenth of what may go still, and
// never less than leastSlice. What is younger than youngest stays.
const (
	slices     = 16
	leastSlice = time.Minute
	youngest   = 10 * time.Minute
)

// relieve forgets ahead of the clocks, a slice at a time, until there is room.
func (k *Keeper) relieve(ctx context.Context) {
	h := k.horizons()
	for _, phase := range []struct {
		ahead *waypost.EventID
		apply func(waypost.EventID)
	}{
		{&k.ahead.bodies, func(id waypost.EventID) { h.Bodies, h.Attempts = max(h.Bodies, id), max(h.Attempts, id) }},
		{&k.ahead.events, func(id waypost.EventID) { h.Events = max(h.Events, id) }},
	} {
		for {
			if k.Gauges().Level == Calm {
				return
			}
			next, more := k.slice(*phase.ahead)
			if !more {
				break
			}
			phase.apply(next)
			if !k.forget(ctx, h) {
				return
			}
			*phase.ahead = next
			k.look(ctx)
		}
	}
	k.exhausted()
}

// slice gives the next horizon after one, unless all that may go is behind it.
func (k *Keeper) slice(after waypost.EventID) (next waypost.EventID, more bool) {
	k.mu.Lock()
	from := max(after, k.usage.Oldest).Time()
	k.mu.Unlock()
	until := k.o.Now().Add(-youngest)
	rest := until.Sub(from)
	if rest < leastSlice {
		return 0, false
	}
	return waypost.FirstEventID(from.Add(max(rest/slices, leastSlice))), true
}

// exhausted says once that forgetting is not enough.
func (k *Keeper) exhausted() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.spent {
		k.spent = true
		k.o.Log.Warn("all that is settled and older than ten minutes was forgotten, and room for data is still short", "advice", advice)
	}
}
