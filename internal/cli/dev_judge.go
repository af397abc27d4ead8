package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/waypost-gateway/waypost/internal/emulator"
)

// devOwed is one hook that is owed to a receiver.
type devOwed struct {
	devWant
	item emulator.Item
}

func (o devOwed) String() string { return fmt.Sprintf("%s of +%s", o.item.Type, o.item.Number.Phone) }

// owed lists what the steps owe a receiver.
func (s *devStage) owed(st *devStation, steps []devStep) []devOwed {
	var owed []devOwed
	for _, step := range steps {
		for _, item := range step.items {
			if step.repeat || (!st.dialect.tenantWide && item.Number != s.meta.Numbers()[0]) {
				continue
			}
			if want := st.dialect.want(item, step); want.key != "" {
				owed = append(owed, devOwed{want, item})
			}
		}
	}
	return owed
}

// devVerdict is how a receiver came off.
type devVerdict struct {
	wanted, got, refused int
	faults               []string
}

// judge compares what a receiver got with what it must get.
func (st *devStation) judge(owed []devOwed) devVerdict {
	byKey := map[string][]emulator.Request{}
	v := devVerdict{wanted: len(owed)}
	for _, hook := range st.receiver.Hooks() {
		key := st.dialect.read(hook.Body).key
		byKey[key] = append(byKey[key], hook)
		if !hook.Answer.Received() {
			v.refused++
		}
	}
	for _, want := range owed {
		hooks := byKey[want.key]
		delete(byKey, want.key)
		fault := st.faultOf(want, hooks)
		if fault == "" {
			v.got++
			continue
		}
		v.faults = append(v.faults, fmt.Sprintf("%s: %s %s", st.dialect.id, want, fault))
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		hook := st.dialect.read(byKey[key][0].Body)
		v.faults = append(v.faults, fmt.Sprintf("%s: got %s (%s), which it must not", st.dialect.id, hook.event, hook.what))
	}
	if v.refused != len(st.dialect.failures) {
		v.faults = append(v.faults, fmt.Sprintf("%s: refused %d tries, want %d", st.dialect.id, v.refused, len(st.dialect.failures)))
	}
	return v
}

// faultOf says what is wrong with all the tries of one wanted hook; empty if
// nothing is.
func (st *devStation) faultOf(want devOwed, hooks []emulator.Request) string {
	if len(hooks) == 0 {
		return "did not arrive"
	}
	for _, hook := range hooks {
		if err := want.check(hook); err != nil {
			return "arrived wrong: " + err.Error()
		}
		if st.dialect.signed != nil {
			if err := st.dialect.signed(st.account, hook); err != nil {
				return "arrived with a wrong signature: " + err.Error()
			}
		}
	}
	switch received := countReceived(hooks); received {
	case 0:
		return "was refused and did not arrive again"
	case 1:
		return ""
	default:
		return fmt.Sprintf("arrived %d times", received)
	}
}

// review waits until all is settled, prints how each receiver came off and
// returns everything that is not as it must be.
func (s *devStage) review(ctx context.Context, steps []devStep) []string {
	var faults []string
	if err := s.settle(ctx); err != nil {
		faults = append(faults, err.Error())
	}
	distinct := 0
	for _, step := range steps {
		if !step.repeat {
			distinct += len(step.items)
		}
	}
	switch kept, err := s.events(ctx); {
	case err != nil:
		faults = append(faults, err.Error())
	case len(kept.Data) != distinct:
		faults = append(faults, fmt.Sprintf("the gateway keeps %d events, want %d", len(kept.Data), distinct))
	}
	s.table.printf("\n")
	for _, st := range s.stations {
		v := st.judge(s.owed(st, steps))
		note := ""
		if v.refused > 0 {
			note = fmt.Sprintf(", %d tries refused and made again", v.refused)
		}
		s.table.printf("  %-17s got %d of %d%s\n", st.dialect.id, v.got, v.wanted, note)
		faults = append(faults, v.faults...)
	}
	return faults
}
