// Package config is every setting of the gateway, declared once: the fields of
// Config give each its flag, its environment variable, its key in the
// configuration file, its default and its help text.
//
// Where a setting is given more than once, the flag wins over the environment,
// the environment over the file, and the file over the default. A variable
// that is set but empty counts as not set. For each variable that holds a
// secret there is one with _FILE at its end that names a file to read the
// secret from.
//
// What happens on failure: nothing is guessed. Settings that can't be read,
// unknown keys in the file and values that make no sense are all reported
// together, one line each, saying where the value stands and what to write
// instead. Secrets are never quoted.
package config

import (
	"net/netip"
	"time"

	"github.com/alecthomas/kong"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Secret is a setting that is not shown.
type Secret = waypost.Secret

// Config is the gateway's settings. Default gives a usable one.
type Config struct {
	File string `name:"config" env:"WAYPOST_CONFIG" placeholder:"FILE" group:"Gateway" help:"A YAML file of settings; its keys are the names of these flags."`

	Listen          string            `env:"WAYPOST_LISTEN" default:"127.0.0.1:8080" placeholder:"HOST:PORT" group:"Gateway" help:"Address to serve on."`
	Data            string            `env:"WAYPOST_DATA" default:"./waypost-data" placeholder:"DIR" group:"Gateway" help:"Data directory: the embedded store and, unless given, the key that secrets are sealed with. Made on first start."`
	Database        string            `env:"WAYPOST_DATABASE" placeholder:"URL" secret:"" group:"Gateway" help:"Where everything is kept: empty for the embedded store in the data directory, or a postgres:// URL for a shared PostgreSQL."`
	AdminToken      Secret            `env:"WAYPOST_ADMIN_TOKEN" placeholder:"TOKEN" group:"Gateway" help:"Bearer token of the management API. Empty: one is made on the first start and shown once."`
	SecretKey       Secret            `env:"WAYPOST_SECRET_KEY" placeholder:"BASE64" group:"Gateway" help:"Key that secrets are sealed with in the store: 32 bytes in base64. Several, separated by commas, while changing it: the first seals, all open. Empty: one is made in the data directory."`
	PublicURL       string            `env:"WAYPOST_PUBLIC_URL" placeholder:"URL" group:"Gateway" help:"Base of the links we hand out, as others reach us."`
	DialectHosts    map[string]string `env:"WAYPOST_DIALECT_HOSTS" mapsep:"," placeholder:"HOST=DIALECT" group:"Gateway" help:"Host names at which one dialect's settings API alone answers."`
	TrustedProxies  []netip.Prefix    `env:"WAYPOST_TRUSTED_PROXIES" placeholder:"CIDR" group:"Gateway" help:"Reverse proxies whose X-Forwarded-For is believed."`
	ShutdownTimeout time.Duration     `env:"WAYPOST_SHUTDOWN_TIMEOUT" default:"20s" placeholder:"DURATION" group:"Gateway" help:"How long requests and attempts under way may take to finish at the end."`
	Memory          Size              `env:"WAYPOST_MEMORY" placeholder:"SIZE" group:"Gateway" help:"Memory that the process is to stay within. Empty: what its control group grants, 1280M at most."`
	IngestMemory    Size              `env:"WAYPOST_INGEST_MEMORY" default:"64M" placeholder:"SIZE" group:"Gateway" help:"Memory for the requests that bring webhooks in; beyond it they are asked to come again."`

	MetaAppSecret   []Secret `env:"WAYPOST_META_APP_SECRET" placeholder:"SECRET" group:"Sources" help:"App secret of the Meta app that sends to /ingest/meta/default. Several, separated by commas, while changing it: any may sign."`
	MetaVerifyToken Secret   `env:"WAYPOST_META_VERIFY_TOKEN" placeholder:"TOKEN" group:"Sources" help:"Verify token of that app."`
	OnPremToken     Secret   `name:"onprem-token" env:"WAYPOST_ONPREM_TOKEN" placeholder:"TOKEN" group:"Sources" help:"Token for /ingest/onprem/default, as a Bearer token or as the password of Basic credentials."`

	EgressAllow     []netip.Prefix `env:"WAYPOST_EGRESS_ALLOW" placeholder:"CIDR" group:"Egress" help:"Addresses that may be sent to besides the public internet, such as 10.1.0.0/16. A metadata service's address needs an entry of its own."`
	EgressCA        string         `name:"egress-ca" env:"WAYPOST_EGRESS_CA" placeholder:"FILE" group:"Egress" help:"PEM file of certificate authorities to trust besides the system's."`
	EgressProxy     Secret         `env:"WAYPOST_EGRESS_PROXY" placeholder:"URL" group:"Egress" help:"http:// or https:// proxy to send everything through. It must let us CONNECT to addresses and ports of receivers."`
	EgressLocalAddr netip.Addr     `env:"WAYPOST_EGRESS_LOCAL_ADDR" placeholder:"IP" group:"Egress" help:"Address of this machine to send from."`
	InFlight        int            `env:"WAYPOST_IN_FLIGHT" default:"4" placeholder:"N" group:"Egress" help:"Requests at a time to one endpoint."`
	FastSlots       int            `env:"WAYPOST_FAST_SLOTS" default:"512" placeholder:"N" group:"Egress" help:"Requests at a time to all endpoints that answer quickly."`
	SlowSlots       int            `env:"WAYPOST_SLOW_SLOTS" default:"2048" placeholder:"N" group:"Egress" help:"Requests at a time to all endpoints that do not."`

	RetainBodies   Age  `env:"WAYPOST_RETAIN_BODIES" default:"30d" placeholder:"AGE" group:"Retention" help:"How long the bodies of events are kept, such as 30d or 36h; 0 or forever: without end. What is still owed to a webhook keeps all it has, however old it is."`
	RetainAttempts Age  `env:"WAYPOST_RETAIN_ATTEMPTS" default:"30d" placeholder:"AGE" group:"Retention" help:"How long the attempts of settled deliveries are kept."`
	RetainEvents   Age  `env:"WAYPOST_RETAIN_EVENTS" default:"90d" placeholder:"AGE" group:"Retention" help:"How long events are kept, with all that hangs on them; not shorter than bodies and attempts."`
	RetainDedupe   Age  `env:"WAYPOST_RETAIN_DEDUPE" default:"9d" placeholder:"AGE" group:"Retention" help:"How long repeats of an event are known as such; at least 8d, because Meta repeats for 7."`
	RetainAudit    Age  `env:"WAYPOST_RETAIN_AUDIT" default:"400d" placeholder:"AGE" group:"Retention" help:"How long the audit trail is kept."`
	DiskLimit      Size `env:"WAYPOST_DISK_LIMIT" placeholder:"SIZE" group:"Retention" help:"Room that the data may take, such as 50G. Near it, what is settled is forgotten before its time, oldest first; at it, webhooks are asked to come again. Empty: no limit but the file system's own."`

	GraphURL           string `env:"WAYPOST_GRAPH_URL" default:"https://graph.facebook.com" placeholder:"URL" group:"Graph" help:"Base of Meta's Graph API."`
	AlertPhoneNumberID string `name:"alert-phone-number-id" env:"WAYPOST_ALERT_PHONE_NUMBER_ID" placeholder:"ID" group:"Graph" help:"Meta's id of the number that alerts are sent from."`
	AlertToken         Secret `env:"WAYPOST_ALERT_TOKEN" placeholder:"TOKEN" group:"Graph" help:"Access token of that number."`
	AlertTemplate      string `env:"WAYPOST_ALERT_TEMPLATE" placeholder:"NAME" group:"Graph" help:"Template to send alerts with. Empty: plain text."`

	Log       string `env:"WAYPOST_LOG" default:"info" enum:"debug,info,warn,error" placeholder:"LEVEL" group:"Log" help:"Least level that is logged: debug, info, warn or error."`
	LogFormat string `env:"WAYPOST_LOG_FORMAT" default:"text" enum:"text,json" placeholder:"FORM" group:"Log" help:"Form of the log lines: text or json."`
}

// Groups are the headings under which help lists the settings.
func Groups() []kong.Group {
	return []kong.Group{
		{Key: "Gateway", Title: "The gateway:"},
		{Key: "Sources", Title: "Where webhooks come from:"},
		{Key: "Egress", Title: "Where webhooks go:"},
		{Key: "Retention", Title: "What is kept, and how long:"},
		{Key: "Graph", Title: "Meta's Graph API:"},
		{Key: "Log", Title: "Logging:"},
	}
}

// Default is the Config that results when nothing is set.
func Default() Config {
	var holder struct {
		Config `embed:""`
	}
	parser, err := kong.New(&holder, New(func(string) (string, bool) { return "", false }).Options()...)
	if err == nil {
		_, err = parser.Parse(nil)
	}
	if err != nil {
		panic("config: " + err.Error()) // a wrong tag above
	}
	return holder.Config
}
