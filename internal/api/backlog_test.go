package api_test

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// owe accepts an event of the tenant that the endpoint is owed.
func (g *gateway) owe(tenant, endpoint string, place store.Place) waypost.EventID {
	g.t.Helper()
	tenantID, _ := waypost.ParseTenantID(tenant)
	endpointID, _ := waypost.ParseEndpointID(endpoint)
	id, err := waypost.ParseEventID(g.accept(waypost.Event{
		Type: "whatsapp.message.text", State: waypost.EventRouted, TenantID: tenantID, Form: waypost.FormCloud, Body: []byte(`{}`),
	}, store.Owing{Endpoint: endpointID, Place: place}))
	if err != nil {
		g.t.Fatal(err)
	}
	return id
}

func rfc3339(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

func TestBacklogAndPurge(t *testing.T) {
	onBoth(t, func(t *testing.T, g *gateway) {
		tenant := g.tenant("Acme")
		endpoint := g.endpoint(tenant, "standard", "")["id"].(string)
		path := "/api/v1/endpoints/" + endpoint
		if diff := cmp.Diff(map[string]any{"count": 0.0, "oldest": nil, "newest": nil}, g.want(200, "GET", path+"/backlog", "")); diff != "" {
			t.Errorf("no backlog (-want +got):\n%s", diff)
		}
		first := g.owe(tenant, endpoint, store.InTable)
		g.owe(tenant, endpoint, store.InTable)
		last := g.owe(tenant, endpoint, store.InHand)
		want := map[string]any{"count": 3.0, "oldest": rfc3339(first.Time()), "newest": rfc3339(last.Time())}
		if diff := cmp.Diff(want, g.want(200, "GET", path+"/backlog", "")); diff != "" {
			t.Errorf("backlog (-want +got):\n%s", diff)
		}
		if got := g.want(200, "GET", path+"/backlog?older_than=1h", ""); got["count"] != 0.0 {
			t.Errorf("backlog of an hour ago: %v", got)
		}

		var shown map[string]any
		for deadline := time.Now().Add(10 * time.Second); shown["count"] != 3.0 && time.Now().Before(deadline); {
			shown = g.want(200, "POST", path+"/purge", `{"older_than":"0s"}`) // the last of them may be of this very millisecond
		}
		if diff := cmp.Diff(map[string]any{"dry_run": true, "count": 3.0, "before": shown["before"]}, shown); diff != "" {
			t.Errorf("dry run (-want +got):\n%s", diff)
		}
		before := shown["before"].(string)
		again := g.want(200, "POST", path+"/purge", fmt.Sprintf(`{"before":%q}`, before))
		if diff := cmp.Diff(shown, again); diff != "" {
			t.Errorf("dry run by time (-want +got):\n%s", diff)
		}
		refused := g.want(409, "POST", path+"/purge", fmt.Sprintf(`{"before":%q,"confirm":2}`, before))
		if diff := cmp.Diff("3 deliveries would be dropped now, but 2 were confirmed; look again and confirm that count", refused["detail"]); diff != "" {
			t.Errorf("refusal (-want +got):\n%s", diff)
		}
		if got := g.want(200, "GET", path+"/backlog", ""); got["count"] != 3.0 {
			t.Errorf("a refused purge dropped something: %v", got)
		}
		newer := g.owe(tenant, endpoint, store.InTable)
		purged := g.want(200, "POST", path+"/purge", fmt.Sprintf(`{"before":%q,"confirm":3}`, before))
		if diff := cmp.Diff(map[string]any{"dry_run": false, "purged": 2.0, "left": 1.0, "before": before}, purged); diff != "" {
			t.Errorf("purge (-want +got):\n%s", diff)
		}
		want = map[string]any{"count": 2.0, "oldest": rfc3339(last.Time()), "newest": rfc3339(newer.Time())}
		if diff := cmp.Diff(want, g.want(200, "GET", path+"/backlog", "")); diff != "" {
			t.Errorf("backlog after the purge (-want +got):\n%s", diff)
		}
		dropped := g.want(200, "GET", "/api/v1/deliveries?state=exhausted&endpoint_id="+endpoint, "")["data"].([]any)
		if len(dropped) != 2 || dropped[1].(map[string]any)["reason"] != "purged" {
			t.Errorf("dropped: %v", dropped)
		}
		if got := g.want(202, "POST", "/api/v1/deliveries/"+dropped[1].(map[string]any)["id"].(string)+"/retry", ""); got["state"] != "pending" {
			t.Errorf("a purged delivery that is retried: %v", got)
		}
	})
}

func TestResumeSaysHow(t *testing.T) {
	t.Parallel()
	g := start(t)
	path := "/api/v1/endpoints/" + g.endpoint(g.tenant("Acme"), "standard", "")["id"].(string)
	g.want(200, "POST", path+"/pause", "")
	earliest := time.Now().Add(-time.Hour - time.Millisecond)
	resumed := g.want(200, "POST", path+"/resume", `{"order":"newest","skip_older_than":"1h"}`)
	skipBefore, err := time.Parse(time.RFC3339, resumed["skip_before"].(string))
	if err != nil || skipBefore.Before(earliest) || skipBefore.After(time.Now().Add(-time.Hour)) {
		t.Errorf("skips what is older than %v (%v), want an hour ago", resumed["skip_before"], err)
	}
	if resumed["state"] != "active" || resumed["drain"] != "newest" {
		t.Errorf("resumed: %v", resumed)
	}
	if diff := cmp.Diff(resumed, g.want(200, "GET", path, "")); diff != "" {
		t.Errorf("read back (-resumed +read):\n%s", diff)
	}
	for _, body := range []string{`{"order":"newest"}`, `{"order":"oldest"}`, `{}`, ``} {
		want := "oldest"
		if body == `{"order":"newest"}` {
			want = "newest"
		}
		if got := g.want(200, "POST", path+"/resume", body); got["drain"] != want || got["skip_before"] != nil {
			t.Errorf("resumed with %q: %v", body, got)
		}
	}
}

func TestInFlight(t *testing.T) {
	t.Parallel()
	g := start(t)
	tenant := g.tenant("Acme")
	for more, want := range map[string]float64{"": 4, `,"in_flight":null`: 4, `,"in_flight":1`: 1, `,"in_flight":1000`: 1000, `,"in_flight":1e2`: 100} {
		if got := g.endpoint(tenant, "standard", more)["in_flight"]; got != want {
			t.Errorf("made with %q: %v, want %v", more, got, want)
		}
	}
	path := "/api/v1/endpoints/" + g.endpoint(tenant, "standard", `,"in_flight":9`)["id"].(string)
	for _, step := range []struct {
		body string
		want float64
	}{{`{}`, 9}, {`{"in_flight":2}`, 2}, {`{"events":["*"]}`, 2}, {`{"in_flight":null}`, 4}} {
		if got := g.want(200, "PATCH", path, step.body)["in_flight"]; got != step.want {
			t.Errorf("after %s: %v, want %v", step.body, got, step.want)
		}
		if got := g.want(200, "GET", path, "")["in_flight"]; got != step.want {
			t.Errorf("read back after %s: %v, want %v", step.body, got, step.want)
		}
	}
}

func TestPasswordIsNotShown(t *testing.T) {
	t.Parallel()
	g := start(t)
	tenant := g.tenant("Acme")
	made := g.want(201, "POST", "/api/v1/endpoints", fmt.Sprintf(`{"tenant_id":%q,"dialect":"standard","url":"https://user:planted@a.test/in?x=1"}`, tenant))
	const shown = "https://user:xxxxx@a.test/in?x=1"
	path := "/api/v1/endpoints/" + made["id"].(string)
	patched := g.want(200, "PATCH", path, fmt.Sprintf(`{"url":%q}`, made["url"]))
	listed := g.want(200, "GET", "/api/v1/endpoints", "")["data"].([]any)[0].(map[string]any)
	for how, view := range map[string]map[string]any{"made": made, "patched": patched, "read": g.want(200, "GET", path, ""), "listed": listed} {
		if view["url"] != shown {
			t.Errorf("%s: %v, want %s", how, view["url"], shown)
		}
	}
	id, _ := waypost.ParseEndpointID(made["id"].(string))
	if got := g.directory.Endpoint(id).URL; got != "https://user:planted@a.test/in?x=1" {
		t.Error("the password was lost when the shown form came back")
	}
}

func TestAudit(t *testing.T) {
	onBoth(t, func(t *testing.T, g *gateway) {
		tenant, other := g.tenant("Acme"), g.tenant("Other")
		endpoint := g.endpoint(tenant, "standard", "")["id"].(string)
		g.want(200, "PATCH", "/api/v1/endpoints/"+endpoint, `{"in_flight":2}`)
		g.want(200, "POST", "/api/v1/endpoints/"+endpoint+"/pause", "")
		list := func(query string) (actions []string) {
			t.Helper()
			for _, row := range g.want(200, "GET", "/api/v1/audit"+query, "")["data"].([]any) {
				actions = append(actions, row.(map[string]any)["action"].(string))
			}
			return actions
		}
		for query, want := range map[string][]string{
			"": {"endpoint.pause", "endpoint.update", "endpoint.create", "tenant.create", "tenant.create"},
			"?tenant_id=" + tenant + "&action=tenant.create":      {"tenant.create"},
			"?target=" + endpoint:                                 {"endpoint.pause", "endpoint.update", "endpoint.create"},
			"?target=" + endpoint + "&action=endpoint.purge":      nil,
			"?tenant_id=" + other:                                 {"tenant.create"},
			"?target=" + url.QueryEscape("nobody's'; DROP TABLE"): nil,
		} {
			if diff := cmp.Diff(want, list(query)); diff != "" {
				t.Errorf("audit%s (-want +got):\n%s", query, diff)
			}
		}
		newest := g.want(200, "GET", "/api/v1/audit?limit=2", "")
		entry := newest["data"].([]any)[1].(map[string]any)
		want := map[string]any{
			"actor": "admin", "action": "endpoint.update", "target": endpoint, "tenant_id": tenant,
			"detail": map[string]any{"changed": []any{"in_flight"}},
		}
		if diff := cmp.Diff(want, without(t, entry, "id", "at")); diff != "" {
			t.Errorf("entry (-want +got):\n%s", diff)
		}
		if at := entry["at"].(string); !millis.MatchString(at) {
			t.Errorf("at is %q", at)
		}
		if diff := cmp.Diff([]string{"endpoint.create", "tenant.create"}, list("?limit=2&cursor="+newest["next"].(string))); diff != "" {
			t.Errorf("second page (-want +got):\n%s", diff)
		}
	})
}
