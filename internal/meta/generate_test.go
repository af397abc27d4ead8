package meta

import (
	"fmt"
	"strconv"
	"strings"

	"pgregory.net/rapid"
)

// generator writes requests as JSON text, so that it can do what an encoder
// would not: numbers beyond every type, members in any order, texts escaped
// where they need not be, spaces anywhere.
type generator struct{ t *rapid.T }

// pick draws one of a few choices.
func (g generator) pick(choices ...string) string {
	return rapid.SampledFrom(choices).Draw(g.t, "pick")
}

func (g generator) chance(percent int) bool {
	return rapid.IntRange(1, 100).Draw(g.t, "chance") <= percent
}

func (g generator) upTo(most int) int { return rapid.IntRange(0, most).Draw(g.t, "count") }

func (g generator) space() string { return g.pick("", "", "", "", " ", "\n\t", "\r\n  ") }

// text writes a string, some of its characters escaped.
func (g generator) text(s string) string {
	if g.chance(80) {
		return strconv.Quote(s)
	}
	var out strings.Builder
	out.WriteByte('"')
	for _, r := range s {
		switch {
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&out, `\u%04x\u%04X`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		case r == '"' || r == '\\' || r < ' ' || g.chance(30):
			fmt.Fprintf(&out, `\u%04x`, r)
		case r == '/':
			out.WriteString(`\/`)
		default:
			out.WriteRune(r)
		}
	}
	out.WriteByte('"')
	return out.String()
}

