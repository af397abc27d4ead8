package delivery

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/egress"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const (
	// maxRetryAfter bounds how far a receiver can put off an attempt.
	maxRetryAfter = time.Hour
	// internalWait is the wait after a failure of our own.
	internalWait = 30 * time.Second
	// Tries that use no step of the schedule, because the endpoint had no part
	// in them, are bounded: after these many they use steps like the others.
	maxInternalTries = 20
	maxStaleTries    = 3
)

// judge says what an answer is, by the policy alone.
func judge(p waypost.Policy, a *egress.Answer) waypost.Reason {
	switch {
	case a.Err != nil && a.Reason == "":
		return waypost.ReasonInternal
	case a.Err != nil:
		return a.Reason
	case a.Status == http.StatusOK, p.Success == waypost.Success2xx && a.Status/100 == 2:
		return waypost.ReasonOK
	case a.Status == http.StatusGone && p.GoneDisables:
		return waypost.ReasonGone
	case a.Status/100 == 3:
		return waypost.ReasonRedirect
	}
	return waypost.ReasonStatus
}

// next says when to try again after an attempt that ended at now with step
// waits of the schedule used, and how many are used then; ok is false when the
// schedule has ended. least can lengthen a wait and never shortens one.
func next(p waypost.Policy, step int, least time.Duration, now time.Time) (at time.Time, used int, ok bool) {
	if step < 0 || step >= len(p.Schedule) {
		return time.Time{}, step, false
	}
	return dueAt(now.Add(max(p.Schedule[step], least))), step + 1, true
}

// dueAt rounds up to the millisecond that the store keeps, so that a due time
// read back is never later than the timer set for it.
func dueAt(t time.Time) time.Time {
	floor := t.Truncate(time.Millisecond)
	if floor.Before(t) {
		floor = floor.Add(time.Millisecond)
	}
	return floor
}

// retryAfter reads a Retry-After header, in seconds or as a date, within bounds.
func retryAfter(text string, now time.Time) time.Duration {
	if text == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(text, 10, 63); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil {
		return min(max(date.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// ruling is what an attempt means for its delivery.
type ruling struct {
	outcome waypost.Outcome
	reason  waypost.Reason
	at      time.Time // OutcomeRetry: when
	step    int       // waits of the schedule used
	// blameless: the endpoint had no part in the failure.
	blameless bool
}

// rule decides on an attempt that ended at now. verdict is what the dialect
// makes of the answer, nil when it leaves the matter to the policy. made counts
// the requests before this one.
func rule(p waypost.Policy, made, step int, a *egress.Answer, verdict *dialect.Verdict, now time.Time) ruling {
	reason := judge(p, a)
	var least time.Duration // until the next attempt
	if verdict != nil {
		switch {
		case verdict.Received:
			reason = waypost.ReasonOK
		case reason == waypost.ReasonOK:
			reason = waypost.ReasonStatus
		}
		least = verdict.Wait
	}
	r := ruling{outcome: waypost.OutcomeRetry, reason: reason, at: dueAt(now), step: step}
	r.blameless = reason == waypost.ReasonInternal || reason == waypost.ReasonForbidden || a.Stale()
	free := made - step // tries so far that used no step
	switch {
	case reason == waypost.ReasonOK:
		return ruling{outcome: waypost.OutcomeDelivered, reason: reason, step: step}
	case verdict != nil && verdict.GiveUp:
		r.outcome, r.at = waypost.OutcomeExhausted, time.Time{}
		return r
	case reason == waypost.ReasonGone: // it stays owed, and is held by the disabled endpoint
		return r
	case a.Stale() && free < maxStaleTries:
		return r
	case reason == waypost.ReasonInternal && free < maxInternalTries:
		r.at = dueAt(now.Add(internalWait))
		return r
	}
	least = max(least, retryAfter(a.Header.Get("Retry-After"), now))
	var ok bool
	if r.at, r.step, ok = next(p, step, least, now); !ok {
		r.outcome = waypost.OutcomeExhausted
	}
	return r
}
