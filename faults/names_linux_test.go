package faults_test

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// named is a name that the certificates of net/http/httptest are for.
const named = "example.com"

// TestNames has the name of a receiver not resolve, resolve, and lead to
// addresses that must never be sent to. The node sees a hosts file of its own,
// in a mount namespace of its own.
func TestNames(t *testing.T) {
	t.Parallel()
	h := newHosts(t)
	arrived := newLedger("/named")
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Connection", "close") // so that each hook is a new look at the name
		arrived.arrive("/named", numbers(body))
	}))
	t.Cleanup(secure.Close)
	authority := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if err := os.WriteFile(authority, text, 0o600); err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(secure.URL)
	if err != nil {
		t.Fatal(err)
	}
	trespassers := listenBeside(t, address.Port())

	s := newScene(t, newGateway(t, gatewayOptions{
		Wrap: h.wrap,
		Env:  []string{"WAYPOST_EGRESS_ALLOW=127.0.0.1/32", "WAYPOST_EGRESS_CA=" + authority, "GODEBUG=netdns=go"},
	}))
	endpoint := s.call(t, http.MethodPost, "/api/v1/endpoints", fmt.Sprintf(
		`{"tenant_id":%q,"dialect":"standard","url":"https://%s:%s/named","policy":{"schedule":%s}}`,
		s.tenant, named, address.Port(), schedule(300*time.Millisecond, 400)))["id"].(string)
	s.awaitSettings(t)

	stages := []struct{ leadsTo, reason string }{
		{"", "dns"},
		{"127.0.0.1", "ok"},
		{"127.0.0.2", "forbidden"},
		{"127.0.0.1", "ok"},
		{"10.0.0.1", "forbidden"},
		{"169.254.169.254", "forbidden"},
		{"127.0.0.1", "ok"},
		{"", "dns"},
		{"127.0.0.1", "ok"},
	}
	for i := range pick(4, 2*len(stages)) {
		stage := stages[i%len(stages)]
		h.set(t, stage.leadsTo)
		since := time.Now()
		if stage.reason == "ok" {
			within(t, time.Minute, func() error { return s.allNamed(arrived) })
			s.noteAgain(t, since)
			continue
		}
		// What a lookup found may be used for a few seconds more: look until the
		// newest event is not received.
		within(t, time.Minute, func() error {
			s.post(t, 1)
			event := s.list(t, "/api/v1/events")[0]["id"].(string)
			return s.lastReason(t, event, endpoint, stage.reason)
		})
	}
	h.set(t, "127.0.0.1")
	within(t, time.Minute, func() error { return s.allNamed(arrived) })
	if n := trespassers.Load(); n > 0 {
		t.Errorf("%d connections were made to an address that is not allowed", n)
	}
	s.close(t, "a receiver's name does not resolve, then does, then leads to forbidden addresses", "no forbidden address was dialled; Go looks at a hosts file every 5 s")
}

// allNamed tells whether all that was accepted arrived under the name.
func (s *scene) allNamed(arrived *ledger) error {
	if have, want := arrived.arrivedTotal("/named"), s.acceptedTotal(); have < want {
		return fmt.Errorf("%d of %d events arrived", have, want)
	}
	return nil
}

func (s *scene) lastReason(t *testing.T, event, endpoint, want string) error {
	t.Helper()
	var last map[string]any
	within(t, 30*time.Second, func() error {
		attempts := s.deliveryOf(t, event, endpoint)["attempts"].([]any)
		if len(attempts) == 0 {
			return errors.New("there is no attempt")
		}
		last = attempts[len(attempts)-1].(map[string]any)
		return nil
	})
	if last["reason"] != want {
		return fmt.Errorf("the last attempt has reason %v (%v), want %s", last["reason"], last["error"], want)
	}
	return nil
}

// listenBeside counts the connections to the same port of addresses that are
// not allowed.
func listenBeside(t *testing.T, port string) *atomic.Int64 {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.2", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	count := new(atomic.Int64)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			conn.Close()
		}
	}()
	return count
}

// hosts is the only thing that resolves names for a program run through wrap.
type hosts struct {
	file string
	wrap []string
}

func newHosts(t *testing.T) *hosts {
	t.Helper()
	dir := t.TempDir()
	h := &hosts{file: filepath.Join(dir, "hosts")}
	servers := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(servers, []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.set(t, "")
	script := fmt.Sprintf(`mount --bind %s /etc/hosts && mount --bind %s /etc/resolv.conf && exec "$@"`, h.file, servers)
	for _, unshare := range [][]string{{"unshare", "-m"}, {"unshare", "-rm"}} {
		h.wrap = append(unshare, "sh", "-c", script, "sh")
		if exec.Command(h.wrap[0], append(h.wrap[1:], "true")...).Run() == nil {
			return h
		}
	}
	t.Skip("a mount namespace can't be made here; run as root")
	return nil
}

// set has the name lead to an address, or nowhere.
func (h *hosts) set(t *testing.T, address string) {
	t.Helper()
	text := "127.0.0.1 localhost\n"
	if address != "" {
		text += address + " " + named + "\n"
	}
	text += strings.Repeat("#", time.Now().Nanosecond()%97) + "\n" // readers look at the size too
	if err := os.WriteFile(h.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
