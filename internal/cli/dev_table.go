package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"
)

// devTable prints one line per webhook, as they come. It uses no control codes,
// so it reads the same on a terminal, in a file and through a pipe. It is safe
// for concurrent use.
type devTable struct {
	mu      sync.Mutex
	out     io.Writer
	holding bool     // lines are kept back, see ahead
	held    []string // what was kept back
}

// devRow is one line. Signature is "ok", "BAD" or "-" where nothing is signed.
type devRow struct {
	at                  time.Time
	flow, event, what   string
	try, answer, signed string
}

// The widths add up to 99 columns with the spaces between them.
var devColumns = []struct {
	title string
	width int
}{
	{"TIME", 12},
	{"FROM / TO", 20},
	{"EVENT", 19},
	{"WHAT", 28},
	{"TRY", 3},
	{"ANSWER", 6},
	{"SIGNED", 6},
}

func (t *devTable) head() {
	cells := make([]string, len(devColumns))
	rules := make([]string, len(devColumns))
	for i, column := range devColumns {
		cells[i] = column.title
		rules[i] = strings.Repeat("-", column.width)
	}
	t.line(cells)
	t.line(rules)
}

func (t *devTable) row(r devRow) { t.line(r.cells()) }

func (r devRow) cells() []string {
	return []string{r.at.Format("15:04:05.000"), r.flow, r.event, r.what, r.try, r.answer, r.signed}
}

func (t *devTable) line(cells []string) { t.printf("%s", joinCells(cells)) }

func joinCells(cells []string) string {
	var line strings.Builder
	for i, cell := range cells {
		if i > 0 {
			line.WriteByte(' ')
		}
		line.WriteString(fit(cell, devColumns[i].width))
	}
	return strings.TrimRight(line.String(), " ") + "\n"
}

// printf prints between lines of the table, never in the middle of one.
func (t *devTable) printf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.holding {
		t.held = append(t.held, text)
		return
	}
	_, _ = io.WriteString(t.out, text) // a reader that went away is no reason to stop
}

// ahead prints the row that make returns before every line that other
// goroutines print while make runs: a webhook that comes in stands above the
// hooks it leads to.
func (t *devTable) ahead(make func() devRow) {
	t.mu.Lock()
	t.holding = true
	t.mu.Unlock()
	row := make()
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = io.WriteString(t.out, joinCells(row.cells())+strings.Join(t.held, ""))
	t.holding, t.held = false, nil
}

// fit cuts or pads text to a number of terminal columns. What can't be printed
// becomes a dot: a hook holds whatever a stranger wrote.
func fit(text string, columns int) string {
	var out strings.Builder
	used := 0
	for _, r := range text {
		if !unicode.IsPrint(r) {
			r = '.'
		}
		wide := runeColumns(r)
		if used+wide > columns {
			return cut(out.String(), columns)
		}
		out.WriteRune(r)
		used += wide
	}
	return out.String() + strings.Repeat(" ", columns-used)
}

// cut replaces the end of a full cell by a mark that something is missing.
func cut(text string, columns int) string {
	runes := []rune(text)
	used := 0
	for _, r := range runes {
		used += runeColumns(r)
	}
	for len(runes) > 0 && used > columns-1 {
		used -= runeColumns(runes[len(runes)-1])
		runes = runes[:len(runes)-1]
	}
	return string(runes) + "~" + strings.Repeat(" ", columns-used-1)
}

// runeColumns is how wide terminals draw a rune, near enough for a table.
func runeColumns(r rune) int {
	switch {
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3,
		r >= 0xf900 && r <= 0xfaff, r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60,
		r >= 0x1f300 && r <= 0x1faff, r >= 0x20000 && r <= 0x3fffd:
		return 2
	case unicode.Is(unicode.Mn, r):
		return 0
	default:
		return 1
	}
}
