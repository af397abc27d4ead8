package meta

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// tester is what the checks need of a test, within rapid or not.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// facts lists what a webhook body tells, read with the standard library and
// nothing of this package: every message, status, error and other change, each
// with all that stands around it. Numbers keep their digits. Contacts are
// listed apart, once for each place they stand in.
func facts(tb tester, body []byte) (told []string, contacts map[string]bool) {
	tb.Helper()
	request := object(tb, decode(tb, body))
	contacts = map[string]bool{}
	around := func(parts ...any) string {
		text, err := json.Marshal(parts)
		if err != nil {
			tb.Fatal(err)
		}
		return string(text)
	}
	for _, entry := range request["entry"].([]any) {
		changes, ok := object(tb, entry)["changes"].([]any)
		if !ok || len(changes) == 0 {
			told = append(told, around(without(request, "entry"), entry))
			continue
		}
		outer := around(without(request, "entry"), without(object(tb, entry), "changes"))
		for _, change := range changes {
			fields, _ := change.(map[string]any)
			value, _ := fields["value"].(map[string]any)
			lists := filled(value, "messages", "statuses", "errors")
			if fields["field"] != "messages" || len(lists) == 0 {
				told = append(told, around(outer, change))
				continue
			}
			names := append(filled(value, "contacts"), lists...)
			inner := around(outer, without(fields, "value"), without(value, names...))
			for _, list := range lists {
				for _, element := range value[list].([]any) {
					told = append(told, around(inner, list, element))
				}
			}
			for _, name := range filled(value, "contacts") {
				for _, contact := range value[name].([]any) {
					contacts[around(inner, contact)] = true
				}
			}
		}
	}
	slices.Sort(told)
	return told, contacts
}

func decode(tb tester, text []byte) any {
	tb.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		tb.Fatalf("not JSON: %v\n%s", err, text)
	}
	return value
}

func object(tb tester, value any) map[string]any {
	tb.Helper()
	members, ok := value.(map[string]any)
	if !ok {
		tb.Fatalf("%v is not an object", value)
	}
	return members
}

func without(members map[string]any, names ...string) map[string]any {
	rest := map[string]any{}
	for name, value := range members {
		if !slices.Contains(names, name) {
			rest[name] = value
		}
	}
	return rest
}

// filled picks the names whose member is an array that holds something.
func filled(members map[string]any, names ...string) []string {
	var found []string
	for _, name := range names {
		if array, ok := members[name].([]any); ok && len(array) > 0 {
			found = append(found, name)
		}
	}
	return found
}

// tellAlso checks that the items tell together what the body told: nothing is
// lost, nothing doubled, no contact made up.
func tellAlso(tb tester, body []byte, items []Item) {
	tb.Helper()
	wantTold, wantContacts := facts(tb, body)
	var bodies [][]byte
	var gotTold []string
	gotContacts := map[string]bool{}
	for i := range items {
		bodies = append(bodies, items[i].Body)
		told, contacts := facts(tb, items[i].Body)
		gotTold = append(gotTold, told...)
		for contact := range contacts {
			gotContacts[contact] = true
		}
	}
	slices.Sort(gotTold)
	same(tb, "the items tell", wantTold, gotTold)
	sameContacts(tb, "the items", wantContacts, gotContacts)

	joined, err := Join(bodies...)
	if err != nil {
		tb.Fatal(err)
	}
	joinedTold, joinedContacts := facts(tb, joined)
	same(tb, "the joined items tell", wantTold, joinedTold)
	sameContacts(tb, "the joined items", wantContacts, joinedContacts)
}

func same(tb tester, what string, want, got []string) {
	tb.Helper()
	if slices.Equal(want, got) {
		return
	}
	text := fmt.Sprintf("%s something else than the request:", what)
	for _, fact := range want {
		if !slices.Contains(got, fact) {
			text += "\nlost: " + fact
		}
	}
	for _, fact := range got {
		if !slices.Contains(want, fact) {
			text += "\nnew:  " + fact
		}
	}
	tb.Fatalf("%s\n(%d facts, of %d)", text, len(got), len(want))
}

func sameContacts(tb tester, what string, want, got map[string]bool) {
	tb.Helper()
	for contact := range want {
		if !got[contact] {
			tb.Fatalf("%s lack the contact %s", what, contact)
		}
	}
	for contact := range got {
		if !want[contact] {
			tb.Fatalf("%s made up the contact %s", what, contact)
		}
	}
}

// standsAlone checks that an item's own body is taken for the same item.
func standsAlone(tb tester, it *Item) {
	tb.Helper()
	again, err := Split(it.Body)
	if err != nil {
		tb.Fatalf("an item's body is refused: %v\n%s", err, it.Body)
	}
	if len(again) != 1 {
		tb.Fatalf("an item's body holds %d items:\n%s", len(again), it.Body)
	}
	if !bytes.Equal(again[0].Body, it.Body) {
		tb.Fatalf("an only item's body was changed:\n%s\n%s", it.Body, again[0].Body)
	}
	if got, want := summary(&again[0]), summary(it); got != want {
		tb.Fatalf("alone it is %s\nin the request it was %s\n%s", got, want, it.Body)
	}
	if !bytes.Equal(again[0].DedupeKey(7), it.DedupeKey(7)) {
		tb.Fatalf("alone it has another dedupe key:\n%s", it.Body)
	}
}
