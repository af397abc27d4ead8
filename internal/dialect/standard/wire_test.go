package standard

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestRead holds what is read of objects and lists against encoding/json.
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
		raw := []byte(values(3).Draw(t, "text"))
		var wantObject map[string]json.RawMessage
		var wantList []json.RawMessage
		_ = json.Unmarshal(raw, &wantObject) // it may be something else
		_ = json.Unmarshal(raw, &wantList)
		var gotObject map[string]json.RawMessage
		if m := read(raw); m != nil {
			gotObject = map[string]json.RawMessage{}
			for i := range m {
				name := string(m[i].name)
				gotObject[name] = m.get(name)
			}
		}
		if diff := cmp.Diff(wantObject, gotObject); diff != "" {
			t.Fatalf("%s (-want +got)\n%s", raw, diff)
		}
		var gotList []json.RawMessage
		if raw[0] == '[' {
			gotList = []json.RawMessage{}
		}
		for _, element := range list(raw, len(raw)) {
			gotList = append(gotList, element)
		}
		if diff := cmp.Diff(wantList, gotList); diff != "" {
			t.Fatalf("%s (-want +got)\n%s", raw, diff)
		}
	})
}

// TestReadOfWhatIsNoJSON: the reader comes to an end, whatever it is given.
func TestReadOfWhatIsNoJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		raw := []byte(rapid.StringMatching(`[\[{][\[\]{}",:\\ a1]*`).Draw(t, "text"))
		for _, m := range read(raw) {
			if len(m.value) > len(raw) {
				t.Fatalf("%s has %s", raw, m.value)
			}
		}
		if elements := list(raw, 2); len(elements) > 2 {
			t.Fatalf("%s has %d elements", raw, len(elements))
		}
	})
}
