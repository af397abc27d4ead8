// Package api is the management API: what an operator, the command line and the
// dashboard use to configure the gateway and to see what became of each event.
//
// It only translates. Operations on settings are those of package settings,
// what happened is read from the store's log, and publishing goes through
// ingest. Every call needs the admin token, and what is done by it stands in the
// audit trail as done by "admin". Every refusal is a problem document
// (RFC 9457) with a stable code and the names of the refused members; what goes
// wrong inside is logged with its cause and answered without it.
//
// The description of the API (OpenAPI) is made from the same types that decode
// and check the requests, so it cannot differ from what is served.
package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/waypost-gateway/waypost/internal/settings"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const (
	prefix     = "/api/v1"
	maxBody    = 1 << 20
	maxPublish = 4 << 20
)

// Publisher takes in an event that the platform made itself. A repeat of the
// tenant's idempotency key gives the id of the first event.
type Publisher interface {
	Publish(ctx context.Context, tenant waypost.TenantID, number waypost.NumberID, eventType string, data json.RawMessage, idempotencyKey string) (waypost.EventID, error)
}

// Options of the management API.
type Options struct {
	Settings  *settings.Service
	Records   store.Log // what happened
	Publisher Publisher
	// TokenDigest is the SHA-256 of the admin token.
	TokenDigest [sha256.Size]byte
	Now         func() time.Time
	Log         *slog.Logger
}

type service struct {
	settings  *settings.Service
	records   store.Log
	publisher Publisher
	now       func() time.Time
	log       *slog.Logger
}

// New makes the handler of everything below /api/v1/.
func New(options Options) http.Handler {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	mux, described := build(options)
	document, err := json.Marshal(described.OpenAPI())
	if err != nil {
		panic(fmt.Sprintf("describe the management API: %v", err)) // the types above can't be described
	}
	calls := &guard{
		token:   options.TokenDigest,
		guesses: settings.NewLimiter(settings.Limits{}, options.Now),
		next:    refuseUnknown(mux),
	}
	root := http.NewServeMux()
	root.Handle("/", calls)
	root.HandleFunc("GET "+prefix+"/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		w.Write(document)
	})
	return root
}

// Document is the description of the API, indented; docs/openapi.json holds it.
func Document() ([]byte, error) {
	_, described := build(Options{})
	compact, err := json.Marshal(described.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("describe the management API: %w", err)
	}
	var document bytes.Buffer
	if err := json.Indent(&document, compact, "", "  "); err != nil {
		return nil, fmt.Errorf("indent the description: %w", err)
	}
	document.WriteByte('\n')
	return document.Bytes(), nil
}

func build(options Options) (*http.ServeMux, huma.API) {
	s := &service{
		settings:  options.Settings,
		records:   options.Records,
		publisher: options.Publisher,
		now:       options.Now,
		log:       options.Log,
	}
	mux := http.NewServeMux()
	described := humago.New(mux, configuration())
	described.UseMiddleware(func(ctx huma.Context, next func(huma.Context)) {
		next(huma.WithValue(ctx, serviceKey{}, s))
	})
	r := &registrar{api: described, log: options.Log}
	s.registerTenants(r)
	s.registerNumbers(r)
	s.registerKeys(r)
	s.registerSources(r)
	s.registerEndpoints(r)
	s.registerBacklogs(r)
	s.registerEvents(r)
	s.registerDeliveries(r)
	s.registerAudit(r)
	return mux, described
}

type serviceKey struct{}

// serviceOf is the service, for bodies that can't be checked without it.
func serviceOf(ctx huma.Context) *service { return ctx.Context().Value(serviceKey{}).(*service) }

func configuration() huma.Config {
	config := huma.DefaultConfig("Waypost management API", "1")
	config.Info.Description = "Configure the gateway and see what became of each event. " +
		"Times are RFC 3339 in UTC; durations are written like 5s, 5m or 1h30m."
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.CreateHooks = nil
	config.RejectUnknownQueryParameters = true
	config.Formats = map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat}
	config.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"admin": {Type: "http", Scheme: "bearer", Description: "The admin token."},
	}
	config.Security = []map[string][]string{{"admin": {}}}
	return config
}

// registrar adds calls to the API.
type registrar struct {
	api huma.API
	log *slog.Logger
}

// call describes one call. Zero members: method GET, status 200.
type call struct {
	method  string
	path    string // below /api/v1
	id      string
	summary string
	detail  string
	status  int
	also    int // another status with the same body
	maxBody int64
}

// answer is an answer with a body.
type answer[T any] struct{ Body T }

// none is an input without members, or an answer without a body.
type none struct{}

// add registers a call. What handle returns as an error becomes a problem.
func add[I, O any](r *registrar, c call, handle func(context.Context, *I) (*O, error)) {
	operation := huma.Operation{
		OperationID:   c.id,
		Method:        c.method,
		Path:          prefix + c.path,
		Summary:       c.summary,
		Description:   c.detail,
		DefaultStatus: c.status,
		Responses:     map[string]*huma.Response{},
		MaxBodyBytes:  c.maxBody,
		// The server's own limits on slow requests hold; a second clock here
		// would only cut off large bodies.
		BodyReadTimeout: -1,
	}
	if operation.Method == "" {
		operation.Method = http.MethodGet
	}
	if operation.DefaultStatus == 0 {
		operation.DefaultStatus = http.StatusOK
	}
	if operation.MaxBodyBytes == 0 {
		operation.MaxBodyBytes = maxBody
	}
	huma.Register(r.api, operation, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, r.problem(ctx, c.id, err)
		}
		return out, nil
	})
	if c.also != 0 {
		operation.Responses[strconv.Itoa(c.also)] = &huma.Response{
			Description: http.StatusText(c.also),
			Content:     operation.Responses[strconv.Itoa(operation.DefaultStatus)].Content,
		}
	}
}
