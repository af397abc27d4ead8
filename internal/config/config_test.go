package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// load parses the way commands do.
func load(t *testing.T, args []string, env map[string]string) (Config, []string) {
	t.Helper()
	var holder struct {
		Config `embed:""`
	}
	sources := New(func(name string) (string, bool) { value, ok := env[name]; return value, ok })
	parser, err := kong.New(&holder, sources.Options()...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args); err != nil {
		t.Fatal(err)
	}
	return holder.Config, sources.Faults()
}

func write(t *testing.T, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOrder(t *testing.T) {
	t.Parallel()
	path := write(t, "waypost.yaml", "listen: file:1\n")
	file := map[string]string{"WAYPOST_CONFIG": path}
	both := map[string]string{"WAYPOST_CONFIG": path, "WAYPOST_LISTEN": "env:1"}
	tests := []struct {
		name string
		args []string
		env  map[string]string
		want string
	}{
		{"default", nil, nil, "127.0.0.1:8080"},
		{"file over default", nil, file, "file:1"},
		{"file named by a flag", []string{"--config", path}, nil, "file:1"},
		{"environment over file", nil, both, "env:1"},
		{"environment over a file named by a flag", []string{"--config", path}, map[string]string{"WAYPOST_LISTEN": "env:1"}, "env:1"},
		{"flag over all", []string{"--listen=flag:1"}, both, "flag:1"},
		{"an empty variable is not set", nil, map[string]string{"WAYPOST_CONFIG": path, "WAYPOST_LISTEN": ""}, "file:1"},
		{"a flag's file over the variable's", []string{"--config", path}, map[string]string{"WAYPOST_CONFIG": "/nonexistent"}, "file:1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, faults := load(t, tt.args, tt.env)
			if c.Listen != tt.want || len(faults) > 0 {
				t.Errorf("got %q, want %q; faults %q", c.Listen, tt.want, faults)
			}
		})
	}
}

func TestEverySettingFromTheEnvironment(t *testing.T) {
	t.Parallel()
	c, faults := load(t, nil, map[string]string{
		"WAYPOST_LISTEN": ":9", "WAYPOST_DATA": "/d", "WAYPOST_DATABASE": "postgres://u:p@h/n",
		"WAYPOST_ADMIN_TOKEN": "t", "WAYPOST_SECRET_KEY": "k", "WAYPOST_PUBLIC_URL": "https://p",
		"WAYPOST_DIALECT_HOSTS": "a.example=whizard,b.example=meta", "WAYPOST_TRUSTED_PROXIES": "10.0.0.0/8",
		"WAYPOST_SHUTDOWN_TIMEOUT": "3s", "WAYPOST_META_APP_SECRET": "s1, s2", "WAYPOST_META_VERIFY_TOKEN": "v",
		"WAYPOST_ONPREM_TOKEN": "o", "WAYPOST_EGRESS_ALLOW": "127.0.0.0/8, ::1/128", "WAYPOST_EGRESS_CA": "ca",
		"WAYPOST_EGRESS_PROXY": "http://x", "WAYPOST_EGRESS_LOCAL_ADDR": "192.0.2.1", "WAYPOST_IN_FLIGHT": "1",
		"WAYPOST_FAST_SLOTS": "2", "WAYPOST_SLOW_SLOTS": "3", "WAYPOST_GRAPH_URL": "http://g",
		"WAYPOST_ALERT_PHONE_NUMBER_ID": "1", "WAYPOST_ALERT_TOKEN": "a", "WAYPOST_ALERT_TEMPLATE": "n",
		"WAYPOST_LOG": "debug", "WAYPOST_LOG_FORMAT": "json", "WAYPOST_MEMORY": "2G", "WAYPOST_INGEST_MEMORY": "96M",
		"WAYPOST_RETAIN_BODIES": "1d", "WAYPOST_RETAIN_ATTEMPTS": "2d", "WAYPOST_RETAIN_EVENTS": "3d",
		"WAYPOST_RETAIN_DEDUPE": "10d", "WAYPOST_RETAIN_AUDIT": "forever", "WAYPOST_DISK_LIMIT": "5G",
	})
	want := Config{
		Listen: ":9", Data: "/d", Database: "postgres://u:p@h/n", AdminToken: "t", SecretKey: "k", PublicURL: "https://p",
		DialectHosts:   map[string]string{"a.example": "whizard", "b.example": "meta"},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, ShutdownTimeout: 3 * time.Second,
		MetaAppSecret: []Secret{"s1", "s2"}, MetaVerifyToken: "v", OnPremToken: "o",
		EgressAllow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		EgressCA:    "ca", EgressProxy: "http://x", EgressLocalAddr: netip.MustParseAddr("192.0.2.1"),
		InFlight: 1, FastSlots: 2, SlowSlots: 3, GraphURL: "http://g",
		AlertPhoneNumberID: "1", AlertToken: "a", AlertTemplate: "n", Log: "debug", LogFormat: "json",
		Memory: 2 << 30, IngestMemory: 96 << 20,
		RetainBodies: Age(day), RetainAttempts: 2 * Age(day), RetainEvents: 3 * Age(day), RetainDedupe: 10 * Age(day),
		DiskLimit: 5 << 30,
	}
	if diff := cmp.Diff(want, c, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" || len(faults) > 0 {
		t.Errorf("(-want +got):\n%s\nfaults %q", diff, faults)
	}
}

