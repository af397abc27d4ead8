package standard

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestRead reads values within values, some of them deeper than the index goes.
func TestRead(t *testing.T) {
	t.Parallel()
	spaces := rapid.StringMatching(`[ \n\r\t]{0,2}`)
	scalars := rapid.SampledFrom([]string{
		`0`, `-1.50e+3`, `9007199254740993`, `true`, `false`, `null`, `""`, `"a"`, `"\""`, `"\\"`, `"\\\""`, `"{[,:]}"`, `"\u00fc\ud83e\uddf5"`, `"ü"`,
	})
	var values func(depth int) *rapid.Generator[string]
	values = func(depth int) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			space := func() string { return spaces.Draw(t, "space") }
			kind := rapid.IntRange(0, 2).Draw(t, "kind")
			if kind == 0 || depth == 0 {
				return scalars.Draw(t, "scalar")
			}
			open, end := "[", "]"
			if kind == 2 {
				open, end = "{", "}"
			}
			text := open + space()
			for i := range rapid.IntRange(0, 3).Draw(t, "length") {
				if i > 0 {
					text += "," + space()
				}
				if kind == 2 {
					text += rapid.SampledFrom([]string{`"a"`, `"b"`, `"\u0061"`, `"\"}"`, `""`}).Draw(t, "name") + space() + ":" + space()
				}
				text += values(depth-1).Draw(t, "value") + space()
			}
			return text + end
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		around := rapid.IntRange(0, maxDepth).Draw(t, "around")
		raw := strings.Repeat(`[{"a":`, around) + values(3).Draw(t, "text") + strings.Repeat(`}]`, around)
		d := read([]byte(raw))
		defer d.release()
		compare(t, d, root, 0)
	})
}

// compare holds a value and what is within it against encoding/json.
func compare(t *rapid.T, d *document, n, depth int) {
	raw := d.raw(n)
	var wantObject, gotObject map[string]json.RawMessage
	var wantList, gotList []json.RawMessage
	if !json.Valid(raw) {
		t.Fatalf("%s was taken for a value", raw)
	}
	if depth < maxDepth { // else it is not looked into
		_ = json.Unmarshal(raw, &wantObject) // it may be something else
		_ = json.Unmarshal(raw, &wantList)
	}
	if wantObject != nil {
		gotObject = map[string]json.RawMessage{}
	}
	if wantList != nil {
		gotList = []json.RawMessage{}
	}
	for child := range d.children(n) {
		compare(t, d, child, depth+1)
		if d.isObject(n) {
			name := string(d.name(child))
			gotObject[name] = d.raw(d.get(n, name))
		} else {
			gotList = append(gotList, d.raw(child))
		}
	}
	if diff := cmp.Diff(wantObject, gotObject); diff != "" {
		t.Fatalf("%s (-want +got)\n%s", raw, diff)
	}
	if diff := cmp.Diff(wantList, gotList); diff != "" {
		t.Fatalf("%s (-want +got)\n%s", raw, diff)
	}
}

// TestReadOfWhatIsNoJSON: the reader comes to an end, whatever it is given.
func TestReadOfWhatIsNoJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		raw := []byte(rapid.StringMatching(`[\[{][\[\]{}",:\\ a1]*`).Draw(t, "text"))
		d := read(raw)
		defer d.release()
		for n := range d.nodes {
			if len(d.raw(n)) > len(raw) || int(d.nodes[n].after) <= n || int(d.nodes[n].after) > len(d.nodes) {
				t.Fatalf("%s has %s", raw, d.raw(n))
			}
			if d.nodes[n].nameEnd > 0 && len(d.name(n)) > len(raw) {
				t.Fatalf("%s has the name %s", raw, d.name(n))
			}
		}
		if only := d.only(root); only != none && only != root+1 {
			t.Fatalf("%s has %d alone", raw, only)
		}
	})
}
