package dialecttest_test

// The dialect that docs/dialects/adding.md walks through. TestTheGuideQuotesThis
// keeps what stands there the same as what is tested here.

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/dialect/dialecttest"
	"github.com/waypost-gateway/waypost/internal/meta"
	"github.com/waypost-gateway/waypost/internal/signature"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// guide: begin dialect

// Textline is a provider we made up: it tells receivers of text messages only,
// in one flat object, and signs with the customer's own secret.
type Textline struct{}

func (Textline) Info() dialect.Info {
	return dialect.Info{
		ID:               "textline",
		Title:            "Textline",
		Docs:             "https://textline.example/docs/webhooks",
		Events:           []string{"whatsapp.message.text"},
		Paths:            []string{"/textline/webhook"},
		CredentialHeader: "X-Textline-Key",
		Keys:             &dialect.KeySpec{PerNumber: true, SecretMember: "signing_secret"},
	}
}

func (Textline) Policy(*waypost.Endpoint) waypost.Policy {
	return waypost.Policy{
		Success:  waypost.Success2xx,
		Timeout:  10 * time.Second,
		Schedule: []time.Duration{time.Minute, time.Hour},
	}
}

// guide: end dialect

// guide: begin hook

func (Textline) Encode(item dialect.Item) (dialect.Hook, error) {
	change, err := meta.Read(item.Event.Body)
	if err != nil || len(change.Messages) == 0 {
		return dialect.Hook{}, dialect.ErrNotWanted
	}
	message := change.Messages[0] // an event holds one item
	body, err := json.Marshal(struct {
		ID   meta.Text `json:"id"`
		From meta.Text `json:"from"` // empty where the customer hides it
		Text meta.Text `json:"text"`
	}{message.ID, message.From, message.Text.Body})
	if err != nil {
		return dialect.Hook{}, err
	}
	code := signature.HexSHA256(item.TenantSecret.Reveal(), body)
	return dialect.Hook{Body: body, Header: http.Header{"X-Textline-Signature": {code}}}, nil
}

// guide: end hook

// guide: begin settings

func (d Textline) Handler(admin dialect.Admin) http.Handler {
	s := textlineSettings{admin}
	return dialect.Serve(dialect.Routes{
		"/textline/webhook": {http.MethodGet: s.get, http.MethodPut: s.set},
	}, func(w http.ResponseWriter, _ *http.Request, err error) {
		dialect.WriteJSON(w, dialect.StatusOf(err), map[string]string{"error": dialect.MessageOf(err)})
	})
}

type textlineSettings struct{ admin dialect.Admin }

type textlineWebhook struct {
	URL string `json:"url"`
}

func (s textlineSettings) account(r *http.Request) (dialect.Account, dialect.Place, error) {
	account, err := s.admin.Authenticate(r.Context(), dialect.Credential{
		Dialect: "textline", Key: r.Header.Get("X-Textline-Key"), Remote: dialect.Remote(r),
	})
	if err != nil {
		return nil, dialect.Place{}, err
	}
	number := account.Number()
	if number == nil {
		return nil, dialect.Place{}, waypost.Errorf(waypost.KindForbidden, "this key is not the key of a number")
	}
	return account, dialect.Place{NumberID: number.ID, Slot: "number"}, nil
}

func (s textlineSettings) set(r *http.Request) (any, error) {
	account, place, err := s.account(r)
	if err != nil {
		return nil, err
	}
	body, err := dialect.ReadObject(r)
	if err != nil {
		return nil, err
	}
	url, err := body.String("url")
	if err != nil {
		return nil, err
	}
	endpoint, err := account.Change(r.Context(), place, func(e *waypost.Endpoint) error {
		e.URL = url // checked by Change, against Info.URL and the operator's allow-list
		return nil
	})
	return textlineWebhook{endpoint.URL}, err
}

func (s textlineSettings) get(r *http.Request) (any, error) {
	account, place, err := s.account(r)
	if err != nil {
		return nil, err
	}
	endpoints, err := account.Endpoints(r.Context())
	if err != nil {
		return nil, err
	}
	for _, e := range endpoints {
		if e.NumberID == place.NumberID && e.Slot == place.Slot {
			return textlineWebhook{e.URL}, nil
		}
	}
	return textlineWebhook{}, nil
}

// guide: end settings

// guide: begin test

func TestTextline(t *testing.T) {
	t.Parallel()
	dialecttest.Run(t, Textline{}, "testdata/textline")
}

// guide: end test

// TestTheGuideQuotesThis compares each part between "guide: begin" and "guide:
// end" here, and each vector, with the block that follows "<!-- quote: name -->"
// in the guide. With -update it writes the blocks.
func TestTheGuideQuotesThis(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "..", "docs", "dialects", "adding.md")
	guide, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	current := guide
	for name, text := range guideParts(t) {
		mark := []byte("<!-- quote: " + name + " -->\n")
		before, rest, found := bytes.Cut(current, mark)
		opening, after, opened := bytes.Cut(rest, []byte("\n")) // ```go
		_, after, closed := bytes.Cut(after, []byte("\n```\n"))
		if !found || !opened || !closed {
			t.Fatalf("the guide has no block for %q", name)
		}
		current = bytes.Join([][]byte{before, mark, opening, []byte("\n"), []byte(strings.TrimSpace(text)), []byte("\n```\n"), after}, nil)
	}
	if bytes.Equal(current, guide) {
		return
	}
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(path, current, 0o644); err != nil { //nolint:gosec // documentation is for everybody
			t.Fatal(err)
		}
		return
	}
	t.Error("docs/dialects/adding.md is not current: run go test ./internal/dialect/dialecttest -run Guide -update")
}

func guideParts(t *testing.T) map[string]string {
	t.Helper()
	source, err := os.ReadFile("textline_test.go")
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for _, name := range []string{"dialect", "hook", "settings", "test"} {
		_, rest, began := strings.Cut(string(source), "// guide: begin "+name+"\n")
		text, _, ended := strings.Cut(rest, "// guide: end "+name+"\n")
		if !began || !ended {
			t.Fatalf("no part %q here", name)
		}
		parts[name] = text
	}
	vector, err := os.ReadFile(filepath.Join("testdata", "textline", "webhook.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	parts["vector"] = string(vector)
	return parts
}
