// Package dialecttest checks what every dialect must hold, so that a dialect's
// own tests can be about what is special in it.
//
// Run does three things. It reads the dialect's Info for faults. It replays the
// golden vectors of a folder: settings calls against an Admin in memory, and
// events turned into hooks. And it takes each settings call of the vectors
// apart (no key, a wrong key, broken, empty and over-long bodies, every kind of
// error from the gateway) to see that the answer is always a refusal in JSON,
// that nothing was changed, and that no secret shows.
//
// A vector is a text file in the txtar format; its comment says where the facts
// come from. `go test ./internal/dialect/... -update` rewrites what is expected
// to what was seen. The parts, in order:
//
//	given      endpoints there are at the start: a JSON list, see seat
//	request    one HTTP request
//	response   expected: status, media type, body
//	endpoints  expected, optional: all endpoints after the request, one a line
//
//	item       what is sent where, as JSON, see itemSpec
//	event      the event's body
//	hook       expected: headers, an empty line, body; or "not wanted"
//
// Requests may name ${KEY}, ${SECOND_KEY}, ${LONE_KEY}, ${OTHER_KEY} (see Key),
// ${ACCOUNT}, ${OTHER_ACCOUNT}, ${BASIC} (account and key for Basic
// authorization), ${SECRET} (some secret value), and ${answer.<member>}: that
// text member of the latest answer that had it.
package dialecttest

import (
	"flag"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var update = flag.Bool("update", false, "rewrite the expected parts of golden vectors")

// Run checks the dialect. dir holds its vectors, *.txtar.
func Run(t *testing.T, d dialect.Dialect, dir string) {
	t.Helper()
	vectors := readVectors(t, dir)
	t.Run("info", func(t *testing.T) { testInfo(t, d) })
	t.Run("policy", func(t *testing.T) { testPolicy(t, d) })
	t.Run("events", func(t *testing.T) { testEvents(t, d) })
	for _, v := range vectors {
		t.Run("vector/"+v.name, func(t *testing.T) { v.run(t, d) })
	}
	if d.Handler(NewAdmin(d.Info())) == nil {
		return
	}
	t.Run("paths", func(t *testing.T) { testPaths(t, d) })
	t.Run("refusals", func(t *testing.T) { testRefusals(t, d, vectors) })
}

var (
	idForm     = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	optionForm = regexp.MustCompile(`^[a-z][a-zA-Z0-9_]*$`) // as the provider spells it
)

func testInfo(t *testing.T, d dialect.Dialect) {
	t.Helper()
	info := d.Info()
	if !reflect.DeepEqual(info, d.Info()) {
		t.Error("Info differs from call to call")
	}
	if !idForm.MatchString(info.ID) {
		t.Errorf("id %q is not lower-case words joined by hyphens", info.ID)
	}
	if info.Title == "" || info.Docs == "" {
		t.Error("title or docs is missing")
	}
	if len(info.Events) == 0 {
		t.Error("no events: no hook would ever be sent")
	}
	for _, glob := range info.Events {
		if err := waypost.CheckGlob(glob); err != nil {
			t.Errorf("events: %v", err)
		}
	}
	testOptions(t, info)
	serves := d.Handler(NewAdmin(info)) != nil
	if serves != (info.Keys != nil) || serves != (len(info.Paths) > 0) {
		t.Errorf("a settings API (%v), keys (%v) and paths (%q) go together", serves, info.Keys != nil, info.Paths)
	}
	for _, path := range info.Paths {
		if !strings.HasPrefix(path, "/") || !isPattern(path) {
			t.Errorf("path %q is not a pattern without a method", path)
		}
	}
}

func isPattern(path string) (ok bool) {
	defer func() { ok = recover() == nil }()
	http.NewServeMux().Handle(path, http.NotFoundHandler())
	return true
}

func testOptions(t *testing.T, info dialect.Info) {
	t.Helper()
	seen := map[string]bool{}
	for _, option := range info.Options {
		switch {
		case !optionForm.MatchString(option.Name):
			t.Errorf("option name %q is not a word that starts in lower case", option.Name)
		case seen[option.Name]:
			t.Errorf("option %s is there twice", option.Name)
		case option.Doc == "":
			t.Errorf("option %s has no doc", option.Name)
		case !slices.Contains([]dialect.OptionType{dialect.OptionText, dialect.OptionFlag, dialect.OptionInteger}, option.Type):
			t.Errorf("option %s has the unknown type %q", option.Name, option.Type)
		}
		seen[option.Name] = true
		if option.Default == nil {
			continue
		}
		if faults := dialect.CheckOptions(info, map[string]any{option.Name: option.Default}); len(faults) > 0 {
			t.Errorf("default of option %s: %s", option.Name, faults[0].Message)
		}
	}
}

func testPolicy(t *testing.T, d dialect.Dialect) {
	t.Helper()
	for _, options := range optionSets(d.Info()) {
		policy := d.Policy(&waypost.Endpoint{Options: options})
		if policy.Timeout <= 0 {
			t.Errorf("options %v: timeout %v", options, policy.Timeout)
		}
		if policy.Success != waypost.Success200 && policy.Success != waypost.Success2xx {
			t.Errorf("options %v: success %q", options, policy.Success)
		}
		for i, wait := range policy.Schedule {
			if wait < 0 {
				t.Errorf("options %v: wait %d is %v", options, i, wait)
			}
		}
	}
}

// optionSets are the settings to try: none, and each value of each option on
// its own.
func optionSets(info dialect.Info) []map[string]any {
	sets := []map[string]any{nil}
	for _, option := range info.Options {
		switch {
		case option.Type == dialect.OptionFlag:
			sets = append(sets, map[string]any{option.Name: false}, map[string]any{option.Name: true})
		case option.Type == dialect.OptionInteger:
			sets = append(sets, map[string]any{option.Name: float64(1)})
		case len(option.Enum) == 0:
			sets = append(sets, map[string]any{option.Name: "text"})
		}
		for _, value := range option.Enum {
			sets = append(sets, map[string]any{option.Name: value})
		}
	}
	return sets
}