// TestNamesFollowOneRule: whoever knows the flag knows the variable.
func TestNamesFollowOneRule(t *testing.T) {
	t.Parallel()
	var holder struct {
		Config `embed:""`
	}
	sources := New(os.LookupEnv)
	parser, err := kong.New(&holder, sources.Options()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range parser.Model.Flags {
		if flag.Name == "help" {
			continue
		}
		want := "WAYPOST_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		if got := sources.vars[flag]; got != want {
			t.Errorf("--%s is set by %q, want %s", flag.Name, got, want)
		}
		if flag.Help == "" || flag.Group == nil || !slices.ContainsFunc(Groups(), func(g kong.Group) bool { return g.Key == flag.Group.Key }) {
			t.Errorf("--%s has no help text or no heading", flag.Name)
		}
	}
}

func TestFileForms(t *testing.T) {
	t.Parallel()
	path := write(t, "c.yaml", `
# plain, nested, lists, maps, and text where it needs no quotes
listen: "127.0.0.1:1"
egress:
  allow: [127.0.0.0/8, "::1/128"]
  ca: /ca.pem
in-flight: 7
shutdown-timeout: 90s
meta:
  app-secret:
    - one,half
    - two
dialect-hosts:
  a.example: whizard
public-url:
alert: {phone-number-id: 106540352242922}
`)
	c, faults := load(t, []string{"--config", path}, nil)
	want := Default()
	want.File, want.Listen, want.EgressCA, want.InFlight = path, "127.0.0.1:1", "/ca.pem", 7
	want.ShutdownTimeout = 90 * time.Second
	want.EgressAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	want.MetaAppSecret = []Secret{"one,half", "two"}
	want.DialectHosts = map[string]string{"a.example": "whizard"}
	want.AlertPhoneNumberID = "106540352242922"
	if diff := cmp.Diff(want, c, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" || len(faults) > 0 {
		t.Errorf("(-want +got):\n%s\nfaults %q", diff, faults)
	}
}

