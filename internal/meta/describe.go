package meta

import (
	"crypto/sha256"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// A path leads from an object to a member of an object within it.
type path []string

// Where the fields keep the business number, and the business account when the
// entry is about the portfolio that owns it. The field messages has metadata
// and nothing else, so that an On-Premises callback, whose members become those
// of the value, can't claim another number.
var (
	phoneNumberIDs = []path{
		{"metadata", "phone_number_id"},
		{"recipient", "phone_number_id"},
		{"phone_number_settings", "phone_number_id"},
	}
	displayPhones = []path{
		{"metadata", "display_phone_number"},
		{"recipient", "display_phone_number"},
		{"display_phone_number"},
		{"phone_number"},
	}
	wabaIDs = []path{
		{"waba_info", "waba_id"},
	}
)

// Where items say whom they are about, best first. Statuses of a group have its
// id as recipient_id.
var (
	contactIDs = []path{
		{"wa_id"}, {"user_id"}, {"parent_user_id"},
	}
	messageContacts = []path{
		{"group_id"},
		{"from"},
		{"from_user_id"},
		{"from_parent_user_id"},
		{"system", "wa_id"},
		{"system", "user_id"},
	}
	statusContacts = []path{
		{"recipient_id"},
		{"message", "recipient_id"},
		{"recipient_user_id"},
		{"recipient_parent_user_id"},
		{"parent_recipient_user_id"},
	}
	participants = []path{
		{"recipient_participant_id"},
		{"participant_recipient_id"},
		{"recipient_participant_user_id"},
		{"recipient_participant_parent_user_id"},
	}
	// Of the other fields. from and to are the business on one side.
	subjectContacts = []path{
		{"group_id"},
		{"from"},
		{"to"},
		{"recipient_id"},
		{"wa_id"},
		{"message", "to"},
		{"from_user_id"},
		{"to_user_id"},
		{"recipient_user_id"},
		{"user_id"},
	}
)

// subjects are the arrays that hold what a change of another field is about.
var subjects = []string{
	"calls", "statuses", "messages", "message_echoes", "groups",
	"user_preferences", "user_id_update", "user_actions", "automatic_events",
}

// address is where a change belongs.
type address struct {
	wabaID, phoneNumberID, displayPhone string

	number []byte // what tells this business number from others
}

func (s *splitter) address(c *change) address {
	ids, phones, accounts := phoneNumberIDs, displayPhones, wabaIDs
	if string(c.field) == fieldMessages {
		ids, phones, accounts = ids[:1], phones[:1], nil
	}
	a := address{wabaID: c.id, number: s.first(c.value, ids, "")}
	if id := s.first(c.value, accounts, ""); len(id) > 0 {
		a.wabaID = string(id)
	}
	for _, p := range phones {
		if a.displayPhone = digits(s.string(s.member(c.value, p...))); a.displayPhone != "" {
			break
		}
	}
	if a.phoneNumberID = string(a.number); a.phoneNumberID == "" {
		a.number = []byte(a.displayPhone)
	}
	return a
}

// first is the first identifier, other than one, that the paths lead to.
func (s *splitter) first(n int, paths []path, other string) []byte {
	for _, p := range paths {
		if id := identifier(s.string(s.member(n, p...))); len(id) > 0 && string(id) != other {
			return id
		}
	}
	return nil
}

// describe fills in all of an item but its body.
func (s *splitter) describe(it *Item, p *part) {
	c := &s.changes[p.change]
	it.Type = s.typeOf(c, p)
	it.Field = string(c.field)
	it.WABAID, it.PhoneNumberID, it.DisplayPhone = c.wabaID, c.phoneNumberID, c.displayPhone
	it.OccurredAt = c.sentAt
	switch {
	case p.odd, p.list == errorList:
	case p.list == messages:
		s.describeMessage(it, c, p.element)
	case p.list == statuses:
		s.describeStatus(it, c, p.element)
	case p.list == echoes:
		s.describeEcho(it, c, p.element)
	default:
		s.describeChange(it, c)
	}
	if it.Contact == "" {
		it.Contact = string(s.first(s.contactOf(c, p), contactIDs, ""))
	}
	if it.identity == (digest{}) {
		it.identity = s.identityOfBytes(c, p)
	}
}

// contactOf is the only contact beside a part; none if there is not just one.
func (s *splitter) contactOf(c *change, p *part) int {
	switch len(p.contacts) {
	case 0:
		return c.only
	case 1:
		return p.contacts[0]
	default:
		return none
	}
}

// family is the event types that begin alike. Those that most items have are written
// once.
type family struct {
	prefix string
	known  map[string]string // by their last word
}

func newFamily(prefix string, words ...string) family {
	t := family{prefix: prefix, known: make(map[string]string, len(words))}
	for _, word := range words {
		t.known[word] = prefix + word
	}
	return t
}

var (
	messageTypes = newFamily(waypost.TypeMessagePrefix, "text", "image", "audio", "video", "document", "sticker",
		"location", "contacts", "interactive", "button", "reaction", "order", "system", "unsupported")
	statusTypes = newFamily(waypost.TypeStatusPrefix, "sent", "delivered", "read", "failed", "played")
	fieldTypes  = newFamily(waypost.TypeFieldPrefix)
)

func (f family) of(word []byte) string {
	if known, ok := f.known[string(word)]; ok {
		return known
	}
	return f.prefix + segment(word)
}

// typeOf is the event type of a part.
func (s *splitter) typeOf(c *change, p *part) string {
	switch {
	case p.odd:
		return waypost.TypeUnparsed
	case p.list == messages:
		return messageTypes.of(s.string(s.member(p.element, "type")))
	case p.list == statuses:
		return statusTypes.of(s.string(s.member(p.element, "status")))
	case p.list == errorList:
		return waypost.TypeError
	default:
		return fieldTypes.of(c.field)
	}
}

func (s *splitter) describeMessage(it *Item, c *change, message int) {
	it.Contact = string(s.first(message, messageContacts, ""))
	if at := s.timestamp(message); !at.IsZero() {
		it.OccurredAt = at
	}
	if id := s.string(s.member(message, "id")); len(id) > 0 {
		it.identity = identify([]byte("message"), c.number, id)
	}
}

func (s *splitter) describeStatus(it *Item, c *change, status int) {
	it.Contact = string(s.first(status, statusContacts, ""))
	if at := s.timestamp(status); !at.IsZero() {
		it.OccurredAt = at
	}
	if id := s.string(s.member(status, "id")); len(id) > 0 {
		it.identity = identify([]byte("status"), c.number, id,
			s.string(s.member(status, "status")),
			s.first(status, participants, ""),
			s.string(s.member(status, "timestamp")),
			s.string(s.member(status, "type")),
			s.string(s.member(status, "payment", "transaction", "id")))
	}
}

// describeEcho describes a message that the business sent; the customer is the
// one it went to.
func (s *splitter) describeEcho(it *Item, c *change, echo int) {
	it.Contact = string(s.first(echo, subjectContacts, c.displayPhone))
	if at := s.timestamp(echo); !at.IsZero() {
		it.OccurredAt = at
	}
	if id := s.string(s.member(echo, "id")); len(id) > 0 {
		it.identity = identify([]byte("echo"), c.field, c.number, id)
	}
}

// describeChange describes a change of another field by its one subject; of
// several, none stands for the whole.
func (s *splitter) describeChange(it *Item, c *change) {
	holder := c.value
	if standby := s.member(c.value, "standby"); s.isObject(standby) {
		holder = standby
	}
	subject := none
	for _, name := range subjects {
		if subject = s.only(s.member(holder, name)); subject != none {
			break
		}
	}
	if it.OccurredAt.IsZero() {
		it.OccurredAt = s.timestamp(c.value)
	}
	if it.OccurredAt.IsZero() {
		it.OccurredAt = s.timestamp(subject)
	}
	who := s.first(subject, subjectContacts, c.displayPhone)
	for _, contact := range []int{c.only, s.only(s.member(holder, "contacts"))} {
		if len(who) == 0 {
			who = s.first(contact, contactIDs, "")
		}
	}
	if len(who) == 0 {
		who = identifier(s.string(s.member(c.value, "sender", "phone_number")))
	}
	it.Contact = string(who)
}

// identityOfBytes is the identity of what has no id of its own.
func (s *splitter) identityOfBytes(c *change, p *part) digest {
	n := p.element
	for _, candidate := range []int{c.value, c.node, c.entry.node} {
		if n == none {
			n = candidate
		}
	}
	bytes := sha256.Sum256(s.raw(n))
	return identify([]byte("bytes"), c.number, []byte(c.wabaID), c.sent, c.field, bytes[:])
}

// timestamp is when a message, a status, a call happened.
func (s *splitter) timestamp(n int) time.Time {
	return unixTime(s.string(s.member(n, "timestamp")))
}
