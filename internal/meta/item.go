package meta

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Item is one message, one status, one error, or one change of another field.
// Its texts are empty where the request does not tell, or tells nonsense.
type Item struct {
	// Body is a complete webhook body that holds this item alone.
	Body []byte
	// Type is the event type, see waypost.TypeMessagePrefix and its like.
	Type string
	// Field is the subscription field of the change, as Meta wrote it.
	Field string
	// WABAID is the business account, PhoneNumberID Meta's id of the business
	// number, DisplayPhone the business number itself, digits only.
	WABAID, PhoneNumberID, DisplayPhone string
	// Contact is whom the item is about: the group, else the customer's phone,
	// else, when that is withheld, the customer's user id.
	Contact string
	// OccurredAt is the time as told by the item, else by its entry.
	OccurredAt time.Time

	identity digest
}

// digest stands for what makes an item the one it is.
type digest [sha256.Size]byte

// DedupeKey is what repeats of an item from one source have in common: the
// time told, as 4 bytes of big-endian seconds (0: none), and a 16-byte digest
// of the source and what makes the item the one it is. That is always the
// business number, and further
//
//   - of a message its id;
//   - of a status the message's id, the status, its type, the participant of a
//     group, the time, and the transaction of a payment;
//   - of everything else the account, the entry's time, the field and all bytes
//     of the error or of the change's value.
func (it *Item) DedupeKey(source waypost.SourceID) []byte {
	var scope [8 + sha256.Size]byte
	binary.BigEndian.PutUint64(scope[:], uint64(source))
	copy(scope[8:], it.identity[:])
	sum := sha256.Sum256(scope[:])

	key := make([]byte, 4, 20)
	if seconds := it.OccurredAt.Unix(); 0 < seconds && seconds <= math.MaxUint32 {
		binary.BigEndian.PutUint32(key, uint32(seconds))
	}
	return append(key, sum[:16]...)
}

// identify digests the parts of an identity; where one ends and the next
// begins counts.
func identify(parts ...[]byte) digest {
	text := make([]byte, 0, 512)
	for _, part := range parts {
		text = binary.AppendUvarint(text, uint64(len(part)))
		text = append(text, part...)
	}
	return sha256.Sum256(text)
}

// segment makes a text the last word of an event type. What has other
// characters than such words have is "unknown".
func segment(text []byte) string {
	if len(text) == 0 || len(text) > 64 {
		return "unknown"
	}
	word := make([]byte, len(text))
	for i, c := range text {
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case 'a' <= c && c <= 'z', isDigit(c), c == '_', c == '-':
		default:
			return "unknown"
		}
		word[i] = c
	}
	return string(word)
}

// identifier takes a text as an id if it could be one: visible ASCII, at most
// 256 characters. The plus that some clients put before a phone is left out.
func identifier(text []byte) []byte {
	if len(text) == 0 || len(text) > 256 {
		return nil
	}
	for _, c := range text {
		if c <= ' ' || c > '~' {
			return nil
		}
	}
	if text[0] == '+' && len(digits(text)) == len(text)-1 {
		text = text[1:]
	}
	return text
}

// digits are the digits of a phone, however it is written; more than a phone
// can have are none.
func digits(text []byte) string {
	var kept [32]byte
	n := 0
	for _, c := range text {
		if !isDigit(c) {
			continue
		}
		if n == len(kept) {
			return ""
		}
		kept[n] = c
		n++
	}
	return string(kept[:n])
}

// unixTime reads seconds (milliseconds, if they are that many) since 1970; zero
// if the text is anything else.
func unixTime(text []byte) time.Time {
	const firstMilli = 100_000_000_000 // as seconds: the year 5138
	if len(text) == 0 || len(text) > 15 {
		return time.Time{}
	}
	var n int64
	for _, c := range text {
		if !isDigit(c) {
			return time.Time{}
		}
		n = n*10 + int64(c-'0')
	}
	switch {
	case n == 0:
		return time.Time{}
	case n >= firstMilli:
		return time.UnixMilli(n).UTC()
	default:
		return time.Unix(n, 0).UTC()
	}
}
