package directory_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/waypost-gateway/waypost/internal/directory"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// journal is a store's settings as a list of writes, one revision each.
type journal struct {
	mu      sync.Mutex
	writes  []store.Changes
	notices chan store.Notice
	failing error
}

func (j *journal) write(c store.Changes) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.writes = append(j.writes, c)
}

func (j *journal) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failing = err
}

// Changes gives rows as the store does: each once, as it is now.
func (j *journal) Changes(_ context.Context, since int64) (store.Changes, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failing != nil {
		return store.Changes{}, j.failing
	}
	all := store.Changes{Revision: int64(len(j.writes))}
	tenants, numbers := map[waypost.TenantID]waypost.Tenant{}, map[waypost.NumberID]waypost.Number{}
	endpoints := map[waypost.EndpointID]waypost.Endpoint{}
	for _, c := range j.writes[min(since, all.Revision):] {
		for _, row := range c.Tenants {
			tenants[row.ID] = row
		}
		for _, row := range c.Numbers {
			numbers[row.ID] = row
		}
		for _, row := range c.Endpoints {
			endpoints[row.ID] = row
		}
		all.Sources = append(all.Sources, c.Sources...)
	}
	for _, row := range tenants {
		all.Tenants = append(all.Tenants, row)
	}
	for _, row := range numbers {
		all.Numbers = append(all.Numbers, row)
	}
	for _, row := range endpoints {
		if since > 0 || row.DeletedAt.IsZero() {
			all.Endpoints = append(all.Endpoints, row)
		}
	}
	return all, nil
}

func (j *journal) Revision(context.Context) (int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return int64(len(j.writes)), j.failing
}

func (j *journal) Notices() <-chan store.Notice { return j.notices }

func endpoints(rows ...waypost.Endpoint) store.Changes { return store.Changes{Endpoints: rows} }

func TestSnapshotsAreNeverWrittenTo(t *testing.T) {
	t.Parallel()
	var j journal
	d := directory.New(&j, nil)
	catchUp := func(c store.Changes) {
		j.write(c)
		if err := d.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	catchUp(endpoints(waypost.Endpoint{ID: 1, TenantID: 1, URL: "https://a.test/"}, waypost.Endpoint{ID: 2, TenantID: 1}))
	first, candidates := d.Endpoint(1), d.Candidates(1, 0, "")
	catchUp(endpoints(waypost.Endpoint{ID: 1, TenantID: 1, URL: "https://b.test/"}))
	catchUp(endpoints(waypost.Endpoint{ID: 2, TenantID: 1, DeletedAt: time.Now()}))
	if first.URL != "https://a.test/" || candidates[0].URL != "https://a.test/" || !candidates[1].DeletedAt.IsZero() {
		t.Error("a snapshot that was handed out has changed")
	}
	if got := d.Endpoint(1).URL; got != "https://b.test/" {
		t.Errorf("now %q", got)
	}
	if got := d.Candidates(1, 0, ""); len(got) != 1 || got[0].ID != 1 {
		t.Errorf("candidates now: %v", got)
	}
	if gone := d.Endpoint(2); gone == nil || gone.DeletedAt.IsZero() {
		t.Errorf("the deleted endpoint is not known any more: %v", gone)
	}
}

func TestRunFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		j := &journal{notices: make(chan store.Notice, 1)}
		d := directory.New(j, slog.New(slog.NewTextHandler(&log, nil)))
		var told [][]waypost.EndpointID
		d.OnChange(func(changed []waypost.EndpointID) { told = append(told, changed) })
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.Run(ctx) }()
		wait := func(length time.Duration) {
			timer := time.NewTimer(length)
			<-timer.C
			synctest.Wait()
		}

		wait(time.Second)
		if told != nil {
			t.Errorf("told of %v, though nothing changed", told)
		}
		j.write(endpoints(waypost.Endpoint{ID: 1, TenantID: 1}))
		wait(500 * time.Millisecond)
		if d.Endpoint(1) == nil {
			t.Error("not seen by the poll")
		}
		j.write(endpoints(waypost.Endpoint{ID: 2, TenantID: 1}))
		j.notices <- store.Notice{}
		synctest.Wait()
		if d.Endpoint(2) == nil {
			t.Error("not seen at once in spite of the notice")
		}
		j.notices <- store.Notice{} // another node released work
		synctest.Wait()
		if diff := cmp.Diff([][]waypost.EndpointID{{1}, {2}, nil}, told); diff != "" {
			t.Errorf("told of (-want +got):\n%s", diff)
		}

		j.fail(errors.New("database is away"))
		j.write(endpoints(waypost.Endpoint{ID: 3, TenantID: 1}))
		wait(time.Second)
		if d.Endpoint(1) == nil || d.Endpoint(3) != nil {
			t.Error("what was known must stay in force while the store is away")
		}
		if !strings.Contains(log.String(), "database is away") {
			t.Error("the failure is not in the log")
		}
		j.fail(nil)
		wait(500 * time.Millisecond)
		if d.Endpoint(3) == nil {
			t.Error("not seen after the store came back")
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}

