package egress

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// names is a resolver that knows exactly these names, behind a DNS server of
// its own on loopback: answer gives the addresses for a name each time it is
// asked.
func names(tb testing.TB, answer func(name string) []netip.Addr) *net.Resolver {
	tb.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = server.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(dnsReply(buffer[:n], answer), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// dnsReply answers a query of one question, as the Go resolver sends.
func dnsReply(query []byte, answer func(name string) []netip.Addr) []byte {
	const headerLen, typeA, typeAAAA = 12, 1, 28
	var labels []string
	end := headerLen
	for query[end] != 0 {
		size := int(query[end])
		labels = append(labels, string(query[end+1:end+1+size]))
		end += 1 + size
	}
	kind := binary.BigEndian.Uint16(query[end+1:])
	end += 5
	addrs := answer(strings.Join(labels, "."))
	reply := append([]byte{}, query[:end]...)
	copy(reply[2:], []byte{0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	if len(addrs) == 0 {
		reply[3] = 3 // no such name
	}
	for _, addr := range addrs {
		if addr.Is4() != (kind == typeA) || (kind != typeA && kind != typeAAAA) {
			continue
		}
		reply[7]++
		reply = append(reply, 0xc0, headerLen, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(addr.BitLen()/8))
		reply = append(reply, addr.AsSlice()...)
	}
	return reply
}

func known(table map[string]string) func(string) []netip.Addr {
	return func(name string) (addrs []netip.Addr) {
		for _, text := range strings.Fields(table[name]) {
			addrs = append(addrs, netip.MustParseAddr(text))
		}
		return addrs
	}
}

// forbiddenAddrs is what must not be dialled without the operator's word.
var forbiddenAddrs = []string{
	"0.0.0.0", "0.1.2.3", // this network
	"127.0.0.1", "127.255.255.254", "::1", // loopback
	"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", // private
	"100.64.0.1", "100.100.100.200", // shared; Alibaba's metadata
	"169.254.1.1", "169.254.169.254", "169.254.170.2", // link-local; metadata
	"168.63.129.16",            // Azure's wire server
	"192.0.0.1", "192.0.0.192", // protocol assignments; Oracle's metadata
	"192.0.2.1", "198.51.100.1", // documentation
	"203.0.113.1", "198.18.0.1", // documentation; benchmarking
	"192.88.99.1",                               // 6to4 relay
	"224.0.0.1", "239.255.255.250", "240.0.0.1", // multicast; reserved
	"255.255.255.255",
	"::",                                  // unspecified
	"::ffff:127.0.0.1", "::ffff:10.0.0.1", // IPv4-mapped
	"::ffff:169.254.169.254", "::ffff:168.63.129.16", //
	"::127.0.0.1",                       // IPv4-compatible
	"64:ff9b::7f00:1", "64:ff9b::a00:1", // NAT64
	"64:ff9b::808:808", "64:ff9b:1::7f00:1", //
	"2002:7f00:1::", "2002:a00:1::1", "2002:808:808::", // 6to4
	"2001:0:4136:e378:8000:63bf:3fff:fdd2", // Teredo
	"2001:db8::1", "3fff::1",               // documentation
	"fc00::1", "fd00::1", "fd00:ec2::254", // unique local; AWS metadata
	"fd20:ce::254",                  // Google's metadata
	"fe80::1", "fec0::1", "ff02::1", // link-local, site-local, multicast
	"100::1", "5f00::1", "4000::1", // discard, segment routing, unassigned
}

func TestForbiddenAddressesAreNotDialled(t *testing.T) {
	t.Parallel()
	var current atomic.Value
	resolver := names(t, func(string) []netip.Addr { return []netip.Addr{current.Load().(netip.Addr)} })
	c, err := New(Options{Resolver: resolver})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range forbiddenAddrs {
		addr := netip.MustParseAddr(text)
		current.Store(addr)
		a := c.Send(within(t, 5*time.Second), Request{URL: "http://receiver.example:81/?q=s3cret"})
		if a.Reason != waypost.ReasonForbidden {
			t.Errorf("a name for %s: %q %v", text, a.Reason, a.Err)
		}
		literal := text
		if addr.Is6() {
			literal = "[" + text + "]"
		}
		a = c.Send(within(t, 5*time.Second), Request{URL: "https://" + literal + "/"})
		if a.Reason != waypost.ReasonForbidden {
			t.Errorf("the literal %s: %q %v", text, a.Reason, a.Err)
		}
		if c.CheckHost(text) == nil || c.Trusted(text) {
			t.Errorf("%s passes the door", text)
		}
	}
}

func TestPublicAddressesMayBeDialled(t *testing.T) {
	t.Parallel()
	g := newGuard(nil)
	for _, text := range []string{"8.8.8.8", "::ffff:8.8.8.8", "168.63.129.15", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"} {
		if err := g.check(netip.MustParseAddr(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestRebinding asks twice: the first answer would be fine, the second is not.
// There is no check that the first answer could deceive.
func TestRebinding(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("reached") }))
	defer server.Close()
	var asked atomic.Int32
	resolver := names(t, func(string) []netip.Addr {
		if asked.Add(1) <= 2 { // one question each for A and AAAA
			return []netip.Addr{netip.MustParseAddr("127.0.0.2")}
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	})
	c := newClient(t, Options{Resolver: resolver, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}})
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	url := "http://rebind.example:" + port
	if a := c.Send(within(t, 5*time.Second), Request{URL: url}); a.Reason != waypost.ReasonConnect {
		t.Errorf("first: %q %v", a.Reason, a.Err)
	}
	if a := c.Send(within(t, 5*time.Second), Request{URL: url}); a.Reason != waypost.ReasonForbidden {
		t.Errorf("second: %q %v", a.Reason, a.Err)
	}
}

func TestAllow(t *testing.T) {
	t.Parallel()
	tests := []struct{ allow, addr, want string }{
		{"10.0.0.0/8", "10.1.2.3", "ok"},
		{"10.0.0.0/8", "::ffff:10.1.2.3", "ok"},
		{"10.0.0.0/8", "11.1.2.3", "ok"}, // public anyway
		{"10.0.0.0/8", "192.168.0.1", "refused"},
		{"10.9.9.9/8", "10.1.2.3", "ok"}, // host bits are ignored
		{"::ffff:10.0.0.0/104", "10.1.2.3", "ok"},
		{"0.0.0.0/0", "127.0.0.1", "ok"},
		{"0.0.0.0/0", "169.254.169.254", "refused"},
		{"0.0.0.0/0", "168.63.129.16", "refused"},
		{"100.64.0.0/10", "100.100.100.200", "refused"},
		{"fd00::/8", "fd00:ec2::254", "refused"},
		{"fd00::/8", "fd12::1", "ok"},
		{"169.254.169.254/32", "169.254.169.254", "ok"},
		{"64:ff9b::/96", "64:ff9b::808:808", "ok"},
		{"64:ff9b::/96", "64:ff9b::7f00:1", "refused"},
		{"64:ff9b::/96", "64:ff9b::a9fe:a9fe", "refused"},
		{"::/0", "::1", "ok"},
		{"::/0", "127.0.0.1", "refused"},
		{"fe80::/10", "fe80::1%eth0", "refused"},
	}
	for _, tt := range tests {
		g := newGuard([]netip.Prefix{netip.MustParsePrefix(tt.allow)})
		err := g.check(netip.MustParseAddr(tt.addr))
		if (err == nil) != (tt.want == "ok") {
			t.Errorf("%s with %s allowed: %v", tt.addr, tt.allow, err)
		}
	}
}

func TestTheDoor(t *testing.T) {
	t.Parallel()
	open := newClient(t, Options{})
	closed := newClient(t, Options{Allow: []netip.Prefix{}})
	tests := []struct {
		host                              string
		openOK, closedOK, trustedWhenOpen bool
	}{
		{"example.com", true, true, false},
		{"example.com.", true, true, false},
		{"xn--bcher-kva.example", true, true, false},
		{"0x7f.example", true, true, false},
		{"8.8.8.8", true, true, false},
		{"[2606:4700::1111]", true, true, false},
		{"127.0.0.1", true, false, true},
		{"127.9.9.9", true, false, true},
		{"[::1]", true, false, true},
		{"::1", true, false, true},
		{"[::ffff:127.0.0.1]", true, false, true},
		{"localhost", true, false, true},
		{"LOCALHOST.", true, false, true},
		{"a.localhost", true, false, true},
		{"10.0.0.1", false, false, false},
		// Odd notations are refused even where the address itself is allowed.
		{"127.1", false, false, false},
		{"127.0.0.1.", false, false, false},
		{"0177.0.0.1", false, false, false},
		{"127.0.0.01", false, false, false},
		{"0x7f.0.0.1", false, false, false},
		{"0x7f000001", false, false, false},
		{"0x", false, false, false},
		{"2130706433", false, false, false},
		{"017700000001", false, false, false},
		{"127.0.0.1.1", false, false, false},
		{"1.2.3.256", false, false, false},
		{"example.1", false, false, false},
		{"[fe80::1%eth0]", false, false, false},
		{"[::1", false, false, false},
		{"::g", false, false, false},
		{"", false, false, false},
	}
	for _, tt := range tests {
		if err := open.CheckHost(tt.host); (err == nil) != tt.openOK {
			t.Errorf("%q with loopback allowed: %v", tt.host, err)
		}
		if err := closed.CheckHost(tt.host); (err == nil) != tt.closedOK {
			t.Errorf("%q with nothing allowed: %v", tt.host, err)
		}
		if got := open.Trusted(tt.host); got != tt.trustedWhenOpen {
			t.Errorf("%q trusted: %v", tt.host, got)
		}
		if closed.Trusted(tt.host) {
			t.Errorf("%q is trusted with nothing allowed", tt.host)
		}
	}
}

func TestOddNotationsAreNotSentTo(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{Resolver: names(t, func(name string) []netip.Addr {
		t.Errorf("%s was looked up", name)
		return nil
	})})
	for _, host := range []string{"127.1", "0177.0.0.1", "2130706433", "0x7f.0.0.1", "0x7f000001", "127.0.0.1."} {
		a := c.Send(within(t, 5*time.Second), Request{URL: "http://" + host + "/"})
		if a.Reason != waypost.ReasonForbidden {
			t.Errorf("%s: %q %v", host, a.Reason, a.Err)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) }))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	c := newClient(t, Options{Resolver: names(t, known(map[string]string{
		"good.example":  "127.0.0.1",
		"mixed.example": "10.0.0.1 127.0.0.1",
	}))})
	for _, host := range []string{"good.example", "mixed.example"} {
		a := c.Send(within(t, 5*time.Second), Request{URL: "http://" + host + ":" + port})
		if a.Err != nil || string(a.Body) != host+":"+port || a.Address != "127.0.0.1:"+port {
			t.Errorf("%s: %q at %s, %v", host, a.Body, a.Address, a.Err)
		}
	}
	a := c.Send(within(t, 5*time.Second), Request{URL: "http://gone.example/?k=s3cret"})
	if a.Reason != waypost.ReasonDNS || a.Err.Error() != "resolve gone.example: no such host" {
		t.Errorf("got %q %v", a.Reason, a.Err)
	}
}

func FuzzCheckHost(f *testing.F) {
	for _, seed := range append(forbiddenAddrs, "127.1", "0x7f000001", "example.com", "a.localhost.", "[::1]", "１２７.0.0.1") {
		f.Add(seed)
	}
	client, err := New(Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if client.Trusted(host) {
			t.Errorf("%q is trusted with nothing allowed", host)
		}
		if client.CheckHost(host) != nil {
			return
		}
		if ip := net.ParseIP(bareHost(host)); ip != nil {
			addr, _ := netip.AddrFromSlice(ip)
			if err := client.guard.check(addr); err != nil {
				t.Errorf("%q passes the door: %v", host, err)
			}
		}
	})
}

func TestForbiddenErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	err := newGuard(nil).check(netip.MustParseAddr("10.0.0.1"))
	var f *forbiddenError
	if !errors.As(err, &f) || !strings.Contains(err.Error(), "10.0.0.1") || !strings.Contains(err.Error(), "allow list") {
		t.Errorf("got %v", err)
	}
}
