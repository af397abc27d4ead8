package api

import (
	"context"
	"net/http"
	"time"

	"github.com/waypost-gateway/waypost/internal/settings"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func (s *service) registerBacklogs(r *registrar) {
	add(r, call{
		method: http.MethodPost, path: "/endpoints/{id}/resume", id: "resume-endpoint",
		summary: "Start deliveries again, whatever had stopped them, and say how the backlog goes out",
		detail: "Without a body all of it goes out, oldest first. An endpoint that is active gets the order only. " +
			"What is skipped ends as exhausted with reason skipped; it is listed and can be retried.",
	}, s.resumeEndpoint)
	add(r, call{
		path: "/endpoints/{id}/backlog", id: "count-endpoint-backlog",
		summary: "Count what an endpoint is owed",
	}, s.countBacklog)
	add(r, call{
		method: http.MethodPost, path: "/endpoints/{id}/purge", id: "purge-endpoint",
		summary: "Give up what an endpoint is owed, after a look at how much it is",
		detail: "Without confirm nothing happens: the answer tells how many deliveries would be dropped. To drop them, send " +
			"that count as confirm and the same before; if there are more by then, the answer is 409 and nothing happens. " +
			"Deliveries in a node's hand are not dropped and are counted as left: pause the endpoint first, so that there " +
			"are none and nothing goes out meanwhile. What is dropped ends as exhausted with reason purged; it is listed " +
			"and can be retried. A purge goes on if the caller goes away; the audit trail tells when it began and ended.",
	}, s.purgeEndpoint)
}

type resumption struct {
	Order         string  `json:"order,omitempty" enum:"oldest,newest" doc:"which events go out first; default oldest"`
	SkipOlderThan *string `json:"skip_older_than,omitempty" doc:"the age, such as 1h, from which on events do not go out any more; left out: all go out"`
}

func (s *service) resumeEndpoint(ctx context.Context, in *struct {
	ID   string `path:"id"`
	Body *resumption
},
) (*answer[endpointView], error) {
	id, err := waypost.ParseEndpointID(in.ID)
	if err != nil {
		return nil, err
	}
	var how settings.Resumption
	if in.Body != nil {
		var body input
		how.SkipOlderThan = body.duration("skip_older_than", in.Body.SkipOlderThan)
		if in.Body.Order != drainOldest {
			how.Order = waypost.Drain(in.Body.Order)
		}
		if err := body.err(); err != nil {
			return nil, err
		}
	}
	e, err := s.settings.Resume(ctx, id, how)
	return shown(s.showEndpoint, &e, err)
}

// backlogView is what an endpoint is owed.
type backlogView struct {
	Count  int     `json:"count"`
	Oldest *moment `json:"oldest" nullable:"true" doc:"when the oldest of the events was accepted; null: there is none"`
	Newest *moment `json:"newest" nullable:"true"`
}

func (s *service) countBacklog(ctx context.Context, in *struct {
	ID        string `path:"id"`
	OlderThan string `query:"older_than" doc:"only events of this age or older, for example 24h"`
},
) (*answer[backlogView], error) {
	id, err := waypost.ParseEndpointID(in.ID)
	if err != nil {
		return nil, err
	}
	var before time.Time
	if in.OlderThan != "" {
		if before, err = s.ago(&in.OlderThan); err != nil {
			return nil, err
		}
	}
	backlog, err := s.settings.Backlog(ctx, id, before)
	if err != nil {
		return nil, err
	}
	return &answer[backlogView]{Body: backlogView{
		Count: backlog.Count, Oldest: acceptedAt(backlog.Oldest), Newest: acceptedAt(backlog.Newest),
	}}, nil
}

// acceptedAt is when an event was accepted, nil for none.
func acceptedAt(id waypost.EventID) *moment {
	if id == 0 {
		return nil
	}
	at := moment(id.Time())
	return &at
}

// ago reads older_than as the time before which events are older.
func (s *service) ago(olderThan *string) (time.Time, error) {
	var in input
	age := in.duration("older_than", olderThan)
	if age != nil && *age < 0 {
		in.refuse("older_than", "must not be negative")
	}
	if err := in.err(); err != nil {
		return time.Time{}, err
	}
	return s.now().Add(-*age), nil
}

type purgeRequest struct {
	OlderThan *string    `json:"older_than,omitempty" doc:"events of this age or older, for example 24h; 0s means all. Not together with confirm"`
	Before    *time.Time `json:"before,omitempty" doc:"events accepted before it; not in the future"`
	Confirm   *int       `json:"confirm,omitempty" minimum:"0" doc:"the count that was shown; left out: nothing is dropped"`
}

// purgeView is what a purge would do or did.
type purgeView struct {
	DryRun bool   `json:"dry_run"`
	Before moment `json:"before" doc:"events accepted before it are meant; send it back together with confirm"`
	Count  *int   `json:"count,omitempty" doc:"dry run: how many deliveries would be dropped"`
	Purged *int   `json:"purged,omitempty" doc:"how many were dropped"`
	Left   *int   `json:"left,omitempty" doc:"how many were in a node's hand and are still owed"`
}

func (s *service) purgeEndpoint(ctx context.Context, in *struct {
	ID   string `path:"id"`
	Body purgeRequest
},
) (*answer[purgeView], error) {
	id, err := waypost.ParseEndpointID(in.ID)
	if err != nil {
		return nil, err
	}
	before, err := s.purgeBefore(&in.Body)
	if err != nil {
		return nil, err
	}
	view := purgeView{Before: moment(before)}
	if in.Body.Confirm == nil {
		backlog, err := s.settings.Backlog(ctx, id, before)
		view.DryRun, view.Count = true, &backlog.Count
		return &answer[purgeView]{Body: view}, err
	}
	purged, err := s.settings.Purge(ctx, id, before, *in.Body.Confirm)
	view.Purged, view.Left = &purged.Count, &purged.Left
	return &answer[purgeView]{Body: view}, err
}

func (s *service) purgeBefore(request *purgeRequest) (time.Time, error) {
	var in input
	switch {
	case request.Before != nil && request.OlderThan != nil:
		in.refuse("older_than", "give either older_than or before")
	case request.Before == nil && request.OlderThan == nil:
		in.refuse("before", "give either older_than or before")
	case request.Before == nil && request.Confirm != nil:
		in.refuse("before", "is needed with confirm: the one that was shown with the count")
	case request.Before == nil:
		return s.ago(request.OlderThan)
	case request.Before.After(s.now()):
		in.refuse("before", "must not lie in the future")
	}
	if err := in.err(); err != nil {
		return time.Time{}, err
	}
	return *request.Before, nil
}
