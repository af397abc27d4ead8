package bench

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// appSecret signs what the generator sends.
const appSecret = "bench-secret"

func sign(body []byte) string {
	mac := hmac.New(sha256.New, []byte(appSecret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// sentMark stands in each message's text before the time it was due to be sent,
// in nanoseconds: the sink reads it, whatever dialect the text comes in.
const (
	sentMark   = "sent@"
	sentDigits = 19
)

// firstMessage is the time that the first message tells. Later ones move on as
// those of real messages do, at 20,000 a second.
const firstMessage = 1767571200

const (
	numberPrefix  = "20841773"
	numberDigits  = 8
	messageDigits = 12
)

// event is a signed-for text message of about 1.5 KB with an id of its own, to
// one of the numbers. Putting it together costs no more than copying it.
func event(i, numbers int, sent time.Time) []byte {
	body := bytes.Clone(template)
	fill(body, i, numbers, sent)
	return body
}

func fill(body []byte, i, numbers int, sent time.Time) {
	putDigits(body[numberAt:], int64(i%numbers), numberDigits)
	putDigits(body[timeAt:], firstMessage+int64(i/20_000), 10)
	putDigits(body[idAt:], int64(i), messageDigits)
	putDigits(body[sentAt:], sent.UnixNano(), sentDigits)
}

// batch is one request of many messages, each to the next number.
func batch(first, messages, numbers int, sent time.Time) []byte {
	var b bytes.Buffer
	b.WriteString(head)
	for i := range messages {
		if i > 0 {
			b.WriteByte(',')
		}
		body := event(first+i, numbers, sent)
		change := body[len(head) : len(body)-len(tail)]
		// Meta's batches are larger per message than a single one: pad to 3 KB.
		b.Write(change[:len(change)-len(changeTail)])
		b.WriteString(padding)
		b.WriteString(changeTail)
	}
	b.WriteString(tail)
	return b.Bytes()
}

func putDigits(into []byte, n int64, digits int) {
	for digits--; digits >= 0; digits-- {
		into[digits] = byte('0' + n%10)
		n /= 10
	}
}

const (
	head       = `{"object":"whatsapp_business_account","entry":[{"id":"301956482217730","changes":[`
	tail       = `]}]}`
	changeTail = `},"field":"messages"}`
)

var (
	padding  = `,"bench_padding":"` + strings.Repeat("x", 1500) + `"`
	template = []byte(head + `{"value":{"messaging_product":"whatsapp",` +
		`"metadata":{"display_phone_number":"15550140000","phone_number_id":"` + numberPrefix + `########"},` +
		`"contacts":[{"profile":{"name":"Maren Holt"},"wa_id":"447700900361"}],` +
		`"messages":[{"from":"447700900361","id":"wamid.BENCH############","timestamp":"@@@@@@@@@@","type":"text","text":{"body":"` +
		sentMark + strings.Repeat("0", sentDigits) + ` ` + strings.Repeat("The parcel is at the door. ", 40) + `"}}]` + changeTail + tail)
	numberAt = bytes.Index(template, []byte(numberPrefix)) + len(numberPrefix)
	timeAt   = bytes.Index(template, []byte("@@@@@@@@@@"))
	idAt     = bytes.Index(template, []byte("BENCH####")) + len("BENCH")
	sentAt   = bytes.Index(template, []byte(sentMark)) + len(sentMark)
)

// sentTime reads when the message in a hook was due to be sent.
func sentTime(body []byte) (time.Time, bool) {
	i := bytes.Index(body, []byte(sentMark))
	if i < 0 || len(body) < i+len(sentMark)+sentDigits {
		return time.Time{}, false
	}
	nanos, err := strconv.ParseInt(string(body[i+len(sentMark):i+len(sentMark)+sentDigits]), 10, 64)
	return time.Unix(0, nanos), err == nil && nanos > 0
}