// A notice that names endpoints is about work, and costs no look at the settings.
func TestWorkIsPassedOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &journal{notices: make(chan store.Notice, 1)}
		d := directory.New(j, nil)
		var due []waypost.EndpointID
		d.OnDue(func(endpoints []waypost.EndpointID) { due = append(due, endpoints...) })
		d.OnChange(func([]waypost.EndpointID) { t.Error("settings were read") })
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.Run(ctx) }()
		j.fail(errors.New("database is away"))
		j.notices <- store.Notice{Due: []waypost.EndpointID{4, 9}}
		synctest.Wait()
		if diff := cmp.Diff([]waypost.EndpointID{4, 9}, due); diff != "" {
			t.Error(diff)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A database that comes back without its last moments is believed.
func TestStoreFallsBehind(t *testing.T) {
	t.Parallel()
	j := &journal{}
	d := directory.New(j, nil)
	var told []waypost.EndpointID
	d.OnChange(func(changed []waypost.EndpointID) { told = changed })
	j.write(endpoints(waypost.Endpoint{ID: 1, TenantID: 1, URL: "https://a.test/"}))
	j.write(endpoints(waypost.Endpoint{ID: 1, TenantID: 1, URL: "https://b.test/"}))
	j.write(endpoints(waypost.Endpoint{ID: 2, TenantID: 1}))
	for range 2 {
		if err := d.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		j.writes = j.writes[:1]
	}
	if got := ids(d.Candidates(1, 0, "")); len(got) != 1 || d.Endpoint(1).URL != "https://a.test/" || d.Endpoint(2) != nil {
		t.Errorf("candidates %v, %+v", got, d.Endpoint(1))
	}
	slices.Sort(told)
	if diff := cmp.Diff([]waypost.EndpointID{1, 2}, told); diff != "" {
		t.Errorf("told of (-want +got):\n%s", diff)
	}
	if err := d.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestCatchUpTellsOfFailure(t *testing.T) {
	t.Parallel()
	j := &journal{failing: errors.New("database is away")}
	if err := directory.New(j, nil).CatchUp(t.Context()); !errors.Is(err, j.failing) {
		t.Errorf("got %v", err)
	}
}

// TestIncrementsAddUp: whatever is written in whatever order, a directory that
// followed write by write knows what one that reads everything at once knows,
// and what a plain search over all rows says.
func TestIncrementsAddUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		j := &journal{}
		following := directory.New(j, nil)
		tenant := rapid.Map(rapid.Int64Range(1, 2), func(id int64) waypost.TenantID { return waypost.TenantID(id) })
		waba := rapid.SampledFrom([]string{"", "w1", "w2"})
		phone := rapid.SampledFrom([]string{"1555", "1666"})
		owner := map[waypost.NumberID]waypost.TenantID{} // never changes
		numbers := map[waypost.NumberID]waypost.Number{}
		living := map[waypost.EndpointID]waypost.Endpoint{}
		for range rapid.IntRange(1, 30).Draw(t, "writes") {
			if rapid.Bool().Draw(t, "number") {
				id := waypost.NumberID(rapid.Int64Range(1, 4).Draw(t, "id"))
				if owner[id] == 0 {
					owner[id] = tenant.Draw(t, "tenant")
				}
				n := waypost.Number{ID: id, TenantID: owner[id], Phone: phone.Draw(t, "phone"), WABAID: waba.Draw(t, "waba")}
				if rapid.Bool().Draw(t, "meta") {
					n.PhoneNumberID = fmt.Sprint("p", id)
				}
				numbers[id] = n
				j.write(store.Changes{Numbers: []waypost.Number{n}})
			} else {
				e := waypost.Endpoint{ID: waypost.EndpointID(rapid.Int64Range(1, 8).Draw(t, "id")), TenantID: tenant.Draw(t, "tenant")}
				switch rapid.IntRange(0, 2).Draw(t, "scope") {
				case 0:
					e.NumberID = waypost.NumberID(rapid.Int64Range(1, 4).Draw(t, "number id"))
				case 1:
					e.WABAID = waba.Draw(t, "waba")
				}
				if rapid.IntRange(0, 3).Draw(t, "fate") == 0 {
					e.DeletedAt = time.Unix(1, 0)
					delete(living, e.ID)
				} else {
					living[e.ID] = e
				}
				j.write(endpoints(e))
			}
			if rapid.Bool().Draw(t, "look") {
				if err := following.CatchUp(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		fresh := directory.New(j, nil)
		for _, d := range []*directory.Directory{following, fresh} {
			if err := d.CatchUp(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, waba := range []string{"", "w1", "w2", "w3"} {
			for number := range waypost.NumberID(5) {
				for tenant := range waypost.TenantID(3) {
					want := search(numbers, living, tenant, number, waba)
					for name, d := range map[string]*directory.Directory{"following": following, "fresh": fresh} {
						if diff := cmp.Diff(want, ids(d.Candidates(tenant, number, waba))); diff != "" {
							t.Fatalf("%s: candidates of tenant %d, number %d, account %q (-want +got):\n%s", name, tenant, number, waba, diff)
						}
					}
				}
			}
			for _, phone := range []string{"", "1555", "1666"} {
				for _, metaID := range []string{"", "p1", "p2", "p9"} {
					tenant, number := following.Owner(metaID, waba, phone)
					if t2, n2 := fresh.Owner(metaID, waba, phone); t2 != tenant || n2 != number {
						t.Fatalf("owner of %q %q %q: %d %d, after a fresh start %d %d", metaID, waba, phone, tenant, number, t2, n2)
					}
					if number != 0 && (numbers[number].TenantID != tenant || metaID != "" && numbers[number].PhoneNumberID != metaID) {
						t.Fatalf("owner of %q %q %q is %d, number %d", metaID, waba, phone, tenant, number)
					}
				}
			}
		}
	})
}

// search says who could take an event by looking at every row.
func search(numbers map[waypost.NumberID]waypost.Number, living map[waypost.EndpointID]waypost.Endpoint, tenant waypost.TenantID, number waypost.NumberID, waba string) []waypost.EndpointID {
	account := waba
	if account == "" {
		account = numbers[number].WABAID
	}
	var found []waypost.EndpointID
	for _, e := range living {
		var takes bool
		switch {
		case e.NumberID != 0 && number != 0:
			takes = e.NumberID == number
		case e.NumberID != 0:
			n, known := numbers[e.NumberID]
			takes = known && waba != "" && n.WABAID == waba
		case e.WABAID != "":
			takes = e.WABAID == account
		default:
			takes = true
		}
		if takes && tenant != 0 && e.TenantID == tenant {
			found = append(found, e.ID)
		}
	}
	slices.Sort(found)
	return found
}

func ids(rows []*waypost.Endpoint) []waypost.EndpointID {
	var found []waypost.EndpointID
	for _, e := range rows {
		found = append(found, e.ID)
	}
	slices.Sort(found)
	return found
}

func many(n int) store.Changes {
	all := store.Changes{Revision: 1}
	for i := range n {
		all.Endpoints = append(all.Endpoints, waypost.Endpoint{
			ID: waypost.EndpointID(i + 1), TenantID: waypost.TenantID(i/1000 + 1), NumberID: waypost.NumberID(i/2 + 1),
			Dialect: "standard", URL: fmt.Sprintf("https://customer-%d.example.com/webhooks/whatsapp/incoming", i),
			State: waypost.EndpointActive, Secrets: []waypost.SigningSecret{{Value: waypost.Secret(fmt.Sprintf("whsec_%044d", i))}},
			Headers: map[string]waypost.Secret{}, Options: map[string]any{}, Events: []string{},
		})
	}
	return all
}

func TestManyEndpointsAreCheap(t *testing.T) {
	const count = 100_000
	changes := many(count)
	var before, after runtime.MemStats
	d := directory.New(fixed{changes}, nil)
	runtime.GC()
	runtime.ReadMemStats(&before)
	if err := d.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	// Texts and secrets are shared with changes, which is alive: they cost about
	// 200 bytes each on top.
	if each := int64(after.HeapAlloc-before.HeapAlloc) / count; each > 800 {
		t.Errorf("an endpoint costs %d bytes", each)
	}
	runtime.KeepAlive(changes)
	event := waypost.Event{Type: "whatsapp.message.text", TenantID: 50_000, NumberID: 4}
	r := directory.NewRouter(d, nil)
	if allocs := testing.AllocsPerRun(100, func() { r.Owed(&event) }); allocs > 0 {
		t.Errorf("an event without candidates costs %v allocations", allocs)
	}
}

func BenchmarkOneChange(b *testing.B) {
	j := &journal{}
	j.write(many(100_000))
	d := directory.New(j, nil)
	if err := d.CatchUp(b.Context()); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		j.write(endpoints(waypost.Endpoint{ID: waypost.EndpointID(i%100_000 + 1), TenantID: 1, NumberID: 7}))
		if err := d.CatchUp(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func TestReadersAndWriters(t *testing.T) {
	t.Parallel()
	j := &journal{}
	d := directory.New(j, nil)
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				for _, e := range d.Candidates(1, 0, "w1") {
					if e.URL == "" {
						t.Error("half an endpoint")
					}
				}
				d.EndpointsOf(1)
				d.Owner("", "w1", "1555")
			}
		})
	}
	for i := range 300 {
		e := waypost.Endpoint{ID: waypost.EndpointID(i%10 + 1), TenantID: 1, URL: "https://a.test/"}
		if i%7 == 0 {
			e.DeletedAt = time.Unix(1, 0)
		}
		j.write(store.Changes{Numbers: []waypost.Number{{ID: 1, TenantID: 1, Phone: "1555", WABAID: "w1"}}, Endpoints: []waypost.Endpoint{e}})
		if err := d.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	readers.Wait()
}

func TestLists(t *testing.T) {
	t.Parallel()
	d := directory.New(fixed{store.Changes{
		Revision: 1,
		Tenants:  []waypost.Tenant{{ID: 1}, {ID: 2}},
		Numbers:  []waypost.Number{{ID: 11, TenantID: 1}, {ID: 12, TenantID: 2}, {ID: 13, TenantID: 1}},
		Sources: []waypost.Source{
			{ID: 21, Kind: waypost.SourceMeta, Name: "default"}, {ID: 22, Kind: waypost.SourceOnPrem, Name: "default"},
		},
		Endpoints: []waypost.Endpoint{{ID: 31, TenantID: 1}, {ID: 32, TenantID: 2}, {ID: 33, TenantID: 1, DeletedAt: time.Unix(1, 0)}},
	}}, nil)
	if err := d.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, row := range d.Tenants() {
		got = append(got, int64(row.ID))
	}
	for _, row := range d.Numbers(func(n *waypost.Number) bool { return n.TenantID == 1 }) {
		got = append(got, int64(row.ID))
	}
	for _, row := range d.NumbersOf(1) {
		got = append(got, int64(row.ID))
	}
	for _, row := range d.Sources() {
		got = append(got, int64(row.ID))
	}
	for _, row := range d.Endpoints(func(*waypost.Endpoint) bool { return true }) {
		got = append(got, int64(row.ID))
	}
	for _, row := range d.EndpointsOf(1) {
		got = append(got, int64(row.ID))
	}
	if diff := cmp.Diff([]int64{2, 1, 13, 11, 11, 13, 22, 21, 32, 31, 31}, got); diff != "" {
		t.Errorf("lists (-want +got):\n%s", diff)
	}
	if s := d.Source(waypost.SourceOnPrem, "default"); s == nil || s.ID != 22 {
		t.Errorf("source by kind and name: %v", s)
	}
	if d.Tenant(9) != nil || d.Number(9) != nil || d.Endpoint(9) != nil || d.Source(waypost.SourcePublish, "default") != nil {
		t.Error("something unknown is known")
	}
}
