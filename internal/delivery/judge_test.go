package delivery

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/egress"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func TestJudgeEveryStatus(t *testing.T) {
	t.Parallel()
	want := func(p waypost.Policy, status int) waypost.Reason {
		switch {
		case status == 200, p.Success == waypost.Success2xx && status >= 200 && status <= 299:
			return waypost.ReasonOK
		case status == 410 && p.GoneDisables:
			return waypost.ReasonGone
		case status >= 300 && status <= 399:
			return waypost.ReasonRedirect
		}
		return waypost.ReasonStatus
	}
	for _, success := range []waypost.Success{waypost.Success200, waypost.Success2xx} {
		for _, gone := range []bool{false, true} {
			p := waypost.Policy{Success: success, GoneDisables: gone}
			for status := 100; status <= 599; status++ {
				if got := judge(p, &egress.Answer{Status: status}); got != want(p, status) {
					t.Errorf("success %s, gone %t, status %d: %s, want %s", success, gone, status, got, want(p, status))
				}
			}
		}
	}
}

func TestJudgeBrokenAnswer(t *testing.T) {
	t.Parallel()
	// The status came in time and the body did not: that is no success, and no
	// 410 either.
	for _, status := range []int{0, 200, 410} {
		a := egress.Answer{Status: status, Err: errors.New("too slow"), Reason: waypost.ReasonTimeout}
		if got := judge(waypost.Policy{Success: waypost.Success2xx, GoneDisables: true}, &a); got != waypost.ReasonTimeout {
			t.Errorf("status %d and a time limit that passed: %s", status, got)
		}
	}
}

func TestNextWalksTheSchedule(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	p := waypost.Policy{Schedule: []time.Duration{0, 5 * time.Minute, time.Hour}}
	for step, want := range p.Schedule {
		at, used, ok := next(p, step, 0, now)
		if !ok || used != step+1 || at != now.Add(want) {
			t.Errorf("step %d: %s, %d, %t", step, at.Sub(now), used, ok)
		}
	}
	if _, _, ok := next(p, len(p.Schedule), time.Minute, now); ok {
		t.Error("a retry after the schedule has ended")
	}
}

func TestNextIsBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		waits := rapid.SliceOfN(rapid.Int64Range(0, int64(48*time.Hour)), 1, 10).Draw(t, "schedule")
		p := waypost.Policy{}
		for _, w := range waits {
			p.Schedule = append(p.Schedule, time.Duration(w))
		}
		now := time.Unix(1_700_000_000, rapid.Int64Range(0, 1e9-1).Draw(t, "ns"))
		text := rapid.OneOf(
			rapid.StringMatching(`[0-9]{1,25}`),
			rapid.Custom(func(t *rapid.T) string {
				return now.Add(time.Duration(rapid.Int64Range(-1e15, 1e15).Draw(t, "offset"))).UTC().Format(http.TimeFormat)
			}),
			rapid.String(),
		).Draw(t, "retry-after")
		step := rapid.IntRange(0, len(waits)-1).Draw(t, "step")
		at, used, ok := next(p, step, retryAfter(text, now), now)
		wait := at.Sub(now)
		if !ok || used != step+1 {
			t.Fatal("the schedule has a wait left")
		}
		if wait < p.Schedule[step] {
			t.Fatalf("wait %s is shorter than the schedule's %s", wait, p.Schedule[step])
		}
		if wait > max(p.Schedule[step], maxRetryAfter)+time.Millisecond {
			t.Fatalf("wait %s is beyond the schedule's %s and the limit", wait, p.Schedule[step])
		}
	})
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"120":                           2 * time.Minute,
		"-5":                            0,
		"1.5":                           0,
		"soon":                          0,
		"999999":                        time.Hour,
		"99999999999999999999":          time.Hour,
		"Sun, 01 Mar 2026 12:00:30 GMT": 30 * time.Second,
		"Sun, 01 Mar 2026 11:00:00 GMT": 0,
		"Mon, 02 Mar 2026 12:00:00 GMT": time.Hour,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestRule(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	p := waypost.Policy{Success: waypost.Success200, Schedule: []time.Duration{time.Minute}, GoneDisables: true}
	broken := errors.New("broken")
	stale := egress.Answer{Err: broken, Reason: waypost.ReasonReset, Reused: true}
	ours := egress.Answer{Err: broken, Reason: waypost.ReasonInternal}
	retry := func(reason waypost.Reason, wait time.Duration, step int, blameless bool) ruling {
		return ruling{outcome: waypost.OutcomeRetry, reason: reason, at: now.Add(wait), step: step, blameless: blameless}
	}
	exhausted := func(reason waypost.Reason, step int, blameless bool) ruling {
		return ruling{outcome: waypost.OutcomeExhausted, reason: reason, step: step, blameless: blameless}
	}
	for name, c := range map[string]struct {
		made, step int
		answer     egress.Answer
		verdict    *dialect.Verdict
		want       ruling
	}{
		"received":                {answer: egress.Answer{Status: 200}, want: ruling{outcome: waypost.OutcomeDelivered, reason: waypost.ReasonOK}},
		"failed":                  {answer: egress.Answer{Status: 500}, want: retry(waypost.ReasonStatus, time.Minute, 1, false)},
		"failed to the end":       {made: 1, step: 1, answer: egress.Answer{Status: 500}, want: exhausted(waypost.ReasonStatus, 1, false)},
		"gone stays owed":         {made: 1, step: 1, answer: egress.Answer{Status: 410}, want: retry(waypost.ReasonGone, 0, 1, false)},
		"our fault":               {answer: ours, want: retry(waypost.ReasonInternal, internalWait, 0, true)},
		"our fault, at the end":   {made: 1, step: 1, answer: ours, want: retry(waypost.ReasonInternal, internalWait, 1, true)},
		"our fault, again, again": {made: 20, answer: ours, want: retry(waypost.ReasonInternal, time.Minute, 1, true)},
		"forbidden":               {answer: egress.Answer{Err: broken, Reason: waypost.ReasonForbidden}, want: retry(waypost.ReasonForbidden, time.Minute, 1, true)},
		"stale connection":        {answer: stale, want: retry(waypost.ReasonReset, 0, 0, true)},
		"stale, again, again":     {made: 3, answer: stale, want: retry(waypost.ReasonReset, time.Minute, 1, true)},
		"dialect says received":   {answer: egress.Answer{Status: 500}, verdict: &dialect.Verdict{Received: true}, want: ruling{outcome: waypost.OutcomeDelivered, reason: waypost.ReasonOK}},
		"dialect says failed":     {answer: egress.Answer{Status: 200}, verdict: &dialect.Verdict{Wait: time.Hour}, want: retry(waypost.ReasonStatus, time.Hour, 1, false)},
		"dialect gives up":        {answer: egress.Answer{Status: 400}, verdict: &dialect.Verdict{GiveUp: true}, want: exhausted(waypost.ReasonStatus, 0, false)},
	} {
		got := rule(p, c.made, c.step, &c.answer, c.verdict, now)
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(ruling{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestRuleEnds(t *testing.T) {
	t.Parallel()
	// Whatever goes wrong, in whatever mixture, a ladder comes to its end.
	rapid.Check(t, func(t *rapid.T) {
		p := waypost.Policy{Success: waypost.Success200, Schedule: make([]time.Duration, rapid.IntRange(0, 6).Draw(t, "waits"))}
		answers := rapid.SampledFrom([]egress.Answer{
			{Status: 500},
			{Err: errors.New("x"), Reason: waypost.ReasonInternal},
			{Err: errors.New("x"), Reason: waypost.ReasonReset, Reused: true},
			{Err: errors.New("x"), Reason: waypost.ReasonForbidden},
		})
		step := 0
		for made := 0; made < maxInternalTries+len(p.Schedule)+1; made++ {
			a := answers.Draw(t, "answer")
			r := rule(p, made, step, &a, nil, time.Unix(0, 0))
			if r.outcome == waypost.OutcomeExhausted {
				return
			}
			step = r.step
		}
		t.Fatal("it goes on for ever")
	})
}
