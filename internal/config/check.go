package config

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// Check gives every fault of values that can be read but can't be used, one
// line each, named by flag and variable. No fault: nil.
func (c *Config) Check() []string {
	var k checker
	k.address("listen", c.Listen)
	k.require("data", c.Data != "", "a directory is needed")
	k.require("database", databaseURL(c.Database), "write it like postgres://user:password@host/name, or leave it empty for the embedded store")
	k.require("secret-key", secretKeys(c.SecretKey.Reveal()), "each key is 32 bytes in base64; make one with: openssl rand -base64 32")
	k.url("public-url", c.PublicURL)
	k.positive("shutdown-timeout", int64(c.ShutdownTimeout))
	k.require("memory", c.Memory == 0 || c.Memory >= leastMemory, "at least 128M is needed")
	k.require("ingest-memory", c.IngestMemory >= leastIngestMemory, "at least 32M is needed, for one request of the largest size")
	k.pem("egress-ca", c.EgressCA)
	k.url("egress-proxy", c.EgressProxy.Reveal())
	k.positive("in-flight", int64(c.InFlight))
	k.positive("fast-slots", int64(c.FastSlots))
	k.positive("slow-slots", int64(c.SlowSlots))
	k.retention(c)
	k.url("graph-url", c.GraphURL)
	k.require("alert-token", (c.AlertToken == "") == (c.AlertPhoneNumberID == ""), "it and alert-phone-number-id are needed together")
	k.require("log", level(c.Log) != nil, "write debug, info, warn or error")
	k.require("log-format", c.LogFormat == "text" || c.LogFormat == "json", "write text or json")
	for host, dialect := range c.DialectHosts {
		k.require("dialect-hosts", host != "" && dialect != "" && !strings.ContainsAny(host, ":/"), "write it like hooks.example.com=whizard, without scheme or port")
	}
	return k.faults
}

// Level is the least level that is logged.
func (c *Config) Level() slog.Level {
	if l := level(c.Log); l != nil {
		return *l
	}
	return slog.LevelInfo
}

func level(name string) *slog.Level {
	l, ok := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}[name]
	if !ok {
		return nil
	}
	return &l
}

// What is left when all is as small as it may be: less would refuse single requests,
// or collect garbage without end.
const (
	leastMemory       = 128 << 20
	leastIngestMemory = 32 << 20
)

// leastDiskLimit leaves room for an empty database and an hour of events.
const leastDiskLimit = 64 << 20

type checker struct{ faults []string }

func (k *checker) require(name string, ok bool, advice string) {
	if !ok {
		variable := "WAYPOST_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		k.faults = append(k.faults, fmt.Sprintf("--%s ($%s): %s", name, variable, advice))
	}
}

// retention: what is forgotten with the events can't be kept for longer.
func (k *checker) retention(c *Config) {
	k.require("retain-events", !c.RetainEvents.shorter(c.RetainBodies),
		fmt.Sprintf("events (%s) can't be forgotten before their bodies, see retain-bodies (%s): shorten that one, or keep events as long", c.RetainEvents, c.RetainBodies))
	k.require("retain-events", !c.RetainEvents.shorter(c.RetainAttempts),
		fmt.Sprintf("events (%s) can't be forgotten before their attempts, see retain-attempts (%s): shorten that one, or keep events as long", c.RetainEvents, c.RetainAttempts))
	k.require("retain-dedupe", !c.RetainDedupe.shorter(8*Age(day)), "at least 8d is needed: Meta repeats what it sent for 7 days")
	k.require("disk-limit", c.DiskLimit == 0 || c.DiskLimit >= leastDiskLimit, "at least 64M is needed")
}

func (k *checker) positive(name string, n int64) { k.require(name, n > 0, "it must be more than 0") }

func (k *checker) address(name, text string) {
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	k.require(name, err == nil, fmt.Sprintf("%q is not an address: write it like 127.0.0.1:8080, or :8080 for every interface", text))
}

// url does not quote the text: it may hold a password.
func (k *checker) url(name, text string) {
	if text == "" {
		return
	}
	u, err := url.Parse(text)
	k.require(name, err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.RawQuery == "" && u.Fragment == "",
		"it must be an http:// or https:// URL without query")
}

func (k *checker) pem(name, path string) {
	if path == "" {
		return
	}
	content, err := os.ReadFile(path)
	if err != nil {
		k.require(name, false, err.Error())
		return
	}
	block, _ := pem.Decode(content)
	k.require(name, block != nil && block.Type == "CERTIFICATE", path+" holds no certificate in PEM form")
}

func databaseURL(text string) bool {
	if text == "" {
		return true
	}
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql")
}

func secretKeys(text string) bool {
	if text == "" {
		return true
	}
	toStd := strings.NewReplacer("-", "+", "_", "/", "=", "")
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
		if key, err := base64.RawStdEncoding.DecodeString(toStd.Replace(word)); err != nil || len(key) != 32 {
			return false
		}
	}
	return true
}
