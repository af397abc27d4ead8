package dialecttest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// The credentials an Admin knows. Those of a number are only there for
// dialects with a key per number; else Key speaks for the tenant that owns
// numbers 1 to 3 and OtherKey for the one that owns number 4.
const (
	Key         = "planted-key-1-5b0c64e1f3"   // number 1, business account 1740000000000001
	SecondKey   = "planted-key-2-94ad0e7c25"   // number 2, the same business account
	LoneKey     = "planted-key-3-e8f1207ab6"   // number 3, without a business account
	OtherKey    = "planted-key-4-17c9d25f40"   // number 4, of another tenant
	AccountName = "acct_01planted"             // public name beside Key, SecondKey and LoneKey
	OtherName   = "acct_02planted"             // public name beside OtherKey
	PlantedText = "planted-header-7d3e90b4a1"  // for secret values inside requests
	TenantSign  = "planted-signing-2f6b8c01d9" // the first tenant's signing secret
)

// Now is the time in every test.
var Now = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)

// The numbers an Admin knows.
func numbers() []waypost.Number {
	const waba = "1740000000000001"
	return []waypost.Number{
		{ID: 1, TenantID: 1, Phone: "34910000001", PhoneNumberID: "1060000000000001", WABAID: waba, Reference: "shop-1"},
		{ID: 2, TenantID: 1, Phone: "34910000002", PhoneNumberID: "1060000000000002", WABAID: waba},
		{ID: 3, TenantID: 1, Phone: "34910000003"},
		{ID: 4, TenantID: 2, Phone: "34910000004", PhoneNumberID: "1060000000000004", WABAID: waba},
	}
}

type holder struct {
	name   string // empty: a token
	tenant waypost.TenantID
	number waypost.NumberID
}

// Admin is a dialect.Admin in memory, with the promises of the real one: two
// tenants with numbers 1 to 3 and number 4, and a key for each. The place of a
// refusal is the same as in the real one; only durability is missing. IP
// literals of the loopback and localhost are trusted receivers.
type Admin struct {
	info dialect.Info

	mu        sync.Mutex
	holders   map[string]holder
	endpoints []waypost.Endpoint
	nextID    waypost.EndpointID
	fail      map[string]error // by method, see Fail
	called    map[string]bool  // the methods that were called
	failed    bool
	tokens    int // issued
	badTries  int // of all addresses; the clock stands still
}

// NewAdmin makes an Admin for the dialect, without endpoints.
func NewAdmin(info dialect.Info) *Admin {
	if info.Keys == nil {
		info.Keys = &dialect.KeySpec{}
	}
	a := &Admin{info: info, nextID: 1, fail: map[string]error{}, called: map[string]bool{}}
	if info.Keys.PerNumber {
		a.holders = map[string]holder{
			Key:       {AccountName, 1, 1},
			SecondKey: {AccountName, 1, 2},
			LoneKey:   {AccountName, 1, 3},
			OtherKey:  {OtherName, 2, 4},
		}
	} else {
		a.holders = map[string]holder{Key: {AccountName, 1, 0}, OtherKey: {OtherName, 2, 0}}
	}
	return a
}

// Fail makes the named method of Admin or Account fail from now on.
func (a *Admin) Fail(method string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail[method] = err
}

func (a *Admin) failure(method string) error {
	a.called[method] = true
	err := a.fail[method]
	a.failed = a.failed || err != nil
	return err
}

// Put adds an endpoint as it is, as the management API would; it gives its id.
func (a *Admin) Put(endpoint waypost.Endpoint) waypost.EndpointID {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.put(endpoint).ID
}

func (a *Admin) put(endpoint waypost.Endpoint) *waypost.Endpoint {
	endpoint.ID, endpoint.Dialect = a.nextID, a.info.ID
	a.nextID++
	if endpoint.TenantID == 0 {
		endpoint.TenantID = 1
	}
	if endpoint.State == "" {
		endpoint.State = waypost.EndpointActive
	}
	endpoint.CreatedAt, endpoint.UpdatedAt = Now, Now
	a.endpoints = append(a.endpoints, endpoint)
	return &a.endpoints[len(a.endpoints)-1]
}

