package waypost

import (
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestIDTextRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		event := EventID(rapid.Int64Min(1).Draw(t, "event"))
		endpoint := EndpointID(rapid.Int64Min(1).Draw(t, "endpoint"))
		if got, err := ParseEventID(event.String()); err != nil || got != event {
			t.Fatalf("event %d became %q and then %d, %v", event, event, got, err)
		}
		id := DeliveryID{event, endpoint}
		if got, err := ParseDeliveryID(id.String()); err != nil || got != id {
			t.Fatalf("delivery %v became %q and then %v, %v", id, id, got, err)
		}
	})
}

func TestParseRefusesWhatNobodyMade(t *testing.T) {
	t.Parallel()
	good := EventID(1 << 40).String()
	for _, text := range []string{
		"", "evt_", good[4:], "ten_" + good[4:], good + "0", good[:len(good)-1],
		"evt_0000000000000", "evt_zzzzzzzzzzzzz", "evt_000000000000i", "EVT_" + good[4:],
	} {
		if id, err := ParseEventID(text); KindOf(err) != KindNotFound {
			t.Errorf("ParseEventID(%q) = %d, %v; want a KindNotFound error", text, id, err)
		}
	}
}

func TestIDsAscendWhateverTheClockDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
		floor := rapid.Int64Range(0, 1<<60).Draw(t, "floor")
		slot := rapid.IntRange(0, 1023).Draw(t, "slot")
		ids, err := NewIDs(slot, floor, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		last := floor
		for range rapid.IntRange(1, 9000).Draw(t, "count") {
			if rapid.IntRange(0, 500).Draw(t, "step") == 0 {
				now = now.Add(time.Duration(rapid.Int64Range(-5000, 5000).Draw(t, "jump")) * time.Millisecond)
			}
			id := ids.Next()
			if id <= last {
				t.Fatalf("id %d came after %d", id, last)
			}
			if got := int(id >> idCounterBits & (1<<idNodeBits - 1)); got != slot {
				t.Fatalf("id %d carries slot %d, want %d", id, got, slot)
			}
			last = id
		}
	})
}

func TestIDsAreUniqueAcrossGoroutines(t *testing.T) {
	t.Parallel()
	ids, err := NewIDs(3, 0, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	const each, workers = 5000, 8
	var wait sync.WaitGroup
	made := make([][]int64, workers)
	for worker := range workers {
		wait.Go(func() {
			for range each {
				made[worker] = append(made[worker], ids.Next())
			}
		})
	}
	wait.Wait()
	seen := make(map[int64]bool, each*workers)
	for _, part := range made {
		for _, id := range part {
			if seen[id] {
				t.Fatalf("id %d was made twice", id)
			}
			seen[id] = true
		}
	}
}

func TestEventIDTellsItsTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 21, 10, 30, 0, 123e6, time.UTC)
	ids, err := NewIDs(7, 0, func() time.Time { return at })
	if err != nil {
		t.Fatal(err)
	}
	id := EventID(ids.Next())
	if !id.Time().Equal(at) {
		t.Errorf("Time() = %v, want %v", id.Time(), at)
	}
	if first := FirstEventID(at); first > id || FirstEventID(at.Add(time.Millisecond)) <= id {
		t.Errorf("FirstEventID(%v) = %d does not bound %d", at, first, id)
	}
}

func TestNewIDsRefusesBadSlots(t *testing.T) {
	t.Parallel()
	for _, slot := range []int{-1, 1024} {
		if _, err := NewIDs(slot, 0, time.Now); err == nil {
			t.Errorf("slot %d was taken", slot)
		}
	}
}

func TestFirstEventIDOfFarTimes(t *testing.T) {
	t.Parallel()
	year := func(y int) EventID { return FirstEventID(time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC)) }
	now := EventID(idAt(time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)))
	for _, y := range []int{1, 1700, 1970, 2023} {
		if id := year(y); id <= 0 || id >= now {
			t.Errorf("the first id of the year %d is %d", y, id)
		}
	}
	for _, y := range []int{2060, 2099, 2200, 9999} {
		if id := year(y); id <= now {
			t.Errorf("the first id of the year %d is %d, below today's %d", y, id, now)
		}
	}
}
