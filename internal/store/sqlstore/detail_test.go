package sqlstore_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// TestAppendDetail holds the detail against what encoding/json makes of it, which
// is what earlier versions stored.
func TestAppendDetail(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.StringMatching(`[ -~]{0,20}`),
		rapid.Custom(func(t *rapid.T) string { return string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) }))
	number := rapid.Map(rapid.OneOf(rapid.Just(0.0), rapid.Float64(), rapid.Float64Range(0.001, 1e6)),
		func(f float64) float64 { return f + 0 }) // -0 is no time
	rapid.Check(t, func(t *rapid.T) {
		detail := waypost.AttemptDetail{
			Error: text.Draw(t, "error"), Address: text.Draw(t, "address"), Reused: rapid.Bool().Draw(t, "reused"),
			Phases: waypost.Phases{
				Connected: number.Draw(t, "connected"), Sent: number.Draw(t, "sent"), FirstByte: number.Draw(t, "first byte"),
			},
			Headers: rapid.MapOf(text, text).Draw(t, "headers"), Response: text.Draw(t, "response"),
		}
		want, err := json.Marshal(&detail)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff("before"+string(want), string(sqlstore.AppendDetail([]byte("before"), &detail))); diff != "" {
			t.Fatalf("detail (-want +got):\n%s", diff)
		}
	})
}