// Endpoints is a copy of all endpoints there are, oldest first.
func (a *Admin) Endpoints() []waypost.Endpoint {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := []waypost.Endpoint{}
	for _, endpoint := range a.endpoints {
		all = append(all, copyOf(endpoint))
	}
	return all
}

func copyOf(endpoint waypost.Endpoint) waypost.Endpoint {
	endpoint.Headers = maps.Clone(endpoint.Headers)
	endpoint.Options = maps.Clone(endpoint.Options)
	endpoint.Events = slices.Clone(endpoint.Events)
	endpoint.Secrets = slices.Clone(endpoint.Secrets)
	return endpoint
}

// Authenticate implements dialect.Admin.
func (a *Admin) Authenticate(_ context.Context, c dialect.Credential) (dialect.Account, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.failure("Authenticate"); err != nil {
		return nil, err
	}
	if limit := a.info.Keys.BadTries; limit > 0 && a.badTries >= limit {
		return nil, waypost.Errorf(waypost.KindRateLimited, "too many bad tries")
	}
	who, err := a.holder(c)
	if err != nil {
		a.badTries++
		return nil, err
	}
	return &account{admin: a, holder: who}, nil
}

func (a *Admin) holder(c dialect.Credential) (holder, error) {
	name := c.Account
	if a.info.Keys.AccountIsPhone {
		number := numberByPhone(c.Account)
		if number == nil {
			return holder{}, waypost.Errorf(waypost.KindNotFound, "there is no number with this phone")
		}
		if a.holders[c.Key].number == number.ID {
			name = a.holders[c.Key].name
		}
	}
	who, ok := a.holders[c.Key]
	fits := name == who.name || name == "" && !a.info.Keys.Tokens
	if !ok || c.Dialect != a.info.ID || !fits {
		return holder{}, waypost.Errorf(waypost.KindUnauthorized, "the key is unknown")
	}
	return who, nil
}

// IssueToken implements dialect.Tokens.
func (a *Admin) IssueToken(_ context.Context, of dialect.Account, ttl time.Duration) (string, time.Time, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.failure("IssueToken"); err != nil {
		return "", time.Time{}, err
	}
	a.tokens++
	token := fmt.Sprintf("planted-token-%d", a.tokens)
	a.holders[token] = holder{tenant: of.Tenant().ID}
	return token, Now.Add(ttl), nil
}

type account struct {
	admin *Admin
	holder
}

func (c *account) Tenant() waypost.Tenant {
	return waypost.Tenant{
		ID:        c.tenant,
		Name:      fmt.Sprintf("Tenant %d", c.tenant),
		Secrets:   map[string]waypost.Secret{c.admin.info.ID: TenantSign},
		CreatedAt: Now,
	}
}

func (c *account) Number() *waypost.Number { return numberByID(c.number) }

func numberByID(id waypost.NumberID) *waypost.Number {
	for _, number := range numbers() {
		if number.ID == id {
			return &number
		}
	}
	return nil
}

func numberByPhone(phone string) *waypost.Number {
	for _, number := range numbers() {
		if number.Phone == phone {
			return &number
		}
	}
	return nil
}

func (c *account) Numbers(context.Context) ([]waypost.Number, error) {
	c.admin.mu.Lock()
	defer c.admin.mu.Unlock()
	if err := c.admin.failure("Numbers"); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(numbers(), func(n waypost.Number) bool { return n.TenantID != c.tenant }), nil
}

func (c *account) Endpoints(context.Context) ([]waypost.Endpoint, error) {
	c.admin.mu.Lock()
	defer c.admin.mu.Unlock()
	if err := c.admin.failure("Endpoints"); err != nil {
		return nil, err
	}
	var own []waypost.Endpoint
	for _, endpoint := range c.admin.endpoints {
		if endpoint.TenantID == c.tenant && endpoint.Slot != "" {
			own = append(own, copyOf(endpoint))
		}
	}
	return own, nil
}

