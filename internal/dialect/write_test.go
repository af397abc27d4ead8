package dialect

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestWriter holds what is written against encoding/json.
func TestWriter(t *testing.T) {
	t.Parallel()
	type inner struct {
		Flag   bool `json:"flag"`
		Number int64
	}
	type object struct {
		First string            `json:"first"`
		Inner inner             `json:"inner"`
		None  *inner            `json:"none"`
		List  []any             `json:"list"`
		Last  map[string]string `json:"last"`
	}
	texts := rapid.Custom(func(t *rapid.T) string {
		part := rapid.OneOf(
			rapid.SampledFrom([]string{
				`"`, `\`, "/", "\x00", "\x1f", "\x7f", "\b\f\n\r\t", "<&>", "\u2028\u2029", "\ufffd", "\xff", "\xe2\x80", "שלום", "🧵",
				strings.Repeat("plain ", 8), "fifteen bytes \xff",
			}),
			rapid.String(),
		)
		return strings.Join(rapid.SliceOf(part).Draw(t, "parts"), "")
	})
	rapid.Check(t, func(t *rapid.T) {
		value := object{
			First: texts.Draw(t, "first"),
			Inner: inner{rapid.Bool().Draw(t, "flag"), rapid.Int64().Draw(t, "number")},
			List:  []any{"<a>", nil},
			Last:  map[string]string{texts.Draw(t, "name"): texts.Draw(t, "text")},
		}
		want, err := EncodeJSON(value)
		if err != nil {
			t.Fatal(err)
		}
		w := NewWriter(0)
		w.Text("first", value.First)
		w.Open("inner")
		w.Bool("flag", value.Inner.Flag)
		w.Int("Number", value.Inner.Number)
		w.Close()
		w.Null("none")
		w.Value("list", value.List)
		w.Open("last")
		for name, text := range value.Last {
			w.Text(name, text)
		}
		w.Close()
		got, err := w.Finish()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
	})
}

func TestWriterWithoutMembers(t *testing.T) {
	t.Parallel()
	w := NewWriter(0)
	w.Open("a")
	w.Close()
	w.Raw("b", []byte(`[1, 2]`))
	if got, err := w.Finish(); string(got) != `{"a":{},"b":[1, 2]}` || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
}

// TestWriterTellsOfWhatItCannotWrite: the first fault stays.
func TestWriterTellsOfWhatItCannotWrite(t *testing.T) {
	t.Parallel()
	w := NewWriter(0)
	w.Value("a", func() {})
	w.Value("b", 1)
	if text, err := w.Finish(); text != nil || err == nil || !strings.HasPrefix(err.Error(), "write a: ") {
		t.Errorf("got %s, %v", text, err)
	}
}

func BenchmarkText(b *testing.B) {
	for name, text := range map[string]string{
		"ascii": strings.Repeat("The parcel is at the door. ", 41), "hebrew": strings.Repeat("החבילה ליד הדלת. ", 36),
		"lines": strings.Repeat("said \"yes\"\n", 100),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := NewWriter(1500)
				w.Text("text", text)
				if _, err := w.Finish(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+" any", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := EncodeJSON(struct{ Text string }{text}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
