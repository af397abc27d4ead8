package faults_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

// TestRepeatedAndLarge posts batches of a thousand items and 3 MB, each several
// times and at all nodes at once: each event is delivered once.
func TestRepeatedAndLarge(t *testing.T) {
	t.Parallel()
	s := newScene(t, newGateway(t, gatewayOptions{Database: pgtest.URL(t), Nodes: 3}))
	posts := 0
	for range pick(2, 30) {
		large := s.take(1000)
		posts += s.postConcurrently(t, 1, padded(large, 3<<20))
		s.accept(large)
		for range pick(20, 200) {
			small := s.take(3)
			posts += s.postConcurrently(t, 2, request(small))
			s.accept(small)
		}
	}
	s.awaitEverything(t)
	s.expectOnce(t)
	s.close(t, "batches of 1000 items and 3 MB, and the same requests at once at three nodes", fmt.Sprintf("%d requests", posts))
}

// postConcurrently posts the same body at every node, each a number of times,
// all at once, and gives how often. Each must be answered 200.
func (s *scene) postConcurrently(t *testing.T, times int, body []byte) int {
	t.Helper()
	var posts sync.WaitGroup
	for _, n := range s.nodes {
		for range times {
			posts.Go(func() {
				if status := n.ingest(t.Context(), body); status != http.StatusOK {
					t.Errorf("node %s answered %d", n.name, status)
				}
			})
		}
	}
	posts.Wait()
	return times * len(s.nodes)
}

// padded is a request of about the size: texts of messages may be long.
func padded(numbers []int, size int) []byte {
	plain := request(numbers)
	more := (size - len(plain)) / len(numbers)
	text := make([]byte, max(more, 0))
	for i := range text {
		text[i] = 'a' + byte(i%26)
	}
	return request(numbers, string(text))
}
