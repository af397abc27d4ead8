package store

import (
	"context"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Retention forgets what is old. What is still owed is never touched: neither
// the event, nor its body, nor the attempts of that delivery.
type Retention interface {
	// Prune forgets what lies before the horizons, in short transactions of at
	// most limit rows each, so that nothing else waits for it for long. It returns
	// when a step is done; More tells that there is more to do, and calling again
	// at once is right. It is safe to call from several nodes at a time.
	Prune(ctx context.Context, h Horizons, limit int) (Pruned, error)
	// Prepare readies what will be written in the days after now (the PostgreSQL
	// store makes partitions). Doing it late is slower, not wrong.
	Prepare(ctx context.Context, now time.Time) error
	// Usage is what the data takes.
	Usage(ctx context.Context) (Usage, error)
}

// Horizons are where each kind of data is cut off. An event is as old as its id;
// a zero horizon keeps everything of its kind.
type Horizons struct {
	Bodies   waypost.EventID // bodies of events before it
	Attempts waypost.EventID // attempts of events before it
	Events   waypost.EventID // events before it, with all that hangs on them
	Dedupe   waypost.EventID // dedupe keys noted before it; at least 8 days back
	Audit    waypost.EventID // audit entries before it
}

// Pruned counts what one step forgot.
type Pruned struct {
	Bodies, Attempts, Events, Keys, Audit int
	Partitions                            int // dropped whole; their rows are in the other counts as far as they are known
	More                                  bool
}

// Usage is the room that the data takes, in bytes.
type Usage struct {
	Used int64 // by live data; what is free inside the files is not counted
	Free int64 // that the file system still has to give; -1 if that can't be told
	Size int64 // of that file system; -1 if that can't be told
	// Oldest is the oldest event stored; 0 if there is none.
	Oldest waypost.EventID
}
