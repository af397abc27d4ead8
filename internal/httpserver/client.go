package httpserver

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// clientAddr is the address the request really came from, as "ip:port" (port 0
// where a proxy tells none). X-Forwarded-For is read from its end for as long
// as the one who wrote that part is trusted; the rest is hearsay.
func clientAddr(r *http.Request, trusted []netip.Prefix) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !contains(trusted, peer.Addr()) {
		return r.RemoteAddr
	}
	client := peer
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, ok := parseHop(strings.TrimSpace(hops[i]))
		if !ok {
			break
		}
		client = hop
		if !contains(trusted, hop.Addr()) {
			break
		}
	}
	return client.String()
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	addr = addr.Unmap()
	for _, prefix := range prefixes {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// parseHop reads an address as proxies write it: with or without a port.
func parseHop(text string) (netip.AddrPort, bool) {
	if hop, err := netip.ParseAddrPort(text); err == nil {
		return netip.AddrPortFrom(hop.Addr().Unmap(), hop.Port()), true
	}
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return netip.AddrPortFrom(addr.Unmap(), 0), err == nil
}

// Host is the address without the port, of a Request.RemoteAddr.
func Host(remoteAddr string) string {
	if host, _, err := net.SplitHostPort(remoteAddr); err == nil {
		return host
	}
	return remoteAddr
}