func TestEveryFaultIsTold(t *testing.T) {
	t.Parallel()
	path := write(t, "c.yaml", `lisen: 127.0.0.1:1
in_flight: 3
unheard-of: 1
egress:
  alow: []
fast-slots: many
slow-slots: [1]
log: loud
shutdown-timeout: 20
graph-url: {a: b}
data: /a
data: /b
config: other.yaml
`)
	_, faults := load(t, []string{"--config", path}, map[string]string{
		"WAYPOST_IN_FLIGHT": "x", "WAYPOST_EGRESS_ALLOW": "10.0.0.1", "WAYPOST_DIALECT_HOSTS": "nonsense",
		"WAYPOST_EGRESS_LOCAL_ADDR": "here", "WAYPOST_ADMIN_TOKEN": "s3cret", "WAYPOST_ADMIN_TOKEN_FILE": "/s3cret",
		"WAYPOST_SECRET_KEY_FILE": "/nonexistent/key",
	})
	want := []string{
		`WAYPOST_ADMIN_TOKEN and WAYPOST_ADMIN_TOKEN_FILE are both set: unset one`,
		`WAYPOST_DIALECT_HOSTS: "nonsense" is not a list of pairs: write it like a=b,c=d`,
		`WAYPOST_EGRESS_ALLOW: "10.0.0.1" is not a list of CIDR ranges: write it like 10.0.0.0/8,192.168.1.7/32`,
		`WAYPOST_EGRESS_LOCAL_ADDR: "here" is not an IP address`,
		`WAYPOST_IN_FLIGHT: "x" is not a whole number`,
		`WAYPOST_SECRET_KEY_FILE: open /nonexistent/key: no such file or directory`,
		path + `:10: graph-url: settings are given where a value belongs`,
		path + `:12: data is given twice`,
		path + `:13: there is no setting "config"`,
		path + `:1: there is no setting "lisen"; is "listen" meant?`,
		path + `:2: there is no setting "in_flight"; is "in-flight" meant?`,
		path + `:3: there is no setting "unheard-of"`,
		path + `:5: there is no setting "egress-alow"; is "egress-allow" meant?`,
		path + `:6: fast-slots: "many" is not a whole number`,
		path + `:7: slow-slots: a list is given where a single value belongs`,
		path + `:8: log: "loud" is none of debug, info, warn, error`,
		path + `:9: shutdown-timeout: "20" is not a duration: write it like 20s or 1m30s`,
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, faults); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBrokenFiles(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"listen: [":    "c.yaml: yaml: line 1",
		"- listen":     "c.yaml:1: settings are written as",
		"just words":   "c.yaml:1: settings are written as",
		"listen: *no":  "c.yaml: yaml: unknown anchor",
		"\t\x00listen": "c.yaml: yaml:",
	} {
		_, faults := load(t, []string{"--config", write(t, "c.yaml", text)}, nil)
		if len(faults) != 1 || !strings.Contains(faults[0], want) {
			t.Errorf("%q: faults %q, want …%s…", text, faults, want)
		}
	}
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		if _, faults := load(t, []string{"--config", write(t, "c.yaml", text)}, nil); len(faults) > 0 {
			t.Errorf("%q: faults %q", text, faults)
		}
	}
	_, faults := load(t, nil, map[string]string{"WAYPOST_CONFIG": "/nonexistent.yaml"})
	if want := "configuration file: open /nonexistent.yaml: no such file or directory"; len(faults) != 1 || faults[0] != want {
		t.Errorf("a file that is not there: %q", faults)
	}
}

