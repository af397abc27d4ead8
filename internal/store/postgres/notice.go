package postgres

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const (
	// dueWord begins a payload that names endpoints, each in base 36.
	dueWord  = "due"
	dueBase  = 36
	tellWait = time.Second
	// maxPayload is a little less than the server takes.
	maxPayload = 7900
)

// encodeNotice is the payload that carries a notice. Too many endpoints become
// "anything", which is an empty payload.
func encodeNotice(n store.Notice) string {
	if len(n.Due) == 0 {
		return ""
	}
	payload := []byte(dueWord)
	for _, endpoint := range n.Due {
		payload = strconv.AppendInt(append(payload, ' '), int64(endpoint), dueBase)
		if len(payload) > maxPayload {
			return ""
		}
	}
	return string(payload)
}

// decodeNotice reads a payload. One that it does not know, from a version that
// says more, stands for anything.
func decodeNotice(payload string) store.Notice {
	words := strings.Fields(payload)
	if len(words) == 0 || words[0] != dueWord {
		return store.Notice{}
	}
	due := make([]waypost.EndpointID, 0, len(words)-1)
	for _, word := range words[1:] {
		endpoint, err := strconv.ParseInt(word, dueBase, 64)
		if err != nil {
			return store.Notice{}
		}
		due = append(due, waypost.EndpointID(endpoint))
	}
	return store.Notice{Due: due}
}

// mailbox, a channel with room for one, hands notices to a reader that may be
// slow: what it has not read yet and what comes next become one notice.
type mailbox chan store.Notice

func (m mailbox) put(n store.Notice) {
	for {
		select {
		case m <- n:
			return
		case unread := <-m:
			n = merge(unread, n)
		}
	}
}

func merge(a, b store.Notice) store.Notice {
	if len(a.Due) == 0 || len(b.Due) == 0 {
		return store.Notice{} // anything
	}
	due := slices.Concat(a.Due, b.Due)
	slices.Sort(due)
	return store.Notice{Due: slices.Compact(due)}
}

// tell lets all nodes know that deliveries became due. It follows the commit that
// made them so and is no part of it, because the server lets transactions that
// notify commit only one after the other, over all nodes, their waits for the disk
// included. What is not told is found by the poll.
func (s *Store) tell(ctx context.Context, due []waypost.EndpointID) {
	if len(due) == 0 {
		return
	}
	slices.Sort(due)
	payload := encodeNotice(store.Notice{Due: slices.Compact(due)})
	ctx, cancel := context.WithTimeout(ctx, tellWait)
	defer cancel()
	batch := &pgx.Batch{}
	batch.Queue("BEGIN")
	batch.Queue("SET LOCAL synchronous_commit TO off")
	batch.Queue("SELECT pg_notify($1, $2)", channel, payload)
	batch.Queue("COMMIT")
	_ = s.pool.SendBatch(ctx, batch).Close() // the poll is behind it
}
