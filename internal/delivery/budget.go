package delivery

import "slices"

// class is a budget of requests in flight.
type class uint8

const (
	fast class = iota // endpoints that answer quickly
	slow              // those that do not
)

// slots bound the requests in flight. A request starts in its endpoint's class;
// one that grows old in the fast class moves over to the slow one, beyond its
// limit if need be, so that hung receivers never hold what the others need.
// Lanes wait in turn, not requests: waiting costs no goroutine.
type slots struct {
	limit   [2]int
	used    [2]int
	waiting [2]fifo[*lane]
}

func (s *slots) free(c class) bool { return s.used[c] < s.limit[c] }

// enqueue lets a lane wait for a slot of the class. It waits once at most.
func (s *slots) enqueue(c class, l *lane) {
	if !l.waiting {
		l.waiting = true
		s.waiting[c].push(l)
	}
}

// memory bounds the deliveries in memory over all lanes, those included that are
// reserved or being taken from the table.
type memory struct {
	limit      int
	limitBytes int64
	count      int
	bytes      int64
	reserved   int
	taking     int // from the table, at most
}

func (m *memory) reserve(n int) {
	m.count += n
	m.reserved += n
}

// room is how many more deliveries there is memory for.
func (m *memory) room() int {
	if m.bytes >= m.limitBytes {
		return 0
	}
	return max(m.limit-m.count-m.taking, 0)
}

func (m *memory) add(j *job) {
	m.count++
	m.bytes += int64(len(j.owed.Event.Body))
}

func (m *memory) remove(j *job) {
	m.count--
	m.bytes -= int64(len(j.owed.Event.Body))
}

// fifo is a queue on a slice.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) all() []T { return q.items[q.head:] }

func (q *fifo[T]) push(item T) {
	if q.head > 64 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, item)
}

func (q *fifo[T]) pop() T {
	var zero T
	item := q.items[q.head]
	q.items[q.head] = zero
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return item
}

// take is pop for what stands at i.
func (q *fifo[T]) take(i int) T {
	if i == 0 {
		return q.pop()
	}
	item := q.items[q.head+i]
	q.items = slices.Delete(q.items, q.head+i, q.head+i+1)
	return item
}

func (q *fifo[T]) popLast() T {
	var zero T
	last := len(q.items) - 1
	item := q.items[last]
	q.items[last] = zero
	q.items = q.items[:last]
	if q.head == last {
		q.items, q.head = q.items[:0], 0
	}
	return item
}
