package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"code.dny.dev/ssrf"
)

// metadata are the addresses at which clouds hand credentials to whoever asks
// from inside. Some lie in ranges that operators like to allow as a whole (a
// VPN's 100.64.0.0/10, a site's fd00::/8), so a wider prefix does not open them.
var metadata = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), // AWS, Google, Azure, DigitalOcean, OpenStack
	netip.MustParseAddr("169.254.170.2"),   // AWS ECS task credentials
	netip.MustParseAddr("169.254.170.23"),  // AWS EKS pod identity
	netip.MustParseAddr("168.63.129.16"),   // Azure's wire server: a public address, so no range covers it
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("192.0.0.192"),     // Oracle
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd00:ec2::23"),    // AWS EKS pod identity
	netip.MustParseAddr("fd20:ce::254"),    // Google
	netip.MustParseAddr("fe80::a9fe:a9fe"), // OpenStack
}

// nat64 prefixes carry an IPv4 address in their last 32 bits.
var nat64 = []netip.Prefix{ssrf.IPv6NAT64Prefix, netip.MustParsePrefix("64:ff9b:1::/48")}

// guard decides which addresses may be dialled.
type guard struct {
	allow  []netip.Prefix
	public *ssrf.Guardian
}

func newGuard(allow []netip.Prefix) *guard {
	g := &guard{public: ssrf.New(ssrf.WithAnyPort())}
	for _, prefix := range allow {
		g.allow = append(g.allow, plainPrefix(prefix))
	}
	return g
}

// plainPrefix writes ::ffff:10.0.0.0/104 as 10.0.0.0/8, the form in which
// addresses are compared.
func plainPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// check gives nil for an address that may be dialled.
func (g *guard) check(addr netip.Addr) error {
	addr = addr.Unmap()
	if addr.Zone() != "" {
		return forbidden(addr, "it names a network interface")
	}
	for _, m := range metadata {
		if addr == m {
			if g.allowsExactly(addr) {
				return nil
			}
			return forbidden(addr, "it is a cloud's metadata service")
		}
	}
	if g.allows(addr) {
		// An allowed translation prefix must not be a way to IPv4 addresses
		// that are not.
		if v4, ok := translated(addr); ok {
			return g.check(v4)
		}
		return nil
	}
	if g.public.SafeAddr(addr) != nil {
		return forbidden(addr, "it is not a public address")
	}
	return nil
}

func (g *guard) allows(addr netip.Addr) bool {
	for _, prefix := range g.allow {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

func (g *guard) allowsExactly(addr netip.Addr) bool {
	for _, prefix := range g.allow {
		if prefix.IsSingleIP() && prefix.Addr() == addr {
			return true
		}
	}
	return false
}

func translated(addr netip.Addr) (netip.Addr, bool) {
	for _, prefix := range nat64 {
		if prefix.Contains(addr) {
			bytes := addr.As16()
			return netip.AddrFrom4([4]byte(bytes[12:])), true
		}
	}
	return netip.Addr{}, false
}

// forbiddenError is an address that is never dialled.
type forbiddenError struct{ text string }

func (e *forbiddenError) Error() string { return e.text }

func forbidden(addr netip.Addr, why string) error {
	return &forbiddenError{fmt.Sprintf("address %s is not sent to: %s and the operator's allow list does not hold it", addr, why)}
}

var loopback = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// Trusted reports whether the operator trusts the host of a URL by the allow
// list: an IP literal inside it, or "localhost" when a loopback address is. A
// name proves nothing, whatever it resolves to.
func (c *Client) Trusted(host string) bool {
	host = bareHost(host)
	if isLocalhost(host) {
		return c.guard.allows(loopback[0]) || c.guard.allows(loopback[1])
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && c.guard.allows(addr.Unmap()) && c.guard.check(addr) == nil
}

// CheckHost refuses, before a URL is ever used, a host that could never be
// sent to: a literal of a forbidden address, localhost when loopback is not
// allowed, and addresses in odd notation. A nil error promises nothing: what
// a name resolves to is checked each time it is dialled.
func (c *Client) CheckHost(host string) error {
	return c.guard.checkHost(bareHost(host))
}

func (g *guard) checkHost(host string) error {
	if host == "" {
		return errors.New("the URL has no host")
	}
	if isLocalhost(host) {
		if g.check(loopback[0]) != nil && g.check(loopback[1]) != nil {
			return &forbiddenError{"localhost is not sent to: it is this machine and the operator's allow list does not hold it"}
		}
		return nil
	}
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil:
		return g.check(addr)
	case strings.Contains(host, ":"):
		return &forbiddenError{"the host is not a valid IPv6 address"}
	case numeric(host):
		return &forbiddenError{"the host is a number: write an IPv4 address as four decimal numbers without leading zeros"}
	}
	return nil
}

// numeric reports whether a host would be read as an IPv4 address by some
// resolver: its last label is a number, decimal, octal or hexadecimal.
func numeric(host string) bool {
	host = strings.TrimSuffix(host, ".")
	label := host[strings.LastIndexByte(host, '.')+1:]
	if hex, ok := strings.CutPrefix(strings.ToLower(label), "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return label != "" && strings.Trim(label, "0123456789") == ""
}

func isLocalhost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func bareHost(host string) string {
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1]
	}
	return host
}
