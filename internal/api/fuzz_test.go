package api_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzBodies sends anything to every call that takes a body. Whatever comes,
// the answer is a proper one and never our own fault.
func FuzzBodies(f *testing.F) {
	paths := []string{
		"POST /api/v1/tenants", "POST /api/v1/numbers", "POST /api/v1/keys", "POST /api/v1/sources", "POST /api/v1/endpoints",
		"POST /api/v1/events", "PATCH /api/v1/tenants/%t", "PATCH /api/v1/endpoints/%e", "POST /api/v1/endpoints/%e/rotate-secret",
		"POST /api/v1/events/evt_0000000000001/replay", "POST /api/v1/numbers/num_0000000000001/lifecycle",
		"POST /api/v1/endpoints/%e/resume", "POST /api/v1/endpoints/%e/purge",
	}
	for i, body := range []string{
		`{"name":"a","secrets":{"360dialog":"x"}}`, `{"tenant_id":"%t","phone":"15550001111","daily_limit":1e3}`,
		`{"dialect":"connectly","tenant_id":"%t"}`, `{"kind":"meta","name":"a","app_secrets":["x"]}`,
		`{"tenant_id":"%t","dialect":"360dialog","url":"https://a.test/","headers":{"A":"b"},"options":{"payload":"cloud"},"policy":{"schedule":["1s"]}}`,
		`{"tenant_id":"%t","type":"a.b","data":1e999}`, `{"secrets":{"360dialog":null}}`,
		`{"headers":{"A":null},"options":{"payload":null},"events":[],"secret":"whsec_"}`, `{"overlap":"1h"}`, `{"endpoint_id":""}`, `{"state":"ready"}`,
		`{"order":"newest","skip_older_than":"1h"}`, `{"older_than":"0s"}`, `{"before":"2026-01-01T00:00:00Z","confirm":0}`, `{"in_flight":null}`,
	} {
		f.Add(uint8(i), body)
	}
	g := start(f)
	tenant := g.tenant("Acme")
	endpoint := g.endpoint(tenant, "standard", "")["id"].(string)
	f.Fuzz(func(t *testing.T, call uint8, body string) {
		fill := strings.NewReplacer("%t", tenant, "%e", endpoint)
		method, path, _ := strings.Cut(fill.Replace(paths[int(call)%len(paths)]), " ")
		r := httptest.NewRequest(method, path, strings.NewReader(fill.Replace(body)))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		g.handler.ServeHTTP(w, r)
		if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
	})
}