// anything writes a value that nobody knows.
func (g generator) anything(depth int) string {
	kinds := []string{"number", "text", "word", "object", "array"}
	if depth == 0 {
		kinds = kinds[:3]
	}
	switch rapid.SampledFrom(kinds).Draw(g.t, "kind") {
	case "number":
		return g.pick("0", "-0", "1489207733615520017", "900719925474099312345678901234567890", "0.1000", "1e400", "-12.50E-7", "25900")
	case "text":
		return g.text(g.pick("", "Grüße", "🧵 thread", `<a&b> "q" / \`, "line\u2028break", "wamid.x="))
	case "word":
		return g.pick("true", "false", "null")
	case "object":
		members := make([]string, g.upTo(3))
		for i := range members {
			members[i] = g.member(fmt.Sprintf("k%d", i), g.anything(depth-1))
		}
		return g.object(members)
	default:
		elements := make([]string, g.upTo(3))
		for i := range elements {
			elements[i] = g.anything(depth - 1)
		}
		return g.array(elements)
	}
}

func (g generator) member(name, value string) string {
	return g.text(name) + g.space() + ":" + g.space() + value
}

// object writes members in any order.
func (g generator) object(members []string) string {
	return "{" + g.space() + strings.Join(rapid.Permutation(members).Draw(g.t, "order"), g.space()+","+g.space()) + g.space() + "}"
}

func (g generator) array(elements []string) string {
	return "[" + g.space() + strings.Join(elements, g.space()+","+g.space()) + g.space() + "]"
}

// strange adds members that nobody knows.
func (g generator) strange(members []string) []string {
	for i := range g.upTo(2) {
		members = append(members, g.member(fmt.Sprintf("strange_%d", i), g.anything(2)))
	}
	return members
}

func (g generator) maybe(members []string, percent int, name string, value func() string) []string {
	if g.chance(percent) {
		return append(members, g.member(name, value()))
	}
	return members
}

func (g generator) person() string {
	return g.text(g.pick("447700900361", "12025550147", "919000000001"))
}

func (g generator) userID() string {
	return g.text(g.pick("GB.70318264559012847736", "US.90022841175530166480"))
}

func (g generator) timestamp() string {
	return g.pick(`"1767571200"`, `"1767571203"`, "1767571200", `"soon"`)
}

func (g generator) id(prefix string) string {
	return g.text(prefix + strconv.Itoa(rapid.IntRange(0, 1_000_000).Draw(g.t, "id")))
}

func (g generator) list(most int, write func() string) string {
	elements := make([]string, g.upTo(most))
	for i := range elements {
		elements[i] = write()
	}
	return g.array(elements)
}

func (g generator) message() string {
	kind := g.pick("text", "image", "order", "Poll vote", "unsupported")
	m := []string{g.member("id", g.id("wamid.")), g.member("timestamp", g.timestamp())}
	m = g.maybe(m, 90, "type", func() string { return g.text(kind) })
	m = g.maybe(m, 80, "from", g.person)
	m = g.maybe(m, 30, "from_user_id", g.userID)
	m = g.maybe(m, 10, "group_id", func() string { return g.text("Y2FwaV9ncm91cDox") })
	m = g.maybe(m, 80, kind, func() string { return g.anything(3) })
	return g.object(g.strange(m))
}

func (g generator) status() string {
	m := []string{g.member("id", g.id("wamid.")), g.member("status", g.text(g.pick("sent", "delivered", "read", "failed")))}
	m = g.maybe(m, 90, "timestamp", g.timestamp)
	m = g.maybe(m, 80, "recipient_id", g.person)
	m = g.maybe(m, 30, "recipient_user_id", g.userID)
	m = g.maybe(m, 20, "errors", func() string { return g.list(2, g.problem) })
	return g.object(g.strange(m))
}

func (g generator) problem() string {
	m := []string{g.member("code", g.pick("131047", `"470"`))}
	m = g.maybe(m, 90, "title", func() string { return g.text("Re-engagement message") })
	m = g.maybe(m, 20, "message", func() string { return g.text(g.pick("Re-engagement message", "Too late")) })
	m = g.maybe(m, 50, "details", func() string { return g.anything(1) })
	m = g.maybe(m, 30, "error_data", func() string {
		return g.object(g.strange(g.maybe(nil, 60, "details", func() string { return g.text("More than 24 hours") })))
	})
	return g.object(g.strange(m))
}

func (g generator) contact() string {
	var m []string
	m = g.maybe(m, 90, "profile", func() string {
		return g.object([]string{g.member("name", g.text(g.pick("Maren Holt", "Tomás 🧵")))})
	})
	m = g.maybe(m, 80, "wa_id", g.person)
	m = g.maybe(m, 30, "user_id", g.userID)
	return g.object(g.strange(m))
}

func (g generator) value() string {
	var m []string
	m = g.maybe(m, 90, "messaging_product", func() string { return `"whatsapp"` })
	m = g.maybe(m, 90, "metadata", func() string {
		return g.object([]string{
			g.member("display_phone_number", g.text(g.pick("15550142077", "+1 555-014-2078"))),
			g.member("phone_number_id", g.text(g.pick("208417730961245", "208417730961246"))),
		})
	})
	return g.object(g.strange(g.lists(m, g.message)))
}

// lists adds what both forms have.
func (g generator) lists(m []string, message func() string) []string {
	m = g.maybe(m, 60, "contacts", func() string { return g.list(4, g.contact) })
	m = g.maybe(m, 60, "messages", func() string { return g.list(4, message) })
	m = g.maybe(m, 50, "statuses", func() string { return g.list(4, g.status) })
	return g.maybe(m, 30, "errors", func() string { return g.list(2, g.problem) })
}

func (g generator) change() string {
	switch rapid.IntRange(0, 11).Draw(g.t, "change") {
	case 0: // odd
		return g.pick(`{"value":{}}`, `{"field":"messages"}`, `{"field":"messages","value":[1]}`, `"change"`, `{}`, `{"field":7,"value":{}}`)
	case 1, 2:
		field := g.pick("account_update", "history", "calls", "new_field")
		return g.object(g.strange([]string{g.member("field", g.text(field)), g.member("value", g.anything(3))}))
	default:
		return g.object(g.strange([]string{g.member("field", g.text("messages")), g.member("value", g.value())}))
	}
}

func (g generator) entry() string {
	m := []string{g.member("id", g.text(g.pick("301956482217730", "455100283377219")))}
	m = g.maybe(m, 30, "time", func() string { return "1767571200" })
	m = g.maybe(m, 95, "changes", func() string { return g.list(3, g.change) })
	return g.object(g.strange(m))
}

// request writes a webhook body.
func (g generator) request() []byte {
	m := []string{g.member("object", g.text(objectAccount)), g.member("entry", g.list(3, g.entry))}
	return []byte(g.space() + g.object(g.strange(m)) + g.space())
}

// callback writes an On-Premises body.
func (g generator) callback() []byte {
	return []byte(g.object(g.strange(g.lists(nil, g.clientMessage))))
}

// clientMessage is a message, most often one that the two forms write
// differently.
func (g generator) clientMessage() string {
	if g.chance(30) {
		return g.message()
	}
	m := []string{g.member("id", g.id("ABG")), g.member("from", g.person())}
	m = g.maybe(m, 90, "type", func() string { return g.text(g.pick("voice", "voice", "audio", "system")) })
	m = g.maybe(m, 60, "voice", g.sound)
	m = g.maybe(m, 20, "audio", g.sound)
	m = g.maybe(m, 40, "system", g.notice)
	m = g.maybe(m, 30, "errors", func() string { return g.list(2, g.problem) })
	return g.object(g.strange(m))
}

func (g generator) sound() string {
	if g.chance(10) {
		return g.anything(1)
	}
	m := g.maybe([]string{g.member("id", g.id("media-"))}, 20, "voice", func() string { return g.pick("true", "false", `"true"`) })
	return g.object(g.strange(m))
}

func (g generator) notice() string {
	m := []string{g.member("type", g.text(g.pick("user_changed_number", "user_changed_number", "user_identity_changed")))}
	m = g.maybe(m, 80, "new_wa_id", g.person)
	m = g.maybe(m, 20, "wa_id", g.person)
	return g.object(g.strange(m))
}