func (c *account) Change(_ context.Context, place dialect.Place, edit func(*waypost.Endpoint) error) (waypost.Endpoint, error) {
	a := c.admin
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.failure("Change"); err != nil {
		return waypost.Endpoint{}, err
	}
	if err := c.mayUse(place); err != nil {
		return waypost.Endpoint{}, err
	}
	before := waypost.Endpoint{TenantID: c.tenant, NumberID: place.NumberID, WABAID: place.WABAID, Slot: place.Slot}
	at := c.find(place)
	if at >= 0 {
		before = a.endpoints[at]
	}
	after := copyOf(before)
	if err := edit(&after); err != nil {
		return waypost.Endpoint{}, err
	}
	if err := onlyAllowed(before, after); err != nil {
		return waypost.Endpoint{}, err
	}
	if err := dialect.CheckEndpoint(a.info, &after, trusted); err != nil {
		return waypost.Endpoint{}, err
	}
	if at >= 0 {
		a.endpoints[at] = after
	} else {
		after = *a.put(after)
	}
	return copyOf(after), nil
}

func (c *account) Remove(_ context.Context, place dialect.Place) error {
	a := c.admin
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.failure("Remove"); err != nil {
		return err
	}
	if err := c.mayUse(place); err != nil {
		return err
	}
	at := c.find(place)
	if at < 0 {
		return waypost.Errorf(waypost.KindNotFound, "there is no endpoint in this place")
	}
	a.endpoints = slices.Delete(a.endpoints, at, at+1)
	return nil
}

func (c *account) mayUse(place dialect.Place) error {
	if place.Slot == "" {
		return fmt.Errorf("place without a slot: %+v", place)
	}
	if number := numberByID(place.NumberID); place.NumberID != 0 && (number == nil || number.TenantID != c.tenant) {
		return waypost.Errorf(waypost.KindForbidden, "the number belongs to another tenant")
	}
	return nil
}

func (c *account) find(place dialect.Place) int {
	return slices.IndexFunc(c.admin.endpoints, func(e waypost.Endpoint) bool {
		return e.TenantID == c.tenant && dialect.Place{NumberID: e.NumberID, WABAID: e.WABAID, Slot: e.Slot} == place
	})
}

// onlyAllowed fails for an edit that sets more than Account.Change allows.
func onlyAllowed(before, after waypost.Endpoint) error {
	after.URL, after.Headers, after.Options, after.Events = before.URL, before.Headers, before.Options, before.Events
	if !reflect.DeepEqual(before, after) {
		return fmt.Errorf("edit set more than URL, headers, options and events of %v", before.ID)
	}
	return nil
}

func trusted(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// seat is an endpoint as test files write it.
type seat struct {
	Tenant  waypost.TenantID  `json:"tenant,omitempty"` // 0: the first
	Number  waypost.NumberID  `json:"number,omitempty"`
	WABAID  string            `json:"waba_id,omitempty"`
	Slot    string            `json:"slot,omitempty"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"`
	Options map[string]any    `json:"options,omitempty"`
	Events  []string          `json:"events,omitempty"`
	Secrets []waypost.Secret  `json:"secrets,omitempty"`
}

func (s seat) endpoint() waypost.Endpoint {
	endpoint := waypost.Endpoint{
		TenantID: s.Tenant, NumberID: s.Number, WABAID: s.WABAID, Slot: s.Slot, URL: s.URL,
		Options: s.Options, Events: s.Events,
	}
	if len(s.Headers) > 0 {
		endpoint.Headers = map[string]waypost.Secret{}
	}
	for name, value := range s.Headers {
		endpoint.Headers[name] = waypost.Secret(value)
	}
	for _, secret := range s.Secrets {
		endpoint.Secrets = append(endpoint.Secrets, waypost.SigningSecret{Value: secret})
	}
	return endpoint
}

// dump writes all endpoints, one to a line, as seats.
func (a *Admin) dump() string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	for _, e := range a.Endpoints() {
		s := seat{
			Number: e.NumberID, WABAID: e.WABAID, Slot: e.Slot, URL: e.URL,
			Headers: dialect.ShowHeaders(e.Headers), Options: e.Options, Events: e.Events,
		}
		if e.TenantID != 1 {
			s.Tenant = e.TenantID
		}
		if err := encoder.Encode(s); err != nil {
			panic(err) // an option of a type that no store could keep
		}
	}
	return text.String()
}