func TestSecretsFromFiles(t *testing.T) {
	t.Parallel()
	token, secrets, database := write(t, "a", "from-file\n"), write(t, "b", "one,two\n"), write(t, "c", "postgres://u:p@h/n")
	c, faults := load(t, nil, map[string]string{
		"WAYPOST_ADMIN_TOKEN_FILE": token, "WAYPOST_META_APP_SECRET_FILE": secrets, "WAYPOST_DATABASE_FILE": database,
		"WAYPOST_LISTEN_FILE": "/not/a/secret",
	})
	if c.AdminToken != "from-file" || len(c.MetaAppSecret) != 2 || c.MetaAppSecret[1] != "two" || c.Database != "postgres://u:p@h/n" || len(faults) > 0 {
		t.Errorf("got %q %q %q, faults %q", c.AdminToken.Reveal(), c.MetaAppSecret, c.Database, faults)
	}
	_, faults = load(t, nil, map[string]string{"WAYPOST_ADMIN_TOKEN_FILE": os.DevNull})
	if len(faults) != 1 || !strings.Contains(faults[0], "is empty") {
		t.Errorf("an empty file: %q", faults)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	ok := Default()
	if faults := ok.Check(); faults != nil {
		t.Errorf("the default has faults: %q", faults)
	}
	tests := []struct {
		name  string
		spoil func(*Config)
		want  string // empty: it is fine
	}{
		{"an address without port", func(c *Config) { c.Listen = "127.0.0.1" }, "--listen ($WAYPOST_LISTEN)"},
		{"a port by name", func(c *Config) { c.Listen = ":http" }, "--listen"},
		{"every interface", func(c *Config) { c.Listen = ":8080" }, ""},
		{"IPv6", func(c *Config) { c.Listen = "[::1]:0" }, ""},
		{"no data directory", func(c *Config) { c.Data = "" }, "--data"},
		{"another database", func(c *Config) { c.Database = "mysql://u:s3cret@h/n" }, "--database"},
		{"PostgreSQL", func(c *Config) { c.Database = "postgresql://u:p@h/n?sslmode=require" }, ""},
		{"a short key", func(c *Config) { c.SecretKey = "czNjcmV0" }, "--secret-key"},
		{"two keys", func(c *Config) { c.SecretKey = Secret(strings.Repeat("A", 43) + "=," + strings.Repeat("_", 43)) }, ""},
		{"a URL without scheme", func(c *Config) { c.PublicURL = "hooks.example.com" }, "--public-url"},
		{"another scheme", func(c *Config) { c.EgressProxy = "socks5://u:s3cret@h" }, "--egress-proxy"},
		{"a CA file that is not there", func(c *Config) { c.EgressCA = "/nonexistent" }, "no such file"},
		{"a CA file without certificate", func(c *Config) { c.EgressCA = os.DevNull }, "no certificate"},
		{"zero slots", func(c *Config) { c.FastSlots = 0 }, "--fast-slots"},
		{"no time to stop", func(c *Config) { c.ShutdownTimeout = -1 }, "--shutdown-timeout"},
		{"hardly any memory", func(c *Config) { c.Memory = 1 << 20 }, "--memory"},
		{"less than one request needs", func(c *Config) { c.IngestMemory = 4 << 20 }, "--ingest-memory"},
		{"half an alert", func(c *Config) { c.AlertToken = "s3cret" }, "--alert-token"},
		{"a level", func(c *Config) { c.Log = "loud" }, "--log ($WAYPOST_LOG)"},
		{"a form", func(c *Config) { c.LogFormat = "xml" }, "--log-format"},
		{"a host with a port", func(c *Config) { c.DialectHosts = map[string]string{"a:1": "meta"} }, "--dialect-hosts"},
	}
	for _, tt := range tests {
		c := Default()
		tt.spoil(&c)
		faults := c.Check()
		if tt.want == "" {
			if faults != nil {
				t.Errorf("%s: %q", tt.name, faults)
			}
			continue
		}
		if len(faults) != 1 || !strings.Contains(faults[0], tt.want) || strings.Contains(faults[0], "s3cret") || strings.Contains(faults[0], "\n") {
			t.Errorf("%s: %q, want one line with %q and no secret", tt.name, faults, tt.want)
		}
	}
}

func TestShowTellsNoSecret(t *testing.T) {
	t.Parallel()
	c := Default()
	c.AdminToken, c.SecretKey, c.MetaVerifyToken, c.OnPremToken, c.AlertToken = "s3cret", "s3cret", "s3cret", "s3cret", "s3cret"
	c.MetaAppSecret = []Secret{"s3cret", "s3cret"}
	c.Database = "postgres://user:s3cret@db/waypost?password=s3cret"
	c.EgressProxy = "http://u:s3cret@proxy"
	var shown strings.Builder
	if err := c.Show(&shown); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(shown.String(), "s3cret") {
		t.Errorf("shows a secret:\n%s", shown.String())
	}
	if !strings.Contains(shown.String(), "postgres://user:xxxxx@db/waypost\n") || !strings.Contains(shown.String(), "admin-token: # set, and not shown\n") {
		t.Errorf("hides too much:\n%s", shown.String())
	}
}

func TestWhatIsShownCanBeRead(t *testing.T) {
	t.Parallel()
	want := Default()
	want.Listen, want.ShutdownTimeout, want.Log = ":1", time.Minute, "debug"
	want.EgressAllow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	want.EgressLocalAddr = netip.MustParseAddr("192.0.2.1")
	want.DialectHosts = map[string]string{"a.example": "meta"}
	var shown strings.Builder
	if err := want.Show(&shown); err != nil {
		t.Fatal(err)
	}
	got, faults := load(t, []string{"--config", write(t, "c.yaml", shown.String())}, nil)
	got.File = ""
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}), cmpopts.EquateEmpty()); diff != "" || len(faults) > 0 {
		t.Errorf("(-want +got):\n%s\nfaults %q", diff, faults)
	}
}
