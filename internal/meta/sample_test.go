package meta

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The business number that On-Premises samples are taken in for.
const (
	ownWABA   = "301956482217730"
	ownNumber = "208417730961245"
	ownPhone  = "15550142077"
)

// samples reads the samples whose name begins with the prefix.
func samples(tb testing.TB, prefix string) (names []string, bodies map[string][]byte) {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "samples", prefix+"*.json"))
	if err != nil || len(files) == 0 {
		tb.Fatal("no samples:", err)
	}
	bodies = map[string][]byte{}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		names = append(names, name)
		bodies[name] = body
	}
	return names, bodies
}

// TestSamples takes every sample apart and compares what it was taken for with
// testdata/items.txt.
func TestSamples(t *testing.T) {
	t.Parallel()
	names, bodies := samples(t, "")
	var got strings.Builder
	for _, name := range names {
		body := bodies[name]
		fmt.Fprintf(&got, "%s\n", name)
		if strings.HasPrefix(name, "onprem-") {
			cloud, err := FromOnPrem(body, ownNumber, ownPhone, ownWABA)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			body = cloud
		}
		items, err := Split(body)
		if err != nil {
			fmt.Fprintf(&got, "    refused: %v\n", err)
		}
		for i := range items {
			fmt.Fprintf(&got, "    %s\n", summary(&items[i]))
		}
		if len(items) == 1 && !bytes.Equal(items[0].Body, body) {
			t.Errorf("%s: the only item's body is not the request's", name)
		}
	}
	golden(t, "items.txt", got.String())
}

func summary(it *Item) string {
	at := "-"
	if !it.OccurredAt.IsZero() {
		at = it.OccurredAt.Format(time.RFC3339)
	}
	return fmt.Sprintf("%s waba=%s number=%s phone=%s contact=%s at=%s",
		it.Type, it.WABAID, it.PhoneNumberID, it.DisplayPhone, it.Contact, at)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (run with -update to accept): -want +got\n%s", file, diff)
	}
}
